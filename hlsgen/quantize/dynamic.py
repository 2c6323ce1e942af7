"""The ``dynamic`` scheme: PyTorch's ``quantize_dynamic`` (engine qnnpack) as integers, docs/arithmetic.md in PyTorch.

Every ``nn.Linear`` has int8 weights with one scale; its input is quantized to 8 bits by its own minimum and maximum while
the network runs; the sums are int32, and what follows is float32. Everything else stays float32. Equal to PyTorch's kernel
bit for bit, float results included.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from hlsgen.program.dynamic import Levels, choose

WEIGHT_EPS = torch.finfo(torch.float32).eps
"""The smallest weight scale: that of an all-zero layer."""
EXACT_INPUTS = 512
"""So many products of 255 and 128 at most have sums below 2^24, exact in float32 in whatever order."""


def quantize(x: Tensor, levels: Levels) -> Tensor:
    """float32 to 0..255 (uint8): ``x * f32(1 / scale) + zero point``, rounded once to float32, then half to even, clamped.

    PyTorch's x86 kernel is a fused multiply-add. In float64 the product is exact, and so is the sum wherever its distance
    from a half decides.
    """
    inverse = (1 / torch.tensor(levels.scale, dtype=torch.float32)).double()
    return (x.double() * inverse).add_(levels.zero_point).float().round_().clamp_(0, 255).to(torch.uint8)


def quantize_weight(weight: Tensor) -> tuple[Tensor, float]:
    """Weights float32 as int8 and their scale, a float32 value: the largest magnitude / 127.5 (``MinMaxObserver``)."""
    weight = weight.detach()
    low, high = weight.min().clamp(max=0), weight.max().clamp(min=0)
    scale = (torch.maximum(-low, high) / 127.5).clamp(min=WEIGHT_EPS)
    return (weight * (1 / scale)).round_().clamp_(-128, 127).to(torch.int8), float(scale)


class DynamicLinear(nn.Module):
    """A linear layer in the ``dynamic`` scheme.

    weight: int8 [O, I]. weight_scale: a float32 value, or one an output, float32 [O]. bias: float32 [O].
    """

    weight: Tensor
    bias: Tensor
    weight_scale: float | Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, self.weight_scale = quantize_weight(linear.weight.detach())
        self.register_buffer("weight", weight)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().clone()
        self.register_buffer("bias", bias)

    def accumulate(self, u: Tensor, levels: Levels) -> Tensor:
        """uint8 [..., I] to the exact sums over (u - zero point) * weight: float64 [..., O] of integers below 2^31."""
        centred, weight = u.float() - levels.zero_point, self.weight.float()
        acc = torch.zeros(*u.shape[:-1], len(weight), dtype=torch.float64)
        for x, w in zip(torch.split(centred, EXACT_INPUTS, -1), torch.split(weight, EXACT_INPUTS, 1), strict=True):
            acc += x @ w.T
        return acc

    def forward(self, x: Tensor) -> Tensor:
        levels = choose(float(x.min()), float(x.max())) if x.numel() else choose(0.0, 0.0)
        acc = self.accumulate(quantize(x, levels), levels).float()
        scale = torch.as_tensor(self.weight_scale, dtype=torch.float32) * torch.tensor(levels.scale)
        return acc.mul_(scale).add_(self.bias)


def dynamic(network: fx.GraphModule) -> fx.GraphModule:
    """A copy of ``network`` whose every ``nn.Linear`` is a ``DynamicLinear``; graph and names are the same."""
    made = copy.deepcopy(network)
    for name, module in list(made.named_modules()):
        if isinstance(module, nn.Linear):
            made.set_submodule(name, DynamicLinear(module))
    return made
