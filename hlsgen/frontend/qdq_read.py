"""QDQ ONNX, ours or ONNX Runtime's, to the float network and its quantization, scales kept.

Rules:
 1. QuantizeLinear and DequantizeLinear are taken out of the graph and written down as their tensor's quantization; what
    is left is a float graph that `onnx_read` imports, its weights the dequantized integers.
 2. unsigned integers become signed ones (q - 128, zero point - 128).
 3. a Clip in front of a QuantizeLinear is the tensor's width in bits, or redundant; any other is an error.
 4. split, cat, max pool and upsampling pass integers through, so all their tensors share one quantization; where a file
    leaves it out of some of them, it is taken over from the others. A ReLU passes its own back to what it reads.
 5. an activation's inner tensors (x * Sigmoid(x)'s sigmoid) have none: the activation is one table.
"""

import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_read import (
    Imported,
    Shape,
    attributes,
    collect_constants,
    import_graph,
    load_model,
    printable,
)
from hlsgen.frontend.qdq_write import SCHEME_KEY
from hlsgen.models.attention import cropped, depth_to_space, grown
from hlsgen.models.network import activation_kind
from hlsgen.quantize.spec import SCHEMES, ConvQ, QuantSpec, Scheme, TensorQ

_OFFSETS: dict[str, tuple[int, int]] = {"int8": (0, 8), "uint8": (128, 8), "int16": (0, 16), "uint16": (32768, 16)}
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, eq=False)
class _Parameter:
    """A quantized constant: integers as stored, scale and zero point a channel of `axis` (or one for all)."""

    values: npt.NDArray[Any]
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int

    def q(self) -> TensorQ | None:
        """The quantization of a constant map, 8 bits; None where it is none."""
        known = self.values.dtype.name in ("int8", "uint8") and self.values.ndim == 4 and len(self.values) == 1
        if not known or self.scale.size != 1:
            return None
        return TensorQ(float(self.scale[0]), int(self.zero_point[0]) - _OFFSETS[self.values.dtype.name][0])

    def dequantized(self) -> npt.NDArray[np.float32]:
        shape = [1] * self.values.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        shifted = self.values.astype(np.int64) - self.zero_point.reshape(shape)
        return (shifted.astype(np.float64) * self.scale.astype(np.float64).reshape(shape)).astype(np.float32)


def is_qdq(path: str | Path) -> bool:
    """Whether an ONNX file holds quantized tensors in QDQ form.

    Raises:
        HlsgenError: as `load_model`.
    """
    return any(node.op_type in _QUANTIZERS for node in load_model(path).graph.node)


def read_qdq(path: str | Path, several: bool = False) -> tuple[fx.GraphModule, QuantSpec, Shape]:
    """The float network (its weights the dequantized ones), its quantization, and its image's (C, H, W).

    several: further inputs may follow the image.

    The scheme is the file's own where hlsgen wrote it; else `fixed` where every scale is a power of two and every zero
    point 0, and `affine` otherwise.

    Raises:
        HlsgenError: as `onnx_read.import_graph`; a tensor without quantization, with two, or with one that the engine
            cannot represent (16 bits, per channel, asymmetric weights, a concat's inputs of different scales), each
            named.
    """
    model, source = load_model(path), str(path)
    stripped = _Stripped(model, source)
    imported = import_graph(stripped.model, source, several=several)
    tensors = _tensors(stripped, imported)
    convs = _convs(stripped, imported, tensors)
    scheme = _scheme(model, tensors, convs)
    return imported.network, QuantSpec(scheme, tensors, convs), imported.shape


