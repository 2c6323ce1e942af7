"""Half precision: every weight and every tensor a binary16, sums in float32."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class Fp16(Strategy):
    name: ClassVar[str] = "fp16"
    title: ClassVar[str] = "16-bit float (half precision), sums in float32"
    source: ClassVar[str] = "IEEE 754 binary16; Micikevicius et al., Mixed precision training, ICLR 2018"
    missing: ClassVar[str] = (
        "its multipliers are integer: it has no floating-point unit, and 16-bit tensors have no place in it"
    )
    calibrated: ClassVar[bool] = False

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.minifloat import HALF
        from hlsgen.quantize.quantized import cast

        return cast(self.label, task, HALF)
