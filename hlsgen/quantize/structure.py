"""What of a network decides its quantization: which convolutions feed a table, which tensors must share a scale."""

import math
import operator

import torch
from torch import fx, nn

from hlsgen.models import attention
from hlsgen.models.attention import attend, attention_scores, cropped, depth_to_space, grown
from hlsgen.models.network import ATTENTION, activation_kind, constant_of


def module_of(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that `node` calls, or None where it calls a function."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_tensor(node: fx.Node) -> bool:
    """Whether `node` has one tensor as its value: split has a tuple, the output node none."""
    return node.op != "output" and node.target is not torch.split


def activations_fed(network: fx.GraphModule) -> dict[str, fx.Node]:
    """By convolution: the one activation that its output feeds, where that is all it feeds (a wide pre-activation)."""
    found = {}
    for node in network.graph.nodes:
        if isinstance(module_of(network, node), nn.Conv2d) and len(node.users) == 1:
            user = next(iter(node.users))
            module = module_of(network, user)
            if module is not None and activation_kind(module) is not None:
                found[node.name] = user
    return found


def shared_scales(network: fx.GraphModule) -> dict[str, str]:
    """By node: the node whose quantization it has.

    split, getitem, max pool, upsampling and the like only move values, so they have their input's; the inputs of a cat become
    one tensor, so they share one (as torch.ao's FX mode does). Every other node has its own, unless a cat joined it.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in network.graph.nodes:
        if node.op == "output":
            continue
        parent[node.name] = node.name
        moves = isinstance(module_of(network, node), nn.MaxPool2d | nn.Upsample) or node.target in (
            torch.split,
            operator.getitem,
            torch.cat,
            grown,
            cropped,
            depth_to_space,
        )
        if moves:
            for source in node.all_input_nodes:
                parent[root(node.name)] = root(source.name)
    return {name: root(name) for name in parent}


def finest_of_constants(network: fx.GraphModule, share: dict[str, str]) -> dict[str, float]:
    """By node that gives others its scale (`shared_scales`): the finest power of two that clips no constant among them."""
    found: dict[str, float] = {}
    for node in network.graph.nodes:
        if node.op == "get_attr":
            largest = float(constant_of(network, node).abs().max())
            scale = 2.0 ** math.ceil(math.log2(largest / 127.5)) if largest else 0.0
            found[share[node.name]] = max(scale, found.get(share[node.name], 0.0))
    return found


def symmetric(network: fx.GraphModule) -> set[str]:
    """The nodes whose zero point must be 0, and all that share it: queries and keys."""
    share = shared_scales(network)
    held = {share[x.name] for n in network.graph.nodes if n.target is attention_scores for x in n.all_input_nodes}
    return {name for name, root in share.items() if root in held}


def sources(network: fx.GraphModule) -> set[str]:
    """The nodes that make new values (all but those that only move them): what calibration observes."""
    moving = (nn.MaxPool2d, nn.Upsample)
    return {
        node.name
        for node in network.graph.nodes
        if node.op in ("placeholder", "get_attr")
        or node.target in (torch.add, *ATTENTION)
        or (node.op == "call_module" and not isinstance(module_of(network, node), moving))
    }


def in_memory(network: fx.GraphModule) -> set[str]:
    """Of the `sources`, those whose values a float engine would write to memory as activations: not the image, which is
    8-bit integers as a camera gives them, no pre-activation, and no output, which is the last sum as it is."""
    exempt = {node.name for node in (placeholder(network), *outputs(network))}
    return sources(network) - exempt - set(activations_fed(network))


def left_out(network: fx.GraphModule, shape: tuple[int, int, int]) -> set[str]:
    """The nodes whose integers are not kept: scores too many for it. shape: the image's (C, H, W)."""
    from hlsgen.frontend.onnx_write import shapes

    known = shapes(network, shape)
    nodes = [node for node in network.graph.nodes if node.name in known]
    return {node.name for node in nodes if too_many(node, math.prod(known[node.name]))}


def too_many(node: fx.Node, elements: int) -> bool:
    """Whether these are scores that a softmax reads, too many to keep."""
    read = node.target is attention_scores and any(user.target is attend for user in node.users)
    return read and elements >= attention.MANY_SCORES


def placeholder(network: fx.GraphModule) -> fx.Node:
    """The image."""
    found: fx.Node = next(node for node in network.graph.nodes if node.op == "placeholder")
    return found


def ends(network: fx.GraphModule) -> tuple[set[str], set[str]]:
    """The convolutions that read the image or make an output, and the tensors on their inner side: what the first make (behind
    their activation, where one follows) and what the last read."""
    fed = activations_fed(network)
    first, last = {node.name for node in placeholder(network).users}, {node.name for node in outputs(network)}
    convs: set[str] = set()
    tensors: set[str] = set()
    for node in network.graph.nodes:
        if isinstance(module_of(network, node), nn.Conv2d):
            if node.name in first:
                convs.add(node.name)
                tensors.add(fed[node.name].name if node.name in fed else node.name)
            if node.name in last:
                convs.add(node.name)
                tensors.add(node.all_input_nodes[0].name)
    return convs, tensors


def outputs(network: fx.GraphModule) -> list[fx.Node]:
    """The network's outputs, in order."""
    held = network.graph.output_node().args[0]
    return [node for node in (held if isinstance(held, tuple | list) else (held,)) if isinstance(node, fx.Node)]
