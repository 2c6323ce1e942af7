"""Small networks in the vocabulary, and quantizations for them made by hand (no calibration code is used)."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from hlsgen.models import network as vocabulary
from hlsgen.quantize.spec import ConvQ, QuantSpec, Scheme, TensorQ


class Net:
    """Grows a network node by node: `net.image`, `net.conv(x, 8)`, ...; `net.finish(outputs)`."""

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.root, self.graph = nn.Module(), fx.Graph()
        self.image = self.graph.placeholder("image")
        self.channels = {self.image: channels}

    def module(self, name: str, module: nn.Module, x: fx.Node, channels: int | None = None) -> fx.Node:
        self.root.add_module(name, module)
        node = self.graph.create_node("call_module", name, (x,), name=name)
        self.channels[node] = channels or self.channels[x]
        return node

    def function(self, name: str, function: Callable[..., Any], *args: Any, channels: int) -> fx.Node:
        node = self.graph.create_node("call_function", function, args, name=name)
        self.channels[node] = channels
        return node

    def conv(
        self,
        name: str,
        x: fx.Node,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        act: nn.Module | None = None,
        groups: int = 1,
    ) -> fx.Node:
        inner = nn.Conv2d(self.channels[x], out, kernel, stride, kernel // 2, groups=groups)
        weight = self.random.standard_normal(inner.weight.shape) / np.sqrt(inner.weight[0].numel())
        inner.weight.data = torch.from_numpy(2 * weight).float()
        assert inner.bias is not None
        inner.bias.data = torch.from_numpy(self.random.uniform(-0.5, 0.5, out)).float()
        node = self.module(f"{name}_conv", inner, x, out)
        return node if act is None else self.module(f"{name}_act", act, node)

    def split(self, name: str, x: fx.Node, sizes: list[int]) -> list[fx.Node]:
        made = self.function(name, torch.split, x, sizes, 1, channels=self.channels[x])
        return [self.function(f"{name}{i}", operator.getitem, made, i, channels=s) for i, s in enumerate(sizes)]

    def cat(self, name: str, parts: list[fx.Node]) -> fx.Node:
        return self.function(name, torch.cat, parts, 1, channels=sum(self.channels[p] for p in parts))

    def add(self, name: str, a: fx.Node, b: fx.Node) -> fx.Node:
        return self.function(name, torch.add, a, b, channels=self.channels[a])

    def finish(self, outputs: list[fx.Node]) -> fx.GraphModule:
        self.graph.output(tuple(outputs))
        network = fx.GraphModule(self.root, self.graph, "Small").eval().requires_grad_(False)
        vocabulary.check(network)
        return network


def c2f_net(seed: int = 0) -> fx.GraphModule:
    """Stem, a C2f with one bottleneck, pool, upsampling, concat, two heads; for an even image size."""
    net = Net(3, seed)
    stem = net.conv("stem", net.image, 8, 3, 2, nn.SiLU())
    first = net.conv("cv1", stem, 8, 1, 1, nn.SiLU())
    left, right = net.split("half", first, [4, 4])
    inner = net.conv("m2", net.conv("m1", right, 4, 3, 1, nn.SiLU()), 4, 3, 1, nn.SiLU())
    added = net.add("m_add", right, inner)
    joined = net.conv("cv2", net.cat("cat1", [left, right, added]), 8, 1, 1, nn.SiLU())
    pooled = net.module("pool", nn.MaxPool2d(5, 1, 2), joined)
    down = net.conv("down", pooled, 12, 3, 2, nn.SiLU())
    up = net.module("up", nn.Upsample(scale_factor=2, mode="nearest"), down)
    neck = net.conv("neck", net.cat("cat2", [up, joined]), 8, 3, 1, nn.SiLU())
    return net.finish([net.conv("box", neck, 6, 1), net.conv("cls", down, 5, 1)])


def values(network: fx.GraphModule, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every tensor's float value by node name."""
    found: dict[str, torch.Tensor] = {}

    class Keep(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, torch.Tensor):
                found[n.name] = result
            return result

    with torch.no_grad():
        Keep(network).run(image)
    return found


def spec_for(network: fx.GraphModule, image: torch.Tensor, scheme: Scheme, pre_bits: int = 12) -> QuantSpec:
    """Scales from the extremes on one image; tensors that move integers share theirs."""
    found = values(network, image)
    owner: dict[str, str] = {}
    for node in network.graph.nodes:  # union by renaming: these networks are small
        if node.op == "output":
            continue
        owner[node.name] = node.name
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.MaxPool2d | nn.Upsample) or node.target in (torch.split, torch.cat, operator.getitem):
            for read in node.all_input_nodes:
                old, new = owner[node.name], owner[read.name]
                owner = {k: new if v == old else v for k, v in owner.items()}
    tensors = {}
    for name in owner:
        group = [k for k, v in owner.items() if v == owner[name] and k in found]
        low = min(float(found[k].min()) for k in group)
        high = max(float(found[k].max()) for k in group)
        wide = (
            name.endswith("_conv") and len(list(_node(network, name).users)) == 1 and _feeds_activation(network, name)
        )
        tensors[name] = _tensor(low, high, scheme, pre_bits if wide and scheme != "native" else 8)
    convs = {}
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().double().numpy()
            scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
            scale = 2.0 ** np.ceil(np.log2(scale)) if scheme == "fixed" else scale.astype(np.float32).astype(np.float64)
            integers = np.clip(np.rint(weight / scale.reshape(-1, 1, 1, 1)), -128, 127).astype(np.int8)
            assert module.bias is not None
            bias = module.bias.detach().double().numpy() / (tensors[node.all_input_nodes[0].name].scale * scale)
            convs[node.name] = ConvQ(integers, scale, np.rint(bias).astype(np.int32))
    return QuantSpec(scheme, tensors, convs)


def _node(network: fx.GraphModule, name: str) -> fx.Node:
    return next(n for n in network.graph.nodes if n.name == name)


def _feeds_activation(network: fx.GraphModule, name: str) -> bool:
    user = next(iter(_node(network, name).users))
    return user.op == "call_module" and vocabulary.activation_kind(network.get_submodule(str(user.target))) is not None


def _tensor(low: float, high: float, scheme: Scheme, bits: int) -> TensorQ:
    largest = max(abs(low), abs(high), 2.0**-6)
    if scheme == "fixed":
        return TensorQ(float(2.0 ** np.ceil(np.log2(largest / (2 ** (bits - 1) - 1)))), 0, bits)
    if bits > 8:
        return TensorQ(float(np.float32(largest / (2 ** (bits - 1) - 1))), 0, bits)
    low, high = min(low, 0.0), max(high, 2.0**-6)
    scale = float(np.float32((high - low) / 255))
    return TensorQ(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))
