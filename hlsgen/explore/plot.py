"""The geometry of a trade-off plot: two objectives, a dot a design; templates/explore/scatter.svg.j2 draws it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hlsgen.explore.objectives import Objective, pareto
from hlsgen.report.scale import Scale, Tick, scale

WIDTH, HEIGHT = 960.0, 480.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 18.0, 46.0
SHAPES = ("circle", "square", "triangle", "diamond")
APART = 16.0  # least distance of two numbers, in SVG units


@dataclass(frozen=True)
class Dot:
    """x, y in SVG units; colour: number of the part's CSS colour; front as in explore.json; number: of a design on the whole
    front, empty where there is no room for it or it is not on it; beside: the number stands beside the dot, not above."""

    x: float
    y: float
    colour: int
    shape: str
    front: str | None
    number: str
    beside: bool
    title: str


@dataclass(frozen=True)
class Line:
    """A front as a staircase: SVG path data, and the colour of its part, or None for the front over all parts."""

    path: str
    colour: int | None


@dataclass(frozen=True)
class Scatter:
    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    y_title: str


def colour(parts: Sequence[str], part: str) -> int:
    return parts.index(part) % 8


def shape(parts: Sequence[str], part: str) -> str:
    index = parts.index(part)
    return SHAPES[(index + index // 8) % len(SHAPES)]


def scatter(
    rows: Sequence[Mapping[str, Any]],
    parts: Sequence[str],
    across: Objective,
    up: Objective,
    numbers: Mapping[str, int],
) -> Scatter | None:
    """The points of one network that fit: `across` to the right, `up` upwards; None where there is none.

    numbers: of the designs on the front, by key. Fronts are drawn in these two objectives.
    """
    shown = [r for r in rows if r["fits"] and None not in (r["values"][across.name], r["values"][up.name])]
    if not shown:
        return None
    xs, ys = ([r["values"][o.name] / o.scale for r in shown] for o in (across, up))
    x_scale, y_scale = scale(xs, LEFT, WIDTH - RIGHT), scale(ys, HEIGHT - BOTTOM, TOP)
    places = {r["key"]: (x_scale.at(x), y_scale.at(y)) for r, x, y in zip(shown, xs, ys, strict=True)}
    dots: list[Dot] = []
    taken: list[tuple[float, float]] = []
    for r in sorted(shown, key=lambda r: (numbers.get(r["key"], math.inf), r["key"])):
        x, y = places[r["key"]]
        number = str(numbers.get(r["key"], ""))
        if number and any(math.dist((x, y), other) < APART for other in taken):
            number = ""
        elif number:
            taken.append((x, y))
        beside = any(
            key != r["key"] and math.dist((x, y - APART), places[key]) < APART for key in numbers if key in places
        )
        look = colour(parts, r["part"]), shape(parts, r["part"]), r["front"]
        dots.append(Dot(x, y, *look, number, beside, _title(r, across, up)))
    dots.reverse()  # the front is drawn last, on top
    groups = [(colour(parts, part), [r for r in shown if r["part"] == part]) for part in parts]
    lines = [Line(_staircase(group, places, across, up, x_scale), number) for number, group in groups if group]
    if sum(1 for _, group in groups if group) > 1:
        lines.append(Line(_staircase(shown, places, across, up, x_scale), None))
    return Scatter(tuple(dots), tuple(lines), x_scale.ticks, y_scale.ticks, _axis(across), _axis(up))


def _staircase(
    rows: Sequence[Mapping[str, Any]],
    places: Mapping[str, tuple[float, float]],
    across: Objective,
    up: Objective,
    x_scale: Scale,
) -> str:
    """Every place beyond the line is better than any design found."""
    best = pareto([r["values"] for r in rows], (across, up))
    corners = sorted(places[r["key"]] for r, on in zip(rows, best, strict=True) if on)
    if not across.more:  # less is better: the line comes from the left, keeps a design's height until the next
        steps = "".join(f"H{x:g}V{y:g}" for x, y in corners[1:])
        return f"M{corners[0][0]:g} {corners[0][1]:g}{steps}H{x_scale.end:g}"
    steps = "".join(f"V{y:g}H{x:g}" for x, y in corners)
    return f"M{x_scale.begin:g} {corners[0][1]:g}{steps}"


def _axis(o: Objective) -> str:
    return f"{o.title} ({'more' if o.more else 'less'} is better)"


def _title(r: Mapping[str, Any], across: Objective, up: Objective) -> str:
    e = r["engine"]
    return (
        f"{r['part']} at {r['clock_mhz']:g} MHz, budget {r['budget']}: {r['cores']} x (TM {e['tm']}, TN {e['tn']}, TP {e['tp']}), "
        f"{up.title} {up.show(r['values'][up.name])}, {across.title} {across.show(r['values'][across.name])}"
    )
