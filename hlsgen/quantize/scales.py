"""Scales from histograms: of all candidates, the best by the recipe's measure."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from hlsgen.quantize.calibrate import Floats, Histogram
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.spec import Scheme, TensorQ

Function = Callable[[Floats], Floats]
SHRINKS = np.linspace(0.4, 1.0, 31)  # how much of the observed range a float scale may keep
POWERS = 4  # how many halvings of the range a power-of-two scale may try
EMPTY = 2.0**-7  # the scale of a tensor that was zero throughout calibration


def activation_scale(
    seen: Histogram, scheme: Scheme, recipe: Recipe, symmetric: bool = False, finest: float = 0.0
) -> TensorQ:
    """An 8-bit tensor's quantization: power of two and symmetric in `fixed`, asymmetric else unless `symmetric`.

    finest: in `fixed`, where requantization only shifts right, no scale below it is tried.
    """
    if seen.maximum == seen.minimum:
        return TensorQ(max(EMPTY, finest), 0)
    low, high = _extremes(seen, recipe)
    if scheme == "fixed":
        candidates = [TensorQ(s, 0) for s in _powers(low, high, 8) if s >= finest] or [TensorQ(finest, 0)]
    elif symmetric:
        step = max(high, -low) / 127
        candidates = [TensorQ(float(np.float32(step * s)), 0) for s in SHRINKS[::-1]]
    else:
        candidates = [_asymmetric(low, high), *_ranges(seen)]
    if recipe.ranges in ("minmax", "percentile"):
        return candidates[0]  # which holds the whole range
    if recipe.ranges == "histogram":
        return min(candidates, key=lambda q: _divergence(seen, q))
    return _best(seen, candidates)


def score_scale(seen: Histogram, scheme: Scheme, recipe: Recipe, unit: float) -> TensorQ:
    """The quantization of scores that a softmax reads: a power of two, at least 1, times `unit`, the scale of their sums.

    Softmax does not see the zero point: outside `fixed` it is whichever holds the range best.
    """
    if scheme == "fixed":
        return activation_scale(seen, scheme, recipe, finest=unit)
    low, high = _extremes(seen, recipe)
    top = max(0, int(np.ceil(np.log2(max(high - low, 1e-30) / 255 / unit))))
    candidates = []
    for exponent in range(top, max(-1, top - POWERS), -1):
        scale = float(np.float32(unit * 2.0**exponent))
        zeros = (-128 - low / scale, 127 - high / scale)
        candidates += [TensorQ(scale, int(np.clip(np.rint(zero), -128, 127))) for zero in zeros]
    if recipe.ranges in ("minmax", "percentile"):
        return candidates[0]
    if recipe.ranges == "histogram":
        return min(candidates, key=lambda q: _divergence(seen, q))
    return _best(seen, candidates)


def pre_activation_scale(
    seen: Histogram,
    bits: int,
    function: Function,
    scheme: Scheme,
    recipe: Recipe,
    finest: float = 0.0,
    unit: float = 1.0,
) -> TensorQ:
    """A table input's quantization: symmetric, `bits` wide, the one that costs the activation's output least.

    finest: the scale of the sums; in `fixed`, where requantization only shifts right, none below it is tried, and all are
    powers of two times `unit`. With so many bits a divergence says nothing: `histogram` takes the least squared error too.
    """
    if seen.maximum == seen.minimum:
        return TensorQ(EMPTY, 0, bits)
    low, high = _extremes(seen, recipe)
    if scheme == "fixed":
        above = float(unit * np.exp2(np.ceil(np.log2(max(finest, 1e-30) / unit))))
        scales = [s for s in _powers(low, high, bits, unit) if s >= finest] or [above]
    else:
        step = max(high, -low) / (1 << (bits - 1))
        scales = [float(np.float32(step * 2.0 ** (-k / 4))) for k in range(4 * POWERS)]
    if recipe.ranges in ("minmax", "percentile"):
        return TensorQ(scales[0], 0, bits)
    return _best(seen, (TensorQ(s, 0, bits) for s in scales), function)


def _extremes(seen: Histogram, recipe: Recipe) -> tuple[float, float]:
    """The range to be held, zero in it: what was seen, or all but its outermost share."""
    if recipe.ranges != "percentile":
        return seen.minimum, seen.maximum
    outside = seen.counts.sum() * (1 - recipe.percentile / 100)
    cumulated = np.cumsum(seen.counts)
    edges = seen.low + np.arange(len(seen.counts) + 1) * seen.width
    first = int(np.searchsorted(cumulated, outside, "right"))
    last = int(np.searchsorted(cumulated, cumulated[-1] - outside, "left"))
    low, high = max(float(edges[first]), seen.minimum), min(float(edges[last + 1]), seen.maximum)
    return (min(low, 0.0), max(high, 0.0)) if high > low else (seen.minimum, seen.maximum)


def _powers(low: float, high: float, bits: int, unit: float = 1.0) -> Iterator[float]:
    """The power of two (times `unit`) that holds the whole range, and the next smaller ones."""
    largest = max(high / ((1 << (bits - 1)) - 0.5), -low / ((1 << (bits - 1)) + 0.5))
    top = int(np.ceil(np.log2(largest / unit)))
    return (float(np.float32(unit * 2.0 ** (top - k))) for k in range(POWERS))


def _asymmetric(low: float, high: float) -> TensorQ:
    scale = (high - low) / 255
    return TensorQ(float(np.float32(scale)), int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def _ranges(seen: Histogram) -> Iterable[TensorQ]:
    """Ranges from the observed one inwards, each end by itself."""
    for low in sorted({seen.minimum * s for s in SHRINKS[::5]}):
        for high in sorted({seen.maximum * s for s in SHRINKS}):
            yield _asymmetric(low, high)


def _best(seen: Histogram, candidates: Iterable[TensorQ], function: Function | None = None) -> TensorQ:
    """The least mean squared error of the tensor, or of the function's value."""
    return min(candidates, key=lambda q: error_of(seen, q, function))


