"""Floating point of few bits (FP8 and below) with a scale a tensor and, for weights, a channel.

Every tensor in memory is rounded but two kinds: the image, whose 8-bit integers are what a camera gives (in YOLOv8n, rounding
them to E4M3's four significant bits makes a quarter of the outputs' divergence), and the network's outputs, which leave the
last sums as they are, as FP8 inference engines have it. Biases and sums are float32. The first and the last convolutions
stay FP16, as FP8 recipes leave a network's ends: their weights, what the first makes of the image, and what the last ones
read. A tensor's scale takes the largest magnitude seen to the format's largest number, or to some share or multiple of it
where that costs less (`mse`). Weights are fitted and rounded by what they are multiplied with
(`hlsgen.quantize.float_weights`).
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hlsgen.errors import HlsgenError
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized


@dataclass(frozen=True)
class MinifloatStrategy(Strategy):
    """exponent, mantissa: the format's bits beside the sign."""

    name: ClassVar[str] = "minifloat"
    title: ClassVar[str] = "float of few bits: e4m3 (default), e5m2, any other, with scales"
    source: ClassVar[str] = (
        "OCP 8-bit Floating Point Specification 1.0; Micikevicius et al., FP8 formats for deep learning, 2022"
    )
    missing: ClassVar[str] = (
        "its multipliers are integer: floating-point ones, which align every product, are not generated"
    )

    exponent: int = 4
    mantissa: int = 3

    @property
    def label(self) -> str:
        return f"{self.name}:e{self.exponent}m{self.mantissa}"

    def varied(self, variant: str) -> Self:
        from hlsgen.quantize.minifloat import Minifloat

        found = re.fullmatch(r"e(\d{1,2})m(\d{1,2})", variant.lower())
        if not found:
            raise HlsgenError(
                f"strategy minifloat does not know {variant[:40]!r}: its variants are e4m3, e5m2 and the like"
            )
        Minifloat(int(found[1]), int(found[2]))  # says where it makes no sense
        return replace(self, exponent=int(found[1]), mantissa=int(found[2]))

    @classmethod
    def tools(cls) -> set[str]:
        return {"ranges", "rounding", "refit", "correct_bias"}

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.calibrate import Histogram, calibrate
        from hlsgen.quantize.executables import Rounded, Simulated
        from hlsgen.quantize.float_weights import fitted_floats
        from hlsgen.quantize.minifloat import HALF, Minifloat
        from hlsgen.quantize.quantized import Quantized, parameter_bytes
        from hlsgen.quantize.refine import IMAGES, LARGEST_BATCH
        from hlsgen.quantize.relevance import irrelevant
        from hlsgen.quantize.structure import ends, in_memory, shared_scales

        if self.recipe.rounding == "adaround":
            raise HlsgenError("the rounding of minifloat is nearest or compensated: AdaRound is for integers")
        if self.recipe.ranges not in ("mse", "minmax"):
            raise HlsgenError(
                f"the ranges of minifloat are mse or minmax, got {self.recipe.ranges}: a float need not clip"
            )
        network, form = task.network, Minifloat(self.exponent, self.mantissa)
        relevance = task.relevance if self.recipe.ranges == "mse" else irrelevant
        seen = calibrate(network, task.images, task.progress.step, relevance, len(task.images), self.recipe.seed)
        share = shared_scales(network)
        groups: dict[str, Histogram] = {}
        for name, histogram in seen.histograms.items():
            groups.setdefault(share[name], Histogram()).merge(histogram)
        convs, tensors = ends(network)
        halves = {share[name] for name in tensors}
        rounded = {
            name: Rounded(HALF)
            if share[name] in halves
            else Rounded(form, _scale(groups[share[name]], form, self.recipe.ranges))
            for name in sorted(in_memory(network))
        }
        used = task.images[: max(LARGEST_BATCH // seen.largest, 1)][:IMAGES]
        forms = dict.fromkeys(convs, HALF)
        weights = fitted_floats(network, form, forms, rounded, used, self.recipe, task.progress.step, seen.relevant)

        def bits(name: str) -> int:
            return forms.get(name, form).bits

        size = parameter_bytes(network, bits, bias_bytes=4, channel_bytes=4)
        return Quantized(self.label, network, task.shape, Simulated(network, weights, rounded), size)


def _scale(seen: Any, form: Any, ranges: str) -> float:
    """float32: of the candidates, the one with the least squared error over the histogram (`minmax`: the first)."""
    import numpy as np
    import torch

    largest = max(seen.maximum, -seen.minimum)
    if largest == 0:
        return 1.0
    candidates = [float(np.float32(largest / form.largest * 2.0 ** (k / 4))) for k in range(-8, 9)]
    if ranges == "minmax":
        return float(np.float32(largest / form.largest))
    used = seen.counts > 0
    x = torch.from_numpy(seen.centers[used]).float()

    def error(scale: float) -> float:
        got = (form.round(x / scale) * scale).double().numpy()
        return float(np.dot(seen.counts[used], (got - x.double().numpy()) ** 2))

    return min(candidates, key=error)
