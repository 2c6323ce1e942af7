"""The golden model: docs/arithmetic.md in numpy, op by op on the Program, independent of PyTorch and of the C++."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.program import golden_dynamic
from hlsgen.program.arithmetic import Ints, add, requantize
from hlsgen.program.attention import Scaling, attend, scores
from hlsgen.program.encode_dynamic import operand_sources
from hlsgen.program.layer_norm import layer_norm
from hlsgen.program.ops import Op, Operand, Program, Source, fold_pixels

Map = npt.NDArray[Any]


def run(program: Program, *inputs: Map) -> dict[str, Map]:
    """Every tensor of the Program, [C, H, W] int8 in logical channels, for an image (and further inputs) [C, H, W] int8."""
    return dict(steps(program, *inputs))


def steps(program: Program, *inputs: Map) -> Iterator[tuple[str, Map]]:
    """The tensors in the order in which the ops make them, the inputs (the image folded) first; no longer held than an op reads
    them."""
    tensors: dict[str, Map] = dict(program.constants)
    last = {name: i for i, op in enumerate(program.ops) for name in op.reads}
    for name, given in zip(program.inputs, inputs, strict=True):
        fold = program.tensors[name].fold
        tensors[name] = fold_pixels(given, fold) if fold > 1 else given
        yield name, tensors[name]
    for i, op in enumerate(program.ops):
        tensors[op.out] = execute(op, program, tensors.__getitem__)
        yield op.out, tensors[op.out]
        for name in (*op.reads, op.out):
            if last.get(name, -1) <= i:
                tensors.pop(name, None)


def check(program: Program, image: Map, expected: Mapping[str, Map]) -> int:
    """Hold the golden model to `expected` ([C, H, W] by reference name, further inputs too), op by op; the integers compared.

    Raises:
        HlsgenError: naming the first op, index, expected and got. A bug in the lowering: nothing that a user did.
    """
    compared = 0
    others = (expected[program.tensors[name].reference] for name in program.inputs[1:])
    for name, values in steps(program, image, *others):
        if name in program.inputs:
            continue
        if not program.tensors[name].compared:
            continue
        wanted = expected[program.tensors[name].reference]
        wrong = np.argwhere(values != wanted)
        if len(wrong):
            at = tuple(int(v) for v in wrong[0])
            raise HlsgenError(
                f"the golden model differs from the reference first at {name}{list(at)}: expected {wanted[at]}, got {values[at]} "
                f"({len(wrong)} of {values.size} differ); please report this network"
            )
        compared += values.size
    return compared


def execute(op: Op, program: Program, value: Callable[[str], Map]) -> Map:
    """One op on the tensors that `value` returns; int8 [C, H, W]."""
    out, made = program.tensors[op.out], program.made(op)
    x = gather(op, program, value)
    if op.floats is not None:
        columns = _windows(x, op, (made.height, made.width), 0)
        other = physical(op.residual, program, value)[out.lane_of()] if op.residual is not None else None
        operand = None
        if op.operand is not None:
            held = np.concatenate([physical(source, program, value) for source in operand_sources(op)])
            operand = logical(held, op.operand.lanes)
        found = golden_dynamic.execute(op, x, columns, other, operand, value)
        return pixels_of(found, op.spread) if op.spread > 1 else found
    if op.norm is not None:
        return np.moveaxis(layer_norm(np.moveaxis(x.astype(np.int64), 0, -1), op.norm), -1, 0).astype(np.int8)
    if op.operand is not None:
        return multiply(x, op, program, value)
    if op.weights is None:
        acc = maximum(x, op, (made.height, made.width))
    else:
        acc = convolve(x, op, (made.height, made.width))
        assert op.bias is not None
        acc += op.bias.astype(np.int64)[:, None, None]
    y = requantize(acc, op.requant)
    if op.table is not None:
        y = op.table[y - op.requant.out.low].astype(np.int64)
    if op.addition is not None:
        assert op.residual is not None
        other = physical(op.residual, program, value)[out.lane_of()]
        y = add(y, other.astype(np.int64), op.addition)
    return pixels_of(y.astype(np.int8), op.spread) if op.spread > 1 else y.astype(np.int8)


def pixels_of(x: Map, factor: int) -> Map:
    """Channels to pixels: [factor * factor * C, H, W], channels by (row, column, C), to [C, factor * H, factor * W]."""
    c, h, w = x.shape
    parts = x.reshape(factor, factor, c // factor**2, h, w).transpose(2, 3, 0, 4, 1)
    return np.ascontiguousarray(parts.reshape(-1, factor * h, factor * w))


def gather(op: Op, program: Program, value: Callable[[str], Map]) -> Map:
    """The op's input in logical channels: sources upsampled and concatenated; int8 [C, H, W]."""
    height, width = op.in_size
    parts = [physical(source, program, value)[:, :height, :width] for source in op.sources]
    return logical(np.concatenate(parts), op.lanes)


