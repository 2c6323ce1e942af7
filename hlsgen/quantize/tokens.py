"""Scales and integers of SAM's graphs in the ``fixed`` scheme: calibration on inputs, then ``QuantSpec``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.models.network import activation_kind
from hlsgen.models.sam import vocabulary as v
from hlsgen.quantize.calibrate import Floats, Histogram
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.refine import receptive_fields
from hlsgen.quantize.scales import activation_scale, pre_activation_scale
from hlsgen.quantize.spec import DEFAULT_PRE_BITS, ConvQ, QuantSpec, TensorQ
from hlsgen.quantize.token_machine import MOVES, TokenMachine, as_conv, raw_scores
from hlsgen.quantize.weights import Inputs, largest_weight_scale, quantize_weights

SAMPLED_FIELDS = 96  # receptive fields of one pass that enter a layer's second moments
RECIPE = Recipe(rounding="nearest", refit=False)


def quantize_tokens(
    network: fx.GraphModule, inputs: Iterable[tuple[Tensor, ...]], given: Mapping[str, TensorQ] | None = None
) -> TokenMachine:
    """Quantize a folded graph of SAM by its activations on ``inputs``.

    Args:
        network: ``graph.encoder`` or ``graph.decoder`` with ``folded``.
        inputs: its float inputs, for each calibration pass; read once.
        given: quantizations decided elsewhere, by node name (the decoder's embedding is the encoder's).

    Raises:
        HlsgenError: no inputs, activations that are not finite, or scales out of range; the sentence names the node.
    """
    observer = _Observer(network)
    with torch.no_grad():
        for values in inputs:
            observer.run(*values)
            observer.passes += 1
    if not observer.passes:
        raise HlsgenError("calibration expects at least one image, got none")
    return TokenMachine(network, choose(network, observer, given or {}))


class _Observer(fx.Interpreter):
    """Histograms of every tensor that makes new values, and what the layers' weights meet."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.network, self.passes = network, 0
        self.histograms: dict[str, Histogram] = {}
        self.met: dict[str, _Moments] = {}
        self.generator = torch.Generator().manual_seed(0)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "output" or n.target in MOVES:
            return result
        if not bool(torch.isfinite(result).all()):
            raise HlsgenError(
                f"calibration expects finite activations, got NaN or infinity at {n.name}; check the weights"
            )
        self.histograms.setdefault(n.name, Histogram()).update(_flat(result), _flat(_weights(n, result)))
        module = self.network.get_submodule(str(n.target)) if n.op == "call_module" else None
        conv = None if module is None else as_conv(module)
        if conv is not None:
            self._observe_input(n.name, conv, self.fetch_args_kwargs_from_env(n)[0][0])
        return result

    def _observe_input(self, name: str, conv: nn.Conv2d, x: Tensor) -> None:
        if x.ndim == 3:  # tokens: a column of pixels
            x = x.flatten(0, 1).T[None, :, :, None]
        rows, columns = ((n + 2 * int(p) - k) // s + 1 for n, p, k, s in _geometry(conv, x))
        chosen = torch.randperm(rows * columns, generator=self.generator)[:SAMPLED_FIELDS]
        fields = receptive_fields(conv, x, (rows, columns), chosen)[:, 0]
        if name not in self.met:
            self.met[name] = _Moments(fields.shape[1])
        self.met[name].add(fields)


class _Moments:
    """Running sums over samples [N, D] of x x^T and x."""

    def __init__(self, size: int) -> None:
        self.products, self.sums, self.count = torch.zeros(size, size), torch.zeros(size), 0

    def add(self, fields: Tensor) -> None:
        self.products += fields.T @ fields
        self.sums += fields.sum(0)
        self.count += len(fields)

    @property
    def inputs(self) -> Inputs:
        mean = self.sums / self.count
        return Inputs((self.products / self.count - torch.outer(mean, mean))[None], mean[None])


def _geometry(conv: nn.Conv2d, x: Tensor) -> Iterable[tuple[int, int, int, int]]:
    return zip(x.shape[2:], conv.padding, conv.kernel_size, conv.stride, strict=True)  # type: ignore[arg-type]


def _flat(x: Tensor) -> Tensor:
    return x.reshape(1, 1, -1, x.shape[-1])


def _weights(node: fx.Node, value: Tensor) -> Tensor:
    """How much a value's error matters: a score's by how far its softmax moves with it, any other's alike."""
    if (
        node.target in (v.scores, v.add_relative)
        and not raw_scores(node)
        and any(u.target is v.attend for u in node.users)
    ):
        p = value.softmax(-1)
        return p * (1 - p) + 1e-6
    return torch.ones_like(value)


def shared(network: fx.GraphModule) -> dict[str, str]:
    """By node: the node whose quantization it has. What only moves integers has its input's; a cat's inputs share one."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for node in network.graph.nodes:
        if node.op == "output":
            continue
        root[node.name] = node.name
        if node.target in MOVES:
            for source in node.all_input_nodes:
                root[find(node.name)] = find(source.name)
    return {name: find(name) for name in root}


def choose(network: fx.GraphModule, seen: _Observer, given: Mapping[str, TensorQ]) -> QuantSpec:
    """Scales, then integers."""
    share, bits = shared(network), DEFAULT_PRE_BITS["fixed"]
    groups: dict[str, Histogram] = {}
    for name, histogram in seen.histograms.items():
        groups.setdefault(share[name], Histogram()).merge(histogram)
    chosen = {share[name]: q for name, q in given.items()}
    for node in network.graph.nodes:
        if node.op == "output" or share[node.name] in chosen or node.name not in seen.histograms:
            continue
        root, finest = share[node.name], 0.0
        sources = [chosen[share[n.name]] for n in node.all_input_nodes if share[n.name] in chosen]
        if raw_scores(node):
            continue
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and as_conv(module) is not None:
            finest = sources[0].scale * largest_weight_scale(as_conv(module), "fixed", 8)
            activation = _activation(network, node)
            if activation is not None:
                chosen[root] = pre_activation_scale(groups[root], bits, _function(activation), "fixed", RECIPE, finest)
                continue
        elif node.target in (v.scores, v.relative):
            finest = sources[0].scale * sources[1].scale
        elif node.target is v.add_relative:
            scored: Any = node.args[0]
            q, k = (chosen[share[a.name]] for a in scored.args[:2])
            finest = min(q.scale * k.scale, *(s.scale for s in sources))
        chosen[root] = activation_scale(groups[root], "fixed", RECIPE, True, finest)
    tensors = {name: chosen[root] for name, root in share.items() if root in chosen}
    convs: dict[str, ConvQ] = {}
    for node in network.graph.nodes:
        conv = as_conv(network.get_submodule(str(node.target))) if node.op == "call_module" else None
        if conv is not None:
            x = tensors[node.all_input_nodes[0].name]
            inputs = seen.met[node.name].inputs
            convs[node.name] = quantize_weights(node.name, conv, x, tensors[node.name], inputs, "fixed", RECIPE)
    return QuantSpec("fixed", tensors, convs)


def _activation(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The activation that is all that reads ``node`` (moves between them aside), or None."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if node.op == "call_module":
            module = network.get_submodule(str(node.target))
            return module if activation_kind(module) is not None else None
        if node.target not in MOVES or node.target is torch.cat:
            return None
    return None


def _function(module: nn.Module) -> Any:
    def apply(x: Floats) -> Floats:
        return np.asarray(module(torch.from_numpy(x)))

    return apply
