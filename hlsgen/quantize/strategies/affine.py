"""Float scales and zero points, weights a scale a channel, pre-activations wide."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class Affine(Strategy):
    name: ClassVar[str] = "affine"
    title: ClassVar[str] = "INT8 with float scales and zero points"
    source: ClassVar[str] = "Jacob et al., Quantization and training of neural networks, CVPR 2018"
    scheme: ClassVar[Scheme] = "affine"

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.quantized import integer

        return integer(self, task)
