"""From a Program to what the engine reads: instructions, sources, and the bytes of tables, parameters and weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.program.attention import CHUNK, LARGEST_WEIGHT, MOST_KEYS, exponents, factors
from hlsgen.program.chunks import chunks, steps
from hlsgen.program.dynamic import extent
from hlsgen.program.encode_dynamic import (
    CHANNEL_BYTES,
    dynamic_fields,
    dynamic_groups,
    dynamic_parameters,
    extent_beat,
    largest_row,
    largest_sum,
    operand_sources,
    stacked,
)
from hlsgen.program.groups import BlockGroups, block_groups, head_groups
from hlsgen.program.ops import EXTENT_BYTES, EngineConfig, Op, Operand, Program, Source, Tensor
from hlsgen.program.tiling import _patch

KINDS = {"scores": 2, "attend": 3, "norm": 4}
WHOLE = 1 << 20  # more rows and columns than any map has
PARAMETER_BYTES = 8  # a channel's bias, multiplier and shift


@dataclass(frozen=True)
class Bounds:
    """Widths and loop bounds proved from the Program (bits are signed widths)."""

    acc_bits: int
    biased_bits: int
    scaled_bits: int
    add_bits: int
    pre_bits: int
    table_size: int
    channels: int
    tiles: int
    blocks: int
    sources: int
    rows: int
    burst: int
    weight_beats: int
    steps: int
    step_cycles: int
    parameter_beats: int
    tile_pixels: int = 0  # of scores, attention and LayerNorm; 0 where the network has none
    attention_pixels: int = 1  # of attention
    held_blocks: int = 0  # of channels that are stored as pixels
    held_beats: int = 0
    row_sum_bits: int = 0  # of a chunk's weights, of all; in scheme `dynamic` of a row's
    sum_bits: int = 0
    score_shift: int = 0  # the least that takes sums to scores which a softmax reads, and how many more there may be
    score_shifts: int = 0
    merges: bool = False  # whether an attention has several chunks of keys


@dataclass(frozen=True, eq=False)
class Encoded:
    """instructions: one mapping of `op_t` fields an op; sources: `source_t` fields; weights: int8 bytes in DDR, at their end
    the constants, each in its layout as a feature map; constants: (first beat among the feature maps, first beat among the
    weights, beats) of each, copied once before the first op.
    """

    instructions: tuple[dict[str, int], ...]
    sources: tuple[dict[str, int], ...]
    weights: npt.NDArray[np.int8]
    bounds: Bounds
    constants: tuple[tuple[int, int, int], ...] = ()


def op_groups(op: Op, program: Program) -> BlockGroups:
    """How the op's input blocks feed its output blocks."""
    return groups_between(op, program.made(op).lanes, program.engine.tm)


