"""From the objects of a YOLOv8, YOLOv5u or YOLO11 checkpoint to the float network (`hlsgen.models.network`).

The graph is written down node by node, one function a block: batch norm folded into its convolution, every activation
a module of its own, identities left out, and the head cut at its raw box and class maps. The blocks' structure is that
of the published YOLOv5 and YOLOv8 architectures; no ultralytics code runs here.
"""

import io
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_write import shapes
from hlsgen.models import network as vocabulary
from hlsgen.models.attention import attend, attention_scores, some_outputs
from hlsgen.models.checkpoint import Inert, parse_checkpoint

FAMILIES = {"C2f": "yolov8{}", "C3": "yolov5{}u", "C3k2": "yolo11{}"}
"""The block a family is built of, and how its networks are named by size."""
_WIDTHS = {"yolov8{}": (16, 32, 48, 64, 80), "yolov5{}u": (16, 32, 48, 64, 80), "yolo11{}": (16, 32, 64, 64, 96)}
MAX_STRIDE = 32


@dataclass(frozen=True, eq=False)
class Yolo:
    """A YOLO network and what its raw outputs mean.

    network: its outputs are, a level, the box map [N, 4*reg_max, H/s, W/s] and the class map [N, classes, H/s, W/s].
    """

    network: fx.GraphModule
    classes: tuple[str, ...]
    strides: tuple[int, ...]
    reg_max: int

    @property
    def channels(self) -> int:
        """The image's channels: what the first convolution reads."""
        return next(m for m in self.network.modules() if isinstance(m, nn.Conv2d)).in_channels


def build(model: Inert, source: str) -> Yolo:
    """The network of a checkpoint's detection model; `source` is what error messages call it.

    Raises:
        HlsgenError: another family or task (naming the block), a block that is not supported, weights that are not
            finite (naming the layer), or a damaged structure.
    """
    try:
        made = _build(model, source)
        shapes(made.network, (made.channels, 2 * MAX_STRIDE, 2 * MAX_STRIDE))
    except HlsgenError as error:
        said = str(error)
        raise HlsgenError(said if said.startswith(source) else f"{source}: {said}") from error
    except Exception as error:  # the objects hold whatever the file put there
        raise HlsgenError(f"{source}: the model in it is damaged ({type(error).__name__}: {error})") from error
    return made


def _build(model: Inert, source: str) -> Yolo:
    builder = _Builder(source)
    layers = _children(builder, _child(builder, model, "model", source), source)
    if not layers:
        raise HlsgenError(f"{source}: the checkpoint's model has no layers")
    head = layers[-1]
    if head.kind != "Detect":
        raise HlsgenError(
            f"{source}: expected a detection model (its last layer a Detect head), got {model.kind} ending in "
            f"{head.kind}; segmentation, pose, obb and classification models are not supported"
        )
    outputs: list[fx.Node] = []
    made: list[fx.Node] = []
    for index, layer in enumerate(layers):
        where = f"model.{index}"
        sources = layer.state.get("f", -1)
        chosen = [sources] if isinstance(sources, int) else list(sources)
        inputs = []
        for s in chosen:
            position = s if s >= 0 else index + s
            if not -1 <= position < index:
                raise HlsgenError(f"{source}: layer {where} reads layer {s}, which does not exist")
            inputs.append(builder.image if position == -1 else made[position])
        if index == len(layers) - 1:
            outputs = _detect(builder, layer, inputs, where)
        else:
            made.append(_block(builder, layer, inputs, where))
    classes, strides, reg_max = _meaning(builder, model, head)
    return Yolo(builder.finish(outputs), classes, strides, reg_max)


def identify(model: Inert) -> str | None:
    """The published network that a model which `build` takes has the shape of ("yolov8n"), or None for another one."""
    layers = list(model.state.get("_modules", {}).get("model", Inert()).state.get("_modules", {}).values())
    kinds = [layer.kind for layer in layers if isinstance(layer, Inert)]
    family = next((name for kind, name in FAMILIES.items() if kind in kinds), None)
    if family is None or not kinds or kinds[0] != "Conv":
        return None
    weight = layers[0].state["_modules"]["conv"].state["_parameters"]["weight"]
    blocks = [layer for layer in layers if layer.kind in FAMILIES]
    depth = len(blocks[0].state["_modules"]["m"].state["_modules"])
    sizes = [s for s, width in zip("nsmlx", _WIDTHS[family], strict=True) if width == weight.shape[0]]
    if len(sizes) == 2:  # YOLO11 m and l differ in depth only
        sizes = sizes[:1] if depth == 1 else sizes[1:]
    return family.format(sizes[0]) if sizes else None


