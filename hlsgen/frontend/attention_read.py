"""Attention in ONNX files: reshapes, transpositions and products of activations to the network's two functions.

Rules:
 1. a map reshaped to [1, heads, C / heads, H * W] is a view of its tokens, head by head; Split and Slice along its channels,
    Transpose of its last two axes, and a product with a scalar keep it one.
 2. MatMul of two views over their channels are scores; a scalar may scale them; Softmax along one of their axes, of the keys,
    makes weights; MatMul of weights and a view over the keys is attention; reshaped to [1, C, H, W], of the queries' size,
    it is a map again. So is a view, reshaped.
 3. windows: a map reshaped to [heads, C / heads, rows, row, columns, column], transposed and reshaped to [windows, heads,
    C / heads, pixels], is a view of its windows' tokens; a result comes back the inverse way.
 4. a view's channels become a map: the map itself where they are all; else, where a convolution made it, a convolution
    of these outputs only; else parts of it joined. A scalar goes into the queries' convolution.
 5. Round(127 * Exp(s - ReduceMax(s))), multiplied and divided by its ReduceSum, is our own files' softmax (`attention_write`);
    so is a Div of two Sums of such products and such ReduceSums, of slices of 256 keys, each times Exp(ReduceMax - Max of all).
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper
from torch import fx, nn

from hlsgen.models.attention import WHOLE, Window, attend, attention_scores, some_outputs
from hlsgen.program.attention import CHUNK, LARGEST_WEIGHT

if TYPE_CHECKING:
    from hlsgen.frontend.onnx_read import _Importer

SWAP = [0, 1, 3, 2]


@dataclass(frozen=True, eq=False)
class View:
    """Channels [heads, d] of a map as [1, heads, d, H * W], or [1, heads, H * W, d] where `turned`; all times `factor`."""

    map: fx.Node
    channels: npt.NDArray[np.int64]
    turned: bool = False
    factor: float = 1.0
    window: Window = WHOLE


@dataclass(frozen=True, eq=False)
class Product:
    """[1, heads, rows' tokens, columns' tokens] of two views; keys: the axis (2 or 3) of a softmax, 0 before it.

    map: the scores as a map, where the file has them as one (the keys its channels).
    """

    rows: View
    columns: View
    factor: float = 1.0
    keys: int = 0
    map: fx.Node | None = None

    @property
    def queries(self) -> View:
        return self.rows if self.keys == 3 else self.columns


@dataclass(frozen=True, eq=False)
class Mixed:
    """An attention's result: [1, heads, e, queries], or [1, heads, queries, e] where `turned`."""

    weights: Product
    values: View
    turned: bool = False


@dataclass(frozen=True, eq=False)
class Tiled:
    """Between a map and its windows (rule 3): `inner`, in `shape`, and whether it is transposed already."""

    inner: "View | Product | Mixed"
    shape: list[int]
    turned: bool = False


Symbol = View | Product | Mixed | Tiled
TO_WINDOWS, FROM_WINDOWS = [2, 4, 0, 1, 3, 5], [2, 0, 3, 1, 4]


def view_of(x: "View | Product | Mixed") -> View:
    """The view whose map a symbol has the size and the windows of."""
    return x if isinstance(x, View) else x.columns if isinstance(x, Product) else x.weights.queries


def maps_of(x: Symbol) -> list[fx.Node]:
    """The maps that a symbol is made of."""
    if isinstance(x, View):
        return [x.map]
    if isinstance(x, Product):
        return [x.rows.map, x.columns.map]
    if isinstance(x, Tiled):
        return maps_of(x.inner)
    return [*maps_of(x.weights), x.values.map]


def shape_of(im: "_Importer", x: Symbol) -> list[int]:
    """The ONNX shape of a symbol."""
    if isinstance(x, Tiled):
        return x.shape
    first = _windows(im, view_of(x))
    if isinstance(x, Product):
        return [first, len(x.rows.channels), _tokens(im, x.rows), _tokens(im, x.columns)]
    if isinstance(x, View):
        size = [x.channels.shape[1], _tokens(im, x)]
    else:
        size = [x.values.channels.shape[1], _tokens(im, x.weights.queries)]
    heads = len(x.channels if isinstance(x, View) else x.values.channels)
    return [first, heads, *(size[::-1] if x.turned else size)]


