"""The geometry of the bars of each op: cycles of its processes side by side; templates/report/layer_bars.svg.j2 draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hlsgen.report.scale import Tick, scale

PROCESSES = ("compute", "load", "weights", "residual", "epilogue", "store", "memory")
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960.0, 190.0, 110.0, 26.0, 8.0
BAR, GAP, ROW_GAP = 4.0, 1.0, 9.0
LONGEST_NAME = 28


@dataclass(frozen=True)
class Bar:
    y: float
    width: float
    process: str
    binds: bool
    title: str


@dataclass(frozen=True)
class Row:
    """An op: its bars, the mark at what it takes in all (x), and its texts at y."""

    y: float
    name: str
    title: str
    bars: tuple[Bar, ...]
    total: float
    top: float
    bottom: float
    text: str


@dataclass(frozen=True)
class LayerBars:
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    height: float
    width: float = WIDTH
    left: float = LEFT
    bar: float = BAR
    top: float = TOP


def layer_bars(layers: Sequence[Mapping[str, Any]]) -> LayerBars | None:
    """One row an op, in order: a bar for each process that it needs, as long as the process would take by itself. layers: of
    report.json's `estimate`. None without any."""
    if not layers:
        return None
    axis = scale([layer["cycles"] for layer in layers], LEFT, WIDTH - RIGHT, log=False)
    rows, y = [], TOP + ROW_GAP / 2
    for layer in layers:
        bars, top = [], y
        for process in PROCESSES:
            cycles = layer[f"{process}_cycles"]
            if not cycles:
                continue
            width = round(min(axis.at(cycles), WIDTH - RIGHT) - LEFT, 1)
            title = f"{layer['name']}: {process} {cycles:,} of {layer['cycles']:,} cycles"
            bars.append(Bar(round(y, 1), width, process, process == layer["binds"], title))
            y += BAR + GAP
        middle = round((top + y - GAP) / 2 + 4, 1)
        rows.append(
            Row(
                middle,
                _short(layer["name"]),
                layer["name"],
                tuple(bars),
                axis.at(layer["cycles"]),
                round(top - 1, 1),
                round(y - GAP + 1, 1),
                f"{layer['cycles'] / 1000:,.1f}k {layer['binds']}",
            )
        )
        y += ROW_GAP
    return LayerBars(tuple(rows), axis.ticks, round(y + BOTTOM, 1))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
