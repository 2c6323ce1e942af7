"""Scales of `fixed` that are no powers of two, though requantization still only shifts.

A convolution shifts its sums from the scale sx sw[o] to its output's, s: the shift is log2(s / (sx sw[o])), so the weights'
scales must be s / sx times powers of two, and s and sx may be anything. An activation's table takes any scale to any other
with any zero point, and a convolution's bias takes up its input's zero point. Only an addition wants its three scales in ratios
of powers of two. So 8 bits hold just the range that a tensor has, as in `affine`, at no cost in hardware: it is cross-layer
equalization (Nagel et al., ICCV 2019, section 4.1) with one factor a tensor, which even SiLU lets through, being a table.

Tensors of attention, LayerNorm and constants keep powers of two.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import fx, nn

from hlsgen.models.network import ATTENTION
from hlsgen.models.norm import ChannelNorm
from hlsgen.quantize.calibrate import Histogram
from hlsgen.quantize.grid import steps
from hlsgen.quantize.rounding import nearest
from hlsgen.quantize.scales import SHRINKS, error_of
from hlsgen.quantize.spec import TensorQ
from hlsgen.quantize.structure import activations_fed, module_of
from hlsgen.quantize.weights import scale_candidates

FACTORS = [2.0 ** (k / 16) for k in range(16)]
"""What scales are tried in, an octave; the octave itself is searched besides."""


def free_groups(network: fx.GraphModule, share: Mapping[str, str]) -> dict[str, str]:
    """By root of tensors that share a scale (`hlsgen.quantize.structure.shared_scales`), of those that may have any: the group
    whose scales must be in ratios of powers of two."""
    parent = {root: root for root in share.values()}
    plain: set[str] = set()

    def group(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in network.graph.nodes:
        touched = [share[n.name] for n in (*node.all_input_nodes, node) if n.name in share]
        if node.target is torch.add:
            for other in touched[1:]:
                parent[group(other)] = group(touched[0])
        if node.target in ATTENTION or node.op == "get_attr" or isinstance(module_of(network, node), ChannelNorm):
            plain.update(touched)
    bound = {group(root) for root in plain}
    return {root: group(root) for root in parent if group(root) not in bound}


def moving_together(network: fx.GraphModule, share: Mapping[str, str]) -> dict[str, str]:
    """As `free_groups`, where besides a convolution's input and its output move together if no wide pre-activation is between:
    then any factor leaves the scales of its weights as they are."""
    joined, fed = free_groups(network, share), activations_fed(network)
    for node in network.graph.nodes:
        if isinstance(module_of(network, node), nn.Conv2d) and node.name not in fed:
            x, y = (joined.get(share[n.name], "") for n in (node.all_input_nodes[0], node))
            joined = {root: x if group == y else group for root, group in joined.items()}
    return {root: group for root, group in joined.items() if group}


def rescaled(seen: Mapping[str, Histogram], joined: Mapping[str, str]) -> dict[str, TensorQ]:
    """The quantization of the tensors in `seen`: for each group of `joined` the factor, for each tensor the range, with the least
    error."""
    chosen: dict[str, TensorQ] = {}
    for group in sorted({joined[root] for root in seen}):
        members = [root for root in seen if joined[root] == group]
        best = np.inf
        for factor in FACTORS:
            found = {root: min(_with_errors(seen[root], factor)) for root in members}
            total = sum(error for error, *_ in found.values())
            if total < best:
                best = total
                chosen |= {root: TensorQ(scale, zero) for root, (_, scale, zero) in found.items()}
    return chosen


def _with_errors(seen: Histogram, factor: float) -> Iterator[tuple[float, float, int]]:
    """(squared error, scale, zero point) of the candidates with scales of `factor` times powers of two."""
    span = seen.maximum - seen.minimum
    if span == 0:
        yield 0.0, float(np.float32(factor * 2.0**-7)), 0
        return
    top = int(np.ceil(np.log2(span / 255 / factor)))
    for exponent in (top, top - 1, top - 2):
        scale = float(np.float32(factor * 2.0**exponent))
        zeros = {int(np.clip(np.rint(-128 - seen.minimum * s / scale), -128, 127)) for s in SHRINKS[::5]}
        for zero in sorted(zeros):
            q = TensorQ(scale, zero)
            yield error_of(seen, q), scale, zero


def best_unit(conv: nn.Module | None, bits: int) -> float:
    """The factor of a layer's weight scales, between 1 and 2, with which its weights lose least."""
    assert isinstance(conv, nn.Conv2d)
    channels = conv.out_channels
    flat = conv.weight.detach().double().reshape(channels, -1)
    power = (flat**2).sum(-1).clamp(min=1e-300)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def cost(unit: float) -> float:
        least = torch.full((channels,), np.inf, dtype=torch.float64)
        for candidate in scale_candidates(flat, "fixed", bits, unit):
            scale = torch.from_numpy(candidate)
            error = flat - nearest(flat, scale, low, high) * scale[:, None]
            least = torch.minimum(least, (error**2).sum(-1) / power)
        return float(least.sum())

    step = float(steps(flat.reshape(-1), (1 << bits) - 1))
    own = [2.0 ** (math.log2(step) % 1)] if step else []
    found: float = min([*own, *FACTORS], key=cost)
    return found
