"""The calibration tools of a quantization, which combine: how ranges are found, how weights are rounded, what is mended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hlsgen.errors import HlsgenError

Ranges = Literal["mse", "minmax", "percentile", "histogram"]
Rounding = Literal["nearest", "compensated", "adaround"]
RANGES: tuple[Ranges, ...] = ("mse", "minmax", "percentile", "histogram")
ROUNDINGS: tuple[Rounding, ...] = ("nearest", "compensated", "adaround")
WEIGHT_BITS = range(2, 9)
"""Widths of a weight: the engine keeps each in one signed byte."""


@dataclass(frozen=True)
class Recipe:
    """Calibration tools.

    ranges: how an activation's range is chosen. `mse`: the least squared error, weighted by relevance; `minmax`: all that
        was seen; `percentile`: all but the outermost 100 - `percentile` percent (McKinstry et al., 2018); `histogram`: the
        least Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", 2017).
    rounding: of weights. `nearest`; `compensated`: one by one, the error of each made up for by those still to come
        (Frantar et al., "GPTQ", 2023); `adaround`: up or down as learned (Nagel et al., "Up or down?", ICML 2020).
    refit: move each convolution's weights to what its quantized inputs need (`hlsgen.quantize.refine`).
    correct_bias: the bias takes up the mean of what quantization changed (Nagel et al., ICCV 2019, section 4.2).
    equalize: cross-layer equalization first (the same paper, section 4.1).
    rescale: in `fixed`, scales that are no powers of two where requantization still only shifts (`hlsgen.quantize.rescale`).
    weight_bits: of every convolution; bits: of single convolutions, by node name.
    seed: of everything that is drawn.
    """

    ranges: Ranges = "mse"
    percentile: float = 99.999
    rounding: Rounding = "compensated"
    refit: bool = True
    correct_bias: bool = True
    equalize: bool = False
    rescale: bool = False
    weight_bits: int = 8
    bits: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ranges not in RANGES:
            raise HlsgenError(f"unknown calibration {self.ranges!r}: expected one of {', '.join(RANGES)}")
        if self.rounding not in ROUNDINGS:
            raise HlsgenError(f"unknown rounding {self.rounding!r}: expected one of {', '.join(ROUNDINGS)}")
        if not 50 < self.percentile <= 100:
            raise HlsgenError(f"a percentile of a range is above 50 and at most 100, got {self.percentile:g}")
        for width in (self.weight_bits, *self.bits.values()):
            if width not in WEIGHT_BITS:
                raise HlsgenError(f"weights have {WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]} bits, got {width}")

    def bits_of(self, name: str) -> int:
        """The width of the weights of the convolution at node `name`."""
        return self.bits.get(name, self.weight_bits)
