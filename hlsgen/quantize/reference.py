"""The INT8 PyTorch model that the hardware must equal: made by calibration, or from a spec; saved and loaded."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.models.network import activation_kind, check
from hlsgen.quantize.calibrate import Floats, Histogram, Progress, Statistics, calibrate
from hlsgen.quantize.integer import IntegerMachine
from hlsgen.quantize.native import Native, fused_relus, native_spec
from hlsgen.quantize.scales import activation_scale, pre_activation_scale
from hlsgen.quantize.spec import SCHEMES, QuantSpec, Scheme, TensorQ
from hlsgen.quantize.structure import activations_fed, module_of, shared_scales
from hlsgen.quantize.weights import quantize_weights


class Reference(nn.Module):
    """The quantized network, executable.

    network: the float network it came from; spec: its scales and integers.
    """

    def __init__(self, network: fx.GraphModule, spec: QuantSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self._machine = Native(network, spec) if spec.scheme == "native" else IntegerMachine(network, spec)
        self._outputs = [n.name for n in next(n for n in network.graph.nodes if n.op == "output").all_input_nodes]

    @classmethod
    def from_spec(cls, network: fx.GraphModule, spec: QuantSpec) -> "Reference":
        check(network)
        return cls(network, spec)

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """float32 [1, C, H, W], 0..1 -> the network's outputs, float32: scale * (integer - zero point)."""
        results = self._machine.outputs(image)
        tensors = [self.spec.tensors[n] for n in self._outputs]
        return tuple((r - q.zero_point) * q.scale for r, q in zip(results, tensors, strict=True))

    @torch.no_grad()
    def tensors(self, image: Tensor) -> dict[str, npt.NDArray[np.int8] | npt.NDArray[np.int16]]:
        """float32 [1, C, H, W], 0..1 -> every tensor's integers [C, H, W], int8 or (wider than 8 bits) int16."""
        held = self._machine.run(image)
        return {
            name: value[0].numpy().astype(np.int8 if self.spec.tensors[name].bits <= 8 else np.int16)
            for name, value in held.items()
        }

    @torch.no_grad()
    def quantize_input(self, image: Tensor) -> npt.NDArray[np.int8]:
        """float32 [1, C, H, W], 0..1 -> the engine's input, int8 [C, H, W]."""
        return self._machine.quantize(image)[0].numpy().astype(np.int8)


def quantize(
    network: fx.GraphModule,
    images: Sequence[npt.NDArray[np.float32]],
    scheme: Scheme,
    *,
    pre_bits: int = 12,
    progress: Progress | None = None,
) -> Reference:
    statistics = calibrate(network, images, progress)
    return Reference(network, choose(network, statistics, scheme, pre_bits))


def choose(network: fx.GraphModule, statistics: Statistics, scheme: Scheme, pre_bits: int) -> QuantSpec:
    """Scales, then integers, from the statistics."""
    share = shared_scales(network)
    fed = activations_fed(network)
    fused = fused_relus(network) if scheme == "native" else {}
    groups: dict[str, Histogram] = {}
    for name, histogram in statistics.histograms.items():
        if name not in fused:
            groups.setdefault(share[name], Histogram()).merge(histogram)
    chosen: dict[str, TensorQ] = {}
    for name, histogram in groups.items():
        if name in fed and scheme != "native":
            chosen[name] = pre_activation_scale(histogram, pre_bits, _function(network, fed[name]), scheme)
        else:
            chosen[name] = activation_scale(histogram, scheme)
    tensors = {name: chosen[share[fused.get(name, name)]] for name in share}
    if scheme == "native":
        return native_spec(network, tensors)
    convs = {}
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d):
            x = tensors[node.all_input_nodes[0].name]
            convs[node.name] = quantize_weights(node.name, module, x, tensors[node.name], statistics.inputs[node.name], scheme)
    return QuantSpec(scheme, tensors, convs)


def _function(network: fx.GraphModule, node: fx.Node) -> Callable[[Floats], Floats]:
    """An activation in float64."""
    module = module_of(network, node)
    assert module is not None
    return lambda x: module(torch.from_numpy(x)).numpy()
