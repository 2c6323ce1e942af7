"""What a quantization strategy is: a class of its own file, found by its name, that turns a float network into a quantized one."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hlsgen.errors import HlsgenError
from hlsgen.progress import Progress, Quiet
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.spec import Scheme

if TYPE_CHECKING:
    from torch import fx

    from hlsgen.quantize.quantized import Quantized
    from hlsgen.quantize.relevance import Relevance


@dataclass(frozen=True)
class Task:
    """What is to be quantized.

    network: the float network; shape: its image's (C, H, W); images: for calibration, float32 [C, H, W], 0..1; reg_max: of
    the detection heads, 0 where the outputs are something else. pre_bits: of integer pre-activations, or None for the scheme's.
    """

    network: "fx.GraphModule"
    shape: tuple[int, int, int]
    images: Sequence[Any]
    reg_max: int = 0
    progress: Progress = field(default_factory=Quiet)
    pre_bits: int | None = None
    known: dict[Any, Any] = field(default_factory=dict)  # of the images: what several strategies would find out again

    @property
    def relevance(self) -> "Relevance":
        """What the outputs are read for."""
        from hlsgen.quantize.relevance import detections, outputs_alike

        return detections(self.reg_max) if self.reg_max else outputs_alike


@dataclass(frozen=True)
class Strategy(ABC):
    """A way to quantize. Subclasses are frozen dataclasses; a field is a setting.

    name: as users write it. title: in a few words. source: where it is described. scheme: the arithmetic in which the
    engine runs the result (`hlsgen.quantize.spec`), or None, and then missing: what the engine lacks. calibrated: whether
    it looks at images. recipe: the calibration tools.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    scheme: ClassVar[Scheme | None] = None
    missing: ClassVar[str] = ""
    calibrated: ClassVar[bool] = True

    recipe: Recipe = field(default_factory=Recipe)

    @abstractmethod
    def quantize(self, task: Task) -> "Quantized":
        """The quantized network.

        Raises:
            HlsgenError: images or a network that the strategy cannot use.
        """

    @property
    def label(self) -> str:
        """The name with its variant, as `hlsgen.quantize.strategies.find` reads it."""
        bits = self.recipe.weight_bits
        return self.name if bits == 8 or not self.has_weight_bits() else f"{self.name}:w{bits}"

    def varied(self, variant: str) -> Self:
        """The same with `variant`, what follows the colon in NAME:VARIANT.

        Raises:
            HlsgenError: it has no such variant.
        """
        found = re.fullmatch(r"w(\d+)(?:a(\d+))?", variant)
        if not found or not self.has_weight_bits():
            known = (
                "its variants are w2 to w8, the bits of a weight" if self.has_weight_bits() else "it has no variants"
            )
            raise HlsgenError(f"strategy {self.name} does not know {variant[:40]!r}: {known}")
        if found[2] not in (None, "8"):
            raise HlsgenError(f"activations have 8 bits in {self.name}, the engine's width; got {int(found[2])}")
        return replace(self, recipe=replace(self.recipe, weight_bits=int(found[1])))

    @classmethod
    def has_weight_bits(cls) -> bool:
        """Whether weights may have fewer bits than 8."""
        return cls.scheme in ("fixed", "affine")

    @classmethod
    def tools(cls) -> set[str]:
        """Which settings of its recipe the strategy makes use of."""
        if not cls.calibrated:
            return set()
        ranges = {"ranges", "percentile"}
        if cls.scheme == "native":
            return ranges | {"equalize"}
        return ranges | {"rounding", "refit", "correct_bias", "equalize"}
