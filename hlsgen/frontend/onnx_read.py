"""FP32 ONNX, from any exporter, to the network vocabulary.

Rules:
 1. constants are initializers, `Constant` nodes, the shape of a map (all are known: [1, C, H, W]), and what a few
    operators compute from constants alone; everything else is a map.
 2. x * Sigmoid(x) is a SiLU; x * HardSigmoid(x) (alpha 1/6, beta 1/2) a Hardswish; 0.5 * x * (1 + Erf(x / sqrt(2))) a
    GELU.
 3. nodes that no wanted output needs are not looked at.
 4. Identity and Dropout vanish; a BatchNormalization that alone reads a convolution is folded into it; a Slice of
    channels is a split and one of its parts.
 5. products of activations, softmax and the reshapes between them are attention (`attention_read`).
 6. a constant [1, C, H, W] where a map is expected is a constant map; one that an Identity made is never folded into
    another constant, for so our own files write them.
 7. an operator outside the list is an error that names it, its node, and the tensors up to which the network is known.
"""

import builtins
import hashlib
import itertools
import keyword
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hlsgen.errors import HlsgenError
from hlsgen.frontend import attention_read as attention
from hlsgen.models import network as vocabulary
from hlsgen.models.attention import cropped, depth_to_space, grown, transposed
from hlsgen.models.norm import ChannelNorm

Shape = tuple[int, int, int]
Pair = tuple[int, int]  # vertical, horizontal
MAX_NAME = 64
_SIZES = "Add Cast Ceil Concat Div Floor Gather Identity Mul Reshape Slice Squeeze Sub Unsqueeze"
_FOLDED = frozenset(_SIZES.split(" "))  # what exporters compute sizes with
_OWN = "hlsgen"  # the domain of fused operators, which exist in memory only
_CPP = (
    "alignas alignof and_eq asm auto bitand bitor bool case catch char char16_t char32_t compl const const_cast "
    "constexpr decltype default delete do double dynamic_cast enum explicit export extern float friend goto "
    "inline int long mutable namespace new noexcept not_eq nullptr operator or_eq private protected public "
    "register reinterpret_cast short signed sizeof static static_assert static_cast struct switch template this "
    "thread_local throw true false typedef typeid typename union unsigned using virtual void volatile wchar_t xor "
    "xor_eq main std self torch fx device inf nan NoneType linux unix assert errno stdin stdout stderr EOF NULL "
    "INFINITY NAN "
)
_RESERVED = frozenset(_CPP.split()) | frozenset(keyword.kwlist) | frozenset(dir(builtins))


def safe_name(text: str) -> str:
    """`text` as an identifier of at most 64 characters that neither Python nor C++ reserves.

    Such an identifier is kept as it is; distinct texts may give one name, so the caller makes names unique.
    """
    name = re.sub(r"[^A-Za-z0-9]+|_+", "_", text).strip("_") or "node"
    name = re.sub(r"_0+(?=\d+$)", "_", name)  # fx reads a trailing number as a counter
    if name[0].isdigit():
        name = f"n{name}"
    if name in _RESERVED:
        name = f"{name}_op"
    return name if len(name) <= MAX_NAME else _distinct(name, text)


def _distinct(name: str, text: str) -> str:
    """`name` shortened, with a digest of `text`: at most 64 characters."""
    return f"{name[: MAX_NAME - 11]}_h{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def printable(text: str) -> str:
    """A name from a file, fit to be shown: printable characters, at most 64."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= MAX_NAME else f"{clean[: MAX_NAME - 3]}..."


def load_model(path: str | Path) -> onnx.ModelProto:
    """A checked ONNX model.

    Raises:
        HlsgenError: the file is missing, unreadable, corrupt, or not valid ONNX.
    """
    if not Path(path).is_file():
        raise HlsgenError(f"{path}: expected an ONNX file, there is none")
    try:
        model = onnx.load(str(path))
        if not model.graph.node:
            raise HlsgenError(f"{path}: expected an ONNX network, found no nodes; the file is empty or not ONNX")
        onnx.checker.check_model(model)
    except OSError as error:
        raise HlsgenError(f"{path}: cannot be read ({error.strerror or error})") from error
    except HlsgenError:
        raise
    except Exception as error:  # protobuf and the checker raise types of their own, some of them from C++
        first = printable((str(error) or type(error).__name__).splitlines()[0])
        raise HlsgenError(f"{path}: not a valid ONNX file, corrupt or truncated ({first})") from error
    return model


def read_fp32(path: str | Path, outputs: Sequence[str] | None = None) -> tuple[fx.GraphModule, Shape]:
    """The float network of an FP32 ONNX file, and its image's (C, H, W).

    outputs: cut the network at these tensors (their names in the file) instead of at the graph's own outputs.

    Raises:
        HlsgenError: as `load_model` and `import_graph`.
    """
    imported = import_graph(load_model(path), str(path), outputs, several=True)
    return imported.network, imported.shape


@dataclass(frozen=True, eq=False)
class Imported:
    """A network, its image's shape, and which fx node each ONNX tensor became."""

    network: fx.GraphModule
    shape: Shape
    nodes: dict[str, str]


