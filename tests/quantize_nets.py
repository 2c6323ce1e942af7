"""Small networks and an integer model in plain numpy, for the tests of quantization."""

import operator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.models.network import activation_kind
from hlsgen.program import arithmetic
from hlsgen.quantize.spec import QuantSpec

Ints = npt.NDArray[np.int64]


class Mixed(nn.Module):
    """Every operator of the vocabulary, shared scales through split, pool, upsampling and cat, and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.a1 = nn.Conv2d(3, 8, 3, padding=1), nn.SiLU()
        self.pool, self.up = nn.MaxPool2d(5, 1, 2), nn.Upsample(scale_factor=2, mode="nearest")
        self.c2, self.a2 = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.c3, self.a3 = nn.Conv2d(8, 8, 1, groups=2), nn.Hardswish()
        self.c4, self.a4 = nn.Conv2d(12, 4, 1), nn.LeakyReLU(0.125)
        self.c5 = nn.Conv2d(12, 5, 3, stride=2, padding=1)
        self.a5, self.a6, self.a7 = nn.Sigmoid(), nn.ReLU(), nn.GELU()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        up = self.up(self.pool(self.a1(self.c1(image))))
        left, right = torch.split(self.a3(self.c3(self.a2(self.c2(up)))), [4, 4], 1)
        joined = torch.cat([up, left], 1)
        leaky = self.a4(self.c4(joined))
        total = torch.add(leaky, right)
        return self.a5(total), self.a6(torch.add(total, leaky)), self.a7(joined), self.c5(joined)


def mixed(seed: int = 0) -> fx.GraphModule:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return traced(Mixed())


def traced(module: nn.Module) -> fx.GraphModule:
    return fx.symbolic_trace(module.eval().requires_grad_(False))


def photographs(count: int, shape: tuple[int, int, int] = (3, 16, 24), seed: int = 0) -> list[npt.NDArray[np.float32]]:
    """Noise of 8-bit values, 0..1."""
    values = np.random.default_rng(seed).integers(0, 256, (count, *shape))
    return [(v / 255).astype(np.float32) for v in values]


def plain_integers(network: fx.GraphModule, spec: QuantSpec, image: Ints) -> dict[str, Ints]:
    """Every tensor's integers by `hlsgen.program.arithmetic` and loops of numpy: slow, obvious."""
    held: dict[str, Any] = {}
    for node in network.graph.nodes:
        if node.op == "output":
            continue
        args = fx.map_arg(node.args, lambda n: held[n.name])
        sources = [spec.tensors[n.name] for n in node.all_input_nodes]
        out = spec.tensors[node.name]
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        activation = None if module is None else activation_kind(module)
        if node.op == "placeholder":
            held[node.name] = image
        elif isinstance(module, nn.Conv2d):
            q = spec.convs[node.name]
            acc = _convolve(args[0] - sources[0].zero_point, q.weight.astype(np.int64), module) + q.bias[:, None, None]
            constants = arithmetic.conv_requant(spec.scheme, sources[0], q.weight_scale, out)
            held[node.name] = arithmetic.requantize(acc, constants)
        elif activation is not None:
            table = arithmetic.activation_table(*activation, sources[0], out, spec.scheme)
            held[node.name] = table[args[0] - sources[0].low].astype(np.int64)
        elif node.target is torch.add:
            a, b = (spec.tensors[n.name] for n in node.args)
            held[node.name] = arithmetic.add(args[0], args[1], arithmetic.addition(spec.scheme, a, b, out))
        elif node.target is torch.cat:
            held[node.name] = np.concatenate(args[0])
        elif node.target is torch.split:
            held[node.name] = np.split(args[0], np.cumsum(args[1])[:-1])
        elif node.target is operator.getitem:
            held[node.name] = args[0][args[1]]
        elif isinstance(module, nn.MaxPool2d):
            held[node.name] = _pool(args[0], int(module.kernel_size), int(module.padding))  # type: ignore[arg-type]
        else:
            held[node.name] = args[0].repeat(2, 1).repeat(2, 2)
    return {name: value for name, value in held.items() if not isinstance(value, list)}


def _convolve(x: Ints, weight: Ints, conv: nn.Conv2d) -> Ints:
    (kh, kw), (sh, sw) = conv.kernel_size, conv.stride
    ph, pw = (int(p) for p in conv.padding)
    x = np.pad(x, ((0, 0), (ph, ph), (pw, pw)))
    rows, columns = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    out = np.zeros((len(weight), rows, columns), np.int64)
    group_in, group_out = weight.shape[1], len(weight) // conv.groups
    for o in range(len(weight)):
        first = o // group_out * group_in
        for i, r, c in np.ndindex(group_in, kh, kw):
            patch = x[first + i, r : r + sh * rows : sh, c : c + sw * columns : sw]
            out[o] += weight[o, i, r, c] * patch
    return out


def _pool(x: Ints, size: int, padding: int) -> Ints:
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=np.iinfo(np.int64).min)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    highest: Ints = windows.max((-1, -2))
    return highest
