"""adopt, rule by rule, on layer lists as hls4ml's front ends write them."""

from typing import Any

import numpy as np
import pytest
from hls4ml.model import ModelGraph

from hlsgen.backend.graph import layers_of
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import TensorQ

P = "ap_fixed<8,3,RND_CONV,SAT>"
Q = TensorQ(2.0**-5, 0)
WEIGHTS = np.random.default_rng(0).normal(0, 0.4, (3, 3, 3, 4))


def config(precision: Any = P, **layers: Any) -> dict[str, Any]:
    names = {name: {"Precision": value} for name, value in layers.items()}
    return {
        "Backend": "Hlsgen",
        "ProjectName": "net",
        "OutputDir": "out",
        "IOType": "io_parallel",
        "HLSConfig": {"Model": {"Precision": precision, "ReuseFactor": 1}, "LayerName": names},
    }


def image(*shape: int) -> dict[str, Any]:
    return {"class_name": "Input", "name": "x", "input_shape": list(shape or (8, 8, 3))}


def conv(name: str = "conv", **more: Any) -> dict[str, Any]:
    sides = {f"pad_{side}": 1 for side in ("top", "bottom", "left", "right")}
    sizes = {"in_height": 8, "in_width": 8, "out_height": 8, "out_width": 8, "filt_height": 3, "filt_width": 3}
    fixed = {"class_name": "Conv2D", "name": name, "data_format": "channels_last", "n_chan": 3, "n_filt": 4}
    data = {"weight_data": WEIGHTS, "bias_data": np.array([0.5, -0.25, 0.011, 3.0])}
    return {**fixed, **sizes, **sides, "stride_height": 1, "stride_width": 1, **data, **more}


def act(name: str, activation: str = "relu", **more: Any) -> dict[str, Any]:
    return {"class_name": "Activation", "name": name, "activation": activation, **more}


def pool(name: str = "pool", kind: str = "Max") -> dict[str, Any]:
    sides = {f"pad_{side}": 0 for side in ("top", "bottom", "left", "right")}
    sizes = {"in_height": 8, "in_width": 8, "out_height": 4, "out_width": 4, "pool_height": 2, "pool_width": 2}
    fixed = {"class_name": f"{kind}Pooling2D", "name": name, "data_format": "channels_last", "n_filt": 4}
    return {**fixed, **sizes, **sides, "stride_height": 2, "stride_width": 2}


def norm(scale: Any, bias: Any, **more: Any) -> dict[str, Any]:
    data = {"scale_data": np.array(scale, float), "bias_data": np.array(bias, float)}
    return {"class_name": "BatchNormalization", "name": "bn", "n_in": 256, "n_filt": 4, **data, **more}


def convert(layers: list[dict[str, Any]], settings: dict[str, Any] | None = None, **more: Any) -> Any:
    return ModelGraph.from_layer_list(settings or config(), layers, **more)


def refused(match: str, layers: list[dict[str, Any]], settings: dict[str, Any] | None = None) -> None:
    with pytest.raises(HlsgenError, match=match):
        convert(layers, settings)


def test_results_and_weights_take_the_configured_precision() -> None:
    graph = convert([image(), conv(), act("relu")], config(conv={"result": "ap_fixed<12,5,RND_CONV,SAT>"}))
    assert [node.name for node in graph.get_layers()] == ["x", "relu"]
    node = graph.graph["relu"]
    assert node.get_attr("pre") == TensorQ(2.0**-7, 0, 12)
    assert node.get_attr("quant") == {"relu": Q}
    assert np.array_equal(node.get_attr("weight_data"), np.clip(np.rint(WEIGHTS * 32), -128, 127))
    assert node.get_attr("weight_scale").tolist() == [2.0**-5] * 4
    # biases: ap_fixed<8,3> first (0.011 is nothing, 3.0 is exact), then units of 2**-10
    assert node.get_attr("bias_data").tolist() == [512, -256, 0, 3072]
    assert graph.config.config["HlsgenScheme"] == "fixed"
    assert graph.config.config["InputShapes"] == {"x": [3, 8, 8]}


def test_weights_of_fewer_bits_and_truncated() -> None:
    graph = convert([image(), conv()], config(conv={"weight": "ap_fixed<6,2>", "bias": "ap_fixed<16,4>", "result": P}))
    node = graph.graph["conv"]
    assert np.array_equal(node.get_attr("weight_data"), np.floor(WEIGHTS * 16))
    assert node.get_attr("bias_data").tolist() == [256, -128, round(np.floor(0.011 * 4096) / 4096 * 512), 1536]


