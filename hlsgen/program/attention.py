"""The integer arithmetic of attention: docs/arithmetic-attention.md in numpy. All constants come from here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import MULTIPLIER_BITS, Ints, fraction_bits, normalized, round_shift_even, shift_of
from hlsgen.quantize.spec import Scheme, TensorQ

LARGEST_WEIGHT = 127  # what the largest score of a row becomes
LARGEST_SHIFT = 27  # of the attention's constants; floor(log2(sum)) is added to it
MOST_KEYS = 4096
CHUNK = 256  # keys whose weights are relative to the same score
FACTOR_BITS = 16  # of the factor that a chunk's sums are scaled down by
FRACTION = 8  # bits of fraction of a sum of weights, where there are several chunks
# float32 sums of so many products of 8 bits by 8 bits are exact, in any order; so are those of a chunk.
EXACT_CHANNELS = 1024
Window = tuple[int, int]  # rows, columns; (0, 0): the whole map


@dataclass(frozen=True)
class Scaling:
    """clamp(rne(x * multiplier, shift) + out.zero_point), one for a whole tensor."""

    out: TensorQ
    multiplier: int
    shift: int


def scores_scaling(scheme: Scheme, q: TensorQ, k: TensorQ, out: TensorQ) -> Scaling:
    """Constants that take sums of queries times keys to `out`.

    Raises:
        HlsgenError: scheme native; queries or keys with a zero point; scales out of range.
    """
    _supported(scheme)
    if q.zero_point or k.zero_point:
        raise HlsgenError(
            f"attention expects queries and keys with zero points of 0, got {q.zero_point} and {k.zero_point}; "
            "quantize them symmetrically"
        )
    if scheme == "fixed":
        shift = fraction_bits(q.scale) + fraction_bits(k.scale) - fraction_bits(out.scale)
        if not 0 <= shift <= 31:
            raise HlsgenError(
                f"scheme fixed expects requantization shifts of 0 to 31, got {shift} for attention scores"
            )
        return Scaling(out, 1, shift)
    return Scaling(out, *normalized(q.scale * k.scale / out.scale, MULTIPLIER_BITS))


def softmax_shift(q: TensorQ, k: TensorQ, out: TensorQ) -> int:
    """The shift that takes sums of queries times keys to the scores that a softmax reads, 0 to 31.

    Raises:
        HlsgenError: the scores' scale is no power of two times the queries' and the keys', or out of range.
    """
    try:
        shift = shift_of(q.scale * k.scale / out.scale)
    except HlsgenError as error:
        raise HlsgenError(
            f"attention expects scores whose scale is a power of two times the queries' and the keys', got {out.scale!r} "
            f"of {q.scale!r} and {k.scale!r}; quantize the float network instead"
        ) from error
    if not 0 <= shift <= 31:
        raise HlsgenError(
            f"attention expects requantization shifts of 0 to 31, got {shift} for its scores; recalibrate"
        )
    return shift


def attend_scaling(scheme: Scheme, v: TensorQ, out: TensorQ) -> Scaling:
    """Constants of an attention's output: multiplier / 2**shift is the values' scale over the output's.

    Raises:
        HlsgenError: scheme native, or scales out of range.
    """
    _supported(scheme)
    if scheme == "fixed":
        multiplier, shift = 1 << 16, 16 + fraction_bits(v.scale) - fraction_bits(out.scale)
    else:
        multiplier, shift = normalized(v.scale / out.scale, MULTIPLIER_BITS)
    if not 0 <= shift <= LARGEST_SHIFT:
        raise HlsgenError(f"attention from values of scale {v.scale!r} to {out.scale!r} is out of range; recalibrate")
    return Scaling(out, multiplier, shift)


def _supported(scheme: Scheme) -> None:
    if scheme == "native":
        raise HlsgenError(
            "scheme native cannot run attention, for which PyTorch has no INT8 kernels; use --scheme fixed or --scheme affine"
        )


def exponents(scores: TensorQ) -> npt.NDArray[np.int8]:
    """The weight of a key whose score is k steps below its row's largest: int8 [256], 127 down to 0."""
    k = np.arange(256, dtype=np.float64)
    return np.asarray(np.rint(LARGEST_WEIGHT * np.exp(-k * scores.scale)), np.int8)


def factors(scores: TensorQ) -> Ints:
    """What the sums of a chunk are multiplied by whose largest score is k steps below another's, times 2**16: int64 [256]."""
    k = np.arange(256, dtype=np.float64)
    return np.asarray(np.rint(np.exp(-k * scores.scale) * (1 << FACTOR_BITS)), np.int64)


def scale(x: npt.NDArray[Any], constants: Scaling) -> Ints:
    """Apply `constants` to sums, integers of any type; in float64, which is exact below 2**53 and rounds ties to even."""
    out = constants.out
    y = np.rint(x * np.float64(constants.multiplier * 2.0**-constants.shift), dtype=np.float64)
    return np.asarray(np.clip(y + out.zero_point, out.low, out.high), np.int64)


