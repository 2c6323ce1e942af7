"""fuse_activation, rule by rule."""

import pytest
from torch import nn

from hlsgen.backend.graph import run_passes
from hlsgen.models.network import ACTIVATIONS
from hlsgen.quantize.spec import TensorQ
from tests.unit._backend_nets import Net, graph_of

MODULES = [(cls(), kind, 0.01 if cls is nn.LeakyReLU else 0.0) for cls, kind in ACTIVATIONS.items()]


@pytest.mark.parametrize(("module", "kind", "parameter"), [*MODULES, (nn.LeakyReLU(0.1), "leaky_relu", 0.1)])
def test_the_convolution_takes_over_the_activation(module: nn.Module, kind: str, parameter: float) -> None:
    net = Net()
    x = net.module("act", module, net.conv("conv", net.image(), 3, 4))
    graph = graph_of(net.outputs(net.module("pool", nn.MaxPool2d(2), x)), (3, 8, 8))
    before = graph.graph["act"].get_output_variable()
    run_passes(graph)
    assert [node.name for node in graph.get_layers()] == ["image", "act", "pool"]
    conv = graph.graph["act"]
    assert (conv.class_name, conv.inputs, conv.outputs, conv.get_attr("name")) == ("Conv2D", ["image"], ["act"], "act")
    assert conv.get_attr("conv_name") == "conv"
    assert conv.get_attr("activation") == kind
    assert conv.get_attr("activation_parameter") == parameter
    assert conv.get_attr("pre") == TensorQ(2.0**-8, 0, 12)
    assert conv.get_attr("quant") == {"act": TensorQ(2.0**-4, 0)}
    assert conv.get_output_variable() is before
    assert graph.get_layer_output_variable("act") is before
    assert graph.get_layer_output_variable("conv") is None


def test_an_activation_that_is_an_output_is_fused() -> None:
    net = Net()
    graph = graph_of(net.outputs(net.silu("act", net.conv("conv", net.image(), 3, 4))), (3, 8, 8))
    run_passes(graph)
    assert [node.name for node in graph.get_layers()] == ["image", "act"]
    assert graph.outputs == ["act"]
    assert graph.get_output_variables()[0].shape == [4, 8, 8]


def test_a_convolution_that_something_else_reads_keeps_its_tensor() -> None:
    net = Net()
    conv = net.conv("conv", net.image(), 3, 4)
    graph = graph_of(net.outputs(net.add("total", net.silu("act", conv), conv)), (3, 8, 8))
    run_passes(graph)
    assert [node.name for node in graph.get_layers()] == ["image", "conv", "act", "total"]
    assert graph.graph["conv"].get_attr("activation") is None


def test_two_activations_of_one_convolution_stay() -> None:
    net = Net()
    conv = net.conv("conv", net.image(), 3, 4)
    graph = graph_of(net.outputs(net.silu("one", conv), net.module("two", nn.ReLU(), conv)), (3, 8, 8))
    run_passes(graph)
    assert [node.name for node in graph.get_layers()] == ["image", "conv", "one", "two"]


def test_a_second_activation_and_one_behind_an_addition_stay() -> None:
    net = Net()
    image = net.image()
    twice = net.module("relu", nn.ReLU(), net.silu("act", net.conv("conv", image, 3, 4)))
    added = net.module("after", nn.ReLU(), net.add("total", net.conv("other", image, 3, 4), twice))
    graph = graph_of(net.outputs(added), (3, 8, 8))
    run_passes(graph)
    assert [node.name for node in graph.get_layers()] == ["image", "act", "relu", "total", "after"]
    assert graph.graph["total"].class_name == "Conv2D"
    assert graph.graph["total"].get_attr("activation") is None
    assert graph.graph["after"].get_attr("activation_parameter") == 0.0
