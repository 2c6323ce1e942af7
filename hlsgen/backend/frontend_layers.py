"""The float network (`hlsgen.models.network`) and its quantization as hls4ml layers."""

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from hlsgen.backend.layer_list import LayerList, Pair
from hlsgen.backend.layers import Pads, Shape
from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_write import crop_of, factor_of, heads_of, window_of
from hlsgen.models.attention import attention_scores, cropped, depth_to_space, grown
from hlsgen.models.network import ATTENTION, activation_kind, check, constant_of, input_shapes
from hlsgen.models.norm import ChannelNorm
from hlsgen.program.dynamic import FLOAT
from hlsgen.quantize.integer import quantize_image
from hlsgen.quantize.spec import ConvQ, QuantSpec, TensorQ


def layer_list(network: fx.GraphModule, spec: QuantSpec, shape: Shape) -> LayerList:
    """The network's layers for an image of `shape` (C, H, W); layer and tensor names are the fx nodes'.

    Raises:
        HlsgenError: an operator outside the vocabulary, a tensor or convolution that `spec` lacks, sizes
            that do not fit.
    """
    check(network)
    writer = _Writer(network, spec)
    for name, of in input_shapes(network, shape).items():
        writer.layers.image(name, of, writer.q_of(name))
    for node in network.graph.nodes:
        writer.write(node)
    return writer.layers


