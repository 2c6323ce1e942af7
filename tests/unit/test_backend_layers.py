"""Networks as layer lists and ModelGraphs: names, shapes, layouts, types, and what is refused."""

import operator
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hls4ml.model.types import FixedPrecisionType, IntegerPrecisionType
from torch import fx, nn

from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import layers_of, model_graph, run_passes
from hlsgen.backend.layer_list import LayerList
from hlsgen.backend.store import read, save
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import SCHEMES, ConvQ, QuantSpec, Scheme, TensorQ
from tests.unit._backend_nets import Net, bottleneck, equal, graph_of, quantization, yolov8n_like


def shape_of(network: fx.GraphModule, size: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """(C, H, W) of every node by running the float network."""
    shapes = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                shapes[n.name] = tuple(value.shape[1:])
            return value

    Recorder(network).run(torch.zeros(1, *size))
    return shapes


@pytest.mark.parametrize("size", [(3, 16, 16), (3, 18, 22)])
def test_names_order_and_shapes_are_the_networks(size: tuple[int, int, int]) -> None:
    network = bottleneck()
    layers = layer_list(network, quantization(network), size)
    expected = shape_of(network, size)
    assert [layer["name"] for layer in layers.layers] == [
        node.name for node in network.graph.nodes if node.name not in ("parts_0", "parts_1", "output")
    ]
    assert layers.outputs == ["head", "joined"]
    assert layers.shapes == {name: shape for name, shape in expected.items() if name in layers.shapes}
    graph = model_graph(layers, "net", "out")
    for name in layers.shapes:
        assert tuple(graph.get_layer_output_variable(name).shape) == expected[name]
    assert [v.shape for v in graph.get_output_variables()] == [list(expected["head"]), list(expected["joined"])]


def test_convolutions_hold_integers_in_hls4mls_layout() -> None:
    net = Net()
    x = net.conv("first", net.image(), 4, 8, 3, s=2, groups=2)
    network = net.outputs(net.conv("same", x, 8, 6, 2, padding="same"))
    spec = quantization(network)
    graph = model_graph(layer_list(network, spec, (4, 9, 12)), "net", "out")
    first, same = graph.graph["first"], graph.graph["same"]
    weight = first.weights["weight"].data
    assert weight.shape == (3, 3, 2, 8)
    assert weight.dtype == np.int8
    assert np.array_equal(weight[1, 2, 0, 5], spec.convs["first"].weight[5, 0, 1, 2])
    assert np.array_equal(first.weights["bias"].data, spec.convs["first"].bias)
    assert first.weights["weight"].type.precision == IntegerPrecisionType(8)
    assert first.get_attr("groups") == 2
    assert first.get_output_variable().shape == [8, 5, 6]
    assert [same.get_attr(f"pad_{side}") for side in ("top", "bottom", "left", "right")] == [0, 1, 0, 1]
    assert same.get_output_variable().shape == [6, 5, 6]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tensors_have_the_hls4ml_type_of_their_quantization(scheme: Scheme) -> None:
    network = bottleneck()
    graph = model_graph(layer_list(network, quantization(network, scheme), (3, 16, 16)), "net", "out")
    memory, pre = (graph.graph[name].get_output_variable().type.precision for name in ("stem_act", "stem"))
    if scheme == "fixed":
        assert memory == FixedPrecisionType(8, 4, True, "RND_CONV", "SAT")
        assert pre == FixedPrecisionType(12, 4, True, "RND_CONV", "SAT")
    else:
        assert memory == IntegerPrecisionType(8)
        assert pre == IntegerPrecisionType(8 if scheme == "native" else 12)
    for part in ("parts_0", "parts_1"):
        assert graph.graph["parts"].get_output_variable(part).type.precision == memory


def test_split_outputs_may_be_unused_taken_twice_and_outputs_of_the_network() -> None:
    net = Net()
    x = net.conv("conv", net.image(), 3, 9)
    parts = net.function("parts", torch.split, x, [4, 2, 3], 1)
    last = net.function("last", operator.getitem, parts, 2)
    again = net.function("again", operator.getitem, parts, -1)
    network = net.outputs(net.add("total", last, again), last)
    graph = graph_of(network, (3, 8, 8))
    split = graph.graph["parts"]
    assert split.outputs == ["parts_unused0", "parts_unused1", "last"]
    assert [split.get_output_variable(name).shape[0] for name in split.outputs] == [4, 2, 3]
    assert graph.graph["total"].inputs == ["last", "last"]
    assert graph.outputs == ["total", "last"]
    run_passes(graph)


@pytest.mark.parametrize("name", ["quant", "weight", "weight_data", "residual", "pre", "op", "axis", "outputs", "bias"])
def test_a_layer_may_be_named_like_an_attribute(name: str) -> None:
    """hls4ml keeps a layer's tensors among its attributes; a network's names are not ours to choose."""
    net = Net()
    x = net.silu(f"{name}_act", net.conv(name, net.image(), 4, 4))
    y = net.conv("second", x, 4, 4)
    network = net.outputs(net.add("total", x, y), net.cat(f"{name}_cat", x, x))
    renamed = Net()
    x = renamed.silu(name, renamed.conv("first", renamed.image(), 4, 4))
    y = renamed.conv("second", x, 4, 4)
    other = renamed.outputs(renamed.add("total", x, y), renamed.cat("cat_all", x, x))
    for candidate, cat in ((network, f"{name}_cat"), (other, "cat_all")):
        layers = layer_list(candidate, quantization(candidate), (4, 6, 6))
        graph = model_graph(layers, "net", "out")
        assert equal(layers_of(graph), layers)
        run_passes(graph)
        assert [n.name for n in graph.get_layers()][-2:] == ["total", cat]


def test_yolov8n_goes_through_in_two_seconds(tmp_path: Path) -> None:
    network = yolov8n_like()
    spec = quantization(network)
    begin = time.perf_counter()
    graph = model_graph(layer_list(network, spec, (3, 640, 640)), "net", tmp_path)
    run_passes(graph)
    save(graph, tmp_path)
    read(tmp_path, "net", tmp_path)
    seconds = time.perf_counter() - begin
    assert seconds < 2
    assert len(spec.convs) == 63
    assert sum(node.class_name == "Conv2D" for node in graph.get_layers()) == 63
    assert not [node.name for node in graph.get_layers() if node.class_name in ("Activation", "Merge")]


def without(spec: QuantSpec, tensor: str = "", conv: str = "") -> QuantSpec:
    return replace(
        spec,
        tensors={k: v for k, v in spec.tensors.items() if k != tensor},
        convs={k: v for k, v in spec.convs.items() if k != conv},
    )


def test_a_spec_of_another_network_is_refused() -> None:
    network = bottleneck()
    spec = quantization(network)
    with pytest.raises(HlsgenError, match="tensor pooled has no scale; quantize the network that is to be built"):
        layer_list(network, without(spec, tensor="pooled"), (3, 16, 16))
    with pytest.raises(HlsgenError, match="convolution head has no integer weights"):
        layer_list(network, without(spec, conv="head"), (3, 16, 16))
    other = {**spec.convs, "head": spec.convs["inner"]}
    with pytest.raises(HlsgenError, match=r"convolution head: its integer weights are \(4, 4, 3, 3\), its float"):
        layer_list(network, replace(spec, convs=other), (3, 16, 16))


def test_sizes_that_do_not_fit_are_refused() -> None:
    network = bottleneck()
    with pytest.raises(HlsgenError, match=r"weights \[8, 3, 3, 3\] in 1 groups do not fit 4 channels"):
        layer_list(network, quantization(network), (4, 16, 16))
    net = Net()
    network = net.outputs(net.conv("conv", net.image(), 3, 4, 5, padding=0))
    with pytest.raises(HlsgenError, match=r"layer conv: its output would be \(4, 0, 1\)"):
        layer_list(network, quantization(network), (3, 4, 5))
    q = TensorQ(0.5, 0)
    layers = LayerList("fixed")
    layers.image("a", (2, 4, 4), q)
    layers.max_pool("b", "a", q, (2, 2), (2, 2), (0, 0, 0, 0))
    with pytest.raises(HlsgenError, match="cannot add a"):
        layers.add("c", "a", "b", q)
    with pytest.raises(HlsgenError, match="heights and widths differ"):
        layers.concat("c", ["a", "b"], q)
    with pytest.raises(HlsgenError, match="cannot split 2 channels of a into"):
        layers.split("c", "a", [1, 2], {"d": q, "e": q})
    with pytest.raises(HlsgenError, match="two layers are named b"):
        layers.max_pool("b", "a", q, (1, 1), (1, 1), (0, 0, 0, 0))
    integers = ConvQ(np.zeros((2, 2, 1, 1), np.int8), np.ones(3), np.zeros(2, np.int32))
    with pytest.raises(HlsgenError, match="expected 2 biases and weight scales"):
        layers.conv2d("c", "a", q, integers, (1, 1), (0, 0, 0, 0), 1)


@pytest.mark.parametrize("name", ['x"; system("rm', "../../x", "a b", "1x", "input", "é", ""])
def test_names_that_are_no_identifiers_are_refused(name: str) -> None:
    layers = LayerList("fixed")
    with pytest.raises(HlsgenError, match="rename it"):
        layers.image(name, (3, 4, 4), TensorQ(0.5, 0))
    if name != "input":
        layers.image("x", (3, 4, 4), TensorQ(0.5, 0))
        with pytest.raises(HlsgenError, match="rename it"):
            model_graph(layers, name, "out")


def test_unsupported_modules_are_refused() -> None:
    net = Net()
    network = net.outputs(net.module("norm", nn.BatchNorm2d(3), net.image()))
    with pytest.raises(HlsgenError, match="operator BatchNorm2d at norm is not supported; supported are"):
        layer_list(network, quantization(network), (3, 4, 4))
    net = Net()
    network = net.outputs(net.module("up", nn.Upsample(scale_factor=1.5), net.image()))
    with pytest.raises(
        HlsgenError, match=r"upsampling up: expected mode nearest and integer factors, got nearest and 1\.5"
    ):
        layer_list(network, quantization(network), (3, 4, 4))
