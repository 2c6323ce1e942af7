"""Small float networks with hand-made quantizations, and YOLOv8n's shape, for the backend's tests."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph
from hlsgen.backend.layer_list import LayerList
from hlsgen.models.network import activation_kind
from hlsgen.quantize.spec import ConvQ, QuantSpec, Scheme, TensorQ


class Net:
    """Writes an fx network node by node; node names are the arguments called `name`."""

    def __init__(self) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()

    def image(self, name: str = "image") -> fx.Node:
        return self.graph.placeholder(name)

    def module(self, name: str, module: nn.Module, x: fx.Node) -> fx.Node:
        self.root.add_module(name, module)
        node = self.graph.call_module(name, (x,))
        assert node.name == name, f"fx renamed {name} to {node.name}"
        return node

    def conv(self, name: str, x: fx.Node, c: int, n: int, k: int = 3, s: int = 1, **more: Any) -> fx.Node:
        return self.module(name, nn.Conv2d(c, n, k, s, more.pop("padding", k // 2), **more), x)

    def silu(self, name: str, x: fx.Node) -> fx.Node:
        return self.module(name, nn.SiLU(), x)

    def function(self, name: str, function: Callable[..., Any], *arguments: Any) -> fx.Node:
        node = self.graph.create_node("call_function", function, arguments, name=name)
        assert node.name == name, f"fx renamed {name} to {node.name}"
        return node

    def add(self, name: str, a: fx.Node, b: fx.Node) -> fx.Node:
        return self.function(name, torch.add, a, b)

    def cat(self, name: str, *xs: fx.Node) -> fx.Node:
        return self.function(name, torch.cat, list(xs), 1)

    def split(self, name: str, x: fx.Node, *sizes: int) -> list[fx.Node]:
        parts = self.function(name, torch.split, x, list(sizes), 1)
        return [self.function(f"{name}_{i}", operator.getitem, parts, i) for i in range(len(sizes))]

    def outputs(self, *nodes: fx.Node) -> fx.GraphModule:
        self.graph.output(tuple(nodes))
        return fx.GraphModule(self.root, self.graph)


def quantization(network: fx.GraphModule, scheme: Scheme = "fixed", seed: int = 0) -> QuantSpec:
    """Made-up scales that respect QuantSpec's rules: a convolution with one activation has a wide pre-activation, what
    moves integers keeps its input's scale, all inputs of a cat are equal (here: all tensors in memory are)."""
    random = np.random.default_rng(seed)
    scale = 2.0**-4 if scheme == "fixed" else 0.07
    memory = TensorQ(scale, 0 if scheme == "fixed" else -3)
    pre = TensorQ(scale / 16, 0, 12) if scheme != "native" else TensorQ(scale, 5)
    tensors: dict[str, TensorQ] = {}
    convs: dict[str, ConvQ] = {}
    for node in network.graph.nodes:
        if node.op == "output":
            continue
        tensors[node.name] = memory
        if node.op != "call_module":
            continue
        module = network.get_submodule(str(node.target))
        if isinstance(module, nn.Conv2d):
            n = module.out_channels
            weight_scale = np.full(n, 2.0**-8) if scheme == "fixed" else random.uniform(0.001, 0.01, n)
            weight = random.integers(-127, 128, tuple(module.weight.shape), np.int8)
            convs[node.name] = ConvQ(weight, weight_scale, random.integers(-5000, 5000, n, np.int32))
            users = list(node.users)
            if len(users) == 1 and users[0].op == "call_module" and _is_activation(network, users[0]):
                tensors[node.name] = pre
    return QuantSpec(scheme, tensors, convs)


def _is_activation(network: fx.GraphModule, node: fx.Node) -> bool:
    return activation_kind(network.get_submodule(str(node.target))) is not None