class UnsupportedOperator(HlsgenError):
    """An operator outside the list; `frontier` names the tensors (maps) up to which the network is known."""

    def __init__(self, message: str, frontier: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.frontier = tuple(frontier)


class _Unsupported(Exception):
    """Why one node cannot be taken; turned into an HlsgenError with its place."""


@dataclass(eq=False)
class _Importer:
    source: str
    constants: dict[str, npt.NDArray[Any]]
    opset: int
    reads: dict[str, int] = field(default_factory=dict)  # how many nodes (and outputs) read a tensor
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    values: dict[str, fx.Node] = field(default_factory=dict)
    shapes: dict[fx.Node, Shape] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    symbols: dict[str, attention.Symbol] = field(default_factory=dict)  # attention's tensors that are no maps
    scores: dict[fx.Node, attention.Product] = field(default_factory=dict)  # what the maps of scores are products of
    held: set[str] = field(default_factory=set)  # constant maps
    selected: dict[tuple[Any, ...], fx.Node] = field(default_factory=dict)  # maps of some channels of maps

    def name(self, text: str) -> str:
        """A new node's name, from a name in the file."""
        name = safe_name(text)
        for attempt in itertools.count():
            if name not in self.used:
                self.used.add(name)
                return name
            name = _distinct(safe_name(text), f"{text} {attempt}")
        raise AssertionError("unreachable")

    def add(self, tensor: str, node: fx.Node, shape: Shape) -> None:
        if min(shape) < 1:
            raise _Unsupported("has no pixels left")
        self.values[tensor] = node
        self.shapes[node] = shape

    def module(self, tensor: str, module: nn.Module, x: fx.Node, shape: Shape) -> None:
        name = self.name(tensor)
        target = f"op_{name}"  # clear of nn.Module's own attributes
        self.root.add_module(target, module)
        self.add(tensor, self.graph.create_node("call_module", target, (x,), name=name), shape)

    def function(self, tensor: str, function: Callable[..., Any], *args: Any) -> fx.Node:
        return self.graph.create_node("call_function", function, args, name=self.name(tensor))

    def const(self, node: onnx.NodeProto, index: int, what: str) -> npt.NDArray[Any] | None:
        """Input `index` as a constant; None where it is left out."""
        if index >= len(node.input) or not node.input[index]:
            return None
        value = self.constants.get(node.input[index])
        if value is None:
            raise _Unsupported(f"expects a constant {what}")
        return value

    def refuse(self, why: str) -> Exception:
        """The exception for a node that cannot be taken; `why` continues "operator X at Y ..."."""
        return _Unsupported(why)

    def maps_behind(self, node: onnx.NodeProto) -> list[str]:
        """The maps that a node reads, or a part of an attention that it reads is made of."""
        behind = {n for t in node.input if t in self.symbols for n in attention.maps_of(self.symbols[t])}
        return [t for t, n in self.values.items() if t in node.input or n in behind]

    def map_input(self, node: onnx.NodeProto, index: int = 0) -> tuple[fx.Node, Shape]:
        x = self.values.get(node.input[index]) or self._constant_map(node.input[index])
        if x is None:
            what = "a part of an attention" if node.input[index] in self.symbols else "a constant"
            raise _Unsupported(f"expects maps, got {what}")
        return x, self.shapes[x]

    def _constant_map(self, tensor: str) -> fx.Node | None:
        """Rule 6."""
        value = self.constants.get(tensor)
        if value is None or value.dtype != np.float32 or value.ndim != 4 or len(value) != 1:
            return None
        name = self.name(tensor)
        self.root.register_buffer(f"op_{name}", _finite(value, "constant"))
        made = self.graph.create_node("get_attr", f"op_{name}", name=name)
        self.add(tensor, made, (value.shape[1], value.shape[2], value.shape[3]))
        return made


def import_graph(
    model: onnx.ModelProto, source: str, outputs: Sequence[str] | None = None, several: bool = False
) -> Imported:
    """The network of a float ONNX model; `source` is what error messages call it. several: further inputs may follow the image.

    Raises:
        HlsgenError: more or fewer than one image input, a dynamic axis (naming it), an output that does not exist, an
            operator or a form of one that is not supported (which, where, what is: UnsupportedOperator), weights that
            are not finite.
    """
    constants = collect_constants(model)
    nodes = _fuse([n for n in model.graph.node if n.op_type != "Constant"], constants)
    nodes = _norms(attention.softmax_of_weights(nodes, constants, _OWN))
    wanted = list(outputs) if outputs else [o.name for o in model.graph.output]
    nodes = _needed(nodes, wanted)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    importer = _Importer(source, constants, opset)
    importer.held = {n.output[0] for n in model.graph.node if n.op_type == "Identity" and n.output[0] in constants}
    for tensor in [t for n in nodes for t in n.input] + wanted:
        importer.reads[tensor] = importer.reads.get(tensor, 0) + 1
    shape = _inputs(importer, model, several)
    known = set(importer.values) | {o for n in nodes for o in n.output}
    for tensor in wanted:
        if tensor not in known:
            raise HlsgenError(f"{source}: no tensor is called {printable(tensor)!r}; it was asked for as an output")
    frontier: list[str] = []
    first: HlsgenError | None = None
    for node in nodes:
        known_here = (importer.values, importer.symbols, constants)
        lost = [t for t in node.input if t and not any(t in held for held in known_here)]
        if not lost:
            try:
                if not _folded(importer, node):
                    _convert(importer, node)
                continue
            except _Unsupported as error:
                kind, place = printable(node.op_type), printable(node.name or (node.output[0] if node.output else "?"))
                supported = ", ".join(SUPPORTED)
                first = first or HlsgenError(f"{source}: operator {kind} at {place} {error}; supported are {supported}")
        frontier += [t for t in importer.maps_behind(node) if t not in frontier]
    if first is not None and any(t not in importer.values for t in wanted):
        maps = [t for t in frontier if importer.values[t].op != "placeholder"]
        hint = f"; the network up to there ends in {', '.join(printable(t) for t in maps[:8])}" if maps else ""
        raise UnsupportedOperator(f"{first}{hint}", maps) from first
    inner = next((t for t in wanted if t not in importer.values), None)
    if inner is not None:
        raise HlsgenError(f"{source}: output {printable(inner)} is a part of an attention; take its result instead")
    importer.graph.output(tuple(importer.values[t] for t in wanted))
    network = fx.GraphModule(importer.root, importer.graph, "Network").eval()
    if importer.selected and network.graph.eliminate_dead_code():
        network.delete_all_unused_submodules()
        network.recompile()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    network.graph.lint()
    vocabulary.check(network)
    return Imported(network, shape, {t: n.name for t, n in importer.values.items()})


def collect_constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Every constant tensor of a model by name."""
    found: dict[str, npt.NDArray[Any]] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = helper.get_attribute_value(node.attribute[0])
            tensor = isinstance(value, onnx.TensorProto)
            found[node.output[0]] = numpy_helper.to_array(value) if tensor else np.asarray(value)
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name, strings decoded."""
    held = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in held.items()}


