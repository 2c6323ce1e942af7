"""Axes: from figures to SVG units, with ticks at round figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOG_FROM = 30.0  # figures further apart than this factor get a logarithmic axis


@dataclass(frozen=True)
class Tick:
    """A mark at `at` SVG units."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """low..high lie at begin..end; a logarithmic scale needs low above 0."""

    low: float
    high: float
    begin: float
    end: float
    log: bool
    ticks: tuple[Tick, ...] = ()

    def at(self, value: float) -> float:
        """Where the value lies, in SVG units to a tenth."""
        f = math.log if self.log else float
        share = (f(value) - f(self.low)) / (f(self.high) - f(self.low))
        return round(self.begin + share * (self.end - self.begin), 1)


def scale(values: Sequence[float], begin: float, end: float, log: bool | None = None, most: int = 7) -> Scale:
    """An axis over all values with room at both ends: from 0, or logarithmic where they are far apart (or as `log` says).

    most: about so many ticks at most.
    """
    low, high = min(values), max(values)
    if log is None:
        log = low > 0 and high / low > LOG_FROM
    if log:
        low, high = low / 1.25, high * 1.25
        marks = [m for m in _log_marks(low, high, most) if low <= m <= high]
    else:
        low, high = min(0.0, low), max(high * 1.06, 1e-9)
        step = _round_step((high - low) / most)
        marks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    bare = Scale(low, high, begin, end, log)
    return Scale(low, high, begin, end, log, tuple(Tick(bare.at(m), text(m)) for m in marks))


def text(value: float) -> str:
    """A tick's figure: 1,500 or 25k or 0.05."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 10_000:
        return f"{value / 1e3:g}k"
    return f"{value:,.10g}"


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= least * 0.999)


def _log_marks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        marks = [digit * 10.0**decade for decade in decades for digit in digits]
        if sum(low <= m <= high for m in marks) <= most:
            return marks
    return marks
