"""What the processes of some ops do, tile by tile, by the cycle simulation: enough for a Gantt chart of a few of them."""

from dataclasses import replace
from typing import Any

from hlsgen.cost.estimate import layer_facts
from hlsgen.cost.hardware import Link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.shape import OpShape
from hlsgen.cost.simulate import simulate_ops
from hlsgen.cost.streams import Depths
from hlsgen.program.ops import Program, Tile

TILES = 6  # tiles of an op that are kept
SETTLED = (
    4 * TILES
)  # tiles after which an op runs as it goes on: its table is unpacked, what waited for that is drained
MOST = 3  # ops that are traced: the longest that each process binds
NAMES = {"mac": "compute", "parameters": "weights", "operand": "weights"}  # as layers call what the simulation calls so

Facts = dict[str, Any]


def trace(program: Program, way: Link, depths: Depths) -> list[Facts]:
    """TILES tiles of the longest op that each process binds, longest op first, at most MOST of them.

    Returns name, binds, tiles (of the whole op), first (tile shown), begin and end (cycles from the op's start), and spans
    [process, tile, start, stop] in that window. An op of many tiles is shown when it has settled, one of few from its start;
    only as many rows of tiles are simulated as that takes.
    """
    shapes = op_shapes(program)
    chosen: dict[str, tuple[int, Facts]] = {}
    for i, layer in sorted(enumerate(layer_facts(program, way)), key=lambda pair: (-pair[1]["cycles"], pair[0])):
        chosen.setdefault(layer["binds"], (i, layer))
    return [
        {"name": layer["name"], "binds": layer["binds"], **_window(program, shapes[i], way, depths, i)}
        for i, layer in list(chosen.values())[:MOST]
    ]


def _window(program: Program, shape: OpShape, way: Link, depths: Depths, index: int) -> Facts:
    tile, tiles = program.ops[index].tile, _tiles(shape, program.ops[index].tile)
    height, width = shape.size_out
    a_row = _tiles(replace(shape, size_out=(1, width)), tile)
    part = replace(shape, size_out=(min(height, tile.rows * -(-(SETTLED + 2 * TILES) // a_row)), width))
    ran = simulate_ops(program.engine, (part,), (tile,), way, depths, trace=True)
    first = max(0, min(SETTLED, _tiles(part, tile) - 2 * TILES))
    own = [s for s in ran.spans if s.process in ("load", "mac", "epilogue") and first <= s.tile < first + TILES]
    begin, end = round(min(s.start for s in own)) if first else 0, round(max(s.stop for s in own))
    spans = [
        [NAMES.get(s.process, s.process), s.tile, max(begin, round(s.start)), min(end, round(s.stop))]
        for s in sorted(ran.spans, key=lambda s: (s.process, s.start))
        if s.start < end and s.stop > begin and s.stop > s.start
    ]
    return {"tiles": tiles, "first": first, "begin": begin, "end": end, "spans": spans}


def _tiles(shape: OpShape, tile: Tile) -> int:
    """Tiles of an op: rows x columns x channel tiles of every group."""
    (height, width), groups = shape.size_out, shape.groups
    return -(-height // tile.rows) * -(-width // tile.cols) * groups.count * -(-groups.outputs // tile.blocks)