def _inputs(importer: _Importer, model: onnx.ModelProto, several: bool) -> Shape:
    """Make the placeholders; the image's shape."""
    inputs = [i for i in model.graph.input if i.name not in importer.constants]
    if not inputs or (len(inputs) > 1 and not several):
        names = ", ".join(printable(i.name) for i in inputs)
        raise HlsgenError(f"{importer.source}: expected one image as input, got {len(inputs)} inputs ({names})")
    shape, *others = (_input(importer, given) for given in inputs)
    for node, of in zip(list(importer.graph.nodes)[1:], others, strict=True):
        node.meta["shape"] = of
    return shape


def _input(importer: _Importer, image: onnx.ValueInfoProto) -> Shape:
    tensor = image.type.tensor_type
    name, dims = printable(image.name), list(tensor.shape.dim)
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else "no type"
        raise HlsgenError(f"{importer.source}: expected a float32 image, input {name} is {kind}")
    if len(dims) != 4:
        raise HlsgenError(f"{importer.source}: expected an image [1, C, H, W], input {name} has {len(dims)} axes")
    for axis, label in ((1, "channels"), (2, "height"), (3, "width")):
        if not dims[axis].HasField("dim_value") or dims[axis].dim_value < 1:
            what = printable(dims[axis].dim_param) or "unknown"
            raise HlsgenError(
                f"{importer.source}: input {name} has a dynamic {label} axis ({what}); export the network with a fixed "
                "image size"
            )
    if dims[0].HasField("dim_value") and dims[0].dim_value != 1:
        raise HlsgenError(f"{importer.source}: expected a batch of 1, input {name} has {dims[0].dim_value}")
    shape = (dims[1].dim_value, dims[2].dim_value, dims[3].dim_value)
    importer.add(image.name, importer.graph.placeholder(importer.name(image.name)), shape)
    return shape


