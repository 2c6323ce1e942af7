"""The geometry of the resource bars: used, ceiling, available; templates/report/resource_bars.svg.j2 draws it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 960.0, 76.0, 310.0, 10.0, 30.0, 16.0


@dataclass(frozen=True)
class Row:
    """x of what is used and of the ceiling; over: more is used than the ceiling allows."""

    y: float
    name: str
    used: float
    available: float
    limit: float
    over: bool
    text: str


@dataclass(frozen=True)
class ResourceBars:
    rows: tuple[Row, ...]
    height: float
    width: float = WIDTH
    left: float = LEFT
    text_at: float = WIDTH - RIGHT + 16
    bar: float = BAR


def resource_bars(resources: Mapping[str, Mapping[str, Any]]) -> ResourceBars:
    """One bar a resource that the part has, as long as its share; resources: of report.json's `estimate`."""
    known = {name: r for name, r in resources.items() if r["available"]}
    widest = max([1.0, *(float(r["share"]) for r in known.values())])

    def at(share: float) -> float:
        return round(share / widest * (WIDTH - LEFT - RIGHT), 1)

    rows = [
        Row(
            TOP + i * ROW,
            name.upper(),
            at(r["share"]),
            at(1.0),
            at(r["limit"]),
            r["share"] > r["limit"],
            f"{r['used']:,} of {r['available']:,}: {r['share']:.0%}, ceiling {r['limit']:.0%}",
        )
        for i, (name, r) in enumerate(known.items())
    ]
    return ResourceBars(tuple(rows), TOP + len(rows) * ROW)