def bottleneck() -> fx.GraphModule:
    """Everything once: conv-silu, split, residual add, cat, max pool, upsampling, a head without activation. 16x16."""
    net = Net()
    stem = net.silu("stem_act", net.conv("stem", net.image(), 3, 8, s=2))
    left, right = net.split("parts", stem, 4, 4)
    inner = net.silu("inner_act", net.conv("inner", right, 4, 4))
    added = net.add("added", right, inner)
    joined = net.cat("joined", left, right, added)
    pooled = net.module("pooled", nn.MaxPool2d(5, 1, 2), joined)
    up = net.module("up", nn.Upsample(scale_factor=2.0, mode="nearest"), pooled)
    return net.outputs(net.conv("head", up, 12, 5, 1), joined)


def yolov8n_like() -> fx.GraphModule:
    """YOLOv8n's layers and sizes (64 convolutions, three levels, raw head outputs), random weights."""
    net = Net()
    count = iter(range(1000))

    def block(x: fx.Node, c: int, n: int, k: int = 3, s: int = 1) -> fx.Node:
        i = next(count)
        return net.silu(f"act{i}", net.conv(f"conv{i}", x, c, n, k, s))

    def c2f(x: fx.Node, c: int, n: int, repeats: int, shortcut: bool) -> fx.Node:
        i, half = next(count), n // 2
        parts = net.split(f"split{i}", block(x, c, n, 1), half, half)
        for _ in range(repeats):
            y = block(block(parts[-1], half, half), half, half)
            parts.append(net.add(f"add{next(count)}", parts[-1], y) if shortcut else y)
        return block(net.cat(f"cat{i}", *parts), half * len(parts), n, 1)

    def up(x: fx.Node) -> fx.Node:
        return net.module(f"up{next(count)}", nn.Upsample(scale_factor=2.0, mode="nearest"), x)

    x = c2f(block(block(net.image(), 3, 16, 3, 2), 16, 32, 3, 2), 32, 32, 1, True)
    p3 = c2f(block(x, 32, 64, 3, 2), 64, 64, 2, True)
    p4 = c2f(block(p3, 64, 128, 3, 2), 128, 128, 2, True)
    x = c2f(block(p4, 128, 256, 3, 2), 256, 256, 1, True)
    pools = [block(x, 256, 128, 1)]
    for _ in range(3):
        pools.append(net.module(f"pool{next(count)}", nn.MaxPool2d(5, 1, 2), pools[-1]))
    p5 = block(net.cat("sppf", *pools), 512, 256, 1)
    n4 = c2f(net.cat("cat_up4", up(p5), p4), 384, 128, 1, False)
    n3 = c2f(net.cat("cat_up3", up(n4), p3), 192, 64, 1, False)
    n4 = c2f(net.cat("cat_down4", block(n3, 64, 64, 3, 2), n4), 192, 128, 1, False)
    n5 = c2f(net.cat("cat_down5", block(n4, 128, 128, 3, 2), p5), 384, 256, 1, False)
    heads = []
    for c, level in ((64, n3), (128, n4), (256, n5)):
        for mid, out in ((64, 64), (80, 80)):
            heads.append(net.conv(f"head{next(count)}", block(block(level, c, mid), mid, mid), mid, out, 1))
    return net.outputs(*heads)


def graph_of(network: fx.GraphModule, shape: tuple[int, int, int], scheme: Scheme = "fixed") -> Any:
    """The network's ModelGraph, before the passes."""
    return model_graph(layer_list(network, quantization(network, scheme), shape), "net", "out")


def equal(a: LayerList, b: LayerList) -> bool:
    """Whether two layer lists hold the same, arrays by type and value."""

    def same(x: Any, y: Any) -> bool:
        if isinstance(x, np.ndarray):
            return isinstance(y, np.ndarray) and x.dtype == y.dtype and np.array_equal(x, y)
        return type(x) is type(y) and bool(x == y)

    return (
        (a.scheme, a.outputs, a.layouts, a.shapes) == (b.scheme, b.outputs, b.layouts, b.shapes)
        and len(a.layers) == len(b.layers)
        and all(
            x.keys() == y.keys() and all(same(x[k], y[k]) for k in x) for x, y in zip(a.layers, b.layers, strict=True)
        )
    )
