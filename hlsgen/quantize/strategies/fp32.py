"""The float network as it is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class Fp32(Strategy):
    name: ClassVar[str] = "fp32"
    title: ClassVar[str] = "32-bit float, what all others are measured against"
    source: ClassVar[str] = "IEEE 754 binary32"
    missing: ClassVar[str] = "its multipliers are integer: it has no floating-point unit"
    calibrated: ClassVar[bool] = False

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.executables import Simulated
        from hlsgen.quantize.quantized import Quantized, parameter_bytes

        size = parameter_bytes(task.network, weight_bits=32, bias_bytes=4)
        return Quantized(self.label, task.network, task.shape, Simulated(task.network), size)