def _tokens(im: "_Importer", x: View) -> int:
    _, h, w = im.shapes[x.map]
    return x.window[0] * x.window[1] or h * w


def _windows(im: "_Importer", x: View) -> int:
    _, h, w = im.shapes[x.map]
    return h * w // _tokens(im, x)


def reshape(im: "_Importer", node: onnx.NodeProto) -> None:
    given, tensor = im.const(node, 1, "shape"), node.output[0]
    if given is None or any(a.name == "allowzero" and a.i for a in node.attribute):
        raise im.refuse("expects a constant shape")
    x = im.symbols.get(node.input[0])
    if x is None:
        held, (c, h, w) = im.map_input(node)
        _map_reshaped(im, held, _resolved(im, given, [1, c, h, w]), tensor)
        return
    before = shape_of(im, x)
    shape = _resolved(im, given, before)
    inner = x.inner if isinstance(x, Tiled) else x
    view = view_of(inner)
    _, h, w = im.shapes[view.map]
    channels = math.prod(before) // (h * w)
    if isinstance(x, Tiled) and x.turned and shape == shape_of(im, inner):
        im.symbols[tensor] = inner  # into windows
    elif not isinstance(x, Tiled) and view.window != WHOLE:  # out of windows
        rows, columns = view.window
        if shape != [h // rows, w // columns, channels, rows, columns]:
            raise im.refuse(f"makes {shape} of {before}, which are no windows side by side")
        im.symbols[tensor] = Tiled(inner, shape)
    elif shape == [1, channels, h, w] and (not isinstance(x, Tiled) or x.turned):
        _as_map(im, inner, shape, tensor)
    else:
        raise im.refuse(f"makes {shape} of {before}, and only {[1, channels, h, w]} is supported")


def _map_reshaped(im: "_Importer", held: fx.Node, shape: list[int], tensor: str) -> None:
    """Rules 1 and 3, from a map on."""
    c, h, w = im.shapes[held]
    channels = np.arange(c, dtype=np.int64)
    if shape == [1, c, h, w]:
        im.add(tensor, held, (c, h, w))
    elif held in im.scores and shape == shape_of(im, im.scores[held]):
        im.symbols[tensor] = im.scores[held]
    elif len(shape) == 4 and shape[0] == 1 and shape[3] == h * w and shape[1] * shape[2] == c:
        im.symbols[tensor] = View(held, channels.reshape(shape[1], shape[2]))
    elif len(shape) == 6 and shape[0] * shape[1] == c and shape[2] * shape[3] == h and shape[4] * shape[5] == w:
        window = View(held, channels.reshape(shape[0], shape[1]), window=(shape[3], shape[5]))
        im.symbols[tensor] = Tiled(im.scores.get(held, window), shape)
    else:
        raise im.refuse(f"makes {shape} of a map {[1, c, h, w]}, and only [1, heads, channels, pixels] is supported")


def _as_map(im: "_Importer", x: "View | Product | Mixed", shape: list[int], tensor: str) -> None:
    """A view, scores or an attention's result as a map [1, C, H, W]."""
    if (not isinstance(x, Product) and x.turned) or (isinstance(x, Product) and (x.keys or x.map is not None)):
        raise im.refuse(f"makes {shape} of channels and tokens in another order, which is no map")
    if isinstance(x, View):
        im.add(tensor, _materialised(im, x, tensor), (shape[1], shape[2], shape[3]))
    elif isinstance(x, Product):
        made = _scores(im, replace(x, keys=2), tensor)
        im.values[tensor] = made
        im.scores[made] = replace(x, map=made)
    else:
        _emit(im, x, tensor)


def _resolved(im: "_Importer", given: npt.NDArray[Any], before: list[int]) -> list[int]:
    shape = [int(v) for v in given.reshape(-1)]
    shape = [before[i] if v == 0 and i < len(before) else v for i, v in enumerate(shape)]
    if shape.count(-1) == 1:
        rest = -math.prod(shape)
        shape[shape.index(-1)] = math.prod(before) // rest if rest > 0 else -1
    if math.prod(shape) != math.prod(before):
        raise im.refuse(f"makes {shape} of {before}")
    return shape


def transpose(im: "_Importer", node: onnx.NodeProto) -> None:
    x = im.symbols.get(node.input[0])
    perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
    if isinstance(x, Tiled) and perm == (TO_WINDOWS if len(x.shape) == 6 else FROM_WINDOWS) and not x.turned:
        im.symbols[node.output[0]] = Tiled(x.inner, [x.shape[i] for i in perm], turned=True)
        return
    if x is None or isinstance(x, Tiled) or perm != SWAP:
        raise im.refuse(f"permutes axes {perm}, and only the last two of an attention's heads are supported")
    if isinstance(x, Product):
        keys = {0: 0, 2: 3, 3: 2}[x.keys]
        if x.map is not None and not keys:
            raise im.refuse("turns scores that are a map already")
        im.symbols[node.output[0]] = replace(x, rows=x.columns, columns=x.rows, keys=keys)
    else:
        im.symbols[node.output[0]] = replace(x, turned=not x.turned)


def matmul(im: "_Importer", node: onnx.NodeProto) -> None:
    a, b = (im.symbols.get(t) for t in node.input)
    if (
        isinstance(a, View)
        and isinstance(b, View)
        and a.turned
        and not b.turned
        and a.channels.shape == b.channels.shape
        and a.window == b.window
    ):
        im.symbols[node.output[0]] = Product(replace(a, turned=False), b)
    elif isinstance(a, View) and isinstance(b, Product) and b.keys == 2 and not a.turned and _fits(im, a, b.rows):
        im.symbols[node.output[0]] = Mixed(b, a)
    elif isinstance(b, View) and isinstance(a, Product) and a.keys == 3 and b.turned and _fits(im, b, a.columns):
        im.symbols[node.output[0]] = Mixed(a, replace(b, turned=False), turned=True)
    else:
        raise im.refuse("multiplies something else than queries and keys, or softmax and values, head by head")


def _fits(im: "_Importer", values: View, keys: View) -> bool:
    same = len(values.channels) == len(keys.channels) and _tokens(im, values) == _tokens(im, keys)
    return same and values.factor == 1.0 and values.window == keys.window


def softmax(im: "_Importer", node: onnx.NodeProto) -> None:
    x = im.symbols.get(node.input[0])
    axis = next((int(a.i) for a in node.attribute if a.name == "axis"), -1) % 4
    if not isinstance(x, Product) or x.keys or axis < 2 or im.opset < 13:
        raise im.refuse("is supported in attention only, along the keys")
    if x.map is not None and axis != 2:
        raise im.refuse("runs along the queries of scores that are a map already")
    im.symbols[node.output[0]] = replace(x, keys=axis)


def scaled(im: "_Importer", node: onnx.NodeProto) -> None:
    """Mul and Div by a scalar."""
    pairs = [(0, 1), (1, 0)] if node.op_type == "Mul" else [(0, 1)]
    for i, j in pairs:
        x, c = im.symbols.get(node.input[i]), im.constants.get(node.input[j])
        if isinstance(x, View | Product) and c is not None and c.size == 1 and not (isinstance(x, Product) and x.keys):
            value = float(c.reshape(-1)[0])
            factor = x.factor * (value if node.op_type == "Mul" else 1 / value if value else math.nan)
            if not math.isfinite(factor) or factor <= 0:
                raise im.refuse(f"scales by {value:g}, and only positive factors are supported")
            im.symbols[node.output[0]] = replace(x, factor=factor)
            return
    raise im.refuse("is supported in activations and, by a scalar, in attention only")


def take(im: "_Importer", node: onnx.NodeProto, x: Symbol, axis: int, parts: Sequence[tuple[int, int, str]]) -> None:
    """Channels [start, stop) of a view, for Split and Slice along `axis`."""
    if not isinstance(x, View) or axis % 4 != (3 if x.turned else 2):
        raise im.refuse("cuts an attention's heads otherwise than along their channels, which is not supported")
    for start, stop, tensor in parts:
        im.symbols[tensor] = replace(x, channels=x.channels[:, start:stop])


def softmax_of_weights(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, npt.NDArray[Any]], domain: str
) -> list[onnx.NodeProto]:
    """Rule 5: a Div of that form becomes one node, `Attend(scores, values)`, with the number of its keys where they are sliced."""
    pattern = _Softmax({o: n for n in nodes for o in n.output}, constants)
    found = []
    for node in nodes:
        inputs = pattern.of(node) if node.op_type == "Div" else None
        if inputs is not None:
            more: dict[str, Any] = {"keys": inputs[2]} if inputs[2] else {}
            node = helper.make_node("Attend", inputs[:2], list(node.output), name=node.name, domain=domain, **more)
        found.append(node)
    return found


