"""A LayerList as hls4ml ModelGraph, and back."""

from pathlib import Path
from typing import Any

from hls4ml.model import ModelGraph

from hlsgen.backend.layer_list import LayerList
from hlsgen.backend.layers import ATTRIBUTES, WITHOUT_INPUTS, layouts_of, scheme_of
from hlsgen.backend.passes.check_shapes import output_shapes
from hlsgen.backend.plugin import NAME
from hlsgen.backend.rewrite import copied, finish
from hlsgen.names import identifier


def model_graph(layers: LayerList, project: str, output_dir: Path | str, part: str = "xc7z020") -> Any:
    """The hls4ml ModelGraph of a quantized network, typed but not fused: `run_passes` does that.

    project: name of the top function (an identifier). Raises HlsgenError where it is none.
    """
    config = {
        "Backend": NAME,
        "ProjectName": identifier(project, "a project"),
        "OutputDir": str(output_dir),
        "Part": part,
        "IOType": "io_parallel",
        "HLSConfig": {"Model": {"Precision": "ap_fixed<8,1,AP_RND_CONV,AP_SAT>", "ReuseFactor": 1}, "Flows": []},
    }
    # hls4ml takes *layers* as outputs; ours may be one output of a split, so they are set afterwards.
    inputs = [layer["name"] for layer in layers.layers if layer["class_name"] == "Input"]
    graph = ModelGraph.from_layer_list(config, [copied(layer) for layer in layers.layers], inputs, [])
    if any(layer.get("depth_to_space") for layer in layers.layers):
        _reshape(graph)
    finish(graph, layers)
    graph.config.config["OutputShapes"] = {v.name: list(v.shape) for v in graph.get_output_variables()}
    return graph


def _reshape(graph: Any) -> None:
    """Every tensor's shape by our rules: hls4ml's Conv2D does not know of channels that it makes pixels, nor what follows it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for node in graph.get_layers():
        inputs = [] if node.get_attr("class_name") in WITHOUT_INPUTS else [shapes[tensor] for tensor in node.inputs]
        for tensor, shape in zip(node.outputs, output_shapes(node, inputs), strict=True):
            shapes[tensor] = shape
            node.get_output_variable(tensor).shape = list(shape)


def layers_of(graph: Any) -> LayerList:
    """The layers of a ModelGraph made by `model_graph` (or adopted), before or after the passes."""
    layers = LayerList(scheme_of(graph), outputs=list(graph.outputs), layouts=layouts_of(graph))
    for node in graph.get_layers():
        kind = node.get_attr("class_name")
        known = {
            "name": node.name,
            "inputs": [] if kind in WITHOUT_INPUTS else list(node.inputs),
            "outputs": list(node.outputs),
        }
        layer = {
            key: known.get(key, node.get_attr(key)) for key in ATTRIBUTES[kind] if key in {**node.attributes, **known}
        }
        layers.layers.append(copied(layer))
        for tensor in node.outputs:
            c, h, w = node.get_output_variable(tensor).shape
            layers.shapes[tensor] = (c, h, w)
    return layers


def run_passes(graph: Any) -> None:
    """Run the flow `hlsgen:passes`: fuse what one machine op computes, and check the result.

    Raises:
        HlsgenError: an unsupported layer or an inconsistent graph.
    """
    graph.apply_flow("hlsgen:passes")
