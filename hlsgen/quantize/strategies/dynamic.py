"""Dynamic INT8: weights are INT8 beforehand, activations by the range that each image gives them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class DynamicStrategy(Strategy):
    name: ClassVar[str] = "dynamic"
    title: ClassVar[str] = "INT8 weights, activations by each image's own range"
    source: ClassVar[str] = (
        "torch.ao.quantization.quantize_dynamic, which covers Linear and recurrent layers only: here its arithmetic for "
        "convolutions"
    )
    missing: ClassVar[str] = (
        "its ranges, found while it runs, are on the engine for SAM only (hlsgen build sam --scheme dynamic)"
    )
    calibrated: ClassVar[bool] = False

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.executables import Dynamic
        from hlsgen.quantize.quantized import Quantized, parameter_bytes

        size = parameter_bytes(task.network, weight_bits=8, bias_bytes=4, tensor_bytes=4)
        return Quantized(self.label, task.network, task.shape, Dynamic(task.network), size)
