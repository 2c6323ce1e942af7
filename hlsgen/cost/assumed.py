"""A quantization made up from the float weights alone: enough for cost, where no calibration has run."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn

from hlsgen.quantize.spec import DEFAULT_PRE_BITS, ConvQ, QuantSpec, Scheme, TensorQ
from hlsgen.quantize.structure import activations_fed, is_tensor, module_of

if TYPE_CHECKING:
    from hlsgen.models import Loaded

SCALE = 2.0**-4  # of every tensor in memory; the cost does not depend on it
FRACTION = (4, 20)  # of the weights' scales, so that every requantization shift is legal


def assumed_quantization(network: fx.GraphModule, scheme: Scheme = "fixed") -> QuantSpec:
    """Every tensor at one scale; weights rounded to the channel's largest, so that the sums' widths are the real ones."""
    memory = TensorQ(SCALE, 0)
    pre = TensorQ(SCALE / 16, 0, DEFAULT_PRE_BITS[scheme]) if scheme != "native" else memory
    fed = activations_fed(network)
    tensors: dict[str, TensorQ] = {}
    convs: dict[str, ConvQ] = {}
    for node in network.graph.nodes:
        if not is_tensor(node):
            continue
        tensors[node.name] = pre if node.name in fed else memory
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d):
            convs[node.name] = _weights(module)
    return QuantSpec(scheme, tensors, convs)


def _weights(conv: nn.Conv2d) -> ConvQ:
    weight = conv.weight.detach().numpy().astype(np.float64)
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    fraction = np.floor(np.log2(127 / np.maximum(largest, 1e-9)))
    scale = 2.0 ** -np.clip(fraction, *FRACTION)
    integers = np.clip(np.rint(weight / scale[:, None, None, None]), -128, 127).astype(np.int8)
    bias = np.zeros(len(weight)) if conv.bias is None else conv.bias.detach().numpy().astype(np.float64)
    return ConvQ(integers, scale, np.clip(np.rint(bias / (scale * SCALE)), -(1 << 24), 1 << 24).astype(np.int32))


def assumed_model(
    model: str, weights: str | None, imgsz: tuple[int, int] | None, scheme: Scheme
) -> "tuple[Loaded, Any]":
    """MODEL, `--weights` and `--imgsz` (H, W) as they are loaded, and its `assumed_graph`.

    Raises:
        HlsgenError: as `hlsgen.models.load`; a scheme that the engine has for a SAM only.
    """
    from hlsgen.models import load
    from hlsgen.quantize.strategies import for_engine

    loaded = load(model, weights, imgsz, apart=scheme == "dynamic")
    if loaded.task != "segment":
        for_engine(scheme)  # says where the engine has it for SAM only
    return loaded, assumed_graph(loaded.network, loaded.shape, scheme)


def assumed_graph(network: fx.GraphModule, shape: tuple[int, int, int], scheme: Scheme = "fixed") -> Any:
    """The ModelGraph of a float network after hlsgen's passes, ready for the scheduler; shape: the image's (C, H, W).

    Raises:
        HlsgenError: an operator that has no machine op.
    """
    from hlsgen.backend.frontend_layers import layer_list
    from hlsgen.backend.graph import model_graph, run_passes

    if scheme == "dynamic":  # of a SAM
        from hlsgen.models.sam.network import linears
        from hlsgen.quantize.dynamic_network import dynamic_spec

        spec = dynamic_spec(network, linears(network))
    else:
        spec = assumed_quantization(network, scheme)
    graph = model_graph(layer_list(network, spec, shape), "estimate", ".")
    run_passes(graph)
    return graph
