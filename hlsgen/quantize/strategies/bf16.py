"""bfloat16: float32's exponent with seven bits of mantissa; sums in float32."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class Bf16(Strategy):
    name: ClassVar[str] = "bf16"
    title: ClassVar[str] = "16-bit float with float32's exponent, sums in float32"
    source: ClassVar[str] = "Kalamkar et al., A study of BFLOAT16 for deep learning training, 2019"
    missing: ClassVar[str] = (
        "its multipliers are integer: it has no floating-point unit, and 16-bit tensors have no place in it"
    )
    calibrated: ClassVar[bool] = False

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.minifloat import BFLOAT16
        from hlsgen.quantize.quantized import cast

        return cast(self.label, task, BFLOAT16)