def logical(values: Map, lanes: tuple[int, ...]) -> Map:
    """Physical lanes [L, H, W] to the logical channels that `lanes` names."""
    where = np.zeros(max(lanes) + 1, np.int64)
    for lane, channel in enumerate(lanes):
        if channel >= 0:
            where[channel] = lane
    return np.ascontiguousarray(values[where])


def physical(source: Source, program: Program, value: Callable[[str], Map]) -> Map:
    """The lanes of a source, upsampled; [blocks * TM, H, W], 0 where a lane holds no channel."""
    tm = program.engine.tm
    lanes = np.array(
        program.tensors[source.tensor].lanes[source.first_block * tm : (source.first_block + source.blocks) * tm]
    )
    held = value(source.tensor)[:, source.top :, source.left :]
    part = np.where((lanes >= 0)[:, None, None], held[lanes], 0).astype(held.dtype)
    return np.repeat(np.repeat(part, 1 << source.upsample, axis=1), 1 << source.upsample, axis=2)


def multiply(x: Map, op: Op, program: Program, value: Callable[[str], Map]) -> Map:
    """Scores or attention, int8 [C, H, W]; x: queries."""
    keys, values = op.operand, op.values
    assert keys is not None
    constants = Scaling(op.requant.out, int(op.requant.multiplier[0]), int(op.requant.shift[0]))
    k = with_places(logical(physical(keys.source, program, value), keys.lanes), keys)
    if values is None or op.softmax is None:
        return scores(x, k, keys.heads, constants, keys.window).astype(np.int8)
    v = logical(physical(values.source, program, value), values.lanes)
    between, found = Scaling(op.softmax.scores, 1, op.softmax.shift), []
    for q_of, k_of, v_of in zip(*(np.split(part, keys.heads) for part in (x, k, v)), strict=True):
        s = scores(q_of, k_of, 1, between, keys.window).astype(np.int8)
        found.append(attend(s, v_of, 1, between.out, values.zero_point, constants, keys.window).astype(np.int8))
    return np.concatenate(found)


def with_places(k: Map, keys: Operand) -> Map:
    """Keys with the channels in front that say where they lie, where there are any."""
    if keys.places == (0, 0):
        return k
    _, height, width = k.shape
    row, column = np.eye(height, dtype=np.int8)[:, :, None], np.eye(width, dtype=np.int8)[:, None, :]
    ones = [np.broadcast_to(one, (len(one), height, width)) for one in (row, column)]
    return np.concatenate([*(one * np.int8(keys.unit) for one in ones), k])


def _windows(x: Map, op: Op, size: tuple[int, int], fill: int) -> npt.NDArray[np.int8]:
    """[C, KH, KW, OH, OW] view of the padded input."""
    (kh, kw), (sh, sw), (top, left) = op.window.kernel, op.window.stride, op.window.pad
    bottom = max((size[0] - 1) * sh + kh - top - x.shape[1], 0)
    right = max((size[1] - 1) * sw + kw - left - x.shape[2], 0)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))
    view = view[:, : (size[0] - 1) * sh + 1 : sh, : (size[1] - 1) * sw + 1 : sw]
    return np.asarray(view.transpose(0, 3, 4, 1, 2))


def convolve(x: Map, op: Op, size: tuple[int, int]) -> Ints:
    """Exact sums, int64 [O, OH, OW]; padding holds the input's zero point."""
    assert op.weights is not None
    o, per_group, kh, kw = op.weights.shape
    columns = _windows(x, op, size, op.in_quant.zero_point)
    out = np.empty((o, size[0] * size[1]), np.int64)
    step = o // op.groups
    for g in range(op.groups):
        w = op.weights[g * step : (g + 1) * step].reshape(step, -1)
        c = columns[g * per_group : (g + 1) * per_group].reshape(per_group * kh * kw, -1)
        # float32 sums of integers are exact below 2**24 in any order; else float64 (below 2**53).
        exact32 = int(np.abs(w.astype(np.int64)).sum(axis=1).max()) * 128 < 1 << 24
        kind = np.float32 if exact32 else np.float64
        out[g * step : (g + 1) * step] = (w.astype(kind) @ c.astype(kind)).astype(np.int64)
    return out.reshape(o, *size)


def maximum(x: Map, op: Op, size: tuple[int, int]) -> Ints:
    """Largest element of each window, int64 [C, OH, OW]; padding never wins."""
    return np.asarray(_windows(x, op, size, -128).max(axis=(1, 2)), np.int64)