class _Stripped:
    """Rule 1: `model` without its quantizers; `tensors` by float tensor, `parameters` by float constant.

    wired: what each convolution (by output tensor) reads as weight and bias.
    """

    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self.source = source
        self.constants = collect_constants(model)
        self.tensors: dict[str, TensorQ] = {}
        self.parameters: dict[str, _Parameter] = {}
        self.wired: dict[str, tuple[str, str]] = {}
        self.makers = {o: n for n in model.graph.node for o in n.output}
        self.float_of: dict[str, str] = {}  # a dequantized tensor: the float tensor that was quantized
        self.quantized: dict[str, tuple[str, TensorQ, tuple[float, int]]] = {}
        kept = []
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear":
                self._quantize(node)
            elif node.op_type == "DequantizeLinear":
                self._dequantize(node)
            else:
                kept.append(node)
        self.model = self._rewired(model, kept)

    def fail(self, node: onnx.NodeProto, what: str) -> HlsgenError:
        return HlsgenError(f"{self.source}: {node.op_type} at {printable(node.name or node.output[0])} {what}")

    def _constant(self, node: onnx.NodeProto, index: int, what: str) -> npt.NDArray[Any] | None:
        if index >= len(node.input) or not node.input[index]:
            return None
        if node.input[index] not in self.constants:
            raise self.fail(node, f"expects a constant {what}; dynamically quantized models are not supported")
        return self.constants[node.input[index]]

    def _scale(self, node: onnx.NodeProto) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any] | None]:
        scale, zero_point = self._constant(node, 1, "scale"), self._constant(node, 2, "zero point")
        held = attributes(node)
        if held.get("block_size", 0):
            raise self.fail(node, "quantizes in blocks, which is not supported; quantize per tensor or per channel")
        if scale is None or not np.isfinite(scale.astype(np.float64)).all() or (scale <= 0).any():
            raise self.fail(node, "expects scales above zero")
        return scale.astype(np.float32), zero_point

    def _activation_scale(self, node: onnx.NodeProto) -> tuple[float, int, str]:
        """Scale, zero point as stored, and the stored type of a map's quantizer."""
        scale, zero_point = self._scale(node)
        if scale.size != 1:
            raise self.fail(node, f"quantizes a map with {scale.size} scales; only one scale a map is supported")
        code = attributes(node).get("output_dtype", 0)
        if zero_point is None:
            kind = str(onnx.helper.tensor_dtype_to_np_dtype(code)) if code else "uint8"
            return float(scale.reshape(-1)[0]), 0, kind
        return float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]), str(zero_point.dtype)

    def _quantize(self, node: onnx.NodeProto) -> None:
        if node.input[0] in self.constants:  # float weights behind their quantizer
            self._quantize_constant(node)
            return
        scale, stored, kind = self._activation_scale(node)
        if kind not in _OFFSETS:
            raise self.fail(node, f"quantizes to {kind}; supported are {', '.join(_OFFSETS)}")
        offset, bits = _OFFSETS[kind]
        q = TensorQ(scale, stored - offset, bits)
        tensor = node.input[0]
        clip = self.makers.get(tensor)
        if clip is not None and clip.op_type == "Clip":
            q, tensor = self._clipped(clip, q), clip.input[0]
        tensor = self.float_of.get(tensor, tensor)
        self._note(node, tensor, q)
        self.quantized[node.output[0]] = (tensor, q, (scale, stored))

    def _note(self, node: onnx.NodeProto, tensor: str, q: TensorQ) -> None:
        before = self.tensors.setdefault(tensor, q)
        if before != q:
            raise self.fail(node, f"quantizes {printable(tensor)} a second time, with {_say(q)} after {_say(before)}")

    def _clipped(self, clip: onnx.NodeProto, q: TensorQ) -> TensorQ:
        """Rule 3."""
        held = attributes(clip)
        bounds = [self._constant(clip, i + 1, "bound") for i in range(2)]
        low, high = (
            float(held[k]) if k in held else float(b.reshape(-1)[0]) if b is not None else default
            for k, b, default in zip(("min", "max"), bounds, (-np.inf, np.inf), strict=True)
        )
        at = [np.clip(np.rint(edge / q.scale) + q.zero_point, -(2**31), 2**31) for edge in (low, high)]
        if at[0] <= q.low and at[1] >= q.high:
            return q
        for bits in range(9, q.bits):
            narrow = replace(q, bits=bits)
            if at == [narrow.low, narrow.high]:
                return narrow
        raise self.fail(
            clip, f"holds its map to {low:g}..{high:g}, which is not its quantization's range; it is not supported"
        )

    def _quantize_constant(self, node: onnx.NodeProto) -> None:
        scale, zero_point = self._scale(node)
        kind = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
        if kind.name not in _OFFSETS:
            raise self.fail(node, f"quantizes to {kind}; supported are {', '.join(_OFFSETS)}")
        values = self.constants[node.input[0]].astype(np.float32)
        shape = [1] * values.ndim
        if scale.size > 1:
            shape[attributes(node).get("axis", 1)] = -1
        zero = np.zeros(scale.size, np.int64) if zero_point is None else zero_point.astype(np.int64)
        limits = np.iinfo(kind)
        integers = np.rint(values / scale.reshape(shape)) + zero.reshape(shape)
        self.constants[node.output[0]] = np.clip(integers, limits.min, limits.max).astype(kind)

    def _dequantize(self, node: onnx.NodeProto) -> None:
        given, result = node.input[0], node.output[0]
        if given in self.constants:
            scale, zero_point = self._scale(node)
            zero = np.zeros(scale.size, np.int64) if zero_point is None else zero_point.astype(np.int64).reshape(-1)
            axis = attributes(node).get("axis", 1)
            self.parameters[result] = _Parameter(self.constants[given], scale.reshape(-1), zero, axis)
            return
        if given not in self.quantized:
            raise self.fail(node, f"reads {printable(given)}, which no QuantizeLinear made")
        tensor, _, (scale_of, stored) = self.quantized[given]
        scale_here, stored_here, _ = self._activation_scale(node)
        if (scale_here, stored_here) != (scale_of, stored):
            raise self.fail(node, f"has another scale or zero point than the QuantizeLinear of {printable(tensor)}")
        self.float_of[result] = tensor

    def _rewired(self, model: onnx.ModelProto, kept: Iterable[onnx.NodeProto]) -> onnx.ModelProto:
        """The float model. Where X is X.f dequantized (our own files) or an output, the float tensor is called X."""
        outputs = {o.name for o in model.graph.output}
        called = {t: d for d, t in self.float_of.items() if t == f"{d}.f" or d in outputs}

        def name(tensor: str) -> str:
            tensor = self.float_of.get(tensor, tensor)
            return called.get(tensor, tensor)

        made = onnx.ModelProto()
        made.CopyFrom(model)
        del made.graph.node[:]
        for node in kept:
            copy = made.graph.node.add()
            copy.CopyFrom(node)
            if node.op_type == "BatchNormalization":
                raise self.fail(node, "stands in a quantized network; fold it into its convolution before quantizing")
            if node.op_type == "Clip" and any(name(node.output[0]) == name(c) for c in self.float_of.values()):
                raise self.fail(node, "is not supported")
            if node.op_type == "Conv":
                self.wired[name(node.output[0])] = (node.input[1], node.input[2] if len(node.input) > 2 else "")
            copy.input[:] = [name(t) for t in node.input]
            copy.output[:] = [name(t) for t in node.output]
        wired = {t for pair in self.wired.values() for t in pair}
        for tensor, parameter in self.parameters.items():
            called_here = tensor
            if tensor not in wired and parameter.q() is not None:  # as our FP32 files write a constant map
                called_here = f"{tensor}.value"
                made.graph.node.insert(0, onnx.helper.make_node("Identity", [called_here], [tensor], name=tensor))
            made.graph.initializer.append(numpy_helper.from_array(parameter.dequantized(), called_here))
        for value in [*made.graph.input, *made.graph.output]:
            value.name = name(value.name)
        self.tensors = {name(t): q for t, q in self.tensors.items()}
        return made