@pytest.mark.parametrize(
    ("precision", "got"),
    [
        ("ap_fixed<16,6>", r"fixed<16,6,TRN,WRAP,0>"),
        ("ap_fixed<8,3>", r"fixed<8,3,TRN,WRAP,0>"),
        ("ap_ufixed<8,3,RND_CONV,SAT>", r"ufixed<8,3,RND_CONV,SAT,0>"),
        ("ap_fixed<7,3,RND_CONV,SAT>", r"fixed<7,3,RND_CONV,SAT,0>"),
        ("ap_int<8>", "int<8>"),
        ("auto", "auto"),
        ("float", "float"),
    ],
)
def test_other_results_are_refused_with_what_to_set(precision: str, got: str) -> None:
    expected = rf"layer conv: expected a result of ap_fixed<8,I,RND_CONV,SAT>, got {got}; set it in the hls4ml config"
    refused(expected, [image(), conv()], config(conv={"result": precision, "weight": P, "bias": P}))


def test_only_what_one_activation_reads_may_be_wide() -> None:
    wide = config(conv={"result": "ap_fixed<12,5,RND_CONV,SAT>", "weight": P, "bias": P})
    refused("layer conv: expected a result of ap_fixed<8,I", [image(), conv(), pool()], wide)
    two = [image(), conv(), act("relu", inputs=["conv"]), act("other", "sigmoid", inputs=["conv"])]
    refused("layer conv: expected a result of ap_fixed<8,I", two, wide)
    too_wide = config(conv={"result": "ap_fixed<17,5,RND_CONV,SAT>", "weight": P, "bias": P})
    refused(r"ap_fixed<8\.\.16,I,RND_CONV,SAT>, got fixed<17", [image(), conv(), act("relu")], too_wide)


def test_weights_that_do_not_fit_are_refused() -> None:
    for precision, match in (
        ("ap_fixed<9,3,RND_CONV,SAT>", "layer conv: expected weights that fit 8 bits, got fixed<9,3"),
        ("ap_ufixed<8,3,RND_CONV,SAT>", "layer conv: expected weights that fit 8 bits, got ufixed<8,3"),
        ("auto", "layer conv: expected weights that fit 8 bits, got auto; set Precision/weight to ap_fixed<8,I,RND"),
        (
            "ap_fixed<8,0>",
            r"layer conv: weights up to [0-9.]+ overflow fixed<8,0,TRN,WRAP,0>; set Precision/weight to more",
        ),
        ("ap_fixed<8,3,RND_INF,SAT>", "layer conv: expected weights rounded by TRN or RND_CONV, got fixed<8,3,RND_INF"),
    ):
        refused(
            match, [image(), conv(weight_data=WEIGHTS * 8)], config(conv={"result": P, "weight": precision, "bias": P})
        )
    broken = WEIGHTS.copy()
    broken[0, 0, 0, 0] = np.nan
    refused("layer conv: its weights hold NaN or infinity", [image(), conv(weight_data=broken)])
    refused("layer conv: biases? up to|a bias of", [image(), conv(bias_data=np.full(4, 1e9))], _auto_bias())


def _auto_bias() -> dict[str, Any]:
    return config(conv={"result": P, "weight": P, "bias": "auto"})


def test_an_auto_bias_has_the_accumulators_scale() -> None:
    graph = convert([image(), conv()], _auto_bias())
    assert graph.graph["conv"].get_attr("bias_data").tolist() == [512, -256, round(0.011 * 1024), 3072]


def test_auto_results_follow_from_the_activation() -> None:
    settings = config(
        x={"result": "auto"},
        conv={"result": "auto", "weight": P, "bias": P},
        relu={"result": "auto"},
        pool={"result": "auto"},
    )
    layers = [image(), act("q", "linear"), conv(), act("relu", "ReLU"), act("quant", "linear"), pool()]
    graph = convert(layers, settings)
    assert [node.get_attr("activation") for node in graph.get_layers()] == [None, "relu", None]
    assert all(node.get_attr("quant") == {node.name: Q} for node in graph.get_layers())
    layers = [image(), act("q", "linear"), conv(), act("other", "sigmoid")]
    refused("layer conv: .* got auto", layers, settings)


def test_a_linear_activation_is_a_table_where_it_changes_the_precision() -> None:
    graph = convert([image(), conv(), act("other", "linear")], config(other={"result": "ap_fixed<8,4,RND_CONV,SAT>"}))
    node = graph.graph["other"]
    assert (node.get_attr("activation"), node.get_attr("pre")) == ("identity", Q)
    assert node.get_attr("quant") == {"other": TensorQ(2.0**-4, 0)}


