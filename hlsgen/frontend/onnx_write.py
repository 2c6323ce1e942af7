"""The network vocabulary as ONNX: one function a kind of node, shared by the FP32 and the QDQ file.

Names: fx node X is tensor X; its module's tensors are X.weight and X.bias. The bytes written are a function of the
network alone.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

import hlsgen
from hlsgen.errors import HlsgenError
from hlsgen.frontend.attention_write import write_attention
from hlsgen.macs import idle_channels
from hlsgen.models import network as vocabulary
from hlsgen.models.attention import attention_scores, cropped, depth_to_space, grown
from hlsgen.models.norm import ChannelNorm

OPSET = 21  # the first with 16-bit QuantizeLinear
IR_VERSION = 10


LARGE = 1 << 28  # bytes of weights: more lie in a file of their own


class GraphWriter:
    """The nodes and initializers of a graph being written; `unique` names are the caller's business."""

    def __init__(self) -> None:
        self.made = onnx.ModelProto()  # from the start: weights are too large to be copied from one message to the next

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add an initializer; returns its name."""
        self.made.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Any) -> None:
        self.made.graph.node.append(helper.make_node(kind, list(inputs), list(outputs), name=name, **attributes))

    def float_node(
        self, network: fx.GraphModule, node: fx.Node, inputs: Sequence[str], out: str, parts: Sequence[str]
    ) -> None:
        """The float operator of one fx node.

        inputs: the tensor names of `node.all_input_nodes`, for a convolution followed by its weight and bias. out: the
        result's name. parts: for a split the names of its results, else empty.
        """
        x = node.name
        if node.op == "get_attr":
            value = self.constant(f"{x}.value", vocabulary.constant_of(network, node).numpy())
            self.node("Identity", [value], [out], x)
        elif node.op == "call_module":
            self._module(network.get_submodule(str(node.target)), x, inputs, out)
        elif node.target is torch.add:
            self.node("Add", inputs, [out], x)
        elif node.target is grown:
            pads = self.constant(f"{x}.pads", np.array([0, 0, 0, 0, 0, 0, *node.args[1:]], np.int64))
            self.node("Pad", [*inputs, pads], [out], x)
        elif node.target is cropped:
            rows, columns = crop_of(node)
            ends = [rows.stop, columns.stop]
            given = {"starts": [rows.start, columns.start], "ends": ends, "axes": [2, 3]}
            names = [self.constant(f"{x}.{key}", np.array(value, np.int64)) for key, value in given.items()]
            self.node("Slice", [*inputs, *names], [out], x)
        elif node.target is depth_to_space:
            self.node("DepthToSpace", inputs, [out], x, blocksize=factor_of(node), mode="DCR")
        elif node.target is torch.cat:
            self.node("Concat", inputs, [out], x, axis=1)
        elif node.target is torch.split:
            sizes = self.constant(f"{x}.sizes", np.array(node.args[1], np.int64))
            self.node("Split", [*inputs, sizes], parts, x, axis=1)
        else:  # check() has held the network to the vocabulary; getitem is part of its split
            raise HlsgenError(f"operator {node.target} at {x} cannot be written as ONNX")

    def _module(self, module: nn.Module, x: str, inputs: Sequence[str], out: str) -> None:
        if isinstance(module, ChannelNorm):
            weight, bias = (
                self.constant(f"{x}.{part}", value.detach().numpy())
                for part, value in (("weight", module.weight), ("bias", module.bias))
            )
            self.node("Transpose", inputs, [f"{x}.last"], f"{x}.last", perm=[0, 2, 3, 1])
            normed = [f"{x}.last", weight, bias]
            self.node("LayerNormalization", normed, [f"{x}.normed"], x, axis=-1, epsilon=float(module.eps))
            self.node("Transpose", [f"{x}.normed"], [out], f"{x}.first", perm=[0, 3, 1, 2])
        elif isinstance(module, nn.Conv2d):
            self.node(
                "Conv",
                inputs,
                [out],
                x,
                kernel_shape=module.kernel_size,
                strides=module.stride,
                pads=pair(module.padding) * 2,
                dilations=[1, 1],
                group=module.groups,
            )
        elif isinstance(module, nn.MaxPool2d):
            kernel, stride, padding = pair(module.kernel_size), pair(module.stride), pair(module.padding)
            self.node("MaxPool", inputs, [out], x, kernel_shape=kernel, strides=stride, pads=padding * 2)
        elif isinstance(module, nn.Upsample):
            scales = self.constant(f"{x}.scales", np.array([1, 1, *upsampling(module)], np.float32))
            self.node(
                "Resize",
                [inputs[0], "", scales],
                [out],
                x,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        elif isinstance(module, nn.SiLU):
            self.node("Sigmoid", inputs, [f"{x}.sigmoid"], f"{x}.sigmoid")
            self.node("Mul", [inputs[0], f"{x}.sigmoid"], [out], x)
        elif isinstance(module, nn.LeakyReLU):
            self.node("LeakyRelu", inputs, [out], x, alpha=float(module.negative_slope))
        elif isinstance(module, nn.GELU):
            self.node("Gelu", inputs, [out], x, approximate=module.approximate)
        else:
            kinds: dict[type[nn.Module], str] = {nn.ReLU: "Relu", nn.Sigmoid: "Sigmoid", nn.Hardswish: "HardSwish"}
            self.node(kinds[type(module)], inputs, [out], x)

    def model(
        self,
        name: str,
        inputs: Mapping[str, tuple[int, int, int]],
        outputs: Mapping[str, tuple[int, int, int]],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """The finished model: float32 maps [1, C, H, W] in, the image first, and out."""
        given, made = ({name: (1, *shape) for name, shape in side.items()} for side in (inputs, outputs))
        return self.finish(name, given, made, metadata)

    def finish(
        self,
        name: str,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, Sequence[int | str]],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """The finished model: float32 tensors of these shapes in and out; a word is a dimension that varies."""
        given, results = (
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n, shape in side.items()]
            for side in (inputs, outputs)
        )
        made = self.made
        made.ir_version, made.producer_name, made.producer_version = IR_VERSION, "hlsgen", hlsgen.__version__
        made.opset_import.append(helper.make_opsetid("", OPSET))
        made.graph.name = name
        made.graph.input.extend(given)
        made.graph.output.extend(results)
        helper.set_model_props(made, metadata)
        return made


def pair(value: Any) -> tuple[int, int]:
    """torch's int-or-pair as (vertical, horizontal)."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def upsampling(module: nn.Upsample) -> tuple[int, int]:
    """An upsampling's whole factors (vertical, horizontal).

    Raises:
        HlsgenError: it is not nearest by whole factors.
    """
    factor: Any = module.scale_factor
    values = tuple(factor) if isinstance(factor, tuple | list) else (factor, factor)
    if module.mode != "nearest" or len(values) != 2 or any(v is None or v != int(v) or v < 1 for v in values):
        raise HlsgenError(f"expected nearest upsampling by a whole factor, got mode {module.mode}, factor {factor}")
    return int(values[0]), int(values[1])


