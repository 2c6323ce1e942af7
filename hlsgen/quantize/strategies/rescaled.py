"""`fixed` with scales that need not be powers of two: requantization only shifts all the same."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class Rescaled(Strategy):
    """See `hlsgen.quantize.rescale`."""

    name: ClassVar[str] = "rescaled"
    title: ClassVar[str] = "INT8 with free scales and zero points, their ratios powers of two: it only shifts"
    source: ClassVar[str] = (
        "docs/strategies.md; cross-layer equalization: Nagel et al., Data-free quantization, ICCV 2019, one factor a tensor"
    )
    scheme: ClassVar[Scheme] = "fixed"

    recipe: Recipe = field(default_factory=lambda: Recipe(rescale=True))

    @classmethod
    def tools(cls) -> set[str]:
        return super().tools() - {"ranges", "percentile"}  # free scales are found by their squared error

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.quantized import integer

        return integer(self, task)
