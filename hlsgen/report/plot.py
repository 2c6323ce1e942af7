"""The SQNR plot's geometry; templates/report/sqnr.svg.j2 draws it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hlsgen.report.facts import LayerFacts

WIDTH, HEIGHT = 960.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 14.0, 34.0
EXACT = 100.0
"""dB from which a tensor is as good as exact (constants of ones and zeros, the picture): such a point does not stretch the axis."""


@dataclass(frozen=True)
class Point:
    """x, y in SVG units; group is the CSS class: "conv", "activation" or "other"."""

    x: float
    y: float
    group: str
    title: str


@dataclass(frozen=True)
class Plot:
    """beyond: points that are EXACT and lie at the upper edge, however far above it they would be."""

    points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]
    baseline: float
    worst: Point | None
    beyond: int = 0


def sqnr_plot(layers: Sequence[LayerFacts]) -> Plot | None:
    """One point a tensor with a known SQNR, in order of computation; None where there is none."""
    known = [(i, layer, layer.sqnr_db) for i, layer in enumerate(layers) if layer.sqnr_db is not None]
    if not known:
        return None
    low = min(0.0, 10 * math.floor(min(db for _, _, db in known) / 10))
    noisy = [db for _, _, db in known if db < EXACT]
    high = max(10.0, 10 * math.ceil(max(noisy or [EXACT]) / 10))
    step = 10 if high - low <= 80 else 20

    def y(db: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - min(db, high)) / (high - low), 1)

    def x(index: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(layers), 1)

    points = [
        Point(x(i), y(db), _group(layer.kind), f"{i + 1}: {layer.name} ({layer.kind}), {db:.1f} dB")
        for i, layer, db in known
    ]
    ticks = tuple((y(db), f"{db:g}") for db in range(round(low), round(high) + 1, step))
    worst = points[min(range(len(known)), key=lambda k: known[k][2])]
    return Plot(tuple(points), ticks, y(low), worst, len(known) - len(noisy))


def _group(kind: str) -> str:
    if kind.startswith("conv"):
        return "conv"
    return "activation" if kind.startswith("activation") else "other"