def _needed(nodes: Sequence[onnx.NodeProto], wanted: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that the wanted tensors depend on, in order."""
    live, kept = set(wanted), []
    for node in reversed(nodes):
        if any(o in live for o in node.output):
            live.update(i for i in node.input if i)
            kept.append(node)
    return kept[::-1]


def _fuse(nodes: Sequence[onnx.NodeProto], constants: dict[str, npt.NDArray[Any]]) -> list[onnx.NodeProto]:
    """Rule 2: a Mul that ends an activation's expansion becomes that activation."""
    makers = {o: n for n in nodes for o in n.output}

    def scalar(tensor: str) -> float | None:
        value = constants.get(tensor)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def is_scaled(tensor: str, x: str, kind: str, factor: float) -> bool:
        """`tensor` = x `kind` factor (Mul commutes)."""
        made = makers.get(tensor)
        if made is None or made.op_type != kind:
            return False
        pairs = [tuple(made.input)] + ([tuple(made.input)[::-1]] if kind == "Mul" else [])
        return any(a == x and (s := scalar(b)) is not None and abs(s / factor - 1) < 1e-4 for a, b in pairs)

    def one_plus_erf(tensor: str, x: str) -> bool:
        plus = makers.get(tensor)
        if plus is None or plus.op_type != "Add":
            return False
        for a, b in (tuple(plus.input), tuple(plus.input)[::-1]):
            erf = makers.get(a)
            if scalar(b) == 1.0 and erf is not None and erf.op_type == "Erf":
                inner = erf.input[0]
                return is_scaled(inner, x, "Div", math.sqrt(2)) or is_scaled(inner, x, "Mul", math.sqrt(0.5))
        return False

    def activation(node: onnx.NodeProto) -> tuple[str, str] | None:
        for x, other in (tuple(node.input), tuple(node.input)[::-1]):
            made = makers.get(other)
            if made is not None and list(made.input) == [x]:
                held = attributes(made)
                if made.op_type == "Sigmoid":
                    return "Silu", x
                sixth = abs(held.get("alpha", 0.2) - 1 / 6) < 1e-6 and held.get("beta", 0.5) == 0.5
                if made.op_type == "HardSigmoid" and sixth:
                    return "HardSwish", x
            if scalar(x) == 0.5 and made is not None and made.op_type == "Mul":  # 0.5 * (x * (1 + erf))
                for a, b in (tuple(made.input), tuple(made.input)[::-1]):
                    if one_plus_erf(b, a):
                        return "Gelu", a
            half = makers.get(x)
            if half is not None and half.op_type == "Mul":  # (0.5 * x) * (1 + erf)
                for a in half.input:
                    if is_scaled(x, a, "Mul", 0.5) and one_plus_erf(other, a):
                        return "Gelu", a
        return None

    fused = []
    for node in nodes:
        found = activation(node) if node.op_type == "Mul" and len(node.input) == 2 else None
        if found is not None:
            node = helper.make_node(found[0], [found[1]], list(node.output), name=node.name, domain=_OWN)
        fused.append(node)
    return fused


def _norms(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """A LayerNormalization between two transpositions that put the channels last and back is one over the channels."""
    makers = {o: n for n in nodes for o in n.output}

    def turned(node: onnx.NodeProto | None, perm: list[int]) -> bool:
        return node is not None and node.op_type == "Transpose" and list(attributes(node).get("perm", [])) == perm

    found = []
    for node in nodes:
        norm = makers.get(node.input[0]) if turned(node, [0, 3, 1, 2]) else None
        first = makers.get(norm.input[0]) if norm is not None and norm.op_type == "LayerNormalization" else None
        if norm is not None and first is not None and turned(first, [0, 2, 3, 1]):
            made = helper.make_node("ChannelNorm", [first.input[0], *norm.input[1:]], list(node.output), domain=_OWN)
            made.name = norm.name
            made.attribute.extend(norm.attribute)
            node = made
        found.append(node)
    return found


def _channel_norm(im: _Importer, node: onnx.NodeProto) -> None:
    x, shape = im.map_input(node)
    held = attributes(node)
    weight, bias = im.const(node, 1, "weight"), im.const(node, 2, "bias")
    if held.get("axis", -1) not in (-1, 3) or weight is None or weight.shape != (shape[0],):
        raise _Unsupported("is not over the channels alone, with a weight a channel")
    module = ChannelNorm(shape[0], float(held.get("epsilon", 1e-5)))
    module.weight = nn.Parameter(_finite(weight, "weight"))
    module.bias = nn.Parameter(_finite(np.zeros(shape[0]) if bias is None else bias, "bias"))
    im.module(node.output[0], module, x, shape)


def _folded(im: _Importer, node: onnx.NodeProto) -> bool:
    """Rule 1: whether `node` makes a constant, which is then noted."""
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return False
    if node.op_type == "Shape" and node.input[0] in im.values:
        held = attributes(node)
        whole = np.array([1, *im.shapes[im.values[node.input[0]]]], np.int64)
        im.constants[node.output[0]] = whole[held.get("start", 0) : held.get("end", 4)]
        return True
    if node.op_type == "Reshape" and node.input[0] in im.held:
        return False
    if node.op_type not in _FOLDED or any(t not in im.constants for t in node.input if t):
        return False
    feeds = {t: im.constants[t] for t in node.input if t}
    try:
        (value,) = ReferenceEvaluator(node, opsets={"": im.opset}).run(None, feeds)
    except Exception as error:  # the evaluator is Python code per operator and fails as Python does
        raise _Unsupported(f"cannot be computed from its constants ({printable(str(error))})") from error
    im.constants[node.output[0]] = np.asarray(value)
    return True


def _convert(im: _Importer, node: onnx.NodeProto) -> None:
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain not in ("", "ai.onnx", _OWN):
        raise _Unsupported("is not supported")
    rule(im, node)


def _conv(im: _Importer, node: onnx.NodeProto) -> None:
    x, (c, h, w) = im.map_input(node)
    weight, bias = im.const(node, 1, "weight"), im.const(node, 2, "bias")
    if weight is None or weight.ndim != 4:
        raise _Unsupported("expects a weight [O, I, KH, KW]")
    held = attributes(node)
    groups, kernel = held.get("group", 1), (weight.shape[2], weight.shape[3])
    if list(held.get("dilations", [1, 1])) != [1, 1]:
        raise _Unsupported(f"has dilations {list(held['dilations'])}, which are not supported")
    if weight.shape[1] * groups != c or weight.shape[0] % groups:
        raise _Unsupported(f"expects {weight.shape[1] * groups} channels in {groups} groups, got {c}")
    stride = _two(held.get("strides", [1, 1]))
    padding = _padding(held, kernel, stride, (h, w))
    bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    conv = nn.Conv2d(c, weight.shape[0], kernel, stride, padding, groups=groups, device="meta")
    conv.weight = nn.Parameter(_finite(weight, "weight"))
    conv.bias = nn.Parameter(_finite(bias, "bias"))
    im.module(node.output[0], conv, x, (weight.shape[0], *_window((h, w), kernel, stride, padding)))


def _finite(values: npt.NDArray[Any], what: str) -> torch.Tensor:
    held = np.array(values, np.float32)
    if not np.isfinite(held).all():
        raise _Unsupported(f"has a {what} that is not finite (NaN or infinity)")
    return torch.from_numpy(held)


def _window(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    h, w = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True))
    return h, w


def _two(values: Sequence[int]) -> Pair:
    if len(values) != 2:
        raise _Unsupported(f"is not two-dimensional ({list(values)})")
    return int(values[0]), int(values[1])


def _padding(held: dict[str, Any], kernel: Pair, stride: Pair, size: Pair) -> Pair:
    """Zero padding (vertical, horizontal), equal on both sides."""
    auto = held.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
        before = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in totals]
        pads = [*before, *(t - b for t, b in zip(totals, before, strict=True))]
    else:
        pads = [0, 0, 0, 0] if auto == "VALID" else list(held.get("pads", [0, 0, 0, 0]))
    if len(pads) != 4 or pads[:2] != pads[2:] or min(pads) < 0:
        raise _Unsupported(f"pads {pads} (top, left, bottom, right), and only equal padding on both sides is supported")
    return int(pads[0]), int(pads[1])


