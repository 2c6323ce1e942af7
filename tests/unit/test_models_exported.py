"""ultralytics' exports with the two maps of a level concatenated in front of the decoding, as older versions write them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_write import output_nodes
from hlsgen.models import load


def exported(path: Path, classes: int, names: str, class_first: bool = False) -> Path:
    """Two levels (strides 2 and 4) of 8 box channels and `classes` class channels, then a Reshape."""
    r = np.random.default_rng(0)
    nodes, weights, ends = [], [], []
    for level, channels in enumerate((3, 8)):
        reads = "images" if level == 0 else "box0"
        for kind, out in (("box", 8), ("cls", classes)):
            weight = r.standard_normal((out, channels, 3, 3)).astype(np.float32)
            weights.append(numpy_helper.from_array(weight, f"{kind}{level}.w"))
            nodes.append(
                helper.make_node(
                    "Conv", [reads, f"{kind}{level}.w"], [f"{kind}{level}"], strides=[2, 2], pads=[1, 1, 1, 1]
                )
            )
        pair = [f"cls{level}", f"box{level}"] if class_first else [f"box{level}", f"cls{level}"]
        nodes.append(helper.make_node("Concat", pair, [f"cat{level}"], axis=1))
        nodes.append(helper.make_node("Reshape", [f"cat{level}", "flat"], [f"flat{level}"]))
        ends.append(f"flat{level}")
    nodes.append(helper.make_node("Concat", ends, ["y"], axis=2))
    weights.append(numpy_helper.from_array(np.array([1, 8 + classes, -1]), "flat"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8 + classes, 640])],
        weights,
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {"author": "Ultralytics", "task": "detect", "names": names})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("class_first", [False, True])
def test_concatenated_levels_are_taken_apart(class_first: bool, tmp_path: Path) -> None:
    loaded = load(str(exported(tmp_path / "m.onnx", 3, "{0: 'a', 1: 'b', 2: 'c\\n'}", class_first)))
    assert [n.name for n in output_nodes(loaded.network)] == ["box0", "cls0", "box1", "cls1"]
    assert (loaded.task, loaded.strides, loaded.reg_max, loaded.classes) == ("detect", (2, 4), 2, ("a", "b", "c?"))


def test_as_many_classes_as_box_channels(tmp_path: Path) -> None:
    loaded = load(str(exported(tmp_path / "m.onnx", 8, str(dict(enumerate("abcdefgh"))))))
    assert [n.name for n in output_nodes(loaded.network)] == ["box0", "cls0", "box1", "cls1"]


@pytest.mark.parametrize("names", ["{0: 'a'}", "__import__('os')", "[" * 9999, "{1: 'a', 2: 'b', 3: 'c'}", ""])
def test_other_names_are_no_detector(names: str, tmp_path: Path) -> None:
    with pytest.raises(HlsgenError, match=r"operator Reshape at flat0 makes .* is supported.* ends in cat0, cat1$"):
        load(str(exported(tmp_path / "m.onnx", 3, names)))
    assert onnx.load(tmp_path / "m.onnx").metadata_props
