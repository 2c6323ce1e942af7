"""`fixed` with learned binary points and weights: no labels, the float network is the teacher."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class TrainableFixed(Strategy):
    """steps, batch, size, rate: of the training (`hlsgen.quantize.train`)."""

    name: ClassVar[str] = "trainable-fixed"
    title: ClassVar[str] = "fixed, its binary points and weights learned from the float network"
    source: ClassVar[str] = "Jain et al., Trained quantization thresholds (TQT), MLSys 2020; Sun et al., HGQ, 2024"
    scheme: ClassVar[Scheme] = "fixed"

    recipe: Recipe = field(default_factory=lambda: Recipe(rescale=True))
    steps: int = 60
    batch: int = 2
    size: int = 640
    rate: float = 0.0005

    @classmethod
    def tools(cls) -> set[str]:
        return super().tools() - {"ranges", "percentile"}  # free scales are found by their squared error

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.quantized import referenced
        from hlsgen.quantize.reference import quantize
        from hlsgen.quantize.train import Training, trained

        begun = quantize(
            task.network,
            task.images,
            "fixed",
            pre_bits=task.pre_bits,
            progress=task.progress.step,
            relevance=task.relevance,
            recipe=self.recipe,
            known=task.known,
        )
        task.progress.stage("train", "learning binary points and weights")
        settings = Training(self.steps, self.batch, self.size, self.rate, self.recipe)
        reference, note = trained(begun, task.images, task.reg_max, settings, task.progress.step)
        return referenced(self, reference, note)
