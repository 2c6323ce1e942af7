"""What quantization decided: every tensor's scale and zero point, every convolution's integer weights.

All integers are in the *engine's domain*: signed two's complement. PyTorch's quint8 value u is q = u - 128, its zero
point z is z - 128. real = scale * (q - zero_point).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Scheme = Literal["fixed", "affine", "native", "dynamic"]
DEFAULT_PRE_BITS: dict[str, int] = {"fixed": 14, "affine": 12, "native": 8}
"""Bits of a pre-activation. A power-of-two scale leaves up to one of them unused, so `fixed` takes more."""
ALMOST = 1 - 2.0**-20
"""What two scales that should be equal are to each other at least, as float32."""
SCHEMES: tuple[Scheme, ...] = ("fixed", "affine", "native")
"""The schemes of integers only."""
DEFAULT_SCHEME: Scheme = "affine"
"""The most accurate without training (docs/strategies.md)."""
ENGINE_SCHEMES: tuple[Scheme, ...] = (*SCHEMES, "dynamic")
"""What the engine runs; docs/arithmetic-dynamic.md is the one that finds its scales while it runs."""


@dataclass(frozen=True)
class TensorQ:
    """One tensor's quantization: real = scale * (q - zero_point), q a signed integer of `bits` bits.

    `fixed`: scale is a power of two and zero_point 0, so the tensor is an `ap_fixed<bits, I>`; or, where a network is rescaled
    (`hlsgen.quantize.rescale`), any float32 that requantization reaches by a shift. `native`: scale is the float32 that
    PyTorch holds, widened.
    """

    scale: float
    zero_point: int
    bits: int = 8

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True, eq=False)
class ConvQ:
    """One convolution's integers.

    weight: int8 [O, I/groups, KH, KW], symmetric (zero point 0); weight_scale: float64 [O]; bias: int32 [O] in units of
    input scale x weight scale, the input's zero point *not* folded in. In `dynamic` the bias is float32 [O], and what is no
    linear layer has int16 weights.
    """

    weight: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float64]
    bias: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class QuantSpec:
    """The quantization of a network (`hlsgen.models.network`).

    tensors: by fx node name, the quantization of that node's output (the placeholder's too). A convolution that feeds
    exactly one activation holds its *pre-activation* there (bits 8 in `native`, 10 to 16 in `fixed` and `affine`); an
    activation's entry is its table's output (8 bits). split, getitem, cat, max pool and upsampling have the
    quantization of their inputs (all inputs of a cat are equal).
    convs: by fx node name.
    """

    scheme: Scheme
    tensors: Mapping[str, TensorQ]
    convs: Mapping[str, ConvQ]
