"""Every supported form of every operator, from other exporters, computes what ONNX Runtime computes."""

import keyword
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_read import MAX_NAME, read_fp32, safe_name

SHAPE = (4, 6, 8)


def file_of(
    folder: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    shape: tuple[Any, ...] = (1, *SHAPE),
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
    elem: int = TensorProto.FLOAT,
) -> Path:
    """An ONNX file of `nodes` that reads "x" and makes `outputs`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem, list(shape))],
        [
            helper.make_tensor_value_info(o, TensorProto.FLOAT, [f"{i}{a}" for a in "nchw"])
            for i, o in enumerate(outputs)
        ],
        [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def agrees(path: Path, image: np.ndarray | None = None) -> torch.fx.GraphModule:
    """Read it; ONNX Runtime and the network agree; the network."""
    network, shape = read_fp32(path)
    image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32) if image is None else image
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: image})
    with torch.no_grad():
        got = network(torch.from_numpy(image))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=1e-4)
    return network


def node(kind: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> onnx.NodeProto:
    name = f"n_{kind}" if outputs is None else f"n_{kind}_{outputs[0]}"
    return helper.make_node(kind, inputs, outputs or ["y"], name=name, **attributes)


W = np.random.default_rng(1).standard_normal((5, 4, 3, 3)).astype(np.float32)
B = np.arange(5, dtype=np.float32)
F = np.float32
SINGLE: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "conv without bias": ([node("Conv", ["x", "w"])], {"w": W}),
    "conv same upper": ([node("Conv", ["x", "w", "b"], auto_pad="SAME_UPPER")], {"w": W, "b": B}),
    "conv same lower": ([node("Conv", ["x", "w", "b"], auto_pad="SAME_LOWER")], {"w": W, "b": B}),
    "conv valid": ([node("Conv", ["x", "w", "b"], auto_pad="VALID", strides=[2, 1])], {"w": W, "b": B}),
    "conv pads": ([node("Conv", ["x", "w"], pads=[1, 0, 1, 0], strides=[1, 2])], {"w": W}),
    "conv groups": ([node("Conv", ["x", "w"], group=2)], {"w": W[:4, :2].copy()}),
    "batch norm": (
        [node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", "s", "t", "m", "v"], epsilon=1e-3)],
        {"w": W, "s": B + 1, "t": B, "m": B / 3, "v": B + F(0.5)},
    ),
    "relu": ([node("Relu", ["x"])], {}),
    "leaky relu": ([node("LeakyRelu", ["x"], alpha=0.2)], {}),
    "leaky relu default": ([node("LeakyRelu", ["x"])], {}),
    "sigmoid": ([node("Sigmoid", ["x"])], {}),
    "silu": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"])], {}),
    "silu turned": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"])], {}),
    "hardswish": ([node("HardSwish", ["x"])], {}),
    "hard sigmoid": ([node("HardSigmoid", ["x"], ["s"], alpha=1 / 6), node("Mul", ["x", "s"])], {}),
    "gelu halved last": (
        [
            node("Div", ["x", "r"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["e", "one"], ["a"]),
            node("Mul", ["x", "a"], ["m"]),
            node("Mul", ["m", "half"]),
        ],
        {"r": np.array(2**0.5, F), "one": np.array(1, F), "half": np.array(0.5, F)},
    ),
    "gelu halved first": (
        [
            node("Mul", ["half", "x"], ["h"]),
            node("Mul", ["x", "r"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["one", "e"], ["a"]),
            node("Mul", ["h", "a"]),
        ],
        {"r": np.array([0.5**0.5], F), "one": np.array(1, F), "half": np.array(0.5, F)},
    ),
    "add": ([node("Relu", ["x"], ["r"]), node("Add", ["r", "x"])], {}),
    "add to itself": ([node("Add", ["x", "x"])], {}),
    "concat": ([node("Relu", ["x"], ["r"]), node("Concat", ["r", "x", "r"], axis=1)], {}),
    "concat from behind": ([node("Concat", ["x", "x"], axis=-3)], {}),
    "split": (
        [node("Split", ["x", "sizes"], ["a", "b"], axis=1), node("Concat", ["b", "a"], axis=1)],
        {"sizes": np.array([1, 3])},
    ),
    "split evenly": ([node("Split", ["x"], ["a", "b"], axis=1), node("Add", ["b", "a"])], {}),
    "split one used": ([node("Split", ["x"], ["a", "b"], axis=1), node("Relu", ["b"])], {}),
    "slice": (
        [node("Slice", ["x", "s", "e", "a"])],
        {"s": np.array([1]), "e": np.array([3]), "a": np.array([1])},
    ),
    "slice to the end": (
        [node("Slice", ["x", "s", "e", "a", "t"])],
        {"s": np.array([-3]), "e": np.array([2**62]), "a": np.array([-3]), "t": np.array([1])},
    ),
    "slice of all": (
        [node("Slice", ["x", "s", "e", "a"], ["z"]), node("Relu", ["z"])],
        {"s": np.array([0]), "e": np.array([4]), "a": np.array([1])},
    ),
    "max pool": ([node("MaxPool", ["x"], kernel_shape=[5, 3], pads=[2, 1, 2, 1])], {}),
    "max pool strided": ([node("MaxPool", ["x"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {}),
    "resize scales": (
        [
            node(
                "Resize",
                ["x", "", "s"],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        ],
        {"s": np.array([1, 1, 2, 3], F)},
    ),
    "resize half pixel": ([node("Resize", ["x", "", "s"], mode="nearest")], {"s": np.array([1, 1, 2, 2], F)}),
    "resize sizes": (
        [
            node(
                "Resize",
                ["x", "", "", "z"],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        ],
        {"z": np.array([1, 4, 12, 16])},
    ),
    "identity and dropout": ([node("Identity", ["x"], ["i"]), node("Dropout", ["i"], ["d"]), node("Relu", ["d"])], {}),
    "constants": (
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(W)),
            node("Identity", ["c"], ["w"]),
            node("Conv", ["x", "w"]),
        ],
        {},
    ),
}


@pytest.mark.parametrize("case", SINGLE)
def test_operator(case: str, tmp_path: Path) -> None:
    nodes, constants = SINGLE[case]
    agrees(file_of(tmp_path, nodes, constants))


def test_old_opsets(tmp_path: Path) -> None:
    upsample = node("Upsample", ["x", "s"], mode="nearest")
    network, _ = read_fp32(file_of(tmp_path, [upsample], {"s": np.array([1, 1, 2, 2], F)}, opset=9))
    image = torch.rand(1, *SHAPE)
    torch.testing.assert_close(network(image)[0], nn.functional.interpolate(image, scale_factor=2))
    split = [node("Split", ["x"], ["a", "b"], axis=1, split=[1, 3]), node("Concat", ["b", "a"], axis=1)]
    agrees(file_of(tmp_path, split, opset=11))
    agrees(file_of(tmp_path, [node("Slice", ["x"], starts=[1], ends=[2], axes=[1])], opset=9))


def test_fused_activations_leave_no_trace(tmp_path: Path) -> None:
    nodes, constants = SINGLE["gelu halved first"]
    network = agrees(file_of(tmp_path, nodes, constants))
    assert [type(m) for m in network.children()] == [nn.GELU]


def test_a_symbolic_batch_is_one(tmp_path: Path) -> None:
    assert read_fp32(file_of(tmp_path, [node("Relu", ["x"])], shape=("N", 3, 8, 8)))[1] == (3, 8, 8)


def test_a_network_is_cut_at_named_outputs(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Sigmoid", ["r"], ["s"]), node("Softmax", ["s"])]
    path = file_of(tmp_path, nodes)
    network, _ = read_fp32(path, ["s", "r"])
    image = torch.randn(1, *SHAPE)
    s, r = network(image)
    torch.testing.assert_close(r, image.relu())
    torch.testing.assert_close(s, image.relu().sigmoid())
    with pytest.raises(HlsgenError, match=r"operator Softmax at n_Softmax is not supported; .*ends in s$"):
        read_fp32(path)
    with pytest.raises(HlsgenError, match="no tensor is called 'nowhere'"):
        read_fp32(path, ["nowhere"])


HOSTILE = [
    '"; system("rm -rf /',
    "../../etc/passwd",
    "class",
    "int",
    "while",
    "self",
    "torch",
    "a" * 500,
    "b" * 499 + "c",
    "b" * 499 + "d",
    "1x",
    "",
    "x__y",
    "_Reserved",
    "y_01",
    "y_1",
    "äöü",
    "${HOME}",
    "[exec ls]",
    "\n#include <x>",
    "forward",
    "graph",
    "training",
]


def test_hostile_names_become_plain_identifiers(tmp_path: Path) -> None:
    nodes = []
    last = "x"
    for i, name in enumerate(h for h in HOSTILE if h):
        nodes.append(helper.make_node("Relu" if i % 2 else "Sigmoid", [last], [name], name=name))
        last = name
    nodes.append(helper.make_node("Split", [last], ["p", '"); evil("'], name="../split", axis=1))
    nodes.append(helper.make_node("Add", ["p", '"); evil("'], ["y"], name="end"))
    network = agrees(file_of(tmp_path, nodes))
    names = [n.name for n in network.graph.nodes]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name), name
        assert len(name) <= MAX_NAME
        assert not keyword.iskeyword(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_safe_name_is_idempotent(name: str) -> None:
    once = safe_name(name)
    assert safe_name(once) == once
    assert safe_name("model_2_m_0_cv1_conv") == "model_2_m_0_cv1_conv"


class Exported(nn.Module):
    """What torch's own exporter makes of the usual building blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(4, 4, 3, 1, 1, groups=4)
        self.acts = nn.ModuleList([nn.SiLU(), nn.Hardswish(), nn.GELU(), nn.LeakyReLU(0.1), nn.ReLU(), nn.Sigmoid()])
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = self.acts[0](self.norm(self.conv(x))).chunk(2, 1)
        c = self.acts[1](self.deep(a)) + b
        d = nn.functional.interpolate(self.pool(c[:, 1:3]), scale_factor=2.0)
        return self.acts[2](torch.cat([c, a], 1)), self.acts[3](d), self.acts[4](b), self.acts[5](a)


@pytest.mark.parametrize("opset", [11, 17])
def test_torch_exported_network(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Exported()
    for _ in range(3):
        module(torch.rand(4, 3, 16, 16))  # batch norm statistics of its own
    path = tmp_path / "t.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.rand(1, 3, 16, 24),), str(path), dynamo=False, opset_version=opset)
    network = agrees(path)
    image = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        for a, b in zip(network(image), module(image), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
