"""The graphs of SAM (``hlsgen.models.sam.vocabulary``) as ONNX, float32 or in the ``dynamic`` scheme.

PyTorch's exporters refuse a dynamically quantized model; this writes it from standard operators. Names: fx node X is
tensor X, what happens on the way to it is X.something, constants are X too. A linear layer in the ``dynamic`` scheme is
DynamicQuantizeLinear, MatMulInteger, and the sums' scale and bias. Its weights are uint8 around 128, not int8: ONNX
Runtime multiplies uint8 by int8 with saturating 16-bit sums on processors without VNNI, uint8 by uint8 exactly anywhere.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_write import GraphWriter, pair, save
from hlsgen.models.sam import vocabulary as v
from hlsgen.quantize.dynamic import DynamicLinear

Shape = Sequence[int | str]


class TokenWriter(GraphWriter):
    """A ``GraphWriter`` that chains: each step names its result and returns the name."""

    def step(self, kind: str, inputs: Sequence[str], out: str, **attributes: Any) -> str:
        self.node(kind, inputs, [out], out, **attributes)
        return out

    def whole(self, name: str, *values: int) -> str:
        """An int64 vector as an initializer."""
        return self.constant(name, np.array(values, np.int64))

    def reshape(self, x: str, out: str, *shape: int) -> str:
        """ONNX's Reshape: 0 copies a dimension, -1 is what is left."""
        return self.step("Reshape", [x, self.whole(f"{out}.shape", *shape)], out)

    def transpose(self, x: str, out: str, *order: int) -> str:
        return self.step("Transpose", [x], out, perm=order)

    def heads(self, x: str, out: str, count: int, *order: int) -> str:
        """[B, N, count*d] to the axes (B, N, head, d) in ``order``."""
        return self.transpose(self.reshape(x, f"{out}.apart", 0, 0, count, -1), out, *order)


def _to_tokens(w: TokenWriter, out: str, x: str) -> None:
    w.transpose(w.reshape(x, f"{out}.flat", 0, 0, -1), out, 0, 2, 1)


def _to_map(w: TokenWriter, out: str, x: str, height: int, width: int) -> None:
    w.reshape(w.transpose(x, f"{out}.turned", 0, 2, 1), out, 0, 0, height, width)


