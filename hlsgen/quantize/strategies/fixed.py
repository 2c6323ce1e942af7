"""Power-of-two scales: every tensor an `ap_fixed<8, I>`, requantization a shift."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class Fixed(Strategy):
    name: ClassVar[str] = "fixed"
    title: ClassVar[str] = "INT8 with powers of two as scales, no training"
    source: ClassVar[str] = (
        "docs/arithmetic.md; refitting and rounding: Nagel et al., 2019 and 2020; Frantar et al., 2023"
    )
    scheme: ClassVar[Scheme] = "fixed"

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.quantized import integer

        return integer(self, task)
