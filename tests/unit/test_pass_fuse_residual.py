"""fuse_residual, rule by rule."""

from torch import nn

from hlsgen.backend.graph import run_passes
from hlsgen.quantize.spec import TensorQ
from tests.unit._backend_nets import Net, graph_of


def test_the_convolution_takes_over_the_addition() -> None:
    net = Net()
    x = net.silu("first_act", net.conv("first", net.image(), 3, 4))
    y = net.silu("second_act", net.conv("second", x, 4, 4))
    graph = graph_of(net.outputs(net.cat("cat", net.add("total", x, y), x)), (3, 8, 8))
    run_passes(graph)
    assert [node.name for node in graph.get_layers()] == ["image", "first_act", "total", "cat"]
    conv = graph.graph["total"]
    assert (conv.class_name, conv.inputs, conv.outputs) == ("Conv2D", ["first_act", "first_act"], ["total"])
    assert (conv.get_attr("residual"), conv.get_attr("conv_name")) == ("first_act", "second")
    assert conv.get_attr("activation") == "silu"
    assert conv.get_attr("residual_quant") == TensorQ(2.0**-4, 0)
    assert conv.get_attr("pre") == TensorQ(2.0**-8, 0, 12)
    assert graph.graph["first_act"].get_attr("residual") is None


def test_a_convolution_without_activation_takes_it_too() -> None:
    net = Net()
    image = net.image()
    graph = graph_of(net.outputs(net.add("total", net.conv("conv", image, 3, 3), image)), (3, 8, 8))
    run_passes(graph)
    conv = graph.graph["total"]
    assert (conv.inputs, conv.get_attr("residual"), conv.get_attr("conv_name")) == (["image", "image"], "image", "conv")
    assert conv.get_attr("activation") is None
    assert conv.get_attr("pre") is None
    assert conv.get_attr("residual_quant") == TensorQ(2.0**-4, 0)


def test_the_later_of_two_convolutions_takes_it() -> None:
    for swapped in (False, True):
        net = Net()
        image = net.image()
        a, b = net.conv("a", image, 3, 4), net.conv("b", image, 3, 4)
        graph = graph_of(net.outputs(net.add("total", *((b, a) if swapped else (a, b)))), (3, 8, 8))
        run_passes(graph)
        assert [node.name for node in graph.get_layers()] == ["image", "a", "total"]
        assert graph.graph["total"].get_attr("conv_name") == "b"
        assert graph.graph["total"].get_attr("residual") == "a"


def test_an_operand_computed_after_the_convolution_comes_before_it() -> None:
    net = Net()
    image = net.image()
    conv = net.conv("conv", image, 3, 3)
    pool = net.module("pool", nn.MaxPool2d(3, 1, 1), image)
    graph = graph_of(net.outputs(net.add("total", conv, pool)), (3, 8, 8))
    run_passes(graph)
    assert [node.name for node in graph.get_layers()] == ["image", "pool", "total"]
    assert graph.graph["total"].inputs == ["image", "pool"]


def test_additions_that_stay() -> None:
    net = Net()
    image = net.image()
    shared = net.conv("shared", image, 3, 3)
    doubled = net.add("doubled", net.conv("twice", image, 3, 3), net.conv("kept", image, 3, 3))
    itself = net.add("itself", doubled, doubled)  # both operands one tensor
    read_twice = net.add("read_twice", shared, itself)  # its convolution is an output too
    chained = net.add("chained", net.add("inner", net.conv("conv", image, 3, 3), image), read_twice)
    graph = graph_of(net.outputs(chained, shared), (3, 8, 8))
    run_passes(graph)
    classes = {node.name: node.class_name for node in graph.get_layers()}
    assert classes["itself"] == classes["read_twice"] == classes["chained"] == "Merge"
    assert classes["doubled"] == classes["inner"] == "Conv2D"
    same = Net()
    conv = same.conv("conv", same.image(), 3, 3)
    graph = graph_of(same.outputs(same.add("total", conv, conv)), (3, 8, 8))
    run_passes(graph)
    assert [node.class_name for node in graph.get_layers()] == ["Input", "Conv2D", "Merge"]
