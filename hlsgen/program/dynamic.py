"""The arithmetic of scheme `dynamic` on the engine: docs/arithmetic-dynamic.md in numpy. All constants come from here.

Sums are exact integers, and every float32 operation stands by itself, in the page's order: the C++ gives the same bits.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import Ints
from hlsgen.quantize.spec import TensorQ

Floats = npt.NDArray[np.float32]
F = np.float32
Reading = Literal["image", "levels", "integers"]
Activation = Literal["", "gelu", "relu"]
PARTS: dict[Reading, int] = {"image": 2, "levels": 1, "integers": 3}

FLOAT = TensorQ(1.0, 0, 32)
"""The type of a float32 tensor, where integer schemes have a scale."""
SMALLEST_SCALE = F(6.1e-5)
"""Scales of INT8 activations below this are raised to it (ChooseQuantizationParams in PyTorch's quant_utils.h)."""
WEIGHT_EPS = F(2.0**-23)
"""The smallest INT8 weight scale: that of an all-zero layer."""
LARGEST = 32512
"""The largest magnitude of a 16-bit integer: its two 8-bit halves are both signed."""
LARGEST_OF_NORM = 524287
LARGEST_SUM = (1 << 31) - 1
PHI_STEP, PHI_BITS = 64, 20
"""Entries of the normal distribution's table for a step of 1, and their fraction bits."""


@dataclass(frozen=True)
class Levels:
    """An INT8 activation's quantization: real = scale * (u - zero_point), u of 0 to 255; scale a float32 value."""

    scale: float
    zero_point: int


def choose(low: float, high: float) -> Levels:
    """The quantization of values between `low` and `high` (float32 values), zero always among them.

    Source: `ChooseQuantizationParams` in PyTorch 2.13's `quant_utils.h`, its arithmetic step by step.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = (high - low) / 255
    with np.errstate(over="ignore", divide="ignore"):
        if F(scale) == 0 or not np.isfinite(F(1) / F(scale)):
            scale = 0.1
    if scale < float(SMALLEST_SCALE):
        raised, edge = SMALLEST_SCALE / F(scale), SMALLEST_SCALE * F(255)
        if low == 0:
            high = float(edge)
        elif high == 0:
            low = -float(edge)
        else:
            low, high = float(F(low) * raised), float(F(high) * raised)
        scale = float(SMALLEST_SCALE)
    from_low, from_high = -low / scale, 255 - high / scale
    # the end whose quotient carries less rounding error
    error_low, error_high = -abs(low / scale), 255 - abs(high / scale)
    zero_point = from_low if error_low < error_high else from_high
    return Levels(float(F(scale)), round(min(max(zero_point, 0.0), 255.0)))


def quantize(x: Floats, levels: Levels) -> Ints:
    """float32 to 0..255: `x * f32(1 / scale) + zero point`, rounded once to float32, then half to even, clamped.

    In float64 the product is exact, and so is the sum wherever its distance from a half decides.
    """
    inverse = float(F(1) / F(levels.scale))
    sums = (x.astype(np.float64) * inverse + levels.zero_point).astype(np.float32)
    return np.asarray(np.clip(np.rint(sums), 0, 255), np.int64)


def extent(x: Floats) -> tuple[float, float]:
    """The least and the largest element, zero among them: what an op's store finds."""
    return min(float(x.min()), 0.0), max(float(x.max()), 0.0)


def magnitude(*extents: tuple[float, float]) -> float:
    """The largest magnitude in these extents, a float32 value."""
    return max(max(-low, high) for low, high in extents)


def steps_of(largest: float, top: int) -> tuple[np.float32, np.float32]:
    """(scale, inverse): integers of magnitudes up to `top` for floats up to `largest`; the inverse of next to nothing is 0."""
    if largest < 2.0**-100:
        return F(0), F(0)
    return F(largest) / F(top), F(top) / F(largest)


def integers(x: Floats, inverse: np.float32) -> Ints:
    """rint(f32(x * inverse)), int64."""
    return np.asarray(np.rint(x * inverse), np.int64)


def halves(m: Ints) -> tuple[Ints, Ints]:
    """(high, low), both in -128..127, with m = 256 * high + low; |m| <= LARGEST."""
    low = ((m + 128) & 255) - 128
    return (m - low) // 256, low


def product(a: Ints, b: Ints) -> Ints:
    """The sums of a @ b for integers of 16 bits, without the products of two low halves: in units of 256."""
    (ah, al), (bh, bl) = (tuple(h.astype(np.float64) for h in halves(m)) for m in (a, b))
    return np.asarray(256 * (ah @ bh) + (ah @ bl + al @ bh), np.float64).astype(np.int64)


@dataclass(frozen=True, eq=False)
class FloatOp:
    """What a machine op of scheme `dynamic` computes with beside its weights.

    reading: how its input becomes the integers that are multiplied: an "image" is 8-bit integers already; "levels" are 8 bits
    by the input's own extent; "integers" are 16 bits. scale, bias: float32 [O], of a LayerNorm its weights and biases;
    None of scores, attention and what is elementwise. activation: what follows. epsilon: a LayerNorm's.
    """

    reading: Reading
    scale: Floats | None = None
    bias: Floats | None = None
    activation: Activation = ""
    epsilon: float = 0.0

    @property
    def parts(self) -> int:
        """How often the input is read: for each product of 8-bit halves that counts."""
        return PARTS[self.reading]


def quantize_linear(weight: Floats) -> tuple[npt.NDArray[np.int8], np.float32]:
    """INT8 weights and their one scale, the largest magnitude / 127.5 (PyTorch's `MinMaxObserver`)."""
    scale = max(F(np.abs(weight).max()) / F(127.5), WEIGHT_EPS)
    return np.clip(np.rint(weight * (F(1) / scale)), -128, 127).astype(np.int8), scale


def quantize_conv(name: str, weight: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int16], Floats]:
    """16-bit weights [O, I, KH, KW] and a scale an output channel: as fine as 32-bit sums with them allow.

    Raises:
        HlsgenError: so many inputs that 8 bits are not left.
    """
    largest = np.abs(weight).max(axis=(1, 2, 3))
    total = np.abs(weight).sum(axis=(1, 2, 3)) / np.where(largest > 0, largest, 1)
    top = np.minimum(LARGEST, (LARGEST_SUM / 128 - 400 * weight[0].size) / np.maximum(total, 1))
    if top.min() < 127:
        raise HlsgenError(
            f"convolution {name} has {weight[0].size} products a sum, too many for 32 bits in scheme dynamic"
        )
    top = np.floor(top)
    scale = np.where(largest > 0, largest / top, 1.0).astype(np.float32)
    found = np.rint(weight / scale.astype(np.float64)[:, None, None, None])
    return np.clip(found, -LARGEST, LARGEST).astype(np.int16), scale


