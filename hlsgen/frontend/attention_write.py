"""Attention as standard ONNX operators: floats, and what the integers of docs/arithmetic-attention.md are in floats."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from hlsgen.models.attention import WHOLE, Window, attention_scores
from hlsgen.program.attention import CHUNK, LARGEST_WEIGHT

if TYPE_CHECKING:
    from hlsgen.frontend.onnx_write import GraphWriter


def write_attention(
    writer: "GraphWriter",
    node: fx.Node,
    inputs: Sequence[str],
    out: str,
    known: Mapping[str, tuple[int, int, int]],
    weights: bool = False,
) -> None:
    """The operators of an `attention_scores` or `attend`.

    inputs: its two tensors' names. out: its result's. known: (C, H, W) by fx node. weights: softmax by integer weights, 0 to 127,
    that are divided by their sum after the product, as quantized networks compute it.
    """
    x, (c, h, w) = node.name, known[node.name]
    given: Any = node.args[2:]
    heads, window = int(given[0]), given[1] if len(given) > 1 else WHOLE
    a, b = (
        _heads(writer, tensor, f"{x}.{part}", heads, known[source.name], window)
        for tensor, part, source in zip(inputs, ("a", "b"), node.all_input_nodes * 2, strict=False)
    )
    if node.target is attention_scores:
        writer.node("Transpose", [b], [f"{x}.keys"], f"{x}.keys", perm=[0, 1, 3, 2])
        writer.node("MatMul", [f"{x}.keys", a], [f"{x}.product"], x)
    else:
        if weights:
            _divided(writer, a, b, x, known[node.all_input_nodes[0].name][0] // heads)
        else:
            writer.node("Softmax", [a], [f"{x}.weights"], f"{x}.softmax", axis=2)
            writer.node("MatMul", [b, f"{x}.weights"], [f"{x}.product"], x)
    product = f"{x}.product"
    if window != WHOLE:
        rows, columns = window
        product = _reshaped(writer, product, f"{x}.windows", [h // rows, w // columns, c, rows, columns])
        writer.node("Transpose", [product], [f"{x}.joined"], f"{x}.joined", perm=[2, 0, 3, 1, 4])
        product = f"{x}.joined"
    _reshaped(writer, product, out, [1, c, h, w], f"{x}.shape")


def _heads(
    writer: "GraphWriter", tensor: str, out: str, heads: int, shape: tuple[int, int, int], window: Window
) -> str:
    """A map as [1, heads, channels of a head, pixels], or [windows, heads, channels of a head, pixels of a window]."""
    c, h, w = shape
    if window == WHOLE:
        return _reshaped(writer, tensor, out, [1, heads, c // heads, -1])
    rows, columns = window
    cells = _reshaped(writer, tensor, f"{out}.cells", [heads, c // heads, h // rows, rows, w // columns, columns])
    writer.node("Transpose", [cells], [f"{out}.windows"], f"{out}.windows", perm=[2, 4, 0, 1, 3, 5])
    return _reshaped(writer, f"{out}.windows", out, [h // rows * (w // columns), heads, c // heads, rows * columns])


def _divided(writer: "GraphWriter", scores: str, values: str, x: str, keys: int) -> None:
    """values @ weights / the weights' sum; of several chunks of keys each relative to the largest score of all."""
    if keys <= CHUNK:
        _chunk(writer, scores, values, x)
        writer.node("Div", [f"{x}.sums", f"{x}.row"], [f"{x}.product"], f"{x}.divide")
        return
    found = [f"{x}.chunk{j // CHUNK}" for j in range(0, keys, CHUNK)]
    for j, part in zip(range(0, keys, CHUNK), found, strict=True):
        ends = [
            writer.constant(f"{part}.{key}", np.array([at], np.int64))
            for key, at in (("begin", j), ("end", min(j + CHUNK, keys)))
        ]
        sliced = []
        for tensor, name, axis in ((scores, f"{part}.a", 2), (values, f"{part}.b", 3)):
            writer.node(
                "Slice", [tensor, *ends, writer.constant(f"{name}.axis", np.array([axis], np.int64))], [name], name
            )
            sliced.append(name)
        _chunk(writer, sliced[0], sliced[1], part)
    writer.node("Max", [f"{part}.largest" for part in found], [f"{x}.largest"], f"{x}.largest")
    for part in found:
        writer.node("Sub", [f"{part}.largest", f"{x}.largest"], [f"{part}.down"], f"{part}.down")
        writer.node("Exp", [f"{part}.down"], [f"{part}.factor"], f"{part}.factor")
        for name in ("sums", "row"):
            made = f"{part}.{name}.scaled"
            writer.node("Mul", [f"{part}.{name}", f"{part}.factor"], [made], made)
    for name in ("sums", "row"):
        writer.node("Sum", [f"{part}.{name}.scaled" for part in found], [f"{x}.{name}"], f"{x}.{name}")
    writer.node("Div", [f"{x}.sums", f"{x}.row"], [f"{x}.product"], f"{x}.divide")


def _chunk(writer: "GraphWriter", scores: str, values: str, x: str) -> None:
    """Weights round(127 * exp(score - the row's largest)), their sums and the values'."""
    axis = writer.constant(f"{x}.keys", np.array([2], np.int64))
    writer.node("ReduceMax", [scores, axis], [f"{x}.largest"], f"{x}.largest", keepdims=1)
    writer.node("Sub", [scores, f"{x}.largest"], [f"{x}.below"], f"{x}.below")
    writer.node("Exp", [f"{x}.below"], [f"{x}.exp"], f"{x}.exp")
    unit = writer.constant(f"{x}.unit", np.array(LARGEST_WEIGHT, np.float32))
    writer.node("Mul", [f"{x}.exp", unit], [f"{x}.scaled"], f"{x}.scaled")
    writer.node("Round", [f"{x}.scaled"], [f"{x}.weights"], f"{x}.weights")
    writer.node("MatMul", [values, f"{x}.weights"], [f"{x}.sums"], x)
    summed = writer.constant(f"{x}.axis", np.array([2], np.int64))
    writer.node("ReduceSum", [f"{x}.weights", summed], [f"{x}.row"], f"{x}.row", keepdims=1)


def _reshaped(writer: "GraphWriter", tensor: str, out: str, shape: list[int], name: str = "") -> str:
    at = writer.constant(f"{name or out}.size", np.array(shape, np.int64))
    writer.node("Reshape", [tensor, at], [out], name or out)
    return out
