"""How an attention on the engine goes through its keys: chunk by chunk, of each the scores first, then the product with the values.

templates/engine/walk.h is this in C++.
"""

from typing import NamedTuple

from hlsgen.program.attention import CHUNK
from hlsgen.program.ops import MOST_PIXELS, EngineConfig


class Held(NamedTuple):
    """What is held on chip of an attention's tile. pixels: at most, whole groups of TP where scores are made a beat a cycle. strip:
    words of a memory of scores, TP memories of TM scores each or one of a beat. merged: sums of the values, where there are several
    chunks."""

    pixels: int
    strip: int
    merged: int


def held(engine: EngineConfig) -> Held:
    """Of the narrow engine as much as makes a detector's few keys come seldom again."""
    return Held(128, 128 * CHUNK // engine.beat, 8192) if engine.narrow else Held(MOST_PIXELS, 512, 16384)


class Chunk(NamedTuple):
    """first, blocks: of its blocks of TM keys. met: the input blocks of the queries that any of its keys is multiplied by, each
    with (first, step, count) of the chunk's blocks that are."""

    first: int
    blocks: int
    met: tuple[tuple[int, tuple[int, int, int]], ...]


def chunks(keys: int, tm: int, inputs: int, places: tuple[int, int]) -> list[Chunk]:
    """The chunks of a head's `keys`; inputs: blocks of a query; places: `Operand.places`."""
    total = -(-keys // tm)
    found = []
    for first in range(0, total, CHUNK // tm):
        blocks = min(CHUNK // tm, total - first)
        met = ((c, met_by(places, tm, c, first, blocks)) for c in range(inputs))
        found.append(Chunk(first, blocks, tuple((c, m) for c, m in met if m[2])))
    return found


def met_by(places: tuple[int, int], tm: int, c: int, first: int, blocks: int) -> tuple[int, int, int]:
    """Of `blocks` blocks of keys from `first` on (a row's first), those that input block `c` meets: first, step, count.

    A one alone in a row of keys, or in a column, is zero for all other rows and columns: their blocks are passed over.
    """
    by_row, by_column = places
    if c < by_row:
        begin = max(by_column * c * tm - first, 0)
        end = min(by_column * (c + 1) * tm - first, blocks)
        return begin, 1, max(end - begin, 0)
    if c < by_row + by_column:
        return c - by_row, by_column, len(range(c - by_row, blocks, by_column))
    return 0, 1, blocks


def steps(keys: int, tm: int, inputs: int, places: tuple[int, int]) -> int:
    """Steps of the MAC process for a head and tile: of each chunk the blocks met, one between, and the blocks of weights."""
    return sum(len(chunk.met) + 1 + chunk.blocks for chunk in chunks(keys, tm, inputs, places))
