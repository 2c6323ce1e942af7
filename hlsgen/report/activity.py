"""The geometry of the whole network over time: how busy each process is, op by op; templates/report/activity.svg.j2 draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hlsgen.report.layer_bars import PROCESSES
from hlsgen.report.scale import Tick, scale

WIDTH, LEFT, RIGHT, TOP, BOTTOM, LANE, GAP = 960.0, 76.0, 16.0, 10.0, 40.0, 26.0, 7.0


@dataclass(frozen=True)
class Box:
    """One process during one op; height: its share of the op's time, of the lane."""

    x: float
    y: float
    width: float
    height: float
    process: str
    binds: bool
    title: str


@dataclass(frozen=True)
class Lane:
    y: float
    name: str


@dataclass(frozen=True)
class Activity:
    lanes: tuple[Lane, ...]
    boxes: tuple[Box, ...]
    ticks: tuple[Tick, ...]
    height: float
    width: float = WIDTH
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    lane: float = LANE
    bottom: float = BOTTOM


def activity(layers: Sequence[Mapping[str, Any]], clock_mhz: float) -> Activity | None:
    """A lane a process; ops run one after another, so the time axis (ms) is theirs too. layers: of report.json's `estimate`."""
    if not layers:
        return None
    per_ms = clock_mhz * 1000
    axis = scale([sum(layer["cycles"] for layer in layers) / per_ms / 1.06], LEFT, WIDTH - RIGHT, log=False, most=10)
    used = [p for p in PROCESSES if p != "memory" and any(layer[f"{p}_cycles"] for layer in layers)]
    lanes = {process: TOP + i * (LANE + GAP) for i, process in enumerate(used)}
    boxes, begun = [], 0.0
    for layer in layers:
        begin, end = axis.at(begun / per_ms), axis.at((begun + layer["cycles"]) / per_ms)
        for process, y in lanes.items():
            share = min(1.0, layer[f"{process}_cycles"] / layer["cycles"])
            if share:
                height = round(LANE * share, 1)
                title = (
                    f"{layer['name']} from {begun / per_ms:.2f} ms for {layer['cycles'] / per_ms:.2f} ms: {process} busy for "
                    f"{share:.0%}"
                )
                binds = process == layer["binds"]
                boxes.append(
                    Box(begin, round(y + LANE - height, 1), round(end - begin, 1), height, process, binds, title)
                )
        begun += layer["cycles"]
    return Activity(
        tuple(Lane(y, process) for process, y in lanes.items()),
        tuple(boxes),
        axis.ticks,
        TOP + len(lanes) * (LANE + GAP) + BOTTOM,
    )