class _Writer:
    def __init__(self, network: fx.GraphModule, spec: QuantSpec) -> None:
        self.network, self.spec = network, spec
        self.layers = LayerList(spec.scheme)
        self.alias: dict[str, str] = {}  # a second getitem of one split output -> the first
        self.names = {node.name for node in network.graph.nodes}

    def q(self, node: fx.Node) -> TensorQ:
        return self.q_of(node.name)

    def q_of(self, name: str) -> TensorQ:
        if name not in self.spec.tensors:
            raise HlsgenError(f"tensor {name} has no scale; quantize the network that is to be built")
        return self.spec.tensors[name]

    def name(self, node: Any) -> str:
        return str(self.alias.get(node.name, node.name))

    def write(self, node: fx.Node) -> None:
        layers = self.layers
        if node.op == "placeholder":
            return
        if node.op == "get_attr":
            value = constant_of(self.network, node)
            if self.q(node) == FLOAT:
                layers.constant(node.name, FLOAT, value[0].numpy().astype(np.float32))
            else:
                layers.constant(node.name, self.q(node), quantize_image(value, self.q(node))[0].numpy().astype(np.int8))
        elif node.op == "output":
            (results,) = node.args
            assert isinstance(results, tuple | list)
            layers.outputs = [self.name(result) for result in results]
        elif node.op == "call_module":
            self._module(node, self.network.get_submodule(str(node.target)), self.name(node.args[0]))
        elif node.target is torch.add:
            a, b = node.args
            layers.add(node.name, self.name(a), self.name(b), self.q(node))
        elif node.target is torch.cat:
            xs = node.args[0]
            assert isinstance(xs, tuple | list)
            layers.concat(node.name, [self.name(x) for x in xs], self.q(node))
        elif node.target in ATTENTION:
            write = layers.scores if node.target is attention_scores else layers.attend
            x, y = (self.name(n) for n in node.args[:2])
            write(node.name, x, y, self.q(node), heads_of(node), window_of(node))
        elif node.target is grown:
            _, bottom, right = node.args
            layers.grow(node.name, self.name(node.args[0]), self.q(node), int(str(bottom)), int(str(right)))
        elif node.target is cropped:
            rows, columns = crop_of(node)
            size = (rows.stop - rows.start, columns.stop - columns.start)
            layers.crop(node.name, self.name(node.args[0]), self.q(node), size, (rows.start, columns.start))
        elif node.target is depth_to_space:
            layers.depth_to_space(node.name, self.name(node.args[0]), self.q(node), factor_of(node))
        elif node.target is torch.split:
            self._split(node)
        elif node.target is not operator.getitem:  # written with its split
            raise HlsgenError(f"operator {node.target} at {node.name} has no hls4ml layer")

    def _module(self, node: fx.Node, module: nn.Module, x: str) -> None:
        layers, name, q = self.layers, node.name, self.q(node)
        kind = activation_kind(module)
        if kind is not None:
            layers.activation(name, x, q, *kind)
        elif isinstance(module, nn.Conv2d):
            layers.conv2d(
                name, x, q, self._integers(name, module), _pair(module.stride), _conv_pads(module), module.groups
            )
        elif isinstance(module, ChannelNorm):
            gamma, beta = (p.detach().double().numpy() for p in (module.weight, module.bias))
            layers.norm(name, x, q, gamma, beta, module.eps)
        elif isinstance(module, nn.MaxPool2d):
            kernel, (ph, pw) = _pair(module.kernel_size), _pair(module.padding)
            stride = _pair(module.stride) if module.stride is not None else kernel
            layers.max_pool(name, x, q, kernel, stride, (ph, ph, pw, pw))
        elif isinstance(module, nn.Upsample):
            layers.upsample(name, x, q, _factor(name, module))
        else:
            raise HlsgenError(f"module {type(module).__name__} at {name} has no hls4ml layer")

    def _integers(self, name: str, module: nn.Conv2d) -> ConvQ:
        if name not in self.spec.convs:
            raise HlsgenError(f"convolution {name} has no integer weights; quantize the network that is to be built")
        integers = self.spec.convs[name]
        if integers.weight.shape != tuple(module.weight.shape):
            raise HlsgenError(
                f"convolution {name}: its integer weights are {integers.weight.shape}, its float weights "
                f"{tuple(module.weight.shape)}; quantize the network that is to be built"
            )
        return integers

    def _split(self, node: fx.Node) -> None:
        x, sizes = node.args[0], node.args[1]
        assert isinstance(sizes, tuple | list)
        names: dict[int, fx.Node] = {}
        for user in node.users:
            if user.target is not operator.getitem:
                raise HlsgenError(
                    f"{user.name} takes all outputs of the split {node.name}; take them one by one (getitem)"
                )
            i = operator.index(user.args[1]) % len(sizes)  # type: ignore[arg-type]
            self.alias[user.name] = names.setdefault(i, user).name
        outputs = {}
        for i in range(len(sizes)):
            if i in names:
                outputs[names[i].name] = self.q(names[i])
            else:
                outputs[self._fresh(f"{node.name}_unused{i}")] = self.q(x)  # type: ignore[arg-type]
        self.layers.split(node.name, self.name(x), [int(s) for s in sizes], outputs)  # type: ignore[arg-type]

    def _fresh(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _pair(value: Any) -> Pair:
    h, w = value if isinstance(value, tuple | list) else (value, value)
    return int(h), int(w)


def _conv_pads(module: nn.Conv2d) -> Pads:
    """PyTorch's padding (a number, a pair, `same` or `valid`) as (top, bottom, left, right)."""
    if isinstance(module.padding, str):
        total = [k - 1 if module.padding == "same" else 0 for k in module.kernel_size]
        (top, left), (bottom, right) = [t // 2 for t in total], [t - t // 2 for t in total]
        return top, bottom, left, right
    ph, pw = _pair(module.padding)
    return ph, ph, pw, pw


def _factor(name: str, module: nn.Upsample) -> Pair:
    factors: Any = module.scale_factor
    pair = factors if isinstance(factors, tuple | list) else (factors, factors)
    if None in pair or any(float(f) != int(f) or f < 1 for f in pair) or module.mode != "nearest":
        raise HlsgenError(
            f"upsampling {name}: expected mode nearest and integer factors, got {module.mode} and {factors}"
        )
    return int(pair[0]), int(pair[1])