def _batch_norm(im: _Importer, node: onnx.NodeProto) -> None:
    x, shape = im.map_input(node)
    conv = im.root.get_submodule(str(x.target)) if x.op == "call_module" else None
    if not isinstance(conv, nn.Conv2d) or im.reads[node.input[0]] != 1 or conv.bias is None:
        raise _Unsupported("does not stand alone behind a convolution, the only place where it is supported")
    held = [im.const(node, i, "parameter") for i in range(1, 5)]
    if any(t is None or t.shape != (shape[0],) for t in held):
        raise _Unsupported(f"expects four constants of {shape[0]} channels")
    scale, shift, mean, variance = (torch.from_numpy(np.array(t, np.float32)) for t in held)
    epsilon = attributes(node).get("epsilon", 1e-5)
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, epsilon, scale, shift)
    conv.weight = nn.Parameter(_finite(weight.detach().numpy(), "folded weight"))
    conv.bias = nn.Parameter(_finite(bias.detach().numpy(), "folded bias"))
    im.add(node.output[0], x, shape)


def _activation(make: Callable[[dict[str, Any]], nn.Module]) -> Callable[[_Importer, onnx.NodeProto], None]:
    def rule(im: _Importer, node: onnx.NodeProto) -> None:
        x, shape = im.map_input(node)
        im.module(node.output[0], make(attributes(node)), x, shape)

    return rule


