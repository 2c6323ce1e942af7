"""hls4ml's own front ends with backend="Hlsgen": converted, compiled, and predicted through the generated C++.

Expected values are computed here in float64, which holds every fixed-point number exactly.
"""

from pathlib import Path
from typing import Any

import hls4ml
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hls4ml.model import ModelGraph
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from hlsgen.errors import HlsgenError
from tests.symbols import exported

P = "ap_fixed<8,3,RND_CONV,SAT>"
Array = npt.NDArray[Any]


def fix(x: Any, integer: int = 3, width: int = 8) -> torch.Tensor:
    """ap_fixed<width,integer,RND_CONV,SAT> of float64 values."""
    x = torch.as_tensor(np.asarray(x), dtype=torch.float64)
    unit, half = 2.0 ** (integer - width), 2.0 ** (integer - 1)
    return torch.clamp(torch.round(x / unit) * unit, -half, half - unit)


class Small(nn.Module):
    """Convolutions, a normalization, pooling, a residual addition, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.pool, self.inner, self.inner_act = nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.flat, self.dense = nn.Flatten(), nn.Linear(8 * 3 * 4, 5)
        statistics = {
            "running_mean": torch.rand(8) - 0.5,
            "running_var": torch.rand(8) + 0.5,
            "bias": torch.rand(8) - 0.5,
        }
        self.norm.load_state_dict(statistics, strict=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.act(self.norm(self.stem(x))))
        y: torch.Tensor = self.dense(self.flat(x + self.inner_act(self.inner(x))))
        return y

    def fixed(self, x: Array) -> Array:
        """What the quantized network computes, every result ap_fixed<8,3,RND_CONV,SAT>."""
        p = {name: value.detach().double() for name, value in self.state_dict().items()}
        factor = p["norm.weight"] / torch.sqrt(p["norm.running_var"] + self.norm.eps)
        shift = p["norm.bias"] - factor * p["norm.running_mean"]
        w = fix(p["stem.weight"] * factor[:, None, None, None])
        h = F.max_pool2d(fix(F.conv2d(fix(x), w, fix(shift), padding=1)).relu(), 2)
        h = fix(h + fix(F.conv2d(h, fix(p["inner.weight"]), fix(p["inner.bias"]), padding=1)).relu())
        return np.asarray(fix(h.flatten(1) @ fix(p["dense.weight"]).T + fix(p["dense.bias"])))


@pytest.mark.parametrize("conversion", ["off", "full", "internal"])
def test_a_pytorch_model(tmp_path: Path, conversion: str, capsys: pytest.CaptureFixture[str]) -> None:
    network = Small().eval()
    settings = {
        "Model": {"Precision": P, "ReuseFactor": 1, "ChannelsLastConversion": conversion, "TransposeOutputs": False},
        "InputShape": [[None, 3, 6, 8]],
    }
    graph = hls4ml.converters.convert_from_pytorch_model(
        network, output_dir=str(tmp_path), project_name="small", backend="Hlsgen", hls_config=settings, part="xc7z020"
    )
    assert [node.class_name for node in graph.get_layers()] == ["Input", "Conv2D", "Pooling2D", "Conv2D", "Conv2D"]
    x = np.random.default_rng(0).normal(0, 1.5, (3, 3, 6, 8)).astype(np.float32)
    graph.compile()
    got = graph.predict(np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if conversion == "internal" else x)
    assert got.dtype == np.float32
    assert np.array_equal(got, network.fixed(x))


def onnx_model(nodes: list[Any], arrays: dict[str, Array], out: list[int]) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(a, np.float32), k) for k, a in arrays.items()]
    ends = [value("x", TensorProto.FLOAT, [1, 3, 8, 8])], [value("y", TensorProto.FLOAT, out)]
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(helper.make_graph(nodes, "net", *ends, tensors), opset_imports=opsets, ir_version=8)


def channels_last(model: onnx.ModelProto) -> Any:
    """What hls4ml's documentation asks for before its ONNX front end."""
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.util.cleanup import cleanup_model

    return cleanup_model(cleanup_model(ModelWrapper(model)).transform(ConvertToChannelsLastAndClean())).model