class _Builder:
    def __init__(self, source: str) -> None:
        self.source = source
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.image = self.graph.placeholder("image")

    def module(self, where: str, module: nn.Module, x: fx.Node) -> fx.Node:
        name = where.replace(".", "_")
        self.root.add_module(name, module)
        return self.graph.create_node("call_module", name, (x,), name=name)

    def function(self, where: str, function: Callable[..., Any], *args: Any) -> fx.Node:
        return self.graph.create_node("call_function", function, args, name=where.replace(".", "_"))

    def finish(self, outputs: list[fx.Node]) -> fx.GraphModule:
        self.graph.output(tuple(outputs))
        network = fx.GraphModule(self.root, self.graph, "Network").eval()
        if network.graph.eliminate_dead_code():
            network.delete_all_unused_submodules()
            network.recompile()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        network.graph.lint()
        vocabulary.check(network)
        return network

    def fail(self, where: str, what: str, supported: str = "") -> HlsgenError:
        suffix = f" is not supported; supported are {supported}" if supported else ""
        return HlsgenError(f"{self.source}: {what} at {where}{suffix}")


def _child(b: _Builder, block: Inert, name: str, where: str) -> Inert:
    found = block.state.get("_modules", {}).get(name)
    if not isinstance(found, Inert):
        raise b.fail(where, f"block {block.kind} without its part {name!r}")
    return found


def _children(b: _Builder, block: Inert, where: str) -> list[Inert]:
    if block.kind not in ("Sequential", "ModuleList"):
        raise b.fail(where, f"expected a list of blocks, got {block.kind}")
    found = list(block.state.get("_modules", {}).values())
    if not all(isinstance(child, Inert) for child in found):
        raise b.fail(where, "a list of blocks with something else in it")
    return found


def _block(b: _Builder, block: Inert, inputs: Sequence[fx.Node], where: str) -> fx.Node:
    """One layer or part of a layer; Sequential runs its parts in turn."""
    if block.kind == "Concat":
        if block.state.get("d", 1) != 1:
            raise b.fail(where, "a Concat along another axis than the channels")
        return b.function(where, torch.cat, list(inputs), 1)
    if len(inputs) != 1:
        raise b.fail(where, f"block {block.kind} with {len(inputs)} inputs")
    x = inputs[0]
    if block.kind == "Sequential":
        for i, part in enumerate(_children(b, block, where)):
            x = _block(b, part, [x], f"{where}.{i}")
        return x
    rule = _RULES.get(block.kind)
    if rule is None:
        raise b.fail(where, f"block {block.kind}", ", ".join(sorted([*_RULES, "Concat"])))
    return rule(b, block, x, where)


