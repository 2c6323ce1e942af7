"""The per-layer table: what makes each tensor, and what quantization and hardware made of it."""

import operator
from collections.abc import Mapping

import torch
from torch import fx, nn

from hlsgen.frontend.onnx_write import attention_macs
from hlsgen.models.attention import attend, attention_scores, cropped, depth_to_space, grown
from hlsgen.models.network import ATTENTION, activation_kind
from hlsgen.quantize.spec import TensorQ
from hlsgen.report.facts import LayerFacts


def layer_facts(
    network: fx.GraphModule,
    known: Mapping[str, tuple[int, int, int]],
    tensors: Mapping[str, TensorQ],
    sqnr: Mapping[str, float | None],
    mismatches: Mapping[str, int],
) -> tuple[LayerFacts, ...]:
    """One row for every node of the network that has a quantized tensor, in order of computation.

    Args:
        known: every tensor's (C, H, W) by node name (`hlsgen.frontend.onnx_write.shapes`). sqnr: in dB; of scores too many to
            keep there is none. mismatches: of the C-simulation; a node that no machine op writes, or whose values it does not
            compare, has none.
    """
    rows = []
    for node in network.graph.nodes:
        if node.name not in tensors or node.name not in known:
            continue
        q = tensors[node.name]
        rows.append(
            LayerFacts(
                name=node.name,
                kind=describe(network, node),
                shape=known[node.name],
                bits=q.bits,
                scale=q.scale,
                zero_point=q.zero_point,
                macs=_macs(network, node, known),
                sqnr_db=sqnr.get(node.name),
                mismatches=mismatches.get(node.name),
            )
        )
    return tuple(rows)


def describe(network: fx.GraphModule, node: fx.Node) -> str:
    """What makes the node's tensor, in a few words that begin with "convolution" or "activation" for those."""
    if node.op == "placeholder":
        return "image"
    if node.op == "get_attr":
        return "constant"
    if node.op != "call_module":
        names = {torch.add: "addition", torch.cat: "concatenation", operator.getitem: "split"}
        names |= {attention_scores: "attention scores", attend: "attention", grown: "zeros around", cropped: "cut"}
        names |= {depth_to_space: "channels to pixels"}
        return names.get(node.target, str(node.target)) if callable(node.target) else str(node.target)
    module = network.get_submodule(str(node.target))
    activation = activation_kind(module)
    if activation is not None:
        return f"activation {activation[0]}"
    if isinstance(module, nn.Conv2d):
        text = f"convolution {module.kernel_size[0]}×{module.kernel_size[1]}"
        text += f" stride {module.stride[0]}" if max(module.stride) > 1 else ""
        return text + (f" groups {module.groups}" if module.groups > 1 else "")
    if isinstance(module, nn.MaxPool2d):
        return f"max pool {module.kernel_size}×{module.kernel_size}"
    if isinstance(module, nn.Upsample):
        return "upsampling"
    return type(module).__name__


def _macs(network: fx.GraphModule, node: fx.Node, known: Mapping[str, tuple[int, int, int]]) -> int:
    if node.target in ATTENTION:
        return attention_macs(network, node, known)
    _, height, width = known[node.name]
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(module, nn.Conv2d):
        return 0
    return int(module.weight.numel()) * height * width
