"""check_shapes: each postcondition fails where a graph breaks it, and only there."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from hlsgen.backend.graph import run_passes
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import SCHEMES, Scheme, TensorQ
from tests.unit._backend_nets import bottleneck, graph_of, yolov8n_like


def fused() -> Any:
    graph = graph_of(bottleneck(), (3, 16, 16))
    run_passes(graph)
    return graph


def check(graph: Any) -> None:
    graph.apply_flow("hlsgen:passes")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_whole_networks_pass(scheme: Scheme) -> None:
    run_passes(graph_of(bottleneck(), (3, 16, 16), scheme))
    run_passes(graph_of(yolov8n_like(), (3, 64, 96), scheme))


def test_order() -> None:
    graph = fused()
    graph.graph = OrderedDict(reversed(graph.graph.items()))
    with pytest.raises(HlsgenError, match="layer head reads up before it is computed"):
        check(graph)
    graph = fused()
    head = graph.graph["head"]
    head.outputs = ["joined"]
    head.set_attr("joined", head.get_output_variable("head"))
    head.set_attr("quant", {"joined": TensorQ(2.0**-4, 0)})
    with pytest.raises(HlsgenError, match="tensor joined is computed twice, the second time by layer head"):
        check(graph)


@pytest.mark.parametrize(
    ("layer", "attribute", "value", "message"),
    [
        ("head", "stride_height", 2, r"expected output head to be \(5, 8, 16\) \(C, H, W\), got \(5, 16, 16\)"),
        ("head", "n_chan", 11, r"layer head \(Conv2D\): inputs of \[\(12, 16, 16\)\] \(C, H, W\) do not fit"),
        ("added", "pad_top", 0, r"layer added \(Conv2D\): inputs of"),
        ("pooled", "pool_width", 3, r"expected output pooled to be \(12, 8, 10\)"),
        ("up", "out_width", 15, r"layer up \(Resize\): inputs of"),
        ("parts", "sizes", [4, 5], r"layer parts \(Split\): inputs of"),
        ("parts", "sizes", [5, 3], r"expected output parts_0 to be \(5, 8, 8\)"),
    ],
)
def test_shapes(layer: str, attribute: str, value: Any, message: str) -> None:
    graph = fused()
    graph.graph[layer].set_attr(attribute, value)
    with pytest.raises(HlsgenError, match=message):
        check(graph)


Q = TensorQ(2.0**-4, 0)


@pytest.mark.parametrize(
    ("layer", "attribute", "value", "message"),
    [
        ("head", "quant", {"head": TensorQ(0.5, 0, 12)}, "layer head: expected head to have 8 bits, got 12"),
        (
            "head",
            "quant",
            {"head": TensorQ(0.3, 0)},
            "layer head: scheme fixed expects scales in ratios of powers of two",
        ),
        (
            "added",
            "residual_quant",
            TensorQ(0.3, 0),
            "layer added: scheme fixed expects scales in ratios of powers of two",
        ),
        ("head", "quant", {"head": TensorQ(float("nan"), 0)}, "layer head: head has scale nan"),
        ("added", "pre", TensorQ(0.5, 0, 17), "its pre-activation to have 8 to 16 bits, got 17"),
        ("added", "pre", None, "a pre-activation's quantization and an activation come together"),
        ("added", "residual_quant", None, "a residual's quantization and a second input come together"),
        ("head", "pre", Q, "a pre-activation's quantization and an activation come together"),
        ("pooled", "quant", {"pooled": TensorQ(0.5, 0)}, r"layer pooled \(Pooling2D\) moves integers, but"),
        ("joined", "quant", {"joined": TensorQ(0.5, 0)}, r"layer joined \(Concatenate\) moves integers, but"),
        ("parts", "quant", {"parts_0": Q, "parts_1": TensorQ(0.5, 0)}, r"layer parts \(Split\) moves integers, but"),
        ("head", "weight_data", np.zeros((1, 1, 12, 5), np.int16), "layer head: expected int8 weights"),
        ("head", "weight_data", np.zeros((1, 1, 5, 12), np.int8), r"expected int8 weights \(1, 1, 12, 5\)"),
        ("head", "bias_data", np.zeros(5), r"layer head: expected int32 biases \(5,\), got float64"),
        ("head", "weight_scale", np.zeros(5), "layer head: expected 5 positive float64 weight scales"),
    ],
)
def test_quantization(layer: str, attribute: str, value: Any, message: str) -> None:
    graph = fused()
    graph.graph[layer].set_attr(attribute, value)
    with pytest.raises(HlsgenError, match=message):
        graph.apply_flow("hlsgen:passes", reapply="single")