def _say(q: TensorQ) -> str:
    return f"scale {q.scale:.6g}, zero point {q.zero_point}, {q.bits} bits"


def _tensors(stripped: _Stripped, imported: Imported) -> dict[str, TensorQ]:
    """Every fx node's quantization, by rules 4 and 5."""
    source, graph = stripped.source, imported.network.graph
    shown = {node: tensor for tensor, node in imported.nodes.items()}
    given: dict[str, TensorQ] = {}
    for tensor, q in stripped.tensors.items():
        node = imported.nodes.get(tensor)
        if node is not None and given.setdefault(node, q) != q:
            raise HlsgenError(f"{source}: {printable(tensor)} has two quantizations, {_say(given[node])} and {_say(q)}")
    for node in graph.nodes:
        parameter = stripped.parameters.get(shown.get(node.name, ""))
        constant = parameter.q() if parameter is not None and node.op == "get_attr" else None
        if constant is not None:
            given[node.name] = constant
    groups = _groups(imported.network)
    for group in groups:
        held: dict[TensorQ, str] = {}
        for member in group:
            if member.name in given:
                held.setdefault(given[member.name], member.name)
        if len(held) > 1:
            listed = "; ".join(f"{printable(shown.get(n, n))}: {_say(q)}" for q, n in [*held.items()][:4])
            raise HlsgenError(
                f"{source}: the tensors joined at {group[-1].name} must have one scale, because the engine moves their "
                f"integers unchanged, but they have {len(held)} ({listed}); quantize them alike, or give the FP32 file"
            )
        for q in held:
            given.update(dict.fromkeys((member.name for member in group), q))
    for node in reversed(list(graph.nodes)):  # a ReLU's quantization suits what it reads, whose negative part it drops
        if _is(imported.network, node, nn.ReLU) and node.name in given:
            read = node.all_input_nodes[0]
            if read.name not in given and len(read.users) == 1:
                group = next((g for g in groups if read in g), [read])
                given.update(dict.fromkeys((member.name for member in group), given[node.name]))
    for node in graph.nodes:
        if node.op == "output":
            continue
        where = printable(shown.get(node.name, node.name))
        if node.name not in given:
            raise HlsgenError(
                f"{source}: tensor {where} is not quantized; expected a QuantizeLinear behind every operator"
            )
        if given[node.name].bits > 8 and not _pre_activation(imported.network, node):
            raise HlsgenError(
                f"{source}: tensor {where} has {given[node.name].bits} bits; expected 8 everywhere but between a "
                "convolution and its activation"
            )
    return {node.name: given[node.name] for node in graph.nodes if node.op != "output"}