def scores(
    q: npt.NDArray[np.int8], k: npt.NDArray[np.int8], heads: int, constants: Scaling, window: Window = (0, 0)
) -> Ints:
    """int64 [heads * N, H, W] from queries int8 [heads * d, H, W] and keys int8 [heads * d, H', W'], N = H' * W'.

    window: (rows, columns); where given, N is their product and queries meet the keys of their own window.
    """
    if window != (0, 0):
        return over_windows(lambda a, b: scores(a, b, heads, constants), q, k, window)
    a, b = _tokens(q, heads), _tokens(k, heads)
    kind = np.float32 if a.shape[1] < EXACT_CHANNELS else np.float64
    acc = b.astype(kind).transpose(0, 2, 1) @ a.astype(kind)
    return scale(acc.reshape(-1, *q.shape[1:]), constants)


def attend(
    s: npt.NDArray[np.int8],
    v: npt.NDArray[np.int8],
    heads: int,
    quant: TensorQ,
    zero_point: int,
    constants: Scaling,
    window: Window = (0, 0),
) -> Ints:
    """int64 [heads * e, H, W] from scores int8 [heads * N, H, W] with their quantization and values int8 [heads * e, H', W'] with
    their zero point."""
    if window != (0, 0):
        return over_windows(lambda a, b: attend(a, b, heads, quant, zero_point, constants), s, v, window)
    y = weighted(_tokens(s, heads), _tokens(v, heads), quant, zero_point, constants)
    return y.reshape(-1, *s.shape[1:])


def weighted(
    rows: npt.NDArray[Any], values: npt.NDArray[Any], quant: TensorQ, zero_point: int, constants: Scaling
) -> Ints:
    """`attend` of each query: from scores [..., keys, queries] with their quantization and values [..., e, keys], 8-bit integers of
    any type, int64 [..., e, queries]."""
    table, values = exponents(quant).astype(np.float32), values.astype(np.float32)
    merged: Merged | None = None
    for j in range(0, rows.shape[-2], CHUNK):
        part = rows[..., j : j + CHUNK, :].astype(np.int64)
        largest = part.max(axis=-2)
        p = table[largest[..., None, :] - part]
        total = p.sum(axis=-2).astype(np.int64)
        sums = (values[..., j : j + CHUNK] @ p).astype(np.int64) - zero_point * total[..., None, :]
        here = Merged(largest, total << FRACTION, sums)
        merged = here if merged is None else merged.with_chunk(here, factors(quant))
    assert merged is not None
    n = floor_log2(merged.total)
    factor = (np.int64(constants.multiplier) << n) // merged.total
    out, shift = constants.out, (constants.shift + n - FRACTION)[..., None, :]
    y = round_shift_even(merged.sums * factor[..., None, :], shift) + out.zero_point
    return np.clip(y, out.low, out.high)


@dataclass(frozen=True, eq=False)
class Merged:
    """What is known of some chunks of keys: the largest score [..., queries], the weights' sum times 2**FRACTION, alike, and the
    weighted sums of the values [..., e, queries], all relative to the largest score; int64."""

    largest: Ints
    total: Ints
    sums: Ints

    def with_chunk(self, chunk: "Merged", table: Ints) -> "Merged":
        """With a further chunk's: what has the smaller largest score is scaled down. table: `factors`."""
        below = chunk.largest <= self.largest
        factor = table[np.abs(chunk.largest - self.largest)]

        def of(mine: Ints, other: Ints, below: npt.NDArray[np.bool_], factor: Ints) -> Ints:
            scaled = round_shift_even(np.where(below, other, mine) * factor, FACTOR_BITS)
            return scaled + np.where(below, mine, other)

        return Merged(
            np.maximum(self.largest, chunk.largest),
            of(self.total, chunk.total, below, factor),
            of(self.sums, chunk.sums, below[..., None, :], factor[..., None, :]),
        )


def over_windows(
    function: Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]],
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    window: Window,
) -> npt.NDArray[Any]:
    """`function` on the same window of two maps, window by window; the results as one map."""
    height, width = a.shape[1:]
    bands = []
    for y in range(0, height, window[0]):
        cells = [np.s_[:, y : y + window[0], x : x + window[1]] for x in range(0, width, window[1])]
        bands.append(np.concatenate([function(a[cell], b[cell]) for cell in cells], axis=2))
    return np.concatenate(bands, axis=1)


def floor_log2(x: Ints) -> Ints:
    """floor(log2(x)) of int64 x, 1 to 2**52: the exponent of its float64."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1


def _tokens(x: npt.NDArray[np.int8], heads: int) -> npt.NDArray[np.int8]:
    """[heads * d, H, W] to [heads, d, H * W]."""
    return x.reshape(heads, len(x) // heads, -1)
