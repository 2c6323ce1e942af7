"""TensorQ and hls4ml's precision types, both ways."""

import math
from typing import Any

from hls4ml.model.types import (
    FixedPrecisionType,
    IntegerPrecisionType,
    RoundingMode,
    SaturationMode,
    StandardFloatPrecisionType,
)

from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import fraction_bits
from hlsgen.quantize.spec import Scheme, TensorQ


def precision(q: TensorQ, scheme: Scheme) -> Any:
    """hls4ml's type of a tensor: ap_fixed<bits, I, AP_RND_CONV, AP_SAT> in `fixed` where the scale is a power of two and the
    zero point 0, else ap_int<bits>, or float for 32."""
    if q.bits == 32:
        return StandardFloatPrecisionType(32, 8)
    if scheme != "fixed" or q.zero_point or math.frexp(q.scale)[0] != 0.5:
        return IntegerPrecisionType(q.bits)
    return FixedPrecisionType(q.bits, q.bits - fraction_bits(q.scale), True, RoundingMode.RND_CONV, SaturationMode.SAT)


def tensor_q(layer: str, kind: Any, most_bits: int = 8) -> TensorQ:
    """The quantization of a result that hls4ml types `kind`: 8 to `most_bits` bits (16 for a pre-activation).

    Raises:
        HlsgenError: any other type, naming the layer and the Precision to set.
    """
    if (
        not isinstance(kind, FixedPrecisionType)
        or not kind.signed
        or not 8 <= kind.width <= most_bits
        or kind.rounding_mode != RoundingMode.RND_CONV
        or kind.saturation_mode != SaturationMode.SAT
    ):
        bits = "8" if most_bits == 8 else f"8..{most_bits}"
        got = "auto" if kind.width == 0 else str(kind)
        raise HlsgenError(
            f"layer {layer}: expected a result of ap_fixed<{bits},I,RND_CONV,SAT>, got {got}; set it in the hls4ml "
            f"configuration, as Precision of the Model or as Precision/result of this layer"
        )
    return TensorQ(2.0 ** -(kind.width - kind.integer), 0, kind.width)
