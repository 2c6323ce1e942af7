"""Quantized networks that are no integer reference, executable: float tensors rounded, and dynamic INT8.

All have what `hlsgen.quantize.Reference` has of this protocol, so that they can be measured side by side.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx, nn

from hlsgen.quantize.minifloat import Minifloat
from hlsgen.quantize.structure import is_tensor, module_of


class Executable(Protocol):
    """A network for one image, float32 [1, C, H, W]."""

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """The outputs."""

    def values(self, image: Tensor) -> dict[str, Tensor]:
        """By node name, the real numbers that every tensor stands for, float32 [1, C, H, W]."""


@dataclass(frozen=True)
class Rounded:
    """How a tensor is rounded: to numbers of `format`, times `scale`."""

    format: Minifloat
    scale: float = 1.0
    saturate: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        if self.scale == 1.0:
            return self.format.round(x, self.saturate)
        return self.format.round(x / self.scale, self.saturate) * self.scale


class Simulated(nn.Module):
    """A float network whose weights are given and whose tensors are rounded; sums are float32.

    weights: by convolution's node name, (weight, bias), float32, as rounded. rounded: by node name. With neither it is
    the float network itself.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        weights: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        rounded: Mapping[str, Rounded] | None = None,
    ) -> None:
        super().__init__()
        self.weights, self.rounded = dict(weights or {}), dict(rounded or {})
        self.network = copy.deepcopy(network) if self.weights else network
        for node in self.network.graph.nodes:
            conv = module_of(self.network, node)
            if isinstance(conv, nn.Conv2d) and node.name in self.weights:
                weight, bias = self.weights[node.name]
                conv.weight = nn.Parameter(weight, requires_grad=False)
                conv.bias = nn.Parameter(bias, requires_grad=False)

    @torch.inference_mode()
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if not self.rounded:
            return _flat(self.network(image))
        return _flat(_Run(self.network, self.rounded, None).run(image))

    @torch.inference_mode()
    def values(self, image: Tensor) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        _Run(self.network, self.rounded, kept).run(image)
        return kept


class Dynamic(nn.Module):
    """Dynamic INT8: every convolution quantizes its input by the range that it has in this very image.

    PyTorch's `quantize_dynamic` replaces linear and recurrent layers only, so in a convolutional network nothing. The
    Conv2d that PyTorch holds for it (`torch.ao.nn.quantized.dynamic.Conv2d`, kept out of the default mapping "because the
    numerical accuracy is poor") loses 94 % of the signal in YOLOv8n's first layer with engine qnnpack. So this is the
    arithmetic of PyTorch's dynamic Linear, engine qnnpack, applied to convolutions.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for node in network.graph.nodes:
            conv = module_of(network, node)
            if isinstance(conv, nn.Conv2d):
                owner, _, name = str(node.target).rpartition(".")
                setattr(self.network.get_submodule(owner), name, DynamicConv2d(conv))

    @torch.inference_mode()
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return _flat(self.network(image))

    @torch.inference_mode()
    def values(self, image: Tensor) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        _Run(self.network, {}, kept).run(image)
        return kept


class DynamicConv2d(nn.Module):
    """A convolution of uint8 by int8 integers whose input scale is found anew in every image; float32 in and out.

    Weights: symmetric, one scale a tensor, as PyTorch's default weight observer has it. Input: scale (max - min) / 255, zero
    in the range. Sums are exact.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        weight = conv.weight.detach()
        self.scale = float(np.float32(max(float(weight.abs().max()) / 127.5, torch.finfo(torch.float32).eps)))
        integers = torch.clamp(torch.round(weight * float(np.float32(1 / self.scale))), -128, 127)
        largest = float(integers.abs().flatten(1).sum(1).max()) * 255
        self.integers = integers.to(torch.float32 if largest < 1 << 24 else torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        c = self.conv
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = float(np.float32(max((high - low) / 255, torch.finfo(torch.float32).eps)))
        zero = min(max(round(-low / scale), 0), 255)
        q = torch.clamp(torch.round(x * float(np.float32(1 / scale))) + zero, 0, 255) - zero
        with torch.backends.nnpack.flags(enabled=False):  # its Winograd transform is not exact on integers
            acc = nn.functional.conv2d(
                q.to(self.integers.dtype), self.integers, None, c.stride, c.padding, c.dilation, c.groups
            )
        y = acc.float() * (scale * self.scale)
        return y if c.bias is None else y + c.bias[:, None, None]


class _Run(fx.Interpreter):
    def __init__(self, network: fx.GraphModule, rounded: Mapping[str, Rounded], kept: dict[str, Tensor] | None) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.rounded, self.kept = rounded, kept

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.rounded:
            result = self.rounded[n.name](result)
        if self.kept is not None and is_tensor(n):
            self.kept[n.name] = result
        return result


def _flat(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