def _conv(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    """Convolution, batch norm, activation."""
    x = _conv2d(b, _child(b, block, "conv", where), x, f"{where}.conv", block.state["_modules"].get("bn"))
    return _activation(b, _child(b, block, "act", where), x, f"{where}.act")


def _conv2d(b: _Builder, block: Inert, x: fx.Node, where: str, norm: Inert | None = None) -> fx.Node:
    state = block.state
    if block.kind != "Conv2d" or state.get("padding_mode", "zeros") != "zeros" or isinstance(state.get("padding"), str):
        raise b.fail(where, f"a {block.kind} convolution with other than explicit zero padding")
    weight, bias = _tensor(b, block, "weight", where), state["_parameters"].get("bias")
    kernel, stride, padding, dilation = (
        _pair(b, state.get(k), k, where) for k in ("kernel_size", "stride", "padding", "dilation")
    )
    groups = state.get("groups", 1)
    if dilation != (1, 1) or not isinstance(groups, int) or weight.dim() != 4 or tuple(weight.shape[2:]) != kernel:
        form = f"dilation {dilation}, groups {groups}, weight {tuple(weight.shape)}"
        raise b.fail(where, f"a convolution of an unsupported form ({form})")
    if groups < 1 or weight.shape[0] % groups:
        raise b.fail(where, f"a convolution of {weight.shape[0]} channels in {groups} groups")
    bias = torch.zeros(weight.shape[0]) if bias is None else bias.detach().float()
    if norm is not None:
        if norm.kind != "BatchNorm2d":
            raise b.fail(where, f"a normalisation of kind {norm.kind}")
        buffers = norm.state.get("_buffers", {})
        statistics = [buffers.get(k) for k in ("running_mean", "running_var")]
        if not all(isinstance(t, torch.Tensor) for t in statistics):
            raise b.fail(where, "a batch norm without running statistics")
        mean, variance = (t.float() for t in statistics)
        scale, shift = _tensor(b, norm, "weight", where), _tensor(b, norm, "bias", where)
        weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, norm.state.get("eps", 1e-5), scale, shift)
    if not all(np.isfinite(t.detach().numpy()).all() for t in (weight, bias)):
        raise b.fail(where, "weights that are not finite (NaN or infinity)")
    channels = weight.shape[1] * groups
    conv = nn.Conv2d(channels, weight.shape[0], kernel, stride, padding, groups=groups, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return b.module(where, conv, x)


def _tensor(b: _Builder, block: Inert, name: str, where: str) -> torch.Tensor:
    found = block.state.get("_parameters", {}).get(name)
    if not isinstance(found, torch.Tensor):
        raise b.fail(where, f"no tensor {name!r}")
    return found.detach().float()


def _pair(b: _Builder, value: object, name: str, where: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, int) and v >= 0 for v in pair)):
        raise b.fail(where, f"a bad {name} ({value!r})")
    return pair


_ACTIVATIONS: dict[str, Callable[[Inert], nn.Module]] = {
    "SiLU": lambda _: nn.SiLU(),
    "ReLU": lambda _: nn.ReLU(),
    "LeakyReLU": lambda block: nn.LeakyReLU(float(block.state.get("negative_slope", 0.01))),
    "Sigmoid": lambda _: nn.Sigmoid(),
    "Hardswish": lambda _: nn.Hardswish(),
    "GELU": lambda _: nn.GELU(),
}


