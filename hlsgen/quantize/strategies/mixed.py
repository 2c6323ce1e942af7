"""Fewer bits for the layers that can spare them, under a budget.

Sensitivity: weights rounded to b bits change a convolution's outputs by e x; with g the gradient of what the network is read
for, the damage is the sum over channels and positions of g^2 (e x)^2 (the Hessian's diagonal, as HAWQ has its trace: Dong et
al., NeurIPS 2020). From 8 bits everywhere, one layer at a time loses a bit: always the one with the least damage for what
it saves, until the budget holds.

What a bit saves: `size`: the bytes of packed weights. `dsp`: the DSP48 slices at work: two products share one, three where
a weight has 3 bits or fewer (three products of b + 8 bits side by side need 2 (b + 8) + b <= 25 bits of the port).

The engine runs the result as it is, and saves nothing by it: it keeps each weight in a byte and its array multiplies 8 by 8
bits. The bytes of a packed file, and a design whose multipliers are made for these widths, are what the budget is about.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from hlsgen.errors import HlsgenError
from hlsgen.quantize.recipe import WEIGHT_BITS
from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.strategies.base import Strategy, Task

if TYPE_CHECKING:
    from hlsgen.quantize.quantized import Quantized

LEAST_DSP_BITS = 3  # of a weight of which three products share a DSP48


@dataclass(frozen=True)
class Mixed(Strategy):
    """share: of what 8 bits everywhere take, between 0 and 1. of: what is counted."""

    name: ClassVar[str] = "mixed"
    title: ClassVar[str] = "fixed, each layer's weights as wide as it needs under a budget"
    source: ClassVar[str] = "Dong et al., HAWQ-V2: Hessian aware trace-weighted quantization, NeurIPS 2020"
    scheme: ClassVar[Scheme] = "fixed"

    share: float = 0.75
    of: Literal["size", "dsp"] = "size"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise HlsgenError(
                f"the budget of mixed is a share above 0 and at most 1 of 8 bits everywhere, got {self.share:g}"
            )

    @property
    def label(self) -> str:
        return f"{self.name}:{'dsp' if self.of == 'dsp' else ''}{self.share:g}"

    def varied(self, variant: str) -> Self:
        found = re.fullmatch(r"(dsp)?(\d+(?:\.\d+)?)", variant)
        if not found:
            raise HlsgenError(
                f"strategy mixed does not know {variant[:40]!r}: its variants are budgets, 0.75 of the bytes or dsp0.75 of the DSPs"
            )
        return replace(self, share=float(found[2]), of="dsp" if found[1] else "size")

    def quantize(self, task: Task) -> "Quantized":
        from hlsgen.quantize.quantized import referenced
        from hlsgen.quantize.reference import quantize
        from hlsgen.quantize.sensitivity import sensitivities

        damage, elements, macs = sensitivities(
            task.network, task.images, task.relevance, self.recipe.seed, task.progress.step
        )
        bits = self.chosen(damage, elements if self.of == "size" else macs)
        chosen = replace(self, recipe=replace(self.recipe, bits=bits))
        task.progress.stage("quantize", "calibrating")
        reference = quantize(
            task.network,
            task.images,
            "fixed",
            pre_bits=task.pre_bits,
            progress=task.progress.step,
            relevance=task.relevance,
            recipe=chosen.recipe,
            known=task.known,
        )
        widths = sorted(set(bits.values()))
        counted = ", ".join(f"{sum(b == w for b in bits.values())} layers of {w}" for w in widths)
        stored = sum(elements.values())
        note = f"{counted} bits; {stored:,} bytes of weights as the engine stores them, a byte each"
        return referenced(chosen, reference, note)

    def chosen(self, damage: Mapping[str, Mapping[int, float]], weight: Mapping[str, int]) -> dict[str, int]:
        """Bits by layer. damage: by layer and bits; weight: by layer, elements (`size`) or multiply-accumulates (`dsp`).

        Raises:
            HlsgenError: the budget cannot be reached, with the least that can.
        """
        widths = list(WEIGHT_BITS) if self.of == "size" else [LEAST_DSP_BITS, WEIGHT_BITS[-1]]

        def cost(name: str, width: int) -> float:
            per = width / 8 if self.of == "size" else (2 / 3 if width <= LEAST_DSP_BITS else 1)
            return weight[name] * per

        whole = sum(weight.values())
        least = sum(cost(name, widths[0]) for name in damage) / whole
        if self.share < least:
            raise HlsgenError(f"a budget of {self.share:g} is out of reach of mixed: the least is {least:.3g}")
        bits = dict.fromkeys(damage, widths[-1])
        total = float(whole)
        while total > self.share * whole + 1e-6:
            options = []
            for name, width in bits.items():
                for lower in [w for w in widths if w < width]:  # a jump over several widths may be the cheaper one
                    saved = cost(name, width) - cost(name, lower)
                    options.append(((damage[name][lower] - damage[name][width]) / saved, name, lower))
            _, name, lower = min(options)
            total += cost(name, lower) - cost(name, bits[name])
            bits[name] = lower
        return bits