@dataclass(frozen=True, eq=False)
class _Softmax:
    """Rule 5 in a graph whose tensors these nodes make."""

    makers: dict[str, onnx.NodeProto]
    constants: dict[str, npt.NDArray[Any]]

    def inputs(self, tensor: str, kind: str) -> list[str]:
        """The inputs of the operator of this kind that makes a tensor, and two more; nothing where another one does."""
        made = self.makers.get(tensor)
        return [*(made.input if made is not None and made.op_type == kind else []), "", ""]

    def value(self, tensor: str) -> float:
        """A constant of one element; NaN of any other."""
        held = self.constants.get(tensor)
        return float(held.reshape(-1)[0]) if held is not None and held.size == 1 else math.nan

    def of(self, divide: onnx.NodeProto) -> tuple[str, str, int] | None:
        """Scores, values, and keys where these are sliced, else 0; None of any other Div."""
        sums, rows = divide.input
        one = self.chunk(sums, rows)
        if one is not None:
            return one[0], one[1], 0
        parts = self.inputs(sums, "Sum")[:-2], self.inputs(rows, "Sum")[:-2]
        if len(parts[0]) < 2 or len(parts[0]) != len(parts[1]):
            return None
        found, factors = [], []
        for scaled, scaled_row in zip(*parts, strict=True):
            (a, factor), (row, other) = self.inputs(scaled, "Mul")[:2], self.inputs(scaled_row, "Mul")[:2]
            chunk = self.chunk(a, row)
            if chunk is None or factor != other:
                return None
            found.append(chunk)
            factors.append(self.inputs(self.inputs(factor, "Exp")[0], "Sub")[:2])
        largest = [chunk[2] for chunk in found]
        of_all = factors[0][1]
        if [mine for mine, _ in factors] != largest or any(other != of_all for _, other in factors):
            return None
        if self.inputs(of_all, "Max")[:-2] != largest:
            return None
        scores, keys = self.joined([chunk[0] for chunk in found], 2)
        values, same = self.joined([chunk[1] for chunk in found], 3)
        return (scores, values, keys) if keys and keys == same else None

    def chunk(self, sums: str, row: str) -> tuple[str, str, str] | None:
        """Scores, values and the largest score of `sums` = values @ p and `row` = ReduceSum(p), p = Round(127 * Exp(scores -
        ReduceMax(scores)))."""
        values, weights = self.inputs(sums, "MatMul")[:2]
        summed, axis = self.inputs(row, "ReduceSum")[:2]
        exponential, unit = self.inputs(self.inputs(weights, "Round")[0], "Mul")[:2]
        scores, subtracted = self.inputs(self.inputs(exponential, "Exp")[0], "Sub")[:2]
        largest, other_axis = self.inputs(subtracted, "ReduceMax")[:2]
        right = summed == weights and largest == scores and self.value(unit) == LARGEST_WEIGHT
        right = right and self.value(axis) == self.value(other_axis) == 2
        return (scores, values, subtracted) if scores and right else None

    def joined(self, parts: list[str], axis: int) -> tuple[str, int]:
        """The tensor of which these are slices of CHUNK along `axis`, one behind the other, and where they end; 0 of any others."""
        whole, end = "", 0
        for i, part in enumerate(parts):
            tensor, *cut = [*self.inputs(part, "Slice"), "", "", ""][:4]
            begin, stop, along = (self.value(key) for key in cut)
            if i and (tensor != whole or end % CHUNK):
                return "", 0
            if begin != end or along != axis or not end < stop <= end + CHUNK:
                return "", 0
            whole, end = tensor, int(stop)
        return whole, end