def _gelu(held: dict[str, Any]) -> nn.Module:
    if held.get("approximate", "none") != "none":
        raise _Unsupported(f"is approximated by {held['approximate']}, and only the exact form is supported")
    return nn.GELU()


def _alias(im: _Importer, node: onnx.NodeProto) -> None:
    if node.op_type == "Dropout" and len(node.input) > 2 and np.any(im.const(node, 2, "training mode")):
        raise _Unsupported("is in training mode")
    x, shape = im.map_input(node)
    im.add(node.output[0], x, shape)


def _add(im: _Importer, node: onnx.NodeProto) -> None:
    (a, a_shape), (b, b_shape) = im.map_input(node, 0), im.map_input(node, 1)
    if a_shape != b_shape:
        raise _Unsupported(f"expects two maps of one shape, got {list(a_shape)} and {list(b_shape)}")
    im.add(node.output[0], im.function(node.output[0], torch.add, a, b), a_shape)


def _cat(im: _Importer, node: onnx.NodeProto) -> None:
    parts = [im.map_input(node, i) for i in range(len(node.input))]
    axis = attributes(node).get("axis", 1)
    if axis not in (1, -3):
        raise _Unsupported(f"is along axis {axis}, and only the channels (axis 1) are supported")
    if any(s[1:] != parts[0][1][1:] for _, s in parts):
        raise _Unsupported(f"expects maps of one size, got {[list(s) for _, s in parts]}")
    shape = (sum(s[0] for _, s in parts), *parts[0][1][1:])
    im.add(node.output[0], im.function(node.output[0], torch.cat, [x for x, _ in parts], 1), shape)


def _parts(im: _Importer, node: onnx.NodeProto, sizes: list[int], wanted: Sequence[tuple[int, str]]) -> None:
    x, (c, h, w) = im.map_input(node)
    if sum(sizes) != c or min(sizes) < 1:
        raise _Unsupported(f"expects {sum(sizes)} channels in parts of {sizes}, got {c}")
    split = im.function(node.name or f"{node.output[0]}_split", torch.split, x, sizes, 1)
    for index, tensor in wanted:
        im.add(tensor, im.function(tensor, operator.getitem, split, index), (sizes[index], h, w))


