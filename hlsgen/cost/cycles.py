"""Closed formulas for the cycles of an op (docs/cost-model.md). The tile choice, the scheduler and the report use these.

Everything is vectorised over candidate tiles: rows, columns and blocks are int64 arrays of one shape [n].
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.cost.attention import DIVIDER_DEPTH, EXPONENTS, factor_beats, float_arrival, keys_arrival, weights_fill
from hlsgen.cost.attention_steps import Patches, attention_steps
from hlsgen.cost.hardware import GATHER, LOOP, OP_START, OP_STOP, Link
from hlsgen.cost.shape import OpShape
from hlsgen.cost.streams import Depths
from hlsgen.program.ops import EngineConfig, Tile

ALIKE = 9  # several cores whose memory and engines take about as long hinder each other: a power mean, fitted to the simulation
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OpCycles:
    """Cycles of one op; each array is over the candidate tiles.

    total: what the op takes. compute: the MAC array's passes alone. load, weights, residual, epilogue, store: each process
    by itself, never waiting. ddr_bytes: what moves to and from memory.
    """

    total: Floats
    compute: Floats
    load: Floats
    weights: Floats
    residual: Floats
    epilogue: Floats
    store: Floats
    memory: Floats
    ddr_bytes: Floats

    def binding(self, index: int = 0) -> str:
        """The process that takes longest."""
        names = ("compute", "load", "weights", "residual", "epilogue", "store", "memory")
        return max(names, key=lambda name: float(getattr(self, name)[index]))


def parameter_beats(engine: EngineConfig, shape: OpShape) -> int:
    if shape.attends or shape.passes:  # one multiplier for all, or none
        return factor_beats(engine, shape)
    return (shape.table_bytes + shape.channels * shape.parameter_bytes) // engine.beat


def unpack_cycles(engine: EngineConfig, shape: OpShape) -> int:
    """Cycles in which the epilogue takes its table and parameters in: two loops, a beat a cycle."""
    return parameter_beats(engine, shape) + 2 * LOOP


def op_cycles(
    engine: EngineConfig, shape: OpShape, way: Link, depths: Depths, rows: Ints, cols: Ints, blocks: Ints
) -> OpCycles:
    """Cycles of the op for each candidate tile of rows x cols pixels x blocks channel blocks.

    Tiles at the lower and right edge and the last channel tile are smaller: eight classes of tiles, each with its count.
    """
    way = replace(way, beat_cycles=max(way.beat_cycles, engine.beat / way.bytes_a_cycle))  # no port outruns the memory
    height, width = shape.size_out
    tiles_y, tiles_x = -(-height // rows), -(-width // cols)
    tiles_m = -(-shape.groups.outputs // blocks)
    one = np.ones_like(rows)
    edges = (
        ((rows, tiles_y - 1), (height - (tiles_y - 1) * rows, one)),
        ((cols, tiles_x - 1), (width - (tiles_x - 1) * cols, one)),
        ((blocks, tiles_m - 1), (shape.groups.outputs - (tiles_m - 1) * blocks, one)),
    )
    classes = list(product(*edges))
    tall, wide, deep = (np.concatenate([c[axis][0] for c in classes]) for axis in range(3))
    counts = np.stack([r * c * b for (_, r), (_, c), (_, b) in classes]) * shape.groups.count
    ends = np.tile(np.repeat([0, 1], len(rows)), len(classes) // 2)  # whether a head's last channel tile
    tiles = _tile(engine, shape, way, depths, tall, wide, deep, ends).by_class(len(classes))
    sums = {
        name: (counts * tiles[name]).sum(axis=0)
        for name in ("total", "compute", "load", "weights", "residual", "epilogue", "store", "bytes")
    }
    first = {
        name: tiles[name][0] for name in ("first_load", "until_sums", "mac", "sums")
    }  # class 0: the full tile; the last: the corner
    parameters = parameter_beats(engine, shape)
    # The first step only fills; on the parameters' port the weights come behind table and channel parameters.
    filled = OP_START + first["first_load"]
    if shape.convolves:
        table = EXPONENTS / engine.beat * way.beat_cycles + way.burst if shape.keys else 0
        weighed = table + OP_START + parameters * way.beat_cycles + 2 * way.burst + engine.tn * engine.tm / engine.beat
        filled = np.maximum(filled, weighed)
    started = filled + way.loops.step_overhead(engine)
    ready = OP_START + way.burst + unpack_cycles(engine, shape) * way.beat_cycles
    # Until the epilogue is ready, the MAC array goes on for as many tiles as the sums' stream holds.
    ahead = np.floor(depths.sums / first["sums"])
    held = np.maximum(0, ready - (started + first["until_sums"] + ahead * first["mac"]))
    held *= ahead < counts.sum(axis=0)
    steady = sums["total"] - tiles["saved"][-1]
    end = way.loops.epilogue_depth + way.write_latency + OP_STOP
    total = np.maximum(started + held + steady + tiles["drain"][-1], ready + sums["epilogue"]) + end
    data = sums["bytes"] + parameters * engine.beat
    memory = data / way.bytes_a_cycle
    return OpCycles(
        np.maximum(total, memory) if way.cores == 1 else (total**ALIKE + memory**ALIKE) ** (1 / ALIKE),
        sums["compute"],
        sums["load"],
        sums["weights"] + parameters * way.beat_cycles,
        sums["residual"],
        sums["epilogue"] + unpack_cycles(engine, shape),
        sums["store"],
        memory,
        data,
    )


def one_tile(engine: EngineConfig, shape: OpShape, way: Link, depths: Depths, tile: Tile) -> OpCycles:
    """`op_cycles` of a single tile."""
    return op_cycles(engine, shape, way, depths, *(np.array([v]) for v in (tile.rows, tile.cols, tile.blocks)))


@dataclass(frozen=True)
class _Tile:
    """Cycles of one tile (arrays over the candidates). first_load: until the first patch is there; mac: of the MAC process;
    until_sums: of it until it gives sums away; sums: how many; drain: from the last sum to the last element;
    saved: of the op's last tile, whose last step fills no other patch."""

    total: Floats
    compute: Floats
    load: Floats
    weights: Floats
    residual: Floats
    epilogue: Floats
    store: Floats
    bytes: Floats
    first_load: Floats
    mac: Floats
    until_sums: Floats
    sums: Ints
    drain: Floats
    saved: Floats

    def by_class(self, classes: int) -> dict[str, Floats]:
        """Each array as [classes, n]."""
        return {name: value.reshape(classes, -1) for name, value in vars(self).items()}