def test_layers_that_move_values_keep_the_precision() -> None:
    wrong = config(pool={"result": "ap_fixed<8,4,RND_CONV,SAT>"})
    match = (
        r"layer pool \(Pooling2D\) moves values: expected the precision of its input conv \(fixed<8,3,.*got fixed<8,4"
    )
    refused(match, [image(), conv(), pool()], wrong)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_layouts_become_channels_first(layout: str) -> None:
    """One network in hls4ml's two layouts; both hold weights as [KH, KW, I, O]."""
    first = layout == "channels_first"
    dense = np.random.default_rng(1).normal(0, 0.4, (4, 4, 4, 5))  # H, W, C, O
    flat = dense.transpose(2, 0, 1, 3) if first else dense
    layers = [
        image(*((3, 8, 8) if first else (8, 8, 3))),
        conv(data_format=layout),
        {**pool(), "data_format": layout},
        {"class_name": "Reshape", "name": "flatten", "target_shape": [64]},
        {
            "class_name": "Dense",
            "name": "fc",
            "n_in": 64,
            "n_out": 5,
            "weight_data": flat.reshape(64, 5),
            "bias_data": None,
        },
    ]
    graph = convert(layers)
    assert [node.get_output_variable().shape for node in graph.get_layers()] == [
        [3, 8, 8],
        [4, 8, 8],
        [4, 4, 4],
        [5, 1, 1],
    ]
    fc = graph.graph["fc"]
    assert fc.class_name == "Conv2D"
    assert np.array_equal(fc.get_attr("weight_data"), np.clip(np.rint(dense * 32), -128, 127))
    assert fc.get_attr("bias_data").tolist() == [0] * 5
    assert graph.config.config["HlsgenLayouts"] == {"x": layout, "fc": layout}


def test_transpositions_between_layouts_are_free() -> None:
    layers = [
        image(3, 8, 8),
        {"class_name": "Transpose", "name": "to_last", "perm": [1, 2, 0]},
        conv(),
        {"class_name": "Transpose", "name": "to_first", "perm": [2, 0, 1]},
    ]
    graph = convert(layers)
    assert [node.name for node in graph.get_layers()] == ["x", "conv"]
    assert graph.outputs == ["conv"]
    assert graph.config.config["HlsgenLayouts"] == {"x": "channels_first", "conv": "channels_first"}
    layers[3]["perm"] = [1, 0, 2]
    refused(r"layer to_first \(Transpose\) is not supported; .*only change between channels_first", layers)


def test_depthwise_and_grouped_convolutions() -> None:
    weights = np.random.default_rng(2).normal(0, 0.4, (3, 3, 3, 2))  # KH, KW, C, multiplier
    layer = conv(
        class_name="DepthwiseConv2D", n_filt=6, depth_multiplier=2, depthwise_data=weights, bias_data=np.zeros(6)
    )
    node = convert([image(), layer]).graph["conv"]
    assert node.get_attr("groups") == 3
    assert node.class_name == "Conv2D"
    assert np.array_equal(
        node.get_attr("weight_data")[:, :, 0, 5], np.clip(np.rint(weights[:, :, 2, 1] * 32), -128, 127)
    )


def test_a_normalization_is_folded_into_the_layer_before() -> None:
    scale, shift = [1.5, -0.5, 0.25, 1.0], [0.5, 0.0, -0.25, 1.0]
    graph = convert(
        [image(), conv(), norm(scale, shift), act("relu")], config(conv={"result": "auto", "weight": P, "bias": P})
    )
    node = graph.graph["relu"]
    assert node.get_attr("conv_name") == "conv"  # hls4ml's own folding, where the precision between is open
    expected = np.clip(np.rint(WEIGHTS * scale * 32), -128, 127)
    assert np.array_equal(node.get_attr("weight_data"), expected)


def test_a_normalization_is_folded_where_both_precisions_are_given() -> None:
    scale, shift = np.array([1.5, -0.5, 0.25, 1.0]), np.array([0.5, 0.0, -0.25, 1.0])
    no_bias = conv(bias_data=None)  # hls4ml types a missing bias as one bit
    node = convert([image(), no_bias, norm(scale, shift), act("relu")]).graph["relu"]
    assert node.get_attr("conv_name") == "bn"
    assert np.array_equal(node.get_attr("weight_data"), np.clip(np.rint(WEIGHTS * scale * 32), -128, 127))
    assert node.get_attr("bias_data").tolist() == (shift * 1024).tolist()
    repeated = norm(np.broadcast_to(scale, (8, 8, 4)), np.zeros(1))  # as hls4ml makes it of a constant Mul
    node = convert([image(), conv(), repeated]).graph["bn"]
    assert np.array_equal(node.get_attr("weight_data"), np.clip(np.rint(WEIGHTS * scale * 32), -128, 127))
    assert (
        node.get_attr("bias_data").tolist() == (np.rint(np.array([0.5, -0.25, 0.011, 3.0]) * scale * 32) * 32).tolist()
    )
    uneven = np.random.default_rng(3).normal(0, 1, (8, 8, 4))
    refused(r"layer bn: expected one scale a channel \(4\), got \(8, 8, 4\)", [image(), conv(), norm(uneven, 0.0)])


