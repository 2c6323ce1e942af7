"""Figures as people read them: enough digits to tell small ones apart, none beyond."""

import math


def figure(value: float, decimals: int = 1, significant: int = 3) -> str:
    """`value` with `decimals` decimals, or more where it takes them for `significant` digits: 21.5, 7.86, 0.127."""
    if value and math.isfinite(value):
        decimals = max(decimals, significant - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def duration(ms: float) -> str:
    """A time given in milliseconds, in seconds from one on: 0.823 ms, 43.2 ms, 7.86 s."""
    return f"{figure(ms)} ms" if ms < 1000 else f"{figure(ms / 1000)} s"