def _is(network: fx.GraphModule, node: fx.Node, *kinds: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), kinds)


def _pre_activation(network: fx.GraphModule, node: fx.Node) -> bool:
    users = list(node.users)
    return (
        _is(network, node, nn.Conv2d)
        and len(users) == 1
        and users[0].op == "call_module"
        and activation_kind(network.get_submodule(str(users[0].target))) is not None
    )


def _groups(network: fx.GraphModule) -> list[list[fx.Node]]:
    """Rule 4: sets of nodes that share one quantization, each in graph order."""
    group_of: dict[fx.Node, list[fx.Node]] = {node: [node] for node in network.graph.nodes if node.op != "output"}
    for node in group_of:
        joins = node.target in (torch.cat, torch.split, operator.getitem, grown, cropped, depth_to_space) or _is(
            network, node, nn.MaxPool2d, nn.Upsample
        )
        for read in node.all_input_nodes if joins else []:
            mine, other = group_of[node], group_of[read]
            if mine is not other:
                other.extend(mine)
                for member in mine:
                    group_of[member] = other
    order = {node: i for i, node in enumerate(group_of)}
    unique = {id(g): g for g in group_of.values() if len(g) > 1}
    return [sorted(g, key=order.__getitem__) for g in unique.values()]


def _convs(stripped: _Stripped, imported: Imported, tensors: dict[str, TensorQ]) -> dict[str, ConvQ]:
    found = {}
    by_node = {imported.nodes[tensor]: names for tensor, names in stripped.wired.items() if tensor in imported.nodes}
    for node in imported.network.graph.nodes:
        if _is(imported.network, node, nn.Conv2d):
            if node.name not in by_node:
                raise HlsgenError(
                    f"{stripped.source}: attention at {node.name} takes some channels of a quantized convolution's output, which "
                    "is not supported; give the FP32 file"
                )
            found[node.name] = _conv(stripped, node, *by_node[node.name], tensors)
    for node in imported.network.graph.nodes:  # the float bias is the integers' value too
        if node.name in found:
            conv = imported.network.get_submodule(str(node.target))
            scale = tensors[node.all_input_nodes[0].name].scale * found[node.name].weight_scale
            value = torch.from_numpy((found[node.name].bias * scale).astype(np.float32))
            with torch.no_grad():
                conv.bias.copy_(value)  # type: ignore[operator]
    return found