def test_a_normalization_elsewhere_is_refused() -> None:
    refused(
        r"layer bn \(BatchNormalization\) is not supported", [image(), conv(), act("relu"), norm([1.0] * 4, [1.0] * 4)]
    )
    shared = [
        image(),
        conv(),
        norm([2.0] * 4, [0.0] * 4),
        {"class_name": "Merge", "op": "add", "name": "sum", "inputs": ["conv", "bn"]},
    ]
    refused(r"layer bn \(BatchNormalization\) is not supported", shared)


def test_additions_and_concatenations() -> None:
    layers = [
        image(),
        conv("one", inputs=["x"]),
        conv("two", inputs=["x"]),
        {"class_name": "Merge", "op": "add", "name": "total", "inputs": ["one", "two"]},
        {"class_name": "Concatenate", "op": "concatenate3d", "axis": 3, "name": "joined", "inputs": ["total", "x"]},
    ]
    graph = convert(layers)
    assert [(node.class_name, node.inputs) for node in graph.get_layers()][2:] == [
        ("Conv2D", ["x", "one"]),
        ("Concatenate", ["total", "x"]),
    ]
    assert graph.graph["joined"].get_output_variable().shape == [7, 8, 8]
    layers[4]["axis"] = 1
    layers[4]["inputs"] = ["total", "one"]
    refused(r"layer joined \(Concatenate concatenate3d\) is not supported; .*along the channels only", layers)
    layers[3]["op"] = "multiply"
    refused(r"layer total \(Merge multiply\) is not supported", layers)


def test_names_become_identifiers() -> None:
    nasty = 'c"; system("rm -rf /'
    layers = [{**image(), "name": "in/put:0"}, conv(nasty), act("../../relu"), act("9", "sigmoid")]
    graph = convert(layers)
    assert [node.name for node in graph.get_layers()] == ["in_put_0", "______relu", "t_9"]
    assert graph.graph["______relu"].get_attr("conv_name") == "c___system__rm__rf__"


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (act("a", "tanh"), r"layer a \(Activation tanh\) is not supported; supported are Input, Conv2D"),
        (
            {**act("a", "softmax"), "class_name": "Softmax"},
            r"layer a \(Softmax softmax\).*leave the softmax out of the model",
        ),
        (pool("a", "Average"), r"layer a \(Pooling2D Average\) is not supported"),
        (
            conv("a", n_chan=4, weight_data=np.ones((3, 3, 4, 4)), dilation=2),
            r"layer a \(Conv2D\).*dilation is not computed",
        ),
        (conv("a", data_format="channels_first", in_height=4), "expected layers of one data format, got both"),
        (
            {"class_name": "GlobalMaxPooling2D", "name": "a", "in_height": 8, "in_width": 8, "n_filt": 4},
            r"layer a \(GlobalP",
        ),
        (
            {"class_name": "Reshape", "name": "a", "target_shape": [16, 16]},
            r"layer a \(Reshape\).*may only flatten a map",
        ),
        (
            {
                "class_name": "Dense",
                "name": "a",
                "n_in": 4,
                "n_out": 4,
                "weight_data": np.ones((4, 4)),
                "bias_data": None,
            },
            r"layer a \(Dense\) is not supported; .*expects a flat input, got \(4, 8, 8\)",
        ),
    ],
)
def test_other_layers_are_refused(layer: dict[str, Any], match: str) -> None:
    refused(match, [image(), conv(), layer])


def test_a_graph_of_ours_is_left_alone() -> None:
    graph = convert([image(), conv(), act("relu"), pool()])
    layers = layers_of(graph)
    again = ModelGraph.from_layer_list({**config(), "HlsgenScheme": "fixed"}, [dict(layer) for layer in layers.layers])
    assert [node.name for node in again.get_layers()] == ["x", "relu", "pool"]
    with pytest.raises(HlsgenError, match="expected HlsgenScheme in the graph's configuration to be one of"):
        convert([dict(layer) for layer in layers.layers])