def _tile(
    engine: EngineConfig, shape: OpShape, way: Link, depths: Depths, rows: Ints, cols: Ints, blocks: Ints, ends: Ints
) -> _Tile:
    tm, tn, tp = engine.tm, engine.tn, engine.tp
    block_beats, weight_beats = tm // engine.beat, tn * tm // engine.beat
    (kh, kw), (sh, sw), taps = shape.window.kernel, shape.window.stride, shape.taps
    inputs, overhead = shape.groups.inputs, way.loops.step_overhead(engine)
    pixels = rows * cols
    groups = -(-pixels // tp)
    length = np.maximum(groups, engine.pass_min)
    patch_rows, patch_cols = (rows - 1) * sh + kh, (cols - 1) * sw + kw
    fill = patch_rows * patch_cols * block_beats

    if shape.special == "norm":  # a step passes one block
        passes = last_passes = np.ones_like(blocks)
    else:
        passes = blocks * (tm // tn if shape.convolves else 1) * taps
        last_passes = blocks * (-(-shape.last_lanes // tn) if shape.convolves else 1) * taps
    # Steps: one an input block. Every pass also takes the next pass's weights in.
    arrival: Floats = np.full(len(blocks), weight_beats * way.beat_cycles)
    if shape.attends and not shape.keys:
        of_block = float_arrival(engine, way, shape) if shape.dynamic else keys_arrival(engine, way, shape, blocks)
        arrival = np.broadcast_to(of_block, blocks.shape) / (tm // tn)
    pass_cycles = np.maximum(length, arrival) if shape.convolves else length
    products = full = inputs - 1 - shape.filled_only
    steps: list[tuple[Any, Any]]
    steps = [(inputs - 1 - full, 0 * passes), (full, passes * pass_cycles), (1, last_passes * pass_cycles)]
    unhindered = [(full, passes * length), (1, last_passes * length)]
    if not shape.steps:
        products, passes, last_passes = 0, 0 * passes, 0 * last_passes
        steps = [(inputs, passes)]
    keys = None
    if shape.keys:
        keys = attention_steps(engine, way, shape, depths, length, blocks)
        steps, inputs, last_passes = [], keys.inputs, keys.last_passes
    # A beat of the input's stream takes `read` beats from memory; the rows' largest scores are a block more.
    extra = shape.dynamic and shape.special == "attend"

    mac = np.zeros(len(rows))
    load = np.zeros(len(rows))
    beats_in = np.zeros(len(rows))
    total_blocks = sum(n for n, _ in shape.sources)
    first_load, no_fill = np.zeros(len(rows)), np.zeros(len(rows))
    in_rows, in_cols = np.minimum(patch_rows, shape.size_in[0]), np.minimum(patch_cols, shape.size_in[1])
    for source_blocks, upsample in shape.sources:
        share = source_blocks / total_blocks
        whole = (in_cols == shape.size_in[1]) & (upsample == 0)
        columns = -(-in_cols >> upsample) if upsample else in_cols
        gathered = ~whole & (in_rows > 1) & (columns * block_beats < GATHER) & (not shape.dynamic)
        bursts = np.where(whole | gathered, 1, in_rows)
        beat_cycles = np.where(gathered, way.read_interval, way.beat_cycles * shape.read)
        beats = in_rows * columns * block_beats
        reading = bursts * way.burst + beats * beat_cycles
        first_load = np.maximum(first_load, np.maximum(reading, fill)) + extra * reading
        load += share * (inputs + extra) * reading
        beats_in += share * (inputs + extra) * beats * shape.read
        for count, computing in steps:
            alone = np.maximum(fill, computing) + overhead
            # Beats that wait in the stream when the fill begins; the rest must keep up with it or stall the array.
            ahead = np.minimum(np.minimum(depths.input, beats), (alone - fill) / beat_cycles)
            rest = 1 - ahead / beats
            late = rest * beats * beat_cycles + np.floor(rest * bursts) * way.burst - fill
            step = np.maximum(alone + np.maximum(0, late), reading) if shape.steps else reading
            mac += share * (count + extra * (count == 1)) * step
            no_fill = np.maximum(no_fill, (step - computing - overhead) * (count == 1))
    compute = products * passes * length + last_passes * length
    if keys is not None:
        ahead = np.minimum(inputs, depths.input / beats) * reading
        mac = keys.cycles(Patches(fill, reading, ahead, weights_fill(engine, pixels)), overhead)
        compute = keys.compute * length
    elif shape.attends and not shape.dynamic:
        # Where the streams hold what a tile takes, it comes while the tile before is computed.
        alone = sum(count * (np.maximum(fill, passed) + overhead) for count, passed in unhindered)
        all_wait = (beats * inputs <= depths.input) & (blocks * inputs * tm * tm // engine.beat <= depths.weights)
        mac = np.where(all_wait, np.maximum(alone, np.maximum(load, (products * passes + last_passes) * arrival)), mac)
    chunk = mac / shape.chunks  # until sums leave for the first time

    # The epilogue, the residual operand and the store, a block at a time.
    whole_out = cols == shape.size_out[1]
    short = ~whole_out & (rows > 1) & (cols * block_beats * shape.stored < GATHER) & (shape.spread == 1)
    gathered = short & (not shape.dynamic)
    out_beats = pixels * block_beats * shape.stored
    runs = np.where(whole_out, 1, rows)
    written, store_bursts = np.where(gathered, way.write_interval, way.beat_cycles), np.where(gathered, 1, runs)
    read, read_bursts = np.where(short, way.read_interval, way.beat_cycles), np.where(short, 1, runs)
    epilogue_block = pixels * (tm // engine.lanes) + way.loops.epilogue_depth + LOOP
    store_block = store_bursts * (way.write_latency + LOOP) + out_beats * written
    if shape.spread > 1:  # all but the last of a row's neighbours are held first, then a row is a burst
        held = (shape.spread - 1) * (out_beats + LOOP) + rows * (way.write_latency + LOOP)
        store_block = held / shape.spread + out_beats * way.beat_cycles
    residual_block = (read_bursts * way.burst + out_beats * read) * float(shape.residual)
    behind = np.maximum(np.maximum(epilogue_block, store_block), residual_block)
    # Scores: a head's rows' largest, a block more. Attention: a division a pixel, before the tile's first block.
    told = ends * shape.tells
    divided = (pixels + DIVIDER_DEPTH) * (shape.special in ("attend", "norm"))
    merging = (shape.visits - 1) * (blocks * epilogue_block + divided)
    after = blocks * behind + told * np.maximum(out_beats + LOOP, store_block) + divided + merging

    # Sums leave in the last pass over each block: a group a cycle; what the epilogue has not taken waits in the stream.
    pace = behind / groups
    block_period = last_passes // blocks * pass_cycles
    if shape.special == "norm" and shape.steps:  # a step passes a block
        block_period = np.maximum(fill, length) + overhead
    within = np.maximum(0, groups - length / pace - depths.sums) * pace * blocks
    kept = np.maximum(0, groups * blocks - ((blocks - 1) * block_period + length) / pace)
    stall = np.where(behind <= block_period, within, np.maximum(0, kept - depths.sums) * pace)
    backlog = np.where(behind <= block_period, np.maximum(0, groups - length / pace), np.minimum(kept, depths.sums))

    stall = stall * shape.chunks
    weights = np.zeros(len(rows))
    if keys is not None:
        weights += keys.loading
    elif shape.convolves:
        weights += (products * passes + last_passes) * arrival
    weights_read = weights / arrival * weight_beats if shape.convolves else 0
    weights_read = keys.read if keys is not None else weights_read
    weights_read = weights_read * (shape.stored if shape.attends else 1)
    data = (beats_in + weights_read + (blocks * (1 + shape.residual) + told) * out_beats) * engine.beat
    total = np.maximum(mac + stall, after)
    until_sums = chunk - (blocks - 1) * block_period
    # Where the epilogue binds, the op takes its time from the first sums on; else it drains what waits at the end.
    drain = np.where(after > mac + stall, np.minimum(until_sums, backlog * pace), backlog * pace)
    drain = drain + (shape.visits > 1) * (blocks * behind + divided)
    return _Tile(
        total=total,
        compute=compute.astype(float),
        load=load,
        weights=weights,
        residual=blocks * residual_block,
        epilogue=blocks * epilogue_block.astype(float) + told * (out_beats + LOOP) + divided + merging,
        store=((blocks + told) * store_block).astype(float),
        bytes=data,
        first_load=first_load,
        mac=mac,
        until_sums=until_sums,
        sums=groups * blocks,
        drain=drain,
        saved=np.maximum(0, total - np.maximum(mac - no_fill + stall, after)),
    )
