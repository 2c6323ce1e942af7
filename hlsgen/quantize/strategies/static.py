"""PyTorch's own static INT8."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class Static(Strategy):
    name: ClassVar[str] = "static"
    title: ClassVar[str] = "PyTorch's own static INT8, its kernels bit for bit"
    source: ClassVar[str] = "torch.ao.quantization, FX mode, engine qnnpack"
    scheme: ClassVar[Scheme] = "native"

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.quantized import integer

        return integer(self, task)
