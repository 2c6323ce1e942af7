"""What the passes ask of and do to a ModelGraph."""

import copy
from collections import OrderedDict
from typing import Any

from hls4ml.model.types import TensorVariable

from hlsgen.backend.layer_list import LayerList
from hlsgen.backend.layers import LAYOUTS_KEY, SCHEME_KEY
from hlsgen.errors import HlsgenError


def producer(model: Any, tensor: str) -> Any:
    """The node that computes `tensor`."""
    for node in model.get_layers():
        if tensor in node.outputs:
            return node
    raise HlsgenError(f"tensor {tensor} is used but no layer computes it")


def uses(model: Any, tensor: str) -> int:
    """How often `tensor` is read: by layers (twice by an addition to itself) and as an output of the network."""
    return sum(list(node.inputs).count(tensor) for node in model.get_layers()) + list(model.outputs).count(tensor)


def take_over(model: Any, conv: Any, node: Any) -> None:
    """Let `conv` compute what `node`, its only reader, does: it takes node's place in the order, name and tensor."""
    old, new = conv.outputs[0], node.outputs[0]
    variable = node.get_output_variable(new)
    for key in [k for k, v in conv.attributes.items() if isinstance(v, TensorVariable)]:
        del conv.attributes[key]
    del model.output_vars[old]
    order = [conv if layer is node else layer for layer in model.get_layers() if layer is not conv]
    conv.name, conv.outputs = new, [new]
    conv.set_attr("name", new)
    conv.set_attr("quant", dict(node.get_attr("quant")))
    conv.set_attr(new, variable)
    model.graph = OrderedDict((layer.name, layer) for layer in order)


def replace_layers(graph: Any, layers: LayerList) -> None:
    """Put `layers` in the place of everything in `graph`."""
    graph.graph.clear()
    graph.output_vars.clear()
    graph.index = 0
    graph.inputs = [layer["name"] for layer in layers.layers if layer["class_name"] == "Input"]
    graph.outputs = []
    graph._make_graph([copied(layer) for layer in layers.layers])
    finish(graph, layers)


def finish(graph: Any, layers: LayerList) -> None:
    """Graph-level facts and the hls4ml types of all tensors."""
    graph.outputs = list(layers.outputs)
    graph.config.config[SCHEME_KEY] = layers.scheme
    graph.config.config[LAYOUTS_KEY] = dict(layers.layouts)
    graph.apply_flow("hlsgen:types")


def copied(layer: dict[str, Any]) -> dict[str, Any]:
    """What a graph may change of a layer (names, lists, quantization), not its arrays."""
    return {key: copy.copy(value) if isinstance(value, list | dict) else value for key, value in layer.items()}