def linear(u: Ints, levels: Levels, weight: npt.NDArray[np.int8]) -> Ints:
    """The sums, int64 [O, pixels], of a linear layer's weights [O, I] and its input's levels 0..255, [I, pixels]."""
    return np.asarray(weight.astype(np.float64) @ (u - levels.zero_point).astype(np.float64)).astype(np.int64)


def affine(acc: Ints, scale: Floats, bias: Floats) -> Floats:
    """f32(f32(f32(acc) * scale) + bias), a scale and a bias a row."""
    return np.asarray(acc.astype(np.float32) * scale[:, None] + bias[:, None])


# ---- GELU ----------------------------------------------------------------------------------------------------------


def phi_table() -> Ints:
    """The standard normal distribution at -8 + i / 64, i = 0 .. 1025, times 2^20, int64."""
    points = [(i / PHI_STEP - 8) for i in range(16 * PHI_STEP + 2)]
    return np.array([round(0.5 * math.erfc(-x / math.sqrt(2)) * 2**PHI_BITS) for x in points], np.int64)


PHI = phi_table()


def gelu(x: Floats) -> Floats:
    """x times the normal distribution at x, by a table and straight lines between its entries."""
    t = np.rint(np.clip(x, F(-8), F(8)) * F(65536)).astype(np.int64) + (8 << 16)
    i, r = t >> 10, t & 1023
    v = PHI[i] * 1024 + (PHI[i + 1] - PHI[i]) * r
    return np.asarray(x * (v.astype(np.float32) * F(2.0**-30)))


def activate(x: Floats, activation: Activation) -> Floats:
    """What follows a sum's scale and bias."""
    if activation == "gelu":
        return gelu(x)
    return np.where(x > 0, x, F(0)) if activation == "relu" else x


# ---- softmax -------------------------------------------------------------------------------------------------------

LOG2_E = F(math.log2(math.e) * 65536)
FAR = F(1 << 21)


def power_table() -> Ints:
    """LARGEST * 2^8 * 2^(-i / 256), i = 0 .. 256, int64."""
    return np.array([round(LARGEST * 2.0 ** (8 - i / 256)) for i in range(257)], np.int64)


POWERS = power_table()


def exponential(below: Floats) -> Ints:
    """LARGEST * exp(-below) for float32 `below` >= 0, rounded to whole numbers."""
    t = np.rint(np.minimum(below * LOG2_E, FAR)).astype(np.int64)
    k, i, r = t >> 16, (t >> 8) & 255, t & 255
    v = POWERS[i] * 256 - (POWERS[i] - POWERS[i + 1]) * r
    return np.where(k < 16, (v + (1 << (15 + np.minimum(k, 15)))) >> (16 + np.minimum(k, 15)), 0)


# ---- LayerNorm -----------------------------------------------------------------------------------------------------


def layer_norm(x: Floats, largest: float, gamma: Floats, beta: Floats, eps: float) -> Floats:
    """LayerNorm over the first axis of float32 [C, pixels]; largest: the whole tensor's magnitude."""
    channels = F(len(x))
    scale, inverse = steps_of(largest, LARGEST_OF_NORM)
    m = integers(x, inverse)
    first, spread = m.sum(0), len(x) * (m * m).sum(0) - m.sum(0) ** 2
    unit = scale / channels
    mean = first.astype(np.float32) * unit
    variance = spread.astype(np.float32) * (unit * unit)
    root = F(1) / np.sqrt(variance + F(eps))
    return np.asarray((x - mean) * root * gamma[:, None] + beta[:, None])


# ---- attention -----------------------------------------------------------------------------------------------------


def scores(q: Floats, k: Floats, largest: tuple[float, float]) -> Floats:
    """Products [keys, queries] of queries [d, queries] and keys [d, keys]; largest: both tensors' magnitudes."""
    (sq, iq), (sk, ik) = (steps_of(value, LARGEST) for value in largest)
    acc = product(integers(k, ik).T, integers(q, iq))
    return np.asarray(acc.astype(np.float32) * (F(256) * (sq * sk)))


def attend(s: Floats, v: Floats, largest: float) -> Floats:
    """Softmax of scores [keys, queries] over the keys, times values [e, keys]: [e, queries]; largest: the values' magnitude."""
    sv, iv = steps_of(largest, LARGEST)
    p = exponential(s.max(axis=0, keepdims=True) - s)
    acc = product(integers(v, iv), p)
    return np.asarray(acc.astype(np.float32) * ((F(256) * sv) / p.sum(0).astype(np.float32)))
