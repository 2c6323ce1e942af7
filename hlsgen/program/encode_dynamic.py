"""What is other in the encoding of ops of scheme `dynamic` (docs/arithmetic-dynamic.md)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hlsgen.program.dynamic import LARGEST, halves
from hlsgen.program.groups import BlockGroups, block_groups, head_groups
from hlsgen.program.ops import Op, Program, Source

READINGS = {"image": 0, "levels": 1, "integers": 2}
ACTIVATIONS = {"": 0, "gelu": 1, "relu": 2}
CHANNEL_BYTES = 16  # a channel's bias, scale and sum of weights
Weights = npt.NDArray[np.int8]


def dynamic_groups(op: Op, lanes: tuple[int, ...], tm: int) -> BlockGroups:
    """How the blocks that the MAC array multiplies feed an output in `lanes`: each of the input's once a part.

    A LayerNorm's input takes another way; its rows' largest scores stand before an attention's blocks and are no part.
    """
    assert op.floats is not None
    blocks, outputs = len(op.lanes) // tm, len(lanes) // tm
    if op.kind == "norm":
        return BlockGroups(1, blocks, outputs)
    if op.kind == "elementwise":
        return block_groups(op.lanes, lanes, 1, 1, tm)
    if op.operand is None:
        return BlockGroups(1, blocks * op.floats.parts, outputs)
    heads = head_groups(op.operand.heads, len(op.lanes), len(lanes), tm)
    inputs, outputs = heads.inputs - (op.kind == "attend"), heads.outputs - (op.kind == "scores")
    return BlockGroups(heads.count, inputs * op.floats.parts, outputs)


def stacked(op: Op, physical: Callable[[Op], Weights]) -> Weights:
    """Weights of all parts one behind the other along the inputs; physical: one part's weights between physical lanes."""
    if op.floats is None or op.floats.reading == "levels":
        return physical(op)
    assert op.weights is not None
    high, low = (physical(replace(op, weights=h.astype(np.int8))) for h in halves(op.weights.astype(np.int64)))
    return np.concatenate([high, low] if op.floats.reading == "image" else [high, low, high], axis=1)


def dynamic_parameters(op: Op, lanes: npt.NDArray[np.int64]) -> Weights:
    """CHANNEL_BYTES a physical output channel: bias and scale (float32), sum of the weights (int32), nothing."""
    assert op.floats is not None
    if op.floats.scale is None:
        return np.zeros(0, np.int8)
    assert op.floats.bias is not None
    words, used = np.zeros((len(lanes), 4), np.uint32), lanes >= 0
    words[used, 0] = op.floats.bias.view(np.uint32)[lanes[used]]
    words[used, 1] = op.floats.scale.view(np.uint32)[lanes[used]]
    if op.floats.reading == "levels" and op.weights is not None:
        words[used, 2] = op.weights.astype(np.int64).sum(axis=(1, 2, 3)).astype(np.int32).view(np.uint32)[lanes[used]]
    return words.astype("<u4").view(np.int8).reshape(-1)


def dynamic_fields(op: Op, program: Program, groups: BlockGroups) -> dict[str, int]:
    """The op's `op_t` fields that only scheme `dynamic` has, and those that it has otherwise."""
    f, tm = op.floats, program.engine.tm
    assert f is not None
    per_group = len(op.lanes) // tm // groups.count
    part = groups.inputs // f.parts
    fields = {
        "group_step": per_group if groups.count > 1 else 0,
        "pad_value": 0,
        "reading": READINGS[f.reading],
        "part": part,
        "parts": f.parts,
        "activation": ACTIVATIONS[f.activation],
        "extent": extent_beat(program, op.out),
        "source_count": len(op.sources),
        "operand_source": 0,
        "operand_count": len(operand_sources(op)),
    }
    if op.kind == "norm":
        fields["norm_epsilon"] = int(np.float32(f.epsilon).view(np.int32))
    return fields if op.multiplies else fields | {"steps": 0}


def extent_beat(program: Program, tensor: str) -> int:
    """Where a float32 tensor's extent lies: the beat behind it."""
    t = program.tensors[tensor]
    return t.address + t.bytes() // program.engine.beat if t.element == 4 else 0


def operand_sources(op: Op) -> tuple[Source, ...]:
    """The sources of what stands in the place of weights."""
    return () if op.operand is None else (op.operand.source, *op.operand.others)


def largest_sum(op: Op) -> int:
    """The largest magnitude of a sum before the epilogue."""
    assert op.floats is not None
    if op.operand is not None:
        products = op.operand.keys if op.kind == "attend" else (max(op.lanes) + 1) // op.operand.heads
        return products * (256 * 127 * 127 + 2 * 127 * 128)
    if op.weights is None:
        return 1
    w = op.weights.astype(np.int64)
    if op.floats.reading == "levels":
        bound = 128 * np.abs(w)
    else:
        high, low = (np.abs(h) for h in halves(w))
        bound = 128 * (256 * high + low) if op.floats.reading == "image" else 127 * (256 * high + low) + 128 * high
    return int(bound.sum(axis=(1, 2, 3)).max())


def largest_row(op: Op) -> int:
    """The largest sum of a row's weights in an attention."""
    assert op.operand is not None
    return LARGEST * op.operand.keys
