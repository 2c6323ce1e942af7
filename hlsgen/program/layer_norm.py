"""LayerNorm's integer arithmetic: docs/arithmetic-attention.md in numpy. All constants come from here."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import Ints
from hlsgen.quantize.spec import TensorQ

FRACTION_BITS = 10  # of a normalized value
GAIN_BITS = 16
MOST_SHIFT = 30
VARIANCE_BITS = 48


@dataclass(frozen=True, eq=False)
class Norm:
    """Constants of a LayerNorm: y = clamp(rne(n * gain + offset, shift) + out.zero_point), n the normalized value."""

    out: TensorQ
    epsilon: int
    gain: Ints  # [C]
    offset: Ints  # [C]
    shift: int


def norm_constants(
    gamma: npt.NDArray[np.float64], beta: npt.NDArray[np.float64], eps: float, x: TensorQ, out: TensorQ
) -> Norm:
    """Constants of a LayerNorm over C channels.

    Args:
        gamma: weights, float64 [C].
        beta: biases, float64 [C].
        eps: what is added to the variance.
        x: the input's quantization; its zero point does not matter.
        out: the output's.

    Raises:
        HlsgenError: scales or weights out of range.
    """
    channels = len(gamma)
    if 2 * (x.bits - 1 + np.log2(channels)) >= VARIANCE_BITS:
        raise HlsgenError(
            f"a LayerNorm over {channels} channels of {x.bits} bits is too large for {VARIANCE_BITS}-bit sums"
        )
    largest = float(np.abs(gamma).max()) / (2**FRACTION_BITS * out.scale)
    offset = beta / out.scale
    shift = MOST_SHIFT
    while shift >= 0 and (
        round(largest * 2.0**shift) >= 1 << GAIN_BITS or np.abs(offset).max() * 2.0**shift >= 2.0**31 - 1
    ):
        shift -= 1
    if shift < 0:
        raise HlsgenError(
            f"a LayerNorm with weights up to {np.abs(gamma).max():g} to a scale of {out.scale:g} is out of range"
        )
    epsilon = max(1, round(eps * channels**2 / x.scale**2))
    gain = np.rint(gamma / (2**FRACTION_BITS * out.scale) * 2.0**shift).astype(np.int64)
    return Norm(out, epsilon, gain, np.rint(offset * 2.0**shift).astype(np.int64), shift)


def layer_norm(x: Ints, constants: Norm) -> Ints:
    """Apply `constants` to int64 [..., C], channels last."""
    channels = x.shape[-1]
    first = x.sum(-1, keepdims=True)
    variance = channels * (x * x).sum(-1, keepdims=True) - first * first + constants.epsilon
    t = 2 * ((np.frexp(variance.astype(np.float64))[1].astype(np.int64) - 1) // 2)
    roots = [isqrt((1 << (32 + int(e))) // int(v)) for v, e in zip(variance.ravel(), t.ravel(), strict=True)]
    inverse = np.array(roots, np.int64).reshape(variance.shape)
    # In float64: products below 2**53 are exact, powers of two always, and rint breaks ties to even.
    down = np.exp2(-(16.0 + t // 2 - FRACTION_BITS))
    normalized = np.rint((channels * x - first) * (inverse * down))
    y = np.rint((normalized * constants.gain + constants.offset) * 2.0**-constants.shift) + constants.out.zero_point
    return np.asarray(np.clip(y, constants.out.low, constants.out.high), np.int64)