def _conv(stripped: _Stripped, node: fx.Node, weight: str, bias: str, tensors: dict[str, TensorQ]) -> ConvQ:
    where = f"{stripped.source}: convolution {node.name}"
    held = stripped.parameters.get(weight)
    if held is None:
        raise HlsgenError(
            f"{where} has weights that are not quantized; expected int8 weights behind a DequantizeLinear"
        )
    kind = held.values.dtype.name
    if kind not in ("int8", "uint8"):
        raise HlsgenError(f"{where} has {kind} weights; expected int8")
    offset = _OFFSETS[kind][0]
    if (held.zero_point != offset).any():
        raise HlsgenError(f"{where} has asymmetric weights (a zero point other than {offset}); expected symmetric ones")
    channels = held.values.shape[0]
    if held.scale.size not in (1, channels) or (held.scale.size > 1 and held.axis % held.values.ndim != 0):
        raise HlsgenError(
            f"{where} has weight scales along axis {held.axis}; expected one a tensor or one an output channel"
        )
    scale = np.broadcast_to(held.scale.astype(np.float64), (channels,)).copy()
    integers = (held.values.astype(np.int16) - offset).astype(np.int8)
    return ConvQ(integers, scale, _bias(stripped, where, bias, tensors[node.all_input_nodes[0].name].scale * scale))


def _bias(stripped: _Stripped, where: str, bias: str, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """int32 [O] in units of `scale` (input scale x weight scale)."""
    if not bias:
        return np.zeros(len(scale), np.int32)
    held = stripped.parameters.get(bias)
    if held is not None and held.values.dtype == np.int32:
        if held.zero_point.any() or not np.allclose(held.scale, scale, rtol=1e-4, atol=0):
            raise HlsgenError(f"{where} has a bias whose scale is not input scale x weight scale")
        return held.values.reshape(-1)
    values = held.dequantized() if held is not None else stripped.constants.get(bias)
    if values is None:
        raise HlsgenError(f"{where} has a bias that is not constant")
    integers = np.rint(values.reshape(-1).astype(np.float64) / scale)
    if not (np.abs(integers) < 2**31).all():
        raise HlsgenError(f"{where} has a bias that int32 cannot hold in units of input scale x weight scale")
    return integers.astype(np.int32)


def _scheme(model: onnx.ModelProto, tensors: dict[str, TensorQ], convs: dict[str, ConvQ]) -> Scheme:
    recorded = next((p.value for p in model.metadata_props if p.key == SCHEME_KEY), None)
    for scheme in SCHEMES:
        if recorded == scheme:
            return scheme
    scales = np.concatenate([[q.scale for q in tensors.values()], *(c.weight_scale for c in convs.values())])
    powers = np.frexp(scales)[0] == 0.5
    return "fixed" if powers.all() and not any(q.zero_point for q in tensors.values()) else "affine"