def _split(im: _Importer, node: onnx.NodeProto) -> None:
    held = attributes(node)
    symbol = im.symbols.get(node.input[0])
    if symbol is not None:
        parts = im.const(node, 1, "list of sizes")
        edges = [0, *(int(v) for v in np.cumsum(parts if parts is not None else held.get("split", [])))]
        if len(edges) != len(node.output) + 1 or edges[-1] != attention.shape_of(im, symbol)[held.get("axis", 0)]:
            raise _Unsupported("cuts an attention's channels into parts of unknown size")
        attention.take(im, node, symbol, held.get("axis", 0), list(zip(edges, edges[1:], node.output, strict=False)))
        return
    _, (c, _, _) = im.map_input(node)
    if held.get("axis", 0) not in (1, -3):
        raise _Unsupported(f"is along axis {held.get('axis', 0)}, and only the channels (axis 1) are supported")
    given = im.const(node, 1, "list of sizes")
    count = len(node.output)
    sizes = [int(s) for s in given.reshape(-1)] if given is not None else list(held.get("split", []))
    if not sizes:
        size = -(-c // count)
        sizes = [size] * (count - 1) + [c - size * (count - 1)]
    if len(sizes) != count:
        raise _Unsupported(f"has {count} results for {len(sizes)} sizes")
    _parts(im, node, sizes, [(i, t) for i, t in enumerate(node.output) if im.reads.get(t)])


def _slice(im: _Importer, node: onnx.NodeProto) -> None:
    symbol = im.symbols.get(node.input[0])
    c = 0 if symbol is not None else im.map_input(node)[1][0]
    held = attributes(node)
    names = ("starts", "ends", "axes", "steps")
    given = [im.const(node, i + 1, n) if len(node.input) > 1 else held.get(n) for i, n in enumerate(names)]
    starts, ends, axes, steps = ([int(v) for v in np.asarray(g).reshape(-1)] if g is not None else [] for g in given)
    axes = axes or list(range(len(starts)))
    if symbol is not None and len(axes) == len(starts) == len(ends) == 1 and (steps or [1]) == [1]:
        start, stop, _ = slice(starts[0], ends[0]).indices(attention.shape_of(im, symbol)[axes[0]])
        attention.take(im, node, symbol, axes[0], [(start, stop, node.output[0])])
        return
    if axes in ([2, 3], [-2, -1]) and (steps or [1, 1]) == [1, 1] and len(starts) == len(ends) == 2:
        x, (channels, *size) = im.map_input(node)
        (top, bottom, _), (left, right, _) = (
            slice(*cut).indices(n) for *cut, n in zip(starts, ends, size, strict=True)
        )
        height, width = max(bottom - top, 0), max(right - left, 0)
        at = (top, left) if top or left else ()
        im.add(node.output[0], im.function(node.output[0], cropped, x, height, width, *at), (channels, height, width))
        return
    if axes not in ([1], [-3]) or len(starts) != 1 or len(ends) != 1 or (steps or [1]) != [1]:
        raise _Unsupported(
            f"has axes {axes} and steps {steps or [1]}; only a step of 1 along the channels is supported"
        )
    start, stop, _ = slice(starts[0], ends[0]).indices(c)
    if stop <= start:
        raise _Unsupported(f"takes nothing ({starts[0]} to {ends[0]} of {c} channels)")
    if stop - start == c:
        im.add(node.output[0], *im.map_input(node))
        return
    sizes = [s for s in (start, stop - start, c - stop) if s]
    _parts(im, node, sizes, [(1 if start else 0, node.output[0])])


def _pad(im: _Importer, node: onnx.NodeProto) -> None:
    x, (c, h, w) = im.map_input(node)
    held = attributes(node)
    given = im.const(node, 1, "list of pads")
    pads = [int(n) for n in np.asarray(held.get("pads", []) if given is None else given).reshape(-1)]
    value = im.const(node, 2, "value")
    zeros = (value is None or not np.any(value)) and held.get("mode", "constant") == "constant"
    if (len(node.input) > 3 and node.input[3]) or len(pads) != 8 or any(pads[:6]) or min(pads) < 0 or not zeros:
        raise _Unsupported(f"pads {pads}, and only zeros below and on the right are supported")
    grown_to = im.function(node.output[0], grown, x, pads[6], pads[7])
    im.add(node.output[0], grown_to, (c, h + pads[6], w + pads[7]))


def _depth_to_space(im: _Importer, node: onnx.NodeProto) -> None:
    x, (c, h, w) = im.map_input(node)
    held = attributes(node)
    factor, mode = int(held["blocksize"]), held.get("mode", "DCR")
    if mode != "DCR" or c % factor**2:
        raise _Unsupported(f"of {c} channels by {factor} in mode {mode}; only mode DCR of whole groups is supported")
    made = im.function(node.output[0], depth_to_space, x, factor)
    im.add(node.output[0], made, (c // factor**2, factor * h, factor * w))


def _transposed(im: _Importer, node: onnx.NodeProto) -> None:
    x, (c, h, w) = im.map_input(node)
    weight, bias = im.const(node, 1, "weight"), im.const(node, 2, "bias")
    held = attributes(node)
    kernel = [] if weight is None else list(weight.shape[2:])
    stride = list(held.get("strides", [1, 1]))
    plain = not any(held.get("pads", [])) and not any(held.get("output_padding", [])) and "output_shape" not in held
    if weight is None or len(kernel) != 2 or kernel[0] != kernel[1] or kernel != stride or not plain:
        raise _Unsupported(
            f"has a kernel {kernel} and strides {stride}; only a square kernel equal to the stride is supported"
        )
    if held.get("group", 1) != 1 or weight.shape[0] != c or held.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise _Unsupported(f"expects {weight.shape[0]} channels in one group, got {c}")
    given = nn.ConvTranspose2d(c, weight.shape[1], stride[0], stride[0], device="meta")
    given.weight = nn.Parameter(_finite(weight, "weight"))
    given.bias = nn.Parameter(_finite(np.zeros(weight.shape[1], np.float32) if bias is None else bias, "bias"))
    conv = transposed(given)
    im.module(f"{node.output[0]}.depth", conv, x, (conv.out_channels, h, w))
    made = im.function(node.output[0], depth_to_space, im.values[f"{node.output[0]}.depth"], stride[0])
    im.add(node.output[0], made, (weight.shape[1], stride[0] * h, stride[0] * w))


def _max_pool(im: _Importer, node: onnx.NodeProto) -> None:
    x, (c, h, w) = im.map_input(node)
    held = attributes(node)
    kernel, stride = _two(held["kernel_shape"]), _two(held.get("strides", [1, 1]))
    if list(held.get("dilations", [1, 1])) != [1, 1] or any(im.reads.get(t) for t in node.output[1:]):
        raise _Unsupported("has dilations or indices, which are not supported")
    padding = _padding(held, kernel, stride, (h, w))
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise _Unsupported(f"has padding {padding}, more than half its kernel {kernel}")
    if held.get("ceil_mode", 0) and any(
        (n + 2 * p - k) % s for n, k, s, p in zip((h, w), kernel, stride, padding, strict=True)
    ):
        raise _Unsupported("rounds its size up, which is not supported")
    im.module(node.output[0], nn.MaxPool2d(kernel, stride, padding), x, (c, *_window((h, w), kernel, stride, padding)))


def _resize(im: _Importer, node: onnx.NodeProto) -> None:
    x, (c, h, w) = im.map_input(node)
    held = attributes(node)
    if node.op_type == "Upsample":
        given = held.get("scales", im.const(node, 1, "list of scales"))
        plain = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        held, sizes = plain | {"mode": held.get("mode", "nearest")}, None
    else:
        at = 1 if len(node.input) == 2 else 2  # opset 10 has no region of interest
        given, sizes = im.const(node, at, "list of scales"), im.const(node, 3, "list of sizes")
    if held.get("mode", "nearest") != "nearest":
        raise _Unsupported(f"interpolates ({held['mode']}), and only nearest is supported")
    if sizes is not None and sizes.size == 4:
        scales = [int(s) / n for s, n in zip(sizes.reshape(-1), (1, c, h, w), strict=True)]
    else:
        scales = [float(s) for s in np.asarray(given if given is not None else []).reshape(-1)]
    if len(scales) != 4 or scales[:2] != [1, 1] or any(s != int(s) or s < 1 for s in scales):
        raise _Unsupported(f"scales by {scales}, and only whole factors of height and width are supported")
    factors = (int(scales[2]), int(scales[3]))
    for size, factor in zip((h, w), factors, strict=True):
        if not np.array_equal(_nearest(held, size, factor), np.arange(size * factor) // factor):
            raise _Unsupported(
                f"picks pixels by {held.get('coordinate_transformation_mode', 'half_pixel')} and "
                f"{held.get('nearest_mode', 'round_prefer_floor')}, which is not plain repetition"
            )
    im.module(node.output[0], nn.Upsample(scale_factor=factors, mode="nearest"), x, (c, h * factors[0], w * factors[1]))


def _nearest(held: dict[str, Any], size: int, factor: int) -> npt.NDArray[np.int64]:
    """The source pixel of each target pixel, by ONNX's definition of Resize."""
    i = np.arange(size * factor, dtype=np.float64)
    mode = held.get("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        at = i / factor
    elif mode in ("half_pixel", "pytorch_half_pixel") and size * factor > 1:
        at = (i + 0.5) / factor - 0.5
    else:
        raise _Unsupported(f"picks pixels by {mode}, which is not supported")
    rounding: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    chosen = rounding[held.get("nearest_mode", "round_prefer_floor")](at)
    return np.asarray(np.clip(chosen, 0, size - 1), np.int64)


def _inside(rule: Callable[[_Importer, onnx.NodeProto], None]) -> Callable[[_Importer, onnx.NodeProto], None]:
    """A rule that holds within attention only."""

    def checked(im: _Importer, node: onnx.NodeProto) -> None:
        if not any(t in im.symbols for t in node.input):
            raise _Unsupported("is not supported")
        rule(im, node)

    return checked


_RULES: dict[str, Callable[[_Importer, onnx.NodeProto], None]] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "DepthToSpace": _depth_to_space,
    "BatchNormalization": _batch_norm,
    "Relu": _activation(lambda _: nn.ReLU()),
    "LeakyRelu": _activation(lambda held: nn.LeakyReLU(float(held.get("alpha", 0.01)))),
    "Sigmoid": _activation(lambda _: nn.Sigmoid()),
    "Silu": _activation(lambda _: nn.SiLU()),
    "HardSwish": _activation(lambda _: nn.Hardswish()),
    "Gelu": _activation(_gelu),
    "Add": _add,
    "Concat": _cat,
    "Split": _split,
    "Slice": _slice,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "ChannelNorm": _channel_norm,
    "Reshape": attention.reshape,
    "Transpose": _inside(attention.transpose),
    "MatMul": _inside(attention.matmul),
    "Softmax": _inside(attention.softmax),
    "Mul": _inside(attention.scaled),
    "Div": _inside(attention.scaled),
    "Attend": _inside(attention.attend_of_weights),
    "Identity": _alias,
    "Dropout": _alias,
}
_INNER = ("Silu", "Attend", "ChannelNorm", "Reshape", "Transpose", "MatMul", "Softmax", "Mul", "Div")
SUPPORTED = (
    *sorted(k for k in _RULES if k not in _INNER),
    "x*Sigmoid(x)",
    "LayerNormalization of the channels",
    "attention",
)