def _partition(w: TokenWriter, out: str, x: str, side: int, window: int) -> None:
    count = -(-side // window)
    padding = count * window - side
    y = w.reshape(x, f"{out}.square", side, side, -1)
    if padding:
        y = w.step("Pad", [y, w.whole(f"{out}.pads", 0, 0, 0, padding, padding, 0)], f"{out}.padded")
    y = w.reshape(y, f"{out}.cells", count, window, count, window, -1)
    w.reshape(w.transpose(y, f"{out}.turned", 0, 2, 1, 3, 4), out, count * count, window * window, -1)


def _unpartition(w: TokenWriter, out: str, x: str, side: int, window: int) -> None:
    count = -(-side // window)
    y = w.transpose(w.reshape(x, f"{out}.cells", count, count, window, window, -1), f"{out}.turned", 0, 2, 1, 3, 4)
    y = w.reshape(y, f"{out}.square", count * window, count * window, -1)
    if count * window != side:
        ends = [w.whole(f"{out}.{n}", *values) for n, values in (("starts", (0, 0)), ("ends", (side, side)))]
        y = w.step("Slice", [y, *ends, w.whole(f"{out}.axes", 0, 1)], f"{out}.cut")
    w.reshape(y, out, 1, side * side, -1)


def _narrow(w: TokenWriter, out: str, x: str, dim: int, start: int, length: int) -> None:
    given = (("starts", start), ("ends", start + length), ("axes", dim))
    w.step("Slice", [x, *(w.whole(f"{out}.{name}", value) for name, value in given)], out)


def _scores(w: TokenWriter, out: str, q: str, k: str, heads: int, scale: float) -> None:
    if scale != 1.0:
        q = w.step("Mul", [q, w.constant(f"{out}.scale", np.array(scale, np.float32))], f"{out}.scaled")
    queries = w.heads(q, f"{out}.queries", heads, 0, 2, 1, 3)
    w.step("MatMul", [queries, w.heads(k, f"{out}.keys", heads, 0, 2, 3, 1)], out)


def _relative(w: TokenWriter, out: str, q: str, table: str, heads: int, axis: int, side: int) -> None:
    columns = (0, 1, 3, 2, 4)
    y = w.heads(q, f"{out}.queries", heads, 0, 2, 1, 3)
    y = w.reshape(y, f"{out}.square", 0, 0, side, side, -1)
    if axis:
        y = w.transpose(y, f"{out}.by_column", *columns)
    y = w.step("MatMul", [y, w.transpose(table, f"{out}.table", 0, 2, 1)], f"{out}.found")
    if axis:
        y = w.transpose(y, f"{out}.by_row", *columns)
    w.reshape(y, out, 0, 0, side * side, side)


def _add_relative(w: TokenWriter, out: str, s: str, rows: str, columns: str, side: int) -> None:
    apart = w.reshape(s, f"{out}.apart", 0, 0, 0, side, side)
    for name, term, axis in (("rows", rows, 4), ("columns", columns, 3)):
        wide = w.step("Unsqueeze", [term, w.whole(f"{out}.{name}.axis", axis)], f"{out}.{name}")
        apart = w.step("Add", [apart, wide], f"{out}.with_{name}")
    w.reshape(apart, out, 0, 0, 0, side * side)


def _attend(w: TokenWriter, out: str, s: str, values: str, heads: int) -> None:
    weights = w.step("Softmax", [s], f"{out}.weights", axis=-1)
    y = w.step("MatMul", [weights, w.heads(values, f"{out}.values", heads, 0, 2, 1, 3)], f"{out}.by_head")
    w.reshape(w.transpose(y, f"{out}.turned", 0, 2, 1, 3), out, 0, 0, -1)


def _add(w: TokenWriter, out: str, a: str, b: str) -> None:
    w.step("Add", [a, b], out)


def _cat(w: TokenWriter, out: str, parts: Sequence[str], dim: int) -> None:
    w.step("Concat", parts, out, axis=dim)


_FUNCTIONS: dict[Any, Callable[..., None]] = {
    v.to_tokens: _to_tokens,
    v.to_map: _to_map,
    v.partition: _partition,
    v.unpartition: _unpartition,
    v.narrow: _narrow,
    v.scores: _scores,
    v.relative: _relative,
    v.add_relative: _add_relative,
    v.attend: _attend,
    torch.add: _add,
    torch.cat: _cat,
}


def _module(w: TokenWriter, module: nn.Module, out: str, x: str) -> None:
    def held(name: str, value: torch.Tensor) -> str:
        return w.constant(f"{out}.{name}", value.detach().numpy())

    if isinstance(module, DynamicLinear):
        _dynamic_linear(w, module, out, x)
    elif isinstance(module, nn.Linear):
        y = w.step("MatMul", [x, held("weight", module.weight.T)], f"{out}.product")
        w.step("Add", [y, held("bias", module.bias)], out)
    elif isinstance(module, nn.LayerNorm):
        parameters = [held("weight", module.weight), held("bias", module.bias)]
        w.step("LayerNormalization", [x, *parameters], out, axis=-1, epsilon=module.eps)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        kind = "Conv" if isinstance(module, nn.Conv2d) else "ConvTranspose"
        inputs = [x, held("weight", module.weight)]
        if module.bias is not None:
            inputs.append(held("bias", module.bias))
        sizes = {"kernel_shape": module.kernel_size, "strides": module.stride, "pads": pair(module.padding) * 2}
        w.step(kind, inputs, out, **sizes)
    elif isinstance(module, nn.GELU):
        w.step("Gelu", [x], out, approximate="none")
    elif isinstance(module, nn.ReLU):
        w.step("Relu", [x], out)
    else:
        raise HlsgenError(f"module {type(module).__name__} at {out} cannot be written as ONNX")


def _dynamic_linear(w: TokenWriter, module: DynamicLinear, out: str, x: str) -> None:
    quantized, scale, zero = (f"{out}.{name}" for name in ("quantized", "scale", "zero_point"))
    w.node("DynamicQuantizeLinear", [x], [quantized, scale, zero], f"{out}.quantize")
    weight = (module.weight.T.numpy().astype(np.int16) + 128).astype(np.uint8)
    weights = w.constant(f"{out}.weight", weight)
    middle = w.constant(f"{out}.weight_zero_point", np.array(128, np.uint8))
    y = w.step("MatMulInteger", [quantized, weights, zero, middle], f"{out}.sums")
    y = w.step("Cast", [y], f"{out}.float_sums", to=onnx.TensorProto.FLOAT)
    weight_scale = w.constant(f"{out}.weight_scale", np.array(module.weight_scale, np.float32))
    y = w.step("Mul", [y, w.step("Mul", [scale, weight_scale], f"{out}.factor")], f"{out}.scaled")
    w.step("Add", [y, w.constant(f"{out}.bias", module.bias.numpy())], out)


def token_model(
    network: fx.GraphModule, name: str, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> onnx.ModelProto:
    """A graph of SAM as an ONNX model.

    Args:
        network: ``hlsgen.models.sam.graph.encoder`` or ``decoder``, or ``dynamic`` of it.
        name: the graph's name.
        inputs: the shape of each input, by its node's name; a word is a dimension that varies.
        outputs: the shape of each output in order, by the name that it shall have.

    Raises:
        HlsgenError: the graph has a node outside the vocabulary.
    """
    w = TokenWriter()
    for node in network.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op == "get_attr":
            w.constant(node.name, operator.attrgetter(str(node.target))(network).detach().numpy())
        elif node.op == "call_module":
            _module(w, network.get_submodule(str(node.target)), node.name, node.args[0].name)
        elif node.target in _FUNCTIONS:
            _FUNCTIONS[node.target](w, node.name, *_named(node.args), **_sizes(network, node))
        else:
            raise HlsgenError(f"operator {node.target} at {node.name} cannot be written as ONNX")
    results: Any = network.graph.output_node().args[0]
    for made, wanted in zip(results, outputs, strict=True):
        if made.name != wanted:
            w.step("Identity", [made.name], wanted)
    return w.finish(name, inputs, outputs, {})


def _named(value: Any) -> Any:
    """fx arguments with the nodes' names in the nodes' place."""
    return fx.node.map_arg(value, lambda node: node.name)


def _sizes(network: fx.GraphModule, node: fx.Node) -> dict[str, int]:
    """What ONNX must be told and torch reads from its tensors."""

    def table_side(of: Any) -> int:
        return int(operator.attrgetter(str(of.target))(network).shape[0])

    if node.target is v.relative:
        return {"side": table_side(node.args[1])}
    if node.target is v.add_relative:
        return {"side": table_side(node.args[1].args[1])}  # type: ignore[union-attr]
    if node.target is v.attend:
        scored: Any = node.args[0]
        while scored.target is not v.scores:
            scored = scored.args[0]
        return {"heads": int(scored.args[2])}
    return {}


def write_sam(sam: Any, folder: str | Path) -> tuple[Path, Path]:
    """Write a SAM's encoder and decoder as ``encoder.onnx`` and ``decoder.onnx``.

    Args:
        sam: a ``hlsgen.models.sam.model.Sam``, float or ``dynamic``.
        folder: made where it is missing.

    Returns:
        The two files. The encoder's input is ``image`` [1, 3, S, S], its output ``embedding``; the decoder's inputs are
        ``embedding`` and ``prompt`` [1, T, C], its outputs ``masks`` and ``iou``.

    Raises:
        HlsgenError: the graph has a node outside the vocabulary, or a file cannot be written.
    """
    c, count = sam.config, sam.config.masks + 1
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HlsgenError(f"{folder}: cannot be made ({error.strerror or error}); choose another folder") from error
    embedding: dict[str, Shape] = {"embedding": (1, c.embedding, c.grid, c.grid)}
    results: dict[str, Shape] = {"masks": (1, 1, count, 16 * c.grid**2), "iou": (1, 1, count)}
    image: dict[str, Shape] = {"image": (1, 3, c.img_size, c.img_size)}
    models = (
        ("encoder", token_model(sam.encoder, f"{c.name}_encoder", image, embedding)),
        (
            "decoder",
            token_model(sam.decoder, f"{c.name}_decoder", embedding | {"prompt": (1, "T", c.embedding)}, results),
        ),
    )
    for name, model in models:
        save(model, folder / f"{name}.onnx")
    return folder / "encoder.onnx", folder / "decoder.onnx"


def sam_session(encoder: Path, decoder: Path, lean: bool = False) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two files in ONNX Runtime (CPU), callable as a ``Sam``'s encoder and decoder.

    lean: give every tensor's memory back as soon as it has been read, at some cost of time: of ViT-B at 1024 pixels, whose scores
    are 0.8 GB a layer, 2.3 GB are needed at once in place of 3.3.

    Raises:
        HlsgenError: ONNX Runtime refuses a file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if lean:
        options.enable_cpu_mem_arena = options.enable_mem_pattern = options.enable_mem_reuse = False

    def opened(path: Path) -> Callable[..., tuple[torch.Tensor, ...]]:
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes, all derived from Exception only
            raise HlsgenError(f"{path}: ONNX Runtime refuses it: {str(error).splitlines()[0][:200]}") from error
        names = [i.name for i in session.get_inputs()]

        def call(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            fed: dict[str, npt.NDArray[np.float32]] = {
                name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)
            }
            return tuple(torch.from_numpy(np.asarray(made)) for made in session.run(None, fed))

        return call

    return opened(encoder), opened(decoder)