def conv_node(x: str, w: str, b: str, y: str, k: int, group: int = 1) -> Any:
    pads = [k // 2] * 4
    return helper.make_node(
        "Conv",
        [x, w, *([b] if b else [])],
        [y],
        y,
        kernel_shape=[k, k],
        pads=pads,
        strides=[1, 1],
        dilations=[1, 1],
        group=group,
    )


def test_an_onnx_model(tmp_path: Path) -> None:
    r = np.random.default_rng(2)
    arrays: dict[str, Array] = {
        "w1": r.normal(0, 0.3, (4, 3, 3, 3)),
        "b1": r.normal(0, 0.3, 4),
        "w2": r.normal(0, 0.3, (4, 4, 1, 1)),
        "b2": r.normal(0, 0.3, 4),
        "w3": r.normal(0, 0.3, (8, 1, 3, 3)),
        "b3": r.normal(0, 0.3, 8),
        "wd": r.normal(0, 0.2, (128, 5)),
        "bd": r.normal(0, 0.3, 5),
    }
    nodes = [
        conv_node("x", "w1", "b1", "c1", 3),
        helper.make_node("LeakyRelu", ["c1"], ["r1"], "r1", alpha=0.125),
        helper.make_node("MaxPool", ["r1"], ["p1"], "p1", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]),
        conv_node("p1", "w2", "b2", "c2", 1),
        helper.make_node("Relu", ["c2"], ["r2"], "r2"),
        helper.make_node("Concat", ["r2", "p1"], ["cat"], "cat", axis=1),
        conv_node("cat", "w3", "b3", "c3", 3, group=8),
        helper.make_node("Flatten", ["c3"], ["f"], "f", axis=1),
        helper.make_node("MatMul", ["f", "wd"], ["m"], "m"),
        helper.make_node("Add", ["m", "bd"], ["y"], "y"),
    ]
    model = channels_last(onnx_model(nodes, arrays, [1, 5]))
    graph = hls4ml.converters.convert_from_onnx_model(
        model,
        output_dir=str(tmp_path),
        project_name="net",
        backend="Hlsgen",
        hls_config={"Model": {"Precision": P, "ReuseFactor": 1}},
    )
    graph.compile()
    x = r.normal(0, 1.5, (2, 3, 8, 8))
    w = {k: fix(a) for k, a in arrays.items()}
    h = fix(F.leaky_relu(fix(F.conv2d(fix(x), w["w1"], w["b1"], padding=1)), 0.125))
    h = F.max_pool2d(h, 2)
    inner = fix(F.conv2d(h, w["w2"], w["b2"])).relu()
    h = fix(F.conv2d(torch.cat([inner, h], 1), w["w3"], w["b3"], padding=1, groups=8))
    expected = np.asarray(fix(h.flatten(1) @ w["wd"] + w["bd"]))
    assert np.array_equal(graph.predict(x), expected)
    assert np.array_equal(graph.predict(np.ascontiguousarray(x[0])), expected[0])