def error_of(seen: Histogram, q: TensorQ, function: Function | None = None) -> float:
    """The squared error of a tensor quantized by `q`, or of the function's value, summed over the histogram."""
    used = seen.counts > 0
    x, counts = seen.centers[used], seen.counts[used]
    held = q.scale * (_integers(x, q) - q.zero_point)
    wanted, got = (x, held) if function is None else (function(x), function(held))
    return float(np.dot(counts, (got - wanted) ** 2))


def _divergence(seen: Histogram, q: TensorQ) -> float:
    """Kullback-Leibler divergence of the histogram, clipped to the range, from what the integers can tell of it.

    Migacz, 2017: what lies outside counts at the ends in the one, and not at all in the other; within an integer's share
    of the bins, those that are not empty get equal parts.
    """
    used = seen.counts > 0
    x, counts = seen.centers[used], seen.counts[used]
    codes = _integers(x, q).astype(np.int64)
    inside = np.abs(q.scale * (codes - q.zero_point) - x) <= q.scale / 2 + seen.width
    kept = np.where(inside, counts, 0)
    if not kept.any():
        return float("inf")
    share = np.bincount(codes - q.low, kept, 1 << q.bits)[codes - q.low]
    bins = np.bincount(codes - q.low, inside.astype(np.float64), 1 << q.bits)[codes - q.low]
    clipped = kept.copy()
    first, last = np.flatnonzero(inside)[[0, -1]]
    clipped[first] += counts[:first].sum()
    clipped[last] += counts[last + 1 :].sum()
    p, told = clipped[inside] / clipped[inside].sum(), (share[inside] / bins[inside]) / kept.sum()
    return float(np.sum(p * np.log(p / told)))


def _integers(x: Floats, q: TensorQ) -> Floats:
    return np.asarray(np.clip(np.rint(x / q.scale) + q.zero_point, q.low, q.high), np.float64)
