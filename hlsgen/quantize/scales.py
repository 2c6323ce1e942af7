"""Scales from histograms: of all candidates, the one with the least mean squared error."""

from collections.abc import Callable, Iterable

import numpy as np

from hlsgen.quantize.calibrate import Floats, Histogram
from hlsgen.quantize.spec import Scheme, TensorQ

Function = Callable[[Floats], Floats]
SHRINKS = np.linspace(0.4, 1.0, 31)  # how much of the observed range a float scale may keep
POWERS = 4  # how many halvings of the range a power-of-two scale may try
EMPTY = 2.0**-7  # the scale of a tensor that was zero throughout calibration


def activation_scale(seen: Histogram, scheme: Scheme, symmetric: bool = False, finest: float = 0.0) -> TensorQ:
    """An 8-bit tensor's quantization: power of two and symmetric in `fixed`, asymmetric else unless `symmetric`.

    finest: in `fixed`, where requantization only shifts right, no scale below it is tried.
    """
    if seen.maximum == seen.minimum:
        return TensorQ(max(EMPTY, finest), 0)
    if scheme == "fixed":
        return _best(seen, (TensorQ(s, 0) for s in [s for s in _powers(seen, 8) if s >= finest] or [finest]))
    if symmetric:
        step = max(seen.maximum, -seen.minimum) / 127
        return _best(seen, (TensorQ(float(np.float32(step * s)), 0) for s in SHRINKS))
    return _best(seen, _ranges(seen))


def pre_activation_scale(
    seen: Histogram, bits: int, function: Function, scheme: Scheme, finest: float = 0.0
) -> TensorQ:
    """A table input's quantization: symmetric, `bits` wide, the one that costs the activation's output least.

    finest: the scale of the sums; in `fixed`, where requantization only shifts right, none below it is tried.
    """
    if seen.maximum == seen.minimum:
        return TensorQ(EMPTY, 0, bits)
    largest = max(seen.maximum, -seen.minimum)
    step = largest / (1 << (bits - 1))
    scales = (
        [s for s in _powers(seen, bits) if s >= finest] or [finest]
        if scheme == "fixed"
        else [float(np.float32(step * 2.0 ** (-k / 4))) for k in range(4 * POWERS)]
    )
    return _best(seen, (TensorQ(s, 0, bits) for s in scales), function)


def _powers(seen: Histogram, bits: int) -> list[float]:
    """The power of two that holds the whole range, and the next smaller ones."""
    largest = max(seen.maximum / ((1 << (bits - 1)) - 0.5), -seen.minimum / ((1 << (bits - 1)) + 0.5))
    top = int(np.ceil(np.log2(largest)))
    return [2.0 ** (top - k) for k in range(POWERS)]


def _ranges(seen: Histogram) -> Iterable[TensorQ]:
    """Ranges from the observed one inwards, each end by itself."""
    for low in sorted({seen.minimum * s for s in SHRINKS[::5]}):
        for high in sorted({seen.maximum * s for s in SHRINKS}):
            scale = (high - low) / 255
            yield TensorQ(float(np.float32(scale)), int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def _best(seen: Histogram, candidates: Iterable[TensorQ], function: Function | None = None) -> TensorQ:
    used = seen.counts > 0
    x, counts = seen.centers[used], seen.counts[used]
    wanted = x if function is None else function(x)

    def error(q: TensorQ) -> float:
        held = q.scale * (np.clip(np.rint(x / q.scale) + q.zero_point, q.low, q.high) - q.zero_point)
        got = held if function is None else function(held)
        return float(np.dot(counts, (got - wanted) ** 2))

    return min(candidates, key=error)