def groups_between(op: Op, lanes: tuple[int, ...], tm: int) -> BlockGroups:
    """`op_groups` for an output in `lanes`."""
    if op.floats is not None:
        return dynamic_groups(op, lanes, tm)
    if op.norm is not None:  # every output channel needs all of the input, which is read twice
        return BlockGroups(1, 2 * (len(op.lanes) // tm), len(lanes) // tm)
    if op.operand is not None:
        return head_groups(op.operand.heads, len(op.lanes), len(lanes), tm)
    if op.weights is None:
        return block_groups(op.lanes, lanes, 1, 1, tm)
    return block_groups(op.lanes, lanes, op.weights.shape[1], len(op.weights) // op.groups, tm)


def table_bytes(program: Program) -> int:
    """What every op with an activation table loads: the largest table, so that its beats are a constant of the engine."""
    bits = max([op.requant.out.bits for op in program.ops if op.table is not None], default=0)
    return max(1 << bits, program.engine.beat) if bits else program.engine.beat


def halves_of_last(op: Op, groups: BlockGroups, engine: EngineConfig) -> int:
    """TN-wide passes that cover the lanes in use of every group's last input block."""
    tm, blocks = engine.tm, len(op.lanes) // engine.tm // groups.count
    used = 1
    for g in range(groups.count):
        last = op.lanes[((g + 1) * blocks - 1) * tm : (g + 1) * blocks * tm]
        used = max([used] + [i + 1 for i, c in enumerate(last) if c >= 0])
    return -(-used // engine.tn)


def encode(program: Program) -> Encoded:
    """Encode every op; raises HlsgenError where a sum may exceed 32 bits."""
    engine = program.engine
    instructions: list[dict[str, int]] = []
    sources: list[dict[str, int]] = []
    table_size = table_bytes(program)
    pieces: list[npt.NDArray[np.int8]] = []
    beat = 0
    for op in program.ops:
        groups = op_groups(op, program)
        parameters = parameter_bytes(op, program, table_size)
        weights = weight_bytes(op, program, groups)
        fields = instruction(op, program, groups)
        fields["first_source"] = len(sources)
        fields["parameters"] = beat
        fields["weights"] = beat + len(parameters) // engine.beat
        beat += (len(parameters) + len(weights)) // engine.beat
        pieces += [parameters, weights]
        instructions.append(fields)
        sources += source_table(op.sources, program)
        if op.floats is not None:
            fields["operand_source"] = len(sources)
            sources += source_table(operand_sources(op), program)
    constants = []
    for name, value in program.constants.items():
        tensor = program.tensors[name]
        pieces.append(in_memory(tensor, value, engine))
        constants.append((tensor.address, beat, tensor.beats(engine.beat)))
        beat += tensor.beats(engine.beat)
    data = np.concatenate(pieces) if pieces else np.zeros(0, np.int8)
    bounds = _bounds(program, instructions, sources, table_size)
    return Encoded(tuple(instructions), tuple(sources), data, bounds, tuple(constants))


def parameter_memory(program: Program) -> int:
    """Bytes of `Encoded.weights`, without making them."""
    beat, table_size = program.engine.beat, table_bytes(program)
    total = sum(program.tensors[name].beats(beat) * beat for name in program.constants)
    for op in program.ops:
        weights = instruction(op, program, op_groups(op, program))["weight_beats"] * beat
        weights += 0 if op.softmax is None else len(exponents(op.softmax.scores))
        total += weights + len(parameter_bytes(op, program, table_size))
    return total


def in_memory(tensor: Tensor, value: npt.NDArray[Any], engine: EngineConfig) -> npt.NDArray[np.int8]:
    """The bytes of a tensor in DDR, with its extent behind it where it is float32."""
    data = tensor.pack(value, engine.tm)
    if tensor.element == 1:
        return data
    held = np.zeros(EXTENT_BYTES, np.int8)
    held[:8] = np.array(extent(value), "<f4").view(np.int8)
    return np.concatenate([data, held])


def instruction(op: Op, program: Program, groups: BlockGroups) -> dict[str, int]:
    """The op's `op_t` fields, without the addresses that the encoding assigns."""
    fields = _fields(op, program, groups)
    return fields | dynamic_fields(op, program, groups) if op.floats is not None else fields


def _fields(op: Op, program: Program, groups: BlockGroups) -> dict[str, int]:
    engine, out, made = program.engine, program.tensors[op.out], program.made(op)
    multiplies, add = op.multiplies, op.addition
    tiles_m = groups.count * -(-groups.outputs // op.tile.blocks)
    residual = -1
    if op.residual is not None:
        other = program.tensors[op.residual.tensor]
        residual = other.address + op.residual.first_block * _plane(program, op.residual.tensor)
    return {
        "kind": KINDS.get(op.kind, 0 if multiplies else 1),
        "first_source": 0,
        "in_h": op.in_size[0],
        "in_w": op.in_size[1],
        "out_h": made.height,
        "out_w": made.width,
        "kernel_h": op.window.kernel[0],
        "kernel_w": op.window.kernel[1],
        "stride_h": op.window.stride[0],
        "stride_w": op.window.stride[1],
        "pad_top": op.window.pad[0],
        "pad_left": op.window.pad[1],
        "pad_value": op.in_quant.zero_point if multiplies else -128,
        "halves": halves_of_last(op, groups, engine) if multiplies else 1,
        "in_blocks": groups.inputs,
        "group_tiles": tiles_m // groups.count,
        "group_step": groups.inputs if groups.count > 1 else 0,
        "tile_h": op.tile.rows,
        "tile_w": op.tile.cols,
        "tile_m": op.tile.blocks,
        "tiles_y": -(-made.height // op.tile.rows),
        "tiles_x": -(-made.width // op.tile.cols),
        "tiles_m": tiles_m,
        **_products(op, program, groups, tiles_m),
        "parameters": 0,
        "weights": 0,
        "channels": groups.count * groups.outputs * engine.tm if op.operand is not None else len(made.lanes),
        "table": int(op.table is not None),
        "pre_low": op.requant.out.low,
        "pre_high": op.requant.out.high,
        "zero_point": op.requant.out.zero_point if op.norm is None else op.norm.out.zero_point,
        "residual": residual,
        "a_multiplier": add.a_multiplier if add else 0,
        "b_multiplier": add.b_multiplier if add else 0,
        "add_offset": add.offset if add else 0,
        "add_shift": add.shift if add else 0,
        "add_zero_point": add.out.zero_point if add else 0,
        "out": out.address,
        **(_last_lanes(op, engine) if has_attention(program) or has_norm(program) else {}),
        **(_norm(op) if has_norm(program) else {}),
        **(_spread(op, program) if has_spread(program) else {}),
        **(_attention(op, program, groups) if has_attention(program) else {}),
    }


def has_spread(program: Program) -> bool:
    """Whether the engine stores channels as pixels."""
    return any(op.spread > 1 for op in program.ops)


def _spread(op: Op, program: Program) -> dict[str, int]:
    """The `op_t` fields of channels that are stored as pixels."""
    out, engine = program.tensors[op.out], program.engine
    row = out.width * engine.tm * out.element // engine.beat
    return {"spread": op.spread, "spread_blocks": len(out.lanes) // engine.tm, "spread_row": row}


def has_norm(program: Program) -> bool:
    """Whether the engine needs what LayerNorm needs."""
    return any(op.kind == "norm" for op in program.ops)


def _last_lanes(op: Op, engine: EngineConfig) -> dict[str, int]:
    """Lanes in use of the last block of a head, of scores, or of all, of LayerNorm."""
    heads = op.operand.heads if op.operand is not None else 1
    last = op.lanes[: len(op.lanes) // heads][-engine.tm :]
    return {"last_lanes": max(i + 1 for i, c in enumerate(last) if c >= 0)}


def _norm(op: Op) -> dict[str, int]:
    channels = max(op.lanes) + 1 if op.kind == "norm" else 0
    return {"norm_channels": channels, "norm_epsilon": op.norm.epsilon if op.norm is not None else 0}


def has_attention(program: Program) -> bool:
    """Whether the engine needs what scores and attention need."""
    return any(op.operand is not None for op in program.ops)


def _attention(op: Op, program: Program, groups: BlockGroups) -> dict[str, int]:
    """The `op_t` fields that only an engine with attention has."""
    operand, tm = op.operand, program.engine.tm
    names = "operand operand_plane keys last_keys window_h window_w window_row operand_line multiplier scaling_shift"
    names += " head_planes" if program.scheme == "dynamic" else " " + SOFTMAX
    if operand is None:
        return dict.fromkeys(names.split(), 0)
    at, plane = _operand(operand, program)
    other = program.tensors[operand.source.tensor]
    line = other.width * tm * other.element // program.engine.beat
    (rows, columns), width = operand.window, other.width
    across = operand.keys if operand.window == (0, 0) or columns == width else columns  # neighbours in memory
    values = (
        at,
        plane,
        operand.keys,
        (operand.keys - 1) % tm + 1,
        *(n or WHOLE for n in operand.within),
        across,
        line if rows else 0,
        int(op.requant.multiplier[0]),
        int(op.requant.shift[0]),
    )
    last = (groups.outputs + 1) * _plane(program, op.out)
    more = (last,) if program.scheme == "dynamic" else _softmax(op, program)
    return dict(zip(names.split(), (*values, *more), strict=True))


SOFTMAX = "values values_plane operand_zero key_blocks key_halves chunks score_shift score_zero"
SOFTMAX += " place_rows place_columns place_shift place_value"


def _softmax(op: Op, program: Program) -> tuple[int, ...]:
    """The fields SOFTMAX: of an attention; zeros of scores."""
    if op.values is None or op.softmax is None or op.operand is None:
        return (0,) * len(SOFTMAX.split())
    engine, keys = program.engine, op.operand.keys
    return (
        *_operand(op.values, program),
        op.values.zero_point,
        -(-keys // engine.tm),
        -(-((keys - 1) % engine.tm + 1) // engine.tn),
        -(-keys // CHUNK),
        op.softmax.shift - score_shifts(program)[0],
        op.softmax.scores.zero_point,
        *op.operand.places,
        max(0, op.operand.places[1].bit_length() - 1),
        op.operand.unit,
    )


def score_shifts(program: Program) -> tuple[int, int]:
    """The least shift that takes sums to scores that a softmax reads, and the largest; (0, 0) where there are none."""
    found = [op.softmax.shift for op in program.ops if op.softmax is not None]
    return min(found, default=0), max(found, default=0)


def _operand(operand: Operand, program: Program) -> tuple[int, int]:
    """Its first beat, and the beats from one channel block to the next."""
    plane = _plane(program, operand.source.tensor)
    return program.tensors[operand.source.tensor].address + operand.source.first_block * plane, plane


def _products(op: Op, program: Program, groups: BlockGroups, tiles_m: int) -> dict[str, int]:
    """What the engine would otherwise multiply out op by op."""
    engine, out, tile = program.engine, program.made(op), op.tile
    repeats = -(-out.height // tile.rows) * -(-out.width // tile.cols)
    taps = op.window.kernel[0] * op.window.kernel[1]
    halves = (groups.inputs - 1) * (engine.tm // engine.tn) + halves_of_last(op, groups, engine)
    passes = groups.count * groups.outputs * halves * taps if op.multiplies else 0
    inputs = groups.inputs
    if op.values is not None and op.operand is not None:
        keys, places = op.operand.keys, op.operand.places
        passes = groups.count * attention_passes(op, groups, engine)
        inputs = steps(keys, engine.tm, groups.inputs, places)
    n, plane = op.spread, _plane(program, op.out)
    pixel = engine.tm * program.tensors[op.out].element // engine.beat
    row = n * program.tensors[op.out].width * pixel
    return {
        "tiles": repeats * tiles_m,
        "steps": repeats * tiles_m * inputs,
        "taps": taps,
        "step_y": tile.rows * op.window.stride[0],
        "step_x": tile.cols * op.window.stride[1],
        "row": row,
        "plane": plane,
        "tile_rows": tile.rows * row,
        "tile_cols": tile.cols * n * pixel,
        "tile_planes": tile.blocks * plane,
        "repeats": repeats,
        "weight_beats": passes * engine.tn * engine.tm // engine.beat if op.operand is None else 0,
        "loads": repeats * passes,
    }


def attention_passes(op: Op, groups: BlockGroups, engine: EngineConfig) -> int:
    """Passes of the array for a head of an attention and a tile."""
    assert op.operand is not None
    keys, tm, whole = op.operand.keys, engine.tm, engine.tm // engine.tn
    last, last_keys = halves_of_last(op, groups, engine), -(-((keys - 1) % tm + 1) // engine.tn)
    found = groups.outputs * ((-(-keys // tm) - 1) * whole + last_keys)
    for chunk in chunks(keys, tm, groups.inputs, op.operand.places):
        found += sum(count * (last if c == groups.inputs - 1 else whole) for c, (_, _, count) in chunk.met)
    return found


def _plane(program: Program, tensor: str) -> int:
    t = program.tensors[tensor]
    return t.height * t.width * program.engine.tm * t.element // program.engine.beat


def source_table(sources: tuple[Source, ...], program: Program) -> list[dict[str, int]]:
    """The `source_t` entries of an op's input, or of what stands in the place of weights."""
    rows, end = [], 0
    for source in sources:
        tensor, plane = program.tensors[source.tensor], _plane(program, source.tensor)
        end += source.blocks
        base = tensor.address + source.first_block * plane
        base += (source.top * tensor.width + source.left) * program.engine.tm * tensor.element // program.engine.beat
        rows.append({"base": base, "plane": plane, "width": tensor.width, "upsample": source.upsample, "end": end})
        if program.scheme == "dynamic":
            rows[-1]["extent"] = extent_beat(program, source.tensor)
    return rows


def parameter_bytes(op: Op, program: Program, table_size: int) -> npt.NDArray[np.int8]:
    """The activation table (where there is one) and eight bytes a physical output channel; of an attention of several chunks four
    bytes a factor; int8."""
    if op.floats is not None:
        return dynamic_parameters(op, np.array(program.made(op).lanes))
    if op.softmax is not None and op.operand is not None and op.operand.keys > CHUNK:
        return factors(op.softmax.scores).astype("<u4").view(np.int8)
    if op.operand is not None:
        return np.zeros(0, np.int8)
    lanes = np.array(program.made(op).lanes)
    words = np.zeros((len(lanes), 2), np.uint32)
    used = lanes >= 0
    if op.norm is not None:
        words[used, 0] = op.norm.offset.astype(np.int32).view(np.uint32)[lanes[used]]
        packed = op.norm.gain.astype(np.int32).view(np.uint32) & 0xFFFFFF | np.uint32(op.norm.shift << 24)
        words[used, 1] = packed[lanes[used]]
        return words.astype("<u4").view(np.int8).reshape(-1)
    if op.bias is not None:
        words[used, 0] = op.bias[lanes[used]].astype(np.uint32)
    if op.requant.scheme == "native":
        words[used, 1] = op.requant.multiplier.astype(np.float32).view(np.uint32)[lanes[used]]
    else:
        packed = op.requant.multiplier.astype(np.uint32) | op.requant.shift.astype(np.uint32) << 24
        words[used, 1] = packed[lanes[used]]
    data = words.astype("<u4").view(np.int8).reshape(-1)
    if op.table is None:
        return data
    return np.concatenate([op.table, np.zeros(table_size - len(op.table), np.int8), data])


def weight_bytes(op: Op, program: Program, groups: BlockGroups) -> npt.NDArray[np.int8]:
    """The weights in the order of the MAC process, int8.

    [channel tile][input block][output block of the tile][half][ky][kx][TN][TM]
    """
    if op.softmax is not None:
        return exponents(op.softmax.scores)
    if op.weights is None:
        return np.zeros(0, np.int8)
    engine, out_lanes = program.engine, np.array(program.made(op).lanes)
    tm, tn = engine.tm, engine.tn
    physical = stacked(op, lambda part: _physical_weights(part, out_lanes))
    last_halves = halves_of_last(op, groups, engine)
    pieces = []
    for g in range(groups.count):
        for first in range(0, groups.outputs, op.tile.blocks):
            for c in range(groups.inputs):
                cb = g * groups.inputs + c
                halves = last_halves if c == groups.inputs - 1 else tm // tn
                for b in range(first, min(first + op.tile.blocks, groups.outputs)):
                    ob = g * groups.outputs + b
                    block = physical[ob * tm : (ob + 1) * tm, cb * tm : cb * tm + halves * tn]
                    # [TM, halves * TN, KH, KW] to [half, KH, KW, TN, TM]
                    kh, kw = block.shape[2:]
                    pieces.append(block.reshape(tm, halves, tn, kh, kw).transpose(1, 3, 4, 2, 0).reshape(-1))
    return np.concatenate(pieces)


def _physical_weights(op: Op, out_lanes: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """Weights between physical lanes, int8 [out lanes, in lanes, KH, KW], zero where nothing is connected."""
    assert op.weights is not None
    o, per_group, kh, kw = op.weights.shape
    dense = op.weights
    if op.groups > 1:
        dense = np.zeros((o, per_group * op.groups, kh, kw), np.int8)
        step = o // op.groups
        for g in range(op.groups):
            rows, cols = slice(g * step, (g + 1) * step), slice(g * per_group, (g + 1) * per_group)
            dense[rows, cols] = op.weights[rows]
    in_lanes = np.array(op.lanes)
    padded = np.zeros((o + 1, dense.shape[1] + 1, kh, kw), np.int8)
    padded[:o, : dense.shape[1]] = dense
    return padded[np.where(out_lanes >= 0, out_lanes, o)][:, np.where(in_lanes >= 0, in_lanes, dense.shape[1])]


def signed_bits(bound: int) -> int:
    """Bits of a two's complement integer that holds -bound .. bound."""
    return bound.bit_length() + 1


def _bounds(
    program: Program, instructions: list[dict[str, int]], sources: list[dict[str, int]], table_size: int
) -> Bounds:
    engine = program.engine
    acc = biased = add = 128
    shift = 1
    for op in program.ops:
        if op.floats is not None:
            acc, biased = max(acc, largest_sum(op)), max(biased, 2 * largest_sum(op))
            continue
        if op.weights is not None:
            assert op.bias is not None
            sums = np.abs(op.weights.astype(np.int64)).sum(axis=(1, 2, 3)) * 128
            acc = max(acc, int(sums.max()))
            biased = max(biased, int((sums + np.abs(op.bias.astype(np.int64))).max()))
            if signed_bits(biased) > 32:
                raise HlsgenError(
                    f"sums of {op.name} need {signed_bits(biased)} bits, 32 are there; its bias is out of range"
                )
        shift = max(shift, int(op.requant.shift.max()))
        if op.operand is not None:
            largest, merged = attention_sums(op)
            acc, biased = max(acc, largest), max(biased, merged)
            if op.values is not None:
                shift = max(shift, int(op.requant.shift.max()) + _largest_row(op, op.operand.keys).bit_length())
        if op.addition is not None:
            a = op.addition
            total = 128 * (a.a_multiplier + a.b_multiplier) + abs(a.offset) + (1 << max(a.shift - 1, 0))
            add = max(add, total, 1 << a.shift)
    attends = [op for op in program.ops if op.operand is not None]
    shifts = score_shifts(program)
    multiplier_bits = 18 if program.scheme == "affine" or attends else 0
    rows = [i["tile_h"] for i in instructions]
    patches = [_patch(op.window, op.tile) for op in program.ops]
    steps = [i["tiles_y"] * i["tiles_x"] * i["tiles_m"] * i["in_blocks"] + 1 for i in instructions]
    stored_beats = max(t.element for t in program.tensors.values()) * engine.tm // engine.beat
    channel_bytes = CHANNEL_BYTES if program.scheme == "dynamic" else PARAMETER_BYTES
    return Bounds(
        acc_bits=signed_bits(acc),
        biased_bits=signed_bits(biased),
        scaled_bits=max(signed_bits(biased) + multiplier_bits, shift + 1) + 1,
        add_bits=signed_bits(add) + 1,
        pre_bits=max([op.requant.out.bits for op in program.ops], default=8),
        table_size=table_size,
        channels=max(i["channels"] for i, op in zip(instructions, program.ops, strict=True) if op.operand is None),
        score_shift=shifts[0],
        score_shifts=shifts[1] - shifts[0],
        merges=any(op.values is not None and op.operand is not None and op.operand.keys > CHUNK for op in attends),
        tiles=max(i["tiles_y"] * i["tiles_x"] * i["tiles_m"] for i in instructions),
        blocks=max([i["tile_m"] for i in instructions] + [s["end"] for s in sources]),
        sources=max(len(op.sources) for op in program.ops),
        rows=max(rows + [p[0] for p in patches]),
        burst=max(p[0] * p[1] * stored_beats for p in patches),
        weight_beats=max(1, len(sources), _largest_weights(program)),
        steps=max(steps),
        step_cycles=_largest_step(program, patches),
        parameter_beats=max(
            (table_size + i["channels"] * channel_bytes) // engine.beat
            for i, op in zip(instructions, program.ops, strict=True)
            if op.operand is None
        ),
        held_blocks=max(op.spread for op in program.ops) - 1,
        held_beats=max(
            (
                op.tile.rows * op.tile.cols * engine.tm * program.tensors[op.out].element // engine.beat
                for op in program.ops
                if op.spread > 1
            ),
            default=0,
        ),
        attention_pixels=max((op.tile.rows * op.tile.cols for op in program.ops if op.kind == "attend"), default=1),
        tile_pixels=max((op.tile.rows * op.tile.cols for op in program.ops if op.special), default=0),
        row_sum_bits=max((_largest_row(op, CHUNK).bit_length() for op in attends), default=0),
        sum_bits=max((_largest_row(op, MOST_KEYS).bit_length() for op in attends), default=0),
    )


def attention_sums(op: Op) -> tuple[int, int]:
    """The largest magnitude of a sum of scores or an attention, and of one with its zero point taken away, all chunks merged."""
    assert op.operand is not None
    scores = (max(op.lanes) + 1) // op.operand.heads << 14
    if op.values is None:
        return scores, scores
    chunk, weights = min(op.operand.keys, CHUNK), LARGEST_WEIGHT * op.operand.keys
    merged = 256 * weights + -(-op.operand.keys // CHUNK)  # rounding adds less than one a chunk
    return max(scores, 128 * LARGEST_WEIGHT * chunk), max(scores, merged)


def _largest_row(op: Op, most: int) -> int:
    """The largest sum of an attention's weights for at most so many keys; of scores 0, but in scheme `dynamic`."""
    assert op.operand is not None
    if op.floats is not None:
        return largest_row(op)
    return LARGEST_WEIGHT * min(op.operand.keys, most) if op.values is not None else 1


def _largest_weights(program: Program) -> int:
    tm, beat = program.engine.tm, program.engine.beat
    sizes = [tm]
    for op in program.ops:
        if op.weights is not None:
            parts = op.floats.parts if op.floats is not None else 1
            taps = op.window.kernel[0] * op.window.kernel[1]
            sizes.append(len(op.lanes) * len(program.made(op).lanes) * taps * parts // beat)
    return max(sizes[1:], default=tm)


def _largest_step(program: Program, patches: list[tuple[int, int]]) -> int:
    engine, largest = program.engine, 1
    for op, patch in zip(program.ops, patches, strict=True):
        groups = max(-(-op.tile.rows * op.tile.cols // engine.tp), engine.pass_min)
        passes = op.tile.blocks * (engine.tm // engine.tn) * op.window.kernel[0] * op.window.kernel[1]
        largest = max(largest, passes * groups, patch[0] * patch[1] * engine.tm // engine.beat)
    return largest
