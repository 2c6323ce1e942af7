"""Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019).

Where two convolutions are joined by nothing that minds a positive factor (ReLU, LeakyReLU, max pooling, upsampling, or
nothing at all), channel i of the first may be divided by s_i and multiplied by s_i again in the second: the same function.
s_i = sqrt(r1_i / r2_i), r the channel's largest weights, makes both equal (eq. 11). SiLU, sigmoid, GELU and Hardswish are not
positively homogeneous, so behind them there is nothing to be equalized: YOLOv8 has no pair at all.
"""

import copy

import torch
from torch import fx, nn

from hlsgen.quantize.structure import module_of

PASSING = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.Upsample)
ROUNDS = 20  # the pairs of a chain depend on each other


def pairs(network: fx.GraphModule) -> list[tuple[nn.Conv2d, nn.Conv2d]]:
    """The convolutions that may be equalized, each with its successor, in the network's order."""
    found = []
    for node in network.graph.nodes:
        first = module_of(network, node)
        if not isinstance(first, nn.Conv2d):
            continue
        last = node
        while len(last.users) == 1:
            user = next(iter(last.users))
            module = module_of(network, user)
            if isinstance(module, nn.Conv2d):
                if module.groups in (1, first.out_channels):
                    found.append((first, module))
                break
            if not isinstance(module, PASSING):
                break
            last = user
    return found


@torch.no_grad()
def equalized(network: fx.GraphModule) -> tuple[fx.GraphModule, int]:
    """A copy of `network` that computes the same, its weights equalized, and how many pairs that changed."""
    network = copy.deepcopy(network)
    joined = pairs(network)
    for _ in range(ROUNDS if joined else 0):
        for first, second in joined:
            depthwise = second.groups > 1
            ahead = first.weight.abs().flatten(1).amax(1)
            behind = second.weight.abs().flatten(1).amax(1) if depthwise else second.weight.abs().amax((0, 2, 3))
            alive = (ahead > 0) & (behind > 0)
            factor = torch.where(alive, (ahead / behind.clamp(min=1e-30)).sqrt(), torch.ones(()))
            first.weight /= factor[:, None, None, None]
            if first.bias is not None:
                first.bias /= factor
            second.weight *= factor[:, None, None, None] if depthwise else factor[:, None, None]
    return network, len(joined)