def test_a_quantized_onnx_model(tmp_path: Path) -> None:
    """QONNX: Quant nodes set the precisions, everything else is `auto`."""
    r = np.random.default_rng(3)
    weight = r.normal(0, 0.3, (4, 3, 3, 3))
    arrays: dict[str, Array] = {"w": weight, "sx": np.array(2.0**-5), "sw": np.array(2.0**-7), "sy": np.array(2.0**-4)}
    arrays |= {"zero": np.array(0.0), "bits": np.array(8.0)}

    def quant(x: str, scale: str, y: str) -> Any:
        settings: dict[str, Any] = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        return helper.make_node(
            "Quant", [x, scale, "zero", "bits"], [y], y, domain="qonnx.custom_op.general", **settings
        )

    nodes = [
        quant("x", "sx", "xq"),
        quant("w", "sw", "wq"),
        conv_node("xq", "wq", "", "c", 3),
        helper.make_node("Relu", ["c"], ["r"], "r"),
        quant("r", "sy", "y"),
    ]
    model = channels_last(onnx_model(nodes, arrays, [1, 4, 8, 8]))
    settings = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Hlsgen")
    graph = hls4ml.converters.convert_from_onnx_model(
        model, output_dir=str(tmp_path), project_name="net", backend="Hlsgen", hls_config=settings
    )
    assert [node.class_name for node in graph.get_layers()] == ["Input", "Conv2D"]
    graph.compile()
    x = r.normal(0, 1.5, (3, 8, 8))
    expected = fix(F.conv2d(fix(x)[None], fix(weight, 1), padding=1).relu(), 4)
    assert np.array_equal(graph.predict(x), np.asarray(expected).reshape(-1))


def two_outputs(folder: Path) -> Any:
    sides = {f"pad_{side}": 0 for side in ("top", "bottom", "left", "right")}
    sizes = {f"{way}_{side}": 4 for way in ("in", "out") for side in ("height", "width")}
    conv = {
        "class_name": "Conv2D",
        "data_format": "channels_last",
        "n_chan": 2,
        "n_filt": 2,
        "filt_height": 1,
        "filt_width": 1,
    }
    conv |= {**sizes, **sides, "stride_height": 1, "stride_width": 1, "bias_data": None}
    layers = [
        {"class_name": "Input", "name": "x", "input_shape": [4, 4, 2]},
        {**conv, "name": "swap", "weight_data": np.array([[[[0.0, 1.0], [1.0, 0.0]]]]), "inputs": ["x"]},
        {**conv, "name": "half", "weight_data": np.array([[[[0.5, 0.0], [0.0, 0.5]]]]), "inputs": ["x"]},
    ]
    config = {
        "Backend": "Hlsgen",
        "ProjectName": "net",
        "OutputDir": str(folder),
        "IOType": "io_parallel",
        "Part": "xc7z020",
    }
    settings = {"HLSConfig": {"Model": {"Precision": P, "ReuseFactor": 1}}}
    return ModelGraph.from_layer_list({**config, **settings}, layers, ["x"], ["swap", "half"])


def test_a_layer_list_with_two_outputs_in_its_users_layout(tmp_path: Path) -> None:
    graph = two_outputs(tmp_path)
    with pytest.raises(HlsgenError, match=r"expected a compiled model; call compile\(\) before predict\(\)"):
        graph.predict(np.zeros((4, 4, 2)))
    graph.compile()
    # Engines in one process do not share buffers: g++ makes a visible inline function's static local unique in the process.
    assert exported(tmp_path / "build" / "hls4ml.so") == {"hlsgen_run"}
    x = np.arange(64).reshape(2, 4, 4, 2) / 32 - 1.0
    swap, half = graph.predict(x)
    assert np.array_equal(swap, x[..., ::-1].reshape(2, 32))
    assert np.array_equal(half, np.asarray(fix(x / 2)).reshape(2, 32))
    saturated, _ = graph.predict(np.full((4, 4, 2), 100.0))
    assert set(saturated.tolist()) == {4 - 2.0**-5}
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.int32), np.zeros((0, 4, 4, 2))):
        with pytest.raises(HlsgenError, match="expected float32 or float64 samples of 32 values, got"):
            graph.predict(wrong)


def test_without_a_compiler_or_with_an_unknown_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = two_outputs(tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(HlsgenError, match="compiling needs no-such-compiler, which is not on the PATH"):
        graph.compile()
    graph.config.config["Part"] = "xc7z999"
    with pytest.raises(HlsgenError, match="unknown part or board 'xc7z999'"):
        graph.write()
