"""Pass `supported`: every layer is one that the engine computes.

1. Layer classes: Input, Conv2D, activation of a known kind, maximum pooling, addition, concatenation and
   split along the channels, nearest upsampling by
   whole factors, LayerNorm, attention. Any other raises HlsgenError with its name and class.
2. Every output tensor has a quantization.
3. There is an input, the image, and others may follow it; every output of the network is a tensor of some layer.
"""

from typing import Any

from hls4ml.model.optimizer import ModelOptimizerPass

from hlsgen.backend.layers import ATTRIBUTES, quant_of
from hlsgen.errors import HlsgenError

ACTIVATIONS = ("silu", "sigmoid", "relu", "leaky_relu", "hardswish", "gelu", "identity")
SUPPORTED = (
    "Input, Conv2D, DepthwiseConv2D, Dense, BatchNormalization after them, "
    f"Activation ({', '.join(ACTIVATIONS)}), MaxPooling2D, Merge (add), Concatenate, Split, UpSampling2D (nearest), "
    "HlsgenNorm, HlsgenScores, HlsgenAttend, HlsgenDepthToSpace"
)


def unsupported(name: str, what: str, advice: str = "") -> HlsgenError:
    """The error for a layer outside the vocabulary."""
    return HlsgenError(
        f"layer {name} ({what}) is not supported; supported are {SUPPORTED}{'; ' if advice else ''}{advice}"
    )


class Supported(ModelOptimizerPass):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("supported", self._check)

    @staticmethod
    def _check(model: Any) -> bool:
        for node in model.get_layers():
            kind = node.get_attr("class_name")
            if kind not in ATTRIBUTES:
                raise unsupported(node.name, node.class_name)
            for key in ("activation", "op"):
                value = node.get_attr(key)
                if value is not None and value not in (*ACTIVATIONS, "add", "concatenate3d"):
                    raise unsupported(node.name, f"{node.class_name} {value}")
            missing = [tensor for tensor in node.outputs if tensor not in quant_of(node)]
            if missing:
                raise HlsgenError(
                    f"layer {node.name}: tensor {missing[0]} has no quantization; quantize the network first"
                )
        inputs = [node.name for node in model.get_layers() if node.get_attr("class_name") == "Input"]
        if not inputs:
            raise HlsgenError("expected a network with an input, got none")
        computed = {tensor for node in model.get_layers() for tensor in node.outputs}
        for tensor in model.outputs:
            if tensor not in computed:
                raise HlsgenError(f"output {tensor} of the network is not computed by any layer")
        return True
