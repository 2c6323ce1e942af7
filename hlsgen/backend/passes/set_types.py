"""Pass `set_types`.

1. Every tensor that has a quantization gets the hls4ml type of it: `fixed` ap_fixed<bits, I, AP_RND_CONV, AP_SAT>,
   `affine` and `native` ap_int<bits>.
2. A quantized convolution's weights, which are integers, are ap_int<8>, its biases ap_int<32>; in `dynamic` tensors and
   biases are float, and weights of what is no linear layer are ap_int<16>.
"""

from typing import Any

import numpy as np
from hls4ml.model.layers import Conv2D
from hls4ml.model.optimizer import OptimizerPass
from hls4ml.model.types import IntegerPrecisionType

from hlsgen.backend.layers import quant_of, scheme_of
from hlsgen.backend.quantized_types import precision
from hlsgen.program.dynamic import FLOAT


class SetTypes(OptimizerPass):  # type: ignore[misc]
    def match(self, node: Any) -> bool:
        return bool(quant_of(node))

    def transform(self, model: Any, node: Any) -> bool:
        for tensor, q in quant_of(node).items():
            node.get_output_variable(tensor).type.precision = precision(q, scheme_of(model))
        if isinstance(node, Conv2D):
            dynamic = scheme_of(model) == "dynamic"
            bits = 16 if node.get_attr("weight_data").dtype == np.int16 else 8
            node.weights["weight"].update_precision(IntegerPrecisionType(bits))
            node.weights["bias"].update_precision(precision(FLOAT, "dynamic") if dynamic else IntegerPrecisionType(32))
        return False