def attend_of_weights(im: "_Importer", node: onnx.NodeProto) -> None:
    """The node that `softmax_of_weights` made."""
    x, values = (im.symbols.get(t) for t in node.input)
    if (
        not isinstance(x, Product)
        or x.keys
        or not isinstance(values, View)
        or values.turned
        or not _fits(im, values, x.rows)
        or any(a.name == "keys" and a.i != _tokens(im, x.rows) for a in node.attribute)
    ):
        raise im.refuse("is no attention over keys")
    im.symbols[node.output[0]] = Mixed(replace(x, keys=2), values)


def _scores(im: "_Importer", x: Product, tensor: str) -> fx.Node:
    """Scores as a map: queries' size, keys as channels."""
    keys = x.columns if x.keys == 3 else x.rows
    factor = x.factor * keys.factor
    queries = replace(x.queries, factor=x.queries.factor * factor)
    q, k = _materialised(im, queries, f"{tensor}.q"), _materialised(im, replace(keys, factor=1.0), f"{tensor}.k")
    heads, (_, h, w) = len(keys.channels), im.shapes[x.queries.map]
    made = im.function(tensor, attention_scores, q, k, heads, *_given(keys.window))
    im.shapes[made] = (heads * _tokens(im, keys), h, w)
    return made


def _given(window: Window) -> tuple[Window, ...]:
    """Windows as the last argument, where there are any."""
    return () if window == WHOLE else (window,)


