"""The geometry of the Gantt chart of an op's tiles; templates/report/gantt.svg.j2 draws it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hlsgen.report.layer_bars import PROCESSES
from hlsgen.report.scale import Tick, scale

WIDTH, LEFT, RIGHT, TOP, BOTTOM, LANE, GAP = 960.0, 76.0, 16.0, 10.0, 40.0, 20.0, 6.0
LETTER = 7.0  # SVG units of a digit in a box


@dataclass(frozen=True)
class Box:
    """What one process does for one tile; odd: of an odd tile, drawn paler; number: the tile's, where there is room."""

    x: float
    y: float
    width: float
    process: str
    odd: bool
    number: str
    title: str


@dataclass(frozen=True)
class Gantt:
    name: str
    text: str
    lanes: tuple[tuple[float, str], ...]
    boxes: tuple[Box, ...]
    ticks: tuple[Tick, ...]
    height: float
    width: float = WIDTH
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    lane: float = LANE
    bottom: float = BOTTOM


def gantt(op: Mapping[str, Any]) -> Gantt:
    """A lane a process, a box a tile; op: an entry of report.json's `estimate.trace`. Cycles count from the op's start."""
    begin, end = op["begin"], op["end"]
    axis = scale([(end - begin) / 1.06], LEFT, WIDTH - RIGHT, log=False, most=10)
    used = [p for p in PROCESSES if any(span[0] == p for span in op["spans"])]
    lanes = {process: TOP + i * (LANE + GAP) for i, process in enumerate(used)}
    boxes = []
    for process, tile, start, stop in op["spans"]:
        x, width = axis.at(start - begin), round(axis.at(stop - begin) - axis.at(start - begin), 1)
        number = str(tile + 1) if process != "weights" and width >= LETTER * len(str(tile + 1)) + 4 else ""
        title = f"{process}, tile {tile + 1}: {stop - start:,} cycles from {start:,} to {stop:,}"
        boxes.append(Box(x, lanes[process], max(width, 0.5), process, tile % 2 == 1, number, title))
    text = f"{op['binds']} binds; {op['tiles']:,} tiles in all, shown from cycle {begin:,} of the layer on"
    return Gantt(
        op["name"],
        text,
        tuple((y, process) for process, y in lanes.items()),
        tuple(boxes),
        axis.ticks,
        TOP + len(lanes) * (LANE + GAP) + BOTTOM,
    )