def shapes(network: fx.GraphModule, shape: tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
    """Every tensor's (C, H, W) by fx node name, for an image of `shape`; a split has none, its getitems have.

    Raises:
        HlsgenError: channel counts or sizes that do not fit together (naming the node), or a map without pixels.
    """
    known = vocabulary.input_shapes(network, shape)
    for node in network.graph.nodes:
        if node.op == "get_attr":
            _, c, h, w = vocabulary.constant_of(network, node).shape
            known[node.name] = (c, h, w)
        elif node.op not in ("placeholder", "output") and node.target is not torch.split:
            known[node.name] = _shape(network, node, known)
            if min(known[node.name]) < 1:
                raise HlsgenError(
                    f"an image of {shape[1]}x{shape[2]} is too small: nothing is left of it at {node.name}"
                )
    return known


def _shape(network: fx.GraphModule, node: fx.Node, known: Mapping[str, tuple[int, int, int]]) -> tuple[int, int, int]:
    if node.target is operator.getitem:
        split: Any = node.args[0]
        sizes, (c, h, w) = split.args[1], known[split.args[0].name]
        if sum(sizes) != c:
            raise HlsgenError(f"split {split.name} expects {sum(sizes)} channels, got {c}")
        index: Any = node.args[1]
        return sizes[index], h, w
    inputs = [known[n.name] for n in input_nodes(node)]
    c, h, w = inputs[0]
    if node.target is torch.cat:
        if any(i[1:] != (h, w) for i in inputs):
            raise HlsgenError(
                f"cat {node.name} expects maps of one size, got {inputs}; give a size that the strides divide"
            )
        return sum(i[0] for i in inputs), h, w
    if node.target is torch.add:
        if len(inputs) != 2 or inputs[0] != inputs[1]:
            raise HlsgenError(f"add {node.name} expects two maps of one shape, got {inputs}")
        return c, h, w
    if node.target in vocabulary.ATTENTION:
        return attention_shape(node, inputs)
    if node.target is grown:
        _, bottom, right = node.args
        return c, h + int(bottom), w + int(right)  # type: ignore[arg-type]
    if node.target is cropped:
        rows, columns = crop_of(node)
        if rows.stop > h or columns.stop > w:
            raise HlsgenError(
                f"{node.name} expects at least {rows.stop}x{columns.stop} pixels to cut out of, got {h}x{w}"
            )
        return c, rows.stop - rows.start, columns.stop - columns.start
    if node.target is depth_to_space:
        factor = factor_of(node)
        if c % factor**2:
            raise HlsgenError(f"{node.name} expects a multiple of {factor**2} channels to make pixels of, got {c}")
        return c // factor**2, h * factor, w * factor
    module = network.get_submodule(str(node.target))
    if isinstance(module, nn.Conv2d):
        if c != module.in_channels:
            raise HlsgenError(f"convolution {node.name} expects {module.in_channels} channels, got {c}")
        c = module.out_channels
    if isinstance(module, nn.Conv2d | nn.MaxPool2d):
        (kh, kw), (sh, sw), (ph, pw) = pair(module.kernel_size), pair(module.stride), pair(module.padding)
        return c, (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    if isinstance(module, nn.Upsample):
        fy, fx_ = upsampling(module)
        return c, h * fy, w * fx_
    return c, h, w


def attention_shape(node: fx.Node, inputs: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """(C, H, W) of `attention_scores` or `attend`, whose operands are `inputs`.

    Raises:
        HlsgenError: operands that do not fit each other.
    """
    (c, h, w), (c2, h2, w2) = inputs
    heads, (rows, columns) = heads_of(node), window_of(node)
    keys = rows * columns or h2 * w2
    if rows and ((h, w) != (h2, w2) or h % rows or w % columns):
        raise HlsgenError(
            f"attention {node.name} in windows of {rows}x{columns} expects maps that they divide, got {list(inputs)}"
        )
    scores = node.target is attention_scores
    if c % heads or c2 % heads or (c != c2 if scores else c != heads * keys):
        raise HlsgenError(
            f"attention {node.name} in {heads} heads expects maps that fit each other, got {list(inputs)}"
        )
    return (heads * keys, h, w) if scores else (c2, h, w)


def attention_macs(network: fx.GraphModule, node: fx.Node, known: Mapping[str, tuple[int, int, int]]) -> int:
    """Multiply-accumulates of `attention_scores` or `attend`; known: (C, H, W) by fx node.

    Every query token meets every key token once a channel of the operand: queries and keys, or weights and values. Of keys to which
    maps of places are joined, the channels that are not zero (`hlsgen.macs`).
    """
    (_, h, w), (c, h2, w2) = (known[n.name] for n in input_nodes(node))
    rows, columns = window_of(node)
    operand = input_nodes(node)[1]
    parts = input_nodes(operand) if operand.target is torch.cat else []
    c -= sum(idle_channels(vocabulary.constant_of(network, part)[0].numpy()) for part in parts if part.op == "get_attr")
    return h * w * (rows * columns or h2 * w2) * c


def window_of(node: fx.Node) -> tuple[int, int]:
    """The windows of `attention_scores` or `attend`, (0, 0) where there are none."""
    window: Any = node.args[3] if len(node.args) > 3 else (0, 0)
    return int(window[0]), int(window[1])


def crop_of(node: fx.Node) -> tuple[slice, slice]:
    """The rows and columns that a `cropped` takes."""
    _, height, width, *at = node.args
    top, left = (int(str(n)) for n in at or (0, 0))
    return slice(top, top + int(str(height))), slice(left, left + int(str(width)))


def factor_of(node: fx.Node) -> int:
    """The factor of a `depth_to_space`."""
    return int(str(node.args[1]))


def heads_of(node: fx.Node) -> int:
    """The heads of `attention_scores` or `attend`."""
    heads: Any = node.args[2]
    return int(heads)


def output_nodes(network: fx.GraphModule) -> list[fx.Node]:
    """The network's output tensors in order."""
    return list(network.graph.output_node().all_input_nodes)


def split_parts(node: fx.Node, name_of: Callable[[fx.Node], str]) -> list[str]:
    """The names of a split's results; a result that nothing reads is called X.unused<i>."""
    users = {int(user.args[1]): user for user in node.users}  # type: ignore[arg-type]
    sizes: Any = node.args[1]
    return [name_of(users[i]) if i in users else f"{node.name}.unused{i}" for i in range(len(sizes))]


def write_fp32(network: fx.GraphModule, shape: tuple[int, int, int], path: str | Path, name: str) -> None:
    """Write the float network as an FP32 ONNX file for an image of `shape` (C, H, W).

    Raises:
        HlsgenError: a node outside the vocabulary, shapes that do not fit, or the file cannot be written.
    """
    vocabulary.check(network)
    known = shapes(network, shape)
    writer = GraphWriter()
    for node in network.graph.nodes:
        if node.op in ("placeholder", "output") or node.target is operator.getitem:
            continue
        inputs = [n.name for n in input_nodes(node)]
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            if module.bias is None:
                raise HlsgenError(f"convolution {node.name} has no bias; the network's vocabulary expects one")
            inputs.append(writer.constant(f"{node.name}.weight", module.weight.detach().numpy()))
            inputs.append(writer.constant(f"{node.name}.bias", module.bias.detach().numpy()))
        if node.target in vocabulary.ATTENTION:
            write_attention(writer, node, inputs, node.name, known)
            continue
        parts = split_parts(node, lambda n: n.name) if node.target is torch.split else []
        writer.float_node(network, node, inputs, node.name, parts)
    outputs = {n.name: known[n.name] for n in output_nodes(network)}
    save(writer.model(name, vocabulary.input_shapes(network, shape), outputs, {}), path)


def input_nodes(node: fx.Node) -> list[fx.Node]:
    """A node's input tensors in argument order, repeated where it reads one twice."""
    first = node.args[0] if node.args else ()
    listed = first if isinstance(first, list | tuple) else node.args
    return [n for n in listed if isinstance(n, fx.Node)]


def save(model: onnx.ModelProto, path: str | Path) -> None:
    """Check a model and write it deterministically; the weights of a large one into a file beside it, FILE.weights (a protocol
    buffer holds 2 GB).

    Raises:
        HlsgenError: the file cannot be written.
    """
    path = Path(path)
    try:
        if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGE:
            _weights_aside(model, path.with_name(f"{path.name}.weights"))
            path.write_bytes(model.SerializeToString(deterministic=True))
            onnx.checker.check_model(str(path), full_check=True)
            return
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        what = error.strerror or error
        raise HlsgenError(f"{path}: cannot be written ({what}); choose another output folder") from error


def _weights_aside(model: onnx.ModelProto, path: Path) -> None:
    """Move what the initializers hold into a file of its own, tensor after tensor."""
    with path.open("wb") as file:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < 1024:  # sizes and axes, which its readers look at
                continue
            place = {"location": path.name, "offset": file.tell(), "length": len(tensor.raw_data)}
            file.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
