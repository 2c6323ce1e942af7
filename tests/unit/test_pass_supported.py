"""supported: what the engine does not compute is named."""

import pytest

from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.backend.layer_list import LayerList
from hlsgen.backend.library import image_of
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import TensorQ
from tests.unit._backend_nets import bottleneck, graph_of

Q = TensorQ(0.5, 0)


def layers() -> LayerList:
    made = LayerList("fixed")
    made.image("image", (4, 6, 6), Q)
    made.max_pool("pool", "image", Q, (2, 2), (2, 2), (0, 0, 0, 0))
    made.outputs = ["pool"]
    return made


def test_a_supported_graph_passes() -> None:
    run_passes(model_graph(layers(), "net", "out"))
    run_passes(graph_of(bottleneck(), (3, 16, 16)))


def test_other_layer_classes_are_refused() -> None:
    made = layers()
    made.layers[1]["class_name"] = "AveragePooling2D"
    with pytest.raises(HlsgenError, match=r"layer pool \(Pooling2D\) is not supported; supported are Input, Conv2D"):
        run_passes(model_graph(made, "net", "out"))


def test_other_activations_and_merges_are_refused() -> None:
    made = layers()
    made.activation("act", "pool", Q, "tanh")
    made.outputs = ["act"]
    with pytest.raises(HlsgenError, match=r"layer act \(Activation tanh\) is not supported; .*silu, sigmoid, relu"):
        run_passes(model_graph(made, "net", "out"))
    made = layers()
    made.add("total", "pool", "pool", Q)
    made.layers[-1]["op"] = "multiply"
    made.outputs = ["total"]
    with pytest.raises(HlsgenError, match=r"layer total \(Merge multiply\) is not supported"):
        run_passes(model_graph(made, "net", "out"))


def test_a_tensor_without_quantization_is_refused() -> None:
    made = layers()
    made.layers[1]["quant"] = {"other": Q}
    graph = model_graph(layers(), "net", "out")
    graph.graph["pool"].set_attr("quant", {"other": Q})
    with pytest.raises(HlsgenError, match="layer pool: tensor pool has no quantization; quantize the network first"):
        run_passes(graph)


def test_inputs_and_outputs_are_checked() -> None:
    made = layers()
    made.image("second", (4, 6, 6), Q)
    two = model_graph(made, "net", "out")
    run_passes(two)
    with pytest.raises(HlsgenError, match=r"expected a network with one input, got 2 \(image, second\)"):
        image_of(two)
    graph = model_graph(layers(), "net", "out")
    graph.outputs = ["pool", "lost"]
    with pytest.raises(HlsgenError, match="output lost of the network is not computed by any layer"):
        run_passes(graph)
