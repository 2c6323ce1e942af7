"""How much rounding each convolution's weights to fewer bits harms what the network is read for."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.quantize.recipe import WEIGHT_BITS
from hlsgen.quantize.refine import receptive_fields
from hlsgen.quantize.relevance import Relevance, parameters_held, probe
from hlsgen.quantize.rounding import nearest
from hlsgen.quantize.structure import module_of
from hlsgen.quantize.weights import scale_candidates

IMAGES = 8
FIELDS = 1024  # receptive fields of an image that a layer's inputs are known by


def sensitivities(
    network: fx.GraphModule,
    images: Sequence[npt.NDArray[np.float32]],
    relevance: Relevance,
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, dict[int, float]], dict[str, int], dict[str, int]]:
    """By convolution's node: the damage by bits of its weights (power-of-two scales), its weights, its multiply-accumulates.

    The damage is sum over channels of E[g^2] e^T M e, over all positions of an image: g the gradient of the probed outputs at
    the convolution's output, e the channel's rounding error, M the inputs' covariance (their mean goes to the bias).
    """
    used = images[:IMAGES]
    observer = _Observer(network, seed)
    for index, image in enumerate(used):
        observer.observe(torch.from_numpy(np.ascontiguousarray(image))[None], relevance)
        progress(index + 1, len(used))
    damage: dict[str, dict[int, float]] = {}
    elements: dict[str, int] = {}
    macs: dict[str, int] = {}
    for node in network.graph.nodes:
        conv = module_of(network, node)
        if not isinstance(conv, nn.Conv2d):
            continue
        gradient = observer.gradients[node.name] / len(used)
        fields = torch.cat(observer.fields[node.name])
        fields = (fields - fields.mean(0)).transpose(0, 1)
        moments = fields.transpose(1, 2) @ fields / fields.shape[1]
        flat = conv.weight.detach().double().reshape(conv.groups, conv.out_channels // conv.groups, -1)
        damage[node.name] = {
            bits: float((_error(flat, moments, bits).reshape(-1) * gradient).sum()) for bits in WEIGHT_BITS
        }
        elements[node.name] = conv.weight.numel()
        macs[node.name] = conv.weight.numel() * observer.positions[node.name]
    return damage, elements, macs


def _error(flat: Tensor, moments: Tensor, bits: int) -> Tensor:
    """e^T M e by channel, [G, O / G], with the best power-of-two scale."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    least = torch.full(flat.shape[:2], np.inf, dtype=torch.float64)
    for candidate in scale_candidates(flat, "fixed", bits):
        scale = torch.from_numpy(candidate).reshape(flat.shape[:2])
        error = flat - nearest(flat, scale, low, high) * scale[..., None]
        least = torch.minimum(least, ((error.float() @ moments) * error).sum(-1))
    return least


class _Observer(fx.Interpreter):
    def __init__(self, network: fx.GraphModule, seed: int) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.network = network
        self.generator = torch.Generator().manual_seed(seed)
        self.outputs: dict[str, Tensor] = {}  # of the image under way
        self.gradients: dict[str, Tensor] = {}  # squared, summed over positions and images: [O]
        self.fields: dict[str, list[Tensor]] = {}
        self.positions: dict[str, int] = {}

    def observe(self, image: Tensor, relevance: Relevance) -> None:
        with torch.enable_grad(), parameters_held(self.network):
            results = self.run(image.requires_grad_(True))
            probe(results if isinstance(results, tuple) else (results,), relevance, self.generator).backward()  # type: ignore[no-untyped-call]
        for name, y in self.outputs.items():
            squared = torch.zeros(y.shape[1]) if y.grad is None else (y.grad.double() ** 2).sum((0, 2, 3)).float()
            self.gradients[name] = self.gradients.get(name, torch.zeros(y.shape[1])) + squared
        self.outputs.clear()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        conv = module_of(self.network, n)
        if isinstance(conv, nn.Conv2d):
            result.retain_grad()
            self.outputs[n.name] = result
            x = self.fetch_args_kwargs_from_env(n)[0][0].detach()
            count = result.shape[2] * result.shape[3]
            self.positions[n.name] = count
            chosen = torch.randperm(count, generator=self.generator)[:FIELDS]
            self.fields.setdefault(n.name, []).append(receptive_fields(conv, x, result.shape[-2:], chosen))
        return result