def _activation(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    if block.kind == "Identity":
        return x
    make = _ACTIVATIONS.get(block.kind)
    if make is None or block.state.get("approximate", "none") != "none":
        raise b.fail(where, f"activation {block.kind}", ", ".join(_ACTIVATIONS))
    return b.module(where, make(block), x)


def _add(b: _Builder, x: fx.Node, y: fx.Node, where: str) -> fx.Node:
    return b.function(f"{where}.add", torch.add, x, y)


def _bottleneck(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    y = _block(b, _child(b, block, "cv1", where), [x], f"{where}.cv1")
    y = _block(b, _child(b, block, "cv2", where), [y], f"{where}.cv2")
    return _add(b, x, y, where) if block.state.get("add", False) else y


def _c2f(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    """Split in two halves; a chain of bottlenecks on the second; everything concatenated."""
    half = block.state.get("c")
    if not isinstance(half, int):
        raise b.fail(where, f"block {block.kind} without its channel count")
    x = _block(b, _child(b, block, "cv1", where), [x], f"{where}.cv1")
    split = b.function(f"{where}.split", torch.split, x, [half, half], 1)
    parts = [b.function(f"{where}.half{i}", operator.getitem, split, i) for i in (0, 1)]
    for i, part in enumerate(_children(b, _child(b, block, "m", where), where)):
        parts.append(_block(b, part, [parts[-1]], f"{where}.m.{i}"))
    return _block(b, _child(b, block, "cv2", where), [b.function(f"{where}.cat", torch.cat, parts, 1)], f"{where}.cv2")


def _c3(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    """A chain of bottlenecks beside a plain convolution, concatenated."""
    chain = _block(b, _child(b, block, "cv1", where), [x], f"{where}.cv1")
    chain = _block(b, _child(b, block, "m", where), [chain], f"{where}.m")
    beside = _block(b, _child(b, block, "cv2", where), [x], f"{where}.cv2")
    joined = b.function(f"{where}.cat", torch.cat, [chain, beside], 1)
    return _block(b, _child(b, block, "cv3", where), [joined], f"{where}.cv3")


def _sppf(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    """The same max pool applied in turn, every stage concatenated."""
    count = block.state.get("n", 3)
    pool = _child(b, block, "m", where)
    stages = [_block(b, _child(b, block, "cv1", where), [x], f"{where}.cv1")]
    for i in range(count if isinstance(count, int) else 3):
        stages.append(_max_pool(b, pool, stages[-1], f"{where}.pool{i}"))
    joined = b.function(f"{where}.cat", torch.cat, stages, 1)
    y = _block(b, _child(b, block, "cv2", where), [joined], f"{where}.cv2")
    return _add(b, y, x, where) if block.state.get("add", False) else y


def _max_pool(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    state = block.state
    dilation = _pair(b, state.get("dilation", 1), "dilation", where)
    if block.kind != "MaxPool2d" or state.get("ceil_mode") or dilation != (1, 1):
        raise b.fail(where, f"pooling {block.kind} other than a plain max pool")
    kernel, stride, padding = (_pair(b, state.get(k), k, where) for k in ("kernel_size", "stride", "padding"))
    return b.module(where, nn.MaxPool2d(kernel, stride, padding), x)


def _upsample(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    factor, mode = block.state.get("scale_factor"), block.state.get("mode", "nearest")
    if mode != "nearest" or not isinstance(factor, int | float) or factor < 1 or factor != int(factor):
        raise b.fail(where, f"upsampling other than nearest by a whole factor ({mode} by {factor})")
    return b.module(where, nn.Upsample(scale_factor=int(factor), mode="nearest"), x)


def _c2psa(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    """Split in two halves; position-sensitive attention on the second; both concatenated."""
    half = block.state.get("c")
    if not isinstance(half, int):
        raise b.fail(where, f"block {block.kind} without its channel count")
    x = _block(b, _child(b, block, "cv1", where), [x], f"{where}.cv1")
    split = b.function(f"{where}.split", torch.split, x, [half, half], 1)
    first, second = (b.function(f"{where}.half{i}", operator.getitem, split, i) for i in (0, 1))
    second = _block(b, _child(b, block, "m", where), [second], f"{where}.m")
    joined = b.function(f"{where}.cat", torch.cat, [first, second], 1)
    return _block(b, _child(b, block, "cv2", where), [joined], f"{where}.cv2")


def _psa_block(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    """Attention, then two pointwise convolutions, each with a shortcut."""
    for part in ("attn", "ffn"):
        y = _block(b, _child(b, block, part, where), [x], f"{where}.{part}")
        x = _add(b, x, y, f"{where}.{part}") if block.state.get("add", False) else y
    return x


def _attention(b: _Builder, block: Inert, x: fx.Node, where: str) -> fx.Node:
    """Self-attention over the pixels, with a depthwise convolution of the values as positional encoding.

    One convolution makes head after head's queries, keys and values; here three do, each of them all heads', so that each
    has a scale of its own. The queries' takes the attention's scale into its weights.
    """
    state = block.state
    heads, keys, values = (state.get(name) for name in ("num_heads", "key_dim", "head_dim"))
    if not all(isinstance(n, int) and n > 0 for n in (heads, keys, values)):
        raise b.fail(where, "attention without its heads' sizes")
    heads, keys, values = int(heads), int(keys), int(values)  # type: ignore[arg-type]
    joint = _child(b, block, "qkv", where)
    made = _conv(b, joint, x, f"{where}.qkv")
    conv = b.root.get_submodule(str(made.target))
    if not isinstance(conv, nn.Conv2d) or conv.out_channels != heads * (2 * keys + values) or conv.groups != 1:
        raise b.fail(where, f"attention whose queries, keys and values are not one plain convolution of {heads} heads")
    channels = torch.arange(conv.out_channels).reshape(heads, -1)
    q, k, v = (
        b.module(f"{where}.{name}", some_outputs(conv, part.reshape(-1), factor), x)
        for name, part, factor in (
            ("q", channels[:, :keys], keys**-0.5),
            ("k", channels[:, keys : 2 * keys], 1.0),
            ("v", channels[:, 2 * keys :], 1.0),
        )
    )
    scores = b.function(f"{where}.scores", attention_scores, q, k, heads)
    mixed = b.function(f"{where}.attend", attend, scores, v, heads)
    place = _block(b, _child(b, block, "pe", where), [v], f"{where}.pe")
    return _block(b, _child(b, block, "proj", where), [_add(b, mixed, place, where)], f"{where}.proj")


_RULES: dict[str, Callable[[_Builder, Inert, fx.Node, str], fx.Node]] = {
    "Conv": _conv,
    "DWConv": _conv,
    "Conv2d": _conv2d,
    "Bottleneck": _bottleneck,
    "C2f": _c2f,
    "C3": _c3,
    "C3k": _c3,
    "C3k2": _c2f,
    "C2PSA": _c2psa,
    "PSABlock": _psa_block,
    "Attention": _attention,
    "SPPF": _sppf,
    "MaxPool2d": _max_pool,
    "Upsample": _upsample,
}


def _detect(b: _Builder, head: Inert, inputs: Sequence[fx.Node], where: str) -> list[fx.Node]:
    """The head up to its raw maps: box and class map a level."""
    if "one2one_cv2" in head.state.get("_modules", {}):
        raise b.fail(where, "an end-to-end (one-to-one) detection head", "the heads of YOLOv8 and YOLOv5u")
    boxes = _children(b, _child(b, head, "cv2", where), where)
    classes = _children(b, _child(b, head, "cv3", where), where)
    if not len(boxes) == len(classes) == len(inputs):
        raise b.fail(where, f"a head of {len(boxes)} box and {len(classes)} class branches for {len(inputs)} levels")
    outputs = []
    for i, x in enumerate(inputs):
        outputs.append(_block(b, boxes[i], [x], f"{where}.cv2.{i}"))
        outputs.append(_block(b, classes[i], [x], f"{where}.cv3.{i}"))
    return outputs


def _meaning(b: _Builder, model: Inert, head: Inert) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Class names, strides and box bins, each from the checkpoint."""
    count, reg_max, strides = (head.state.get(k) for k in ("nc", "reg_max", "stride"))
    if not isinstance(strides, torch.Tensor):  # a buffer in some versions
        strides = model.state.get("stride")
    if not (isinstance(count, int) and isinstance(reg_max, int) and isinstance(strides, torch.Tensor)):
        raise b.fail("the Detect head", "no class count, box bins or strides")
    whole = tuple(int(s) for s in strides.float().tolist())
    if any(s < 1 for s in whole):
        raise b.fail("the Detect head", f"strides {whole}")
    names = model.state.get("names")
    listed = [names.get(i) for i in range(count)] if isinstance(names, dict) else names
    if not isinstance(listed, list) or len(listed) != count:
        listed = [None] * count
    spoken = [str(name) if name is not None else f"class{i}" for i, name in enumerate(listed)]
    return tuple("".join(c for c in name if c.isprintable())[:64] for name in spoken), whole, reg_max


def random_model(name: str, seed: int) -> Inert:
    """A randomly initialised network of a published shape ("yolov8s"), its batch norms' statistics those of noise.

    Raises:
        HlsgenError: ultralytics, which knows the shapes, is not installed.
    """
    try:
        from ultralytics.nn.tasks import DetectionModel
    except ImportError as error:
        raise HlsgenError(
            "random weights need ultralytics, which is not installed: pip install 'hlsgen[yolo]'"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = name.removesuffix("u") + ".yaml" if name.startswith("yolov5") else f"{name}.yaml"
        made: nn.Module = DetectionModel(config, verbose=False)  # type: ignore[no-untyped-call]
        noise = torch.rand(2, 3, 8 * MAX_STRIDE, 8 * MAX_STRIDE)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # a cumulative average: after one batch, that batch's own statistics
                module.reset_running_stats()
        with torch.no_grad():
            made.train()(noise)
        made.eval()
    buffer = io.BytesIO()
    torch.save({"model": made}, buffer)
    buffer.seek(0)
    return parse_checkpoint(buffer, f"random {name}")