def _emit(im: "_Importer", x: Mixed, tensor: str) -> None:
    scores = x.weights.map or _scores(im, x.weights, f"{tensor}.scores")
    values = _materialised(im, x.values, f"{tensor}.v")
    made = im.function(tensor, attend, scores, values, len(x.values.channels), *_given(x.values.window))
    _, h, w = im.shapes[x.weights.queries.map]
    im.add(tensor, made, (x.values.channels.size, h, w))


def _materialised(im: "_Importer", x: View, tensor: str) -> fx.Node:
    """Rule 4."""
    channels, (c, h, w) = x.channels.reshape(-1), im.shapes[x.map]
    if x.factor == 1.0 and channels.tolist() == list(range(c)):
        return x.map
    key = (x.map, channels.tobytes(), x.factor)
    if key in im.selected:
        return im.selected[key]
    conv = im.root.get_submodule(str(x.map.target)) if x.map.op == "call_module" else None
    if isinstance(conv, nn.Conv2d) and conv.groups == 1 and conv.bias is not None:
        made = _outputs(im, conv, channels, x.factor, tensor, x.map.args[0])
    elif x.factor != 1.0:
        raise im.refuse("scales queries that no convolution makes, which is not supported")
    else:
        made = _joined(im, x, tensor)
    im.shapes[made] = (len(channels), h, w)
    im.selected[key] = made
    return made


def _outputs(
    im: "_Importer", conv: nn.Conv2d, channels: npt.NDArray[np.int64], factor: float, tensor: str, x: Any
) -> fx.Node:
    """Some outputs of a convolution, scaled."""
    at = torch.from_numpy(channels)
    part = some_outputs(conv, at, factor)
    name = im.name(tensor)
    im.root.add_module(f"op_{name}", part)
    return im.graph.create_node("call_module", f"op_{name}", (x,), name=name)


def _joined(im: "_Importer", x: View, tensor: str) -> fx.Node:
    """Ranges of a map's channels, split off and concatenated."""
    total, (_, h, w) = im.shapes[x.map][0], im.shapes[x.map]
    starts = [(int(row[0]), int(row[-1]) + 1) for row in x.channels]
    if any(row.tolist() != list(range(a, b)) for row, (a, b) in zip(x.channels, starts, strict=True)):
        raise im.refuse("takes channels of a head that are not neighbours, which is not supported")
    cuts = sorted({0, total, *(edge for pair in starts for edge in pair)})
    split = im.function(f"{tensor}.split", torch.split, x.map, [b - a for a, b in pairwise(cuts)], 1)
    pieces: list[fx.Node] = []
    for a, b in starts:
        for i in range(cuts.index(a), cuts.index(b)):
            piece = im.function(f"{tensor}.part{i}", operator.getitem, split, i)
            im.shapes[piece] = (cuts[i + 1] - cuts[i], h, w)
            pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else im.function(f"{tensor}.cat", torch.cat, pieces, 1)
