"""`fixed` with learned binary points and weights: no labels, the float network is the teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class TrainableFixed(Strategy):
    """steps, batch, size, rate, scales: of the training (`hlsgen.quantize.train`)."""

    name: ClassVar[str] = "trainable-fixed"
    title: ClassVar[str] = "fixed, its binary points and weights learned from the float network"
    source: ClassVar[str] = "Jain et al., Trained quantization thresholds (TQT), MLSys 2020; Sun et al., HGQ, 2024"
    scheme: ClassVar[Scheme] = "fixed"

    recipe: Recipe = field(default_factory=lambda: Recipe(rescale=True))
    steps: int = 60
    batch: int = 2
    size: int = 640
    rate: float = 0.015
    scales: float = 0.0006

    @classmethod
    def tools(cls) -> set[str]:
        return super().tools() - {"ranges", "percentile"}  # free scales are found by their squared error

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.quantized import referenced
        from hlsgen.quantize.reference import Reference, quantize
        from hlsgen.quantize.train import Training, held_out, trained

        def calibrated(images: Sequence[Any], known: dict[Any, Any] | None) -> Reference:
            return quantize(
                task.network,
                images,
                "fixed",
                pre_bits=task.pre_bits,
                progress=task.progress.step,
                relevance=task.relevance,
                recipe=self.recipe,
                known=known,
            )

        used, held = held_out(task.images, self.recipe.seed)
        begun = calibrated(used, None)
        task.progress.stage("train", "learning binary points and weights")
        settings = Training(self.steps, self.batch, self.size, self.rate, self.scales, self.recipe)
        reference, note = trained(begun, used, held, task.reg_max, settings, task.progress.step)
        if reference is begun:  # then without those held out it knows less than it could
            task.progress.stage("quantize", "calibrating on all images")
            reference = calibrated(task.images, task.known)
        return referenced(self, reference, note)
