"""What an exploration can weigh against what, and the Pareto front."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hlsgen.errors import HlsgenError
from hlsgen.figures import figure


@dataclass(frozen=True)
class Objective:
    """A figure of a point, by its key in `values`; more: whether more of it is better. For people it is divided by `scale` and has
    `digits` decimals, or more where it takes them for `significant` digits."""

    name: str
    title: str
    more: bool = False
    digits: int = 0
    scale: float = 1.0
    significant: int = 0

    def show(self, value: float | None) -> str:
        """The figure for people; a dash where there is none."""
        return "-" if value is None else figure(value / self.scale, self.digits, self.significant)

    def better(self, a: float | None, b: float | None) -> float:
        """Above 0 where a is better than b, 0 where they are equal. None, a figure that a point has not, is the worst."""
        if a is None or b is None:
            return float(a is not None) - float(b is not None)
        return a - b if self.more else b - a


OBJECTIVES = {
    o.name: o
    for o in (
        Objective("fps", "images a second", more=True, digits=1, significant=3),
        Objective("latency_ms", "latency, ms", digits=1, significant=3),
        Objective("gops", "GOPS", more=True, significant=2),
        Objective("gops_per_dsp", "GOPS a DSP", more=True, digits=2, significant=2),
        Objective("mac_utilization", "array busy, %", more=True, scale=0.01),
        Objective("lut", "LUT"),
        Objective("ff", "FF"),
        Objective("dsp", "DSP"),
        Objective("bram36", "BRAM36", digits=1),
        Objective("uram", "URAM"),
        Objective("share", "fullest resource, % of the part", digits=1, scale=0.01),
        Objective("ddr_bytes", "memory traffic an image, MB", digits=1, scale=1e6, significant=2),
        Objective("bandwidth_gb_s", "memory bandwidth, GB/s", digits=2, significant=2),
        Objective("clock_mhz", "clock, MHz"),
        Objective("cores", "cores"),
    )
}
ALIASES = {
    "throughput": "fps",
    "latency": "latency_ms",
    "luts": "lut",
    "dsps": "dsp",
    "bram": "bram36",
    "ddr": "ddr_bytes",
    "bandwidth": "bandwidth_gb_s",
    "clock": "clock_mhz",
}


def objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives called so, each once, in the order given.

    Raises:
        HlsgenError: an unknown name, with the nearest.
    """
    found: dict[str, Objective] = {}
    for name in names:
        key = ALIASES.get(name.lower(), name.lower())
        if key not in OBJECTIVES:
            near = difflib.get_close_matches(key, [*OBJECTIVES, *ALIASES], n=3, cutoff=0.5)
            hint = f"the nearest are {', '.join(near)}; " if near else ""
            raise HlsgenError(f"unknown objective {name!r}: {hint}known are {', '.join(OBJECTIVES)}")
        found[key] = OBJECTIVES[key]
    return tuple(found.values())


def pareto(points: Sequence[Mapping[str, Any]], weighed: Sequence[Objective]) -> list[bool]:
    """For each point's values whether no other is better in one objective and as good in the rest; of equals, the first."""

    def beats(a: Mapping[str, Any], b: Mapping[str, Any], earlier: bool) -> bool:
        by = [o.better(a[o.name], b[o.name]) for o in weighed]
        return min(by) >= 0 and (earlier or max(by) > 0)

    return [
        not any(beats(other, point, j < i) for j, other in enumerate(points) if j != i)
        for i, point in enumerate(points)
    ]
