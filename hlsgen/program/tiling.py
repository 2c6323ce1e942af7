"""The choice of an op's tile: the fewest cycles by the cost model within the engine's buffers."""

from functools import lru_cache
from typing import Any

import numpy as np

from hlsgen.cost.cycles import Ints, op_cycles
from hlsgen.cost.hardware import Link
from hlsgen.cost.shape import OpShape
from hlsgen.cost.streams import Depths, stream_depths
from hlsgen.errors import HlsgenError
from hlsgen.program.attention import CHUNK
from hlsgen.program.chunks import held
from hlsgen.program.groups import BlockGroups
from hlsgen.program.ops import MOST_PIXELS, EngineConfig, Tile, Window

TALLEST = 6  # of the legal heights for one width and depth; more of them gain yolov8n under 0.1 % on any part


def _patch(window: Window, tile: Tile) -> tuple[int, int]:
    (kh, kw), (sh, sw) = window.kernel, window.stride
    return (tile.rows - 1) * sh + kh, (tile.cols - 1) * sw + kw


def choose_tile(
    engine: EngineConfig,
    window: Window,
    size: tuple[int, int],
    groups: BlockGroups,
    convolves: bool,
    where: str,
    **more: Any,
) -> Tile:
    """A good tile before the part is known; size: the output's height and width; more: of `OpShape`.

    Raises:
        HlsgenError: where not even one pixel's patch fits the patch buffer.
    """
    (kh, kw), (sh, sw) = window.kernel, window.stride
    size_in = ((size[0] - 1) * sh + kh, (size[1] - 1) * sw + kw)
    blocks = groups.count * groups.inputs
    channels = groups.count * groups.outputs * engine.tm
    shape = OpShape(window, size_in, size, groups, convolves, ((blocks, 0),), engine.tm, channels, **more)
    return best_tile(engine, shape, Link(), stream_depths(engine), where)[0]


def best_tile(engine: EngineConfig, shape: OpShape, way: Link, depths: Depths, where: str) -> tuple[Tile, float]:
    """The legal tile with the fewest cycles (then the largest), and its cycles.

    Raises:
        HlsgenError: where not even one pixel's patch fits the patch buffer.
    """
    rows, cols, blocks = candidates(engine, shape)
    if not len(rows):
        patch = _patch(shape.window, Tile(1, 1, 1))
        raise HlsgenError(
            f"{where} needs a patch of {patch[0]} x {patch[1]} pixels but the engine's buffer holds {engine.patch_depth}; "
            "raise the engine's patch depth"
        )
    total = op_cycles(engine, shape, way, depths, rows, cols, blocks).total
    order = np.lexsort((-rows * cols * blocks, total))
    i = int(order[0])
    return Tile(int(rows[i]), int(cols[i]), int(blocks[i])), float(total[i])


def candidates(engine: EngineConfig, shape: OpShape) -> tuple[Ints, Ints, Ints]:
    """The legal tiles worth trying: equal cuts of height and width; rows, columns, blocks, each int64 [n].

    Legal: the patch fits PATCH_DEPTH (in attention, and where channels are stored as pixels, no more than MOST_PIXELS), the tile's
    groups of TP pixels times its blocks fit ACC_DEPTH, an attention's scores and merged sums stay on chip, and blocks divide the
    group's output blocks where there are several groups.
    Of equally wide and deep tiles only the tallest few are listed.
    """
    rows, cols, blocks = _candidates(
        min(engine.patch_depth, MOST_PIXELS) if shape.special or shape.spread > 1 else engine.patch_depth,
        engine.acc_depth if shape.special != "norm" else 0,
        engine.tp,
        shape.window,
        shape.size_out,
        shape.groups,
        shape.convolves,
        shape.within,
        max(shape.size_out) if shape.keys else TALLEST,
    )
    if not shape.keys:
        return rows, cols, blocks
    # An attention: all of a head's values, and what is held of a tile on chip.
    chunk, total, most = min(CHUNK // engine.tm, -(-shape.keys // engine.tm)), shape.groups.outputs, held(engine)
    groups = -(-rows * cols // engine.tp)
    legal = (blocks == total) & (groups * chunk <= engine.acc_depth)
    legal &= (groups * engine.tp <= most.pixels) if engine.narrow else (groups * chunk <= most.strip)
    if shape.keys > CHUNK:
        legal &= (rows * cols * total * engine.tm <= most.merged) | (rows * cols == 1)
    return rows[legal], cols[legal], blocks[legal]


@lru_cache(maxsize=4096)
def _candidates(
    patch_depth: int,
    acc_depth: int,
    tp: int,
    window: Window,
    size: tuple[int, int],
    groups: BlockGroups,
    convolves: bool,
    within: tuple[int, int],
    tallest: int,
) -> tuple[Ints, Ints, Ints]:
    (kh, kw), (sh, sw) = window.kernel, window.stride
    outputs = groups.outputs if convolves else 1
    if not acc_depth:  # LayerNorm: all blocks of a pixel, whose sums are not kept
        counts, acc_depth = [groups.outputs], patch_depth * groups.outputs
    elif groups.count == 1:
        counts = sorted({-(-outputs // parts) for parts in range(1, outputs + 1)})
    else:
        counts = [b for b in range(1, outputs + 1) if outputs % b == 0]
    heights_widths = [_divisors(w) if w else _splits(n) for n, w in zip(size, within, strict=True)]
    rows, cols, blocks = np.meshgrid(*heights_widths, np.array(counts), indexing="ij")
    patch = ((rows - 1) * sh + kh) * ((cols - 1) * sw + kw)
    legal = (patch <= patch_depth) & (-(-rows * cols // tp) * blocks <= acc_depth)
    legal &= np.cumsum(legal, axis=0) <= tallest
    return rows[legal], cols[legal], blocks[legal]


def _divisors(n: int) -> Ints:
    """The tile sizes that cut a window of n into equal parts, largest first."""
    return np.array([d for d in range(n, 0, -1) if n % d == 0], np.int64)


def _splits(n: int) -> Ints:
    """The distinct tile sizes that cut n into 1, 2, 3 ... equal parts, largest first."""
    return np.array(sorted({-(-n // parts) for parts in range(1, n + 1)}, reverse=True), np.int64)
