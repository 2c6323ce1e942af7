"""The golden model of scheme `dynamic`: docs/arithmetic-dynamic.md on machine ops, float32 [C, H, W] tensors."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.program import dynamic as d
from hlsgen.program.attention import over_windows
from hlsgen.program.ops import Op, Program, Source

Floats = d.Floats
Value = Callable[[str], npt.NDArray[Any]]


LEAST_DB, WORSE_DB = 40.0, 3.0
"""An embedding's least distance from PyTorch's dynamic INT8; and, where that is further from itself as soon as its floats move a
little, by how much more than that."""


def check(
    program: Program, found: Mapping[str, Floats], reference: Mapping[str, Floats], disturbed: Callable[[], Floats]
) -> tuple[dict[str, float], float | None]:
    """How near every op's output comes to the reference's, in dB, by reference name; and how near the disturbed reference's first
    output (SAM's embedding) comes to its own, where that was asked for.

    Args:
        program, found: the golden model's tensors, by reference name.
        reference: PyTorch's.
        disturbed: the reference's first output where its float results move by a millionth, asked for where the embedding is
            less than LEAST_DB near (`hlsgen.quantize.dynamic_network.DynamicReference.disturbed`).

    Raises:
        HlsgenError: the embedding is further than LEAST_DB, and by more than WORSE_DB further than the disturbed reference's.
    """
    near = {}
    for op in program.ops:
        name = program.tensors[op.out].reference
        if program.tensors[op.out].compared:
            near[name] = decibels(reference[name], found[name])
    name = program.tensors[program.outputs[0]].reference
    if near[name] >= LEAST_DB:
        return near, None
    itself = decibels(reference[name], disturbed())
    least = min(LEAST_DB, round(itself - WORSE_DB, 2))
    if near[name] < least:
        raise HlsgenError(
            f"{name} comes to {near[name]} dB of PyTorch's dynamic INT8, {least:g} are expected; give another picture with "
            "--image, or use --scheme fixed"
        )
    return near, itself


def decibels(wanted: Floats, got: Floats) -> float:
    """10 log10(sum x^2 / sum (x - y)^2), at most 200."""
    x, y = wanted.astype(np.float64).reshape(-1), got.astype(np.float64).reshape(-1)
    noise, signal = float(((x - y) ** 2).sum()), float(x @ x)
    return round(10 * math.log10(max(signal, 1e-300) / max(noise, signal * 1e-20, 1e-300)), 2)


def execute(
    op: Op, x: npt.NDArray[Any], columns: npt.NDArray[Any], other: Floats | None, operand: Floats | None, value: Value
) -> Floats:
    """One op.

    Args:
        op: with `floats`.
        x: its input in logical channels, [C, H, W].
        columns: its receptive fields, [C, KH, KW, OH, OW], zero where there is padding.
        other: what is added, in the output's channels.
        operand: keys or values in logical channels.
        value: tensors by name; their extents decide the integers.
    """
    f = op.floats
    assert f is not None
    if op.kind == "norm":
        assert f.scale is not None and f.bias is not None
        y = d.layer_norm(x.reshape(len(x), -1), largest(op.sources, value), f.scale, f.bias, f.epsilon)
        return y.reshape(x.shape)
    if operand is not None:
        return multiply(op, x, operand, value)
    y = d.activate(x if op.weights is None else convolve(op, columns, value), f.activation)
    return y if other is None else y + other


def extents(sources: Iterable[Source], value: Value) -> list[tuple[float, float]]:
    return [d.extent(value(source.tensor)) for source in sources]


def largest(sources: Iterable[Source], value: Value) -> float:
    """The magnitude that several sources share."""
    return d.magnitude(*extents(sources, value))


def convolve(op: Op, columns: npt.NDArray[Any], value: Value) -> Floats:
    """A convolution's output before GELU, [O, OH, OW]."""
    f, w = op.floats, op.weights
    assert f is not None and f.scale is not None and f.bias is not None and w is not None
    fields, weight = columns.reshape(w[0].size, -1), w.reshape(len(w), -1)
    assert op.groups == 1
    if f.reading == "levels":
        found = extents(op.sources, value)
        levels = d.choose(min(low for low, _ in found), max(high for _, high in found))
        acc, scale = d.linear(d.quantize(fields, levels), levels, weight), f.scale * d.F(levels.scale)
    elif f.reading == "image":
        acc = np.asarray(weight.astype(np.float64) @ fields.astype(np.float64)).astype(np.int64)
        scale = f.scale
    else:
        step, inverse = d.steps_of(largest(op.sources, value), d.LARGEST)
        acc, scale = d.product(weight.astype(np.int64), d.integers(fields, inverse)), f.scale * (d.F(256) * step)
    return d.affine(acc, scale, f.bias).reshape(-1, *columns.shape[3:])


def multiply(op: Op, x: Floats, operand: Floats, value: Value) -> Floats:
    """Scores or attention, [C, H, W], head by head and window by window."""
    assert op.operand is not None
    heads = op.operand.heads
    of_operand = largest((op.operand.source, *op.operand.others), value)
    of_input = largest(op.sources, value) if op.kind == "scores" else 0.0

    def of_maps(a: Floats, b: Floats) -> Floats:
        left, right = (m.reshape(heads, len(m) // heads, -1) for m in (a, b))
        if op.kind == "scores":
            parts = [d.scores(q, k, (of_input, of_operand)) for q, k in zip(left, right, strict=True)]
        else:
            parts = [d.attend(s, v, of_operand) for s, v in zip(left, right, strict=True)]
        return np.concatenate(parts).reshape(-1, *a.shape[1:])

    if op.operand.window == (0, 0):
        return of_maps(x, operand)
    return over_windows(of_maps, x, operand, op.operand.window)
