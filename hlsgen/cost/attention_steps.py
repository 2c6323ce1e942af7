"""Closed formulas for the MAC process of an attention: of each chunk of keys the scores, a step between, the values.

Arrays are over the candidate tiles, as in `hlsgen.cost.cycles`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.cost.attention import keys_arrival, values_arrival
from hlsgen.cost.hardware import Link
from hlsgen.cost.shape import OpShape
from hlsgen.cost.streams import Depths
from hlsgen.program.chunks import Chunk, chunks
from hlsgen.program.ops import EngineConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Kind:
    """Chunks that take equally long: how many; cycles of computing of each step with queries, with weights; cycles in which their
    keys and their values come, and how many of these may pass before they are needed: what the stream holds. last_keys: cycles in
    which the keys of the last step with queries come."""

    count: int
    queries: list[Any]
    weights: list[Any]
    keys: Floats
    last_keys: Floats
    values: Floats
    ahead: tuple[Floats, Floats]


@dataclass(frozen=True, eq=False)
class Patches:
    """Cycles in which a patch of queries is filled, and in which it comes; what the stream holds of the latter; cycles in which a
    patch of weights is filled."""

    fill: Ints
    reading: Floats
    ahead: Floats
    made: Ints


@dataclass(frozen=True, eq=False)
class AttentionSteps:
    """inputs: blocks of queries that are filled for a tile, all chunks. compute: passes of a tile; last_passes: of a chunk's last
    step. loading: cycles in which keys and values come; read: beats that they are in memory."""

    kinds: list[_Kind]
    inputs: int
    compute: Ints
    last_passes: Ints
    loading: Floats
    read: Floats

    def cycles(self, patches: Patches, overhead: int) -> Floats:
        """Of the MAC process for a tile.

        Each step fills the next one's patch; in the one between the largest scores become known. What a phase waits for may have
        come in the other phase, as much of it as its stream holds.
        """
        total, fill, made = np.zeros(len(patches.fill)), patches.fill, patches.made
        for kind in self.kinds:
            scores = sum(np.maximum(fill, c) + overhead for c in kind.queries[:-1]) + kind.queries[-1] + overhead
            products = sum(np.maximum(made, c) + overhead for c in (0 * made, *kind.weights[:-1]))
            products = products + np.maximum(fill, kind.weights[-1]) + overhead
            late_queries = np.maximum(0, len(kind.queries) * patches.reading - scores)
            late_queries = late_queries - np.minimum(np.minimum(late_queries, products), patches.ahead)
            late_keys, late_values = np.maximum(0, kind.keys - scores), np.maximum(0, kind.values - products)
            # The last step, which may be long, does not make good what the steps before it wait for.
            before = scores - kind.queries[-1] - overhead
            late_keys = np.maximum(late_keys, kind.keys - kind.last_keys - before)
            early = np.minimum(np.minimum(late_keys, np.maximum(0, products - kind.values)), kind.ahead[0])
            early_values = np.minimum(np.minimum(late_values, np.maximum(0, scores - kind.keys)), kind.ahead[1])
            late = np.maximum(late_queries, late_keys - early) + late_values - early_values
            total = total + kind.count * (scores + products + late)
        return total


def attention_steps(
    engine: EngineConfig, way: Link, shape: OpShape, depths: Depths, length: Ints, blocks: Ints
) -> AttentionSteps:
    """length: cycles of a pass; blocks: of values, all of a head's; int64 [n]."""
    tm, tn, inputs = engine.tm, engine.tn, shape.groups.inputs
    of_block, whole = tm * tm // engine.beat, tm // tn
    total, placed = -(-shape.keys // tm), sum(shape.places)
    last_halves, key_halves = -(-shape.last_lanes // tn), -(-((shape.keys - 1) % tm + 1) // tn)
    found = [
        _passes(chunk, total, inputs, (whole, last_halves, key_halves), engine.score_parts)
        for chunk in chunks(shape.keys, tm, inputs, shape.places)
    ]
    kinds: list[_Kind] = []
    loading, read, compute = np.zeros(len(blocks)), np.zeros(len(blocks)), 0 * blocks
    for (queries, weights), count in Counter(found).items():
        size, loaded = len(weights), sum(c >= placed for c, _ in queries)
        of_keys = keys_arrival(engine, way, shape, np.full(len(blocks), size))
        of_values = values_arrival(engine, way, shape, blocks, size)
        made = sum(passes for c, passes in queries if c < placed) * tn * tm // engine.beat
        keys, values = loaded * size * of_keys + made, blocks * size * of_values
        waiting = depths.weights / of_block
        computing = [passes * length for _, passes in queries], [blocks * halves * length for halves in weights]
        last = (inputs > placed) * size * of_keys
        kinds.append(_Kind(count, *computing, keys, last, values, (waiting * of_keys, waiting * of_values)))
        loading, read = loading + count * (keys + values), read + count * (loaded + blocks) * size * of_block
        compute = compute + count * (sum(p for _, p in queries) + blocks * sum(weights))
    inputs_filled = sum(kind.count * len(kind.queries) for kind in kinds)
    return AttentionSteps(kinds, inputs_filled, compute, blocks * found[-1][1][-1], loading, read)


def _passes(
    chunk: Chunk, total: int, inputs: int, halves: tuple[int, int, int], parts: int
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """A chunk's passes: of each of the queries' blocks that it meets, with its index; of each of its blocks of keys and one of
    values. halves: of a whole block, of the queries' last, of the keys' last. parts: the queries' last pass over each block of
    keys makes scores, and is made so many times."""
    whole, last, last_keys = halves
    queries = tuple((c, count * (last + parts - 1 if c == inputs - 1 else whole)) for c, (_, _, count) in chunk.met)
    weights = tuple(last_keys if chunk.first + j == total - 1 else whole for j in range(chunk.blocks))
    return queries, weights
