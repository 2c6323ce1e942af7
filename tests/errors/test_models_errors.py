"""Bad models, weights, images and ONNX files: one clear sentence each, and nothing of theirs is executed."""

import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hlsgen.errors import HlsgenError
from hlsgen.models import Loaded, images, load, yolo
from hlsgen.models.checkpoint import read_checkpoint
from hlsgen.models.demo import SAM_WEIGHTS, WEIGHTS


def fails(message: str, action: Callable[[], object]) -> None:
    """`action` raises HlsgenError, in one line, that says `message`."""
    with pytest.raises(HlsgenError, match=message) as caught:
        action()
    assert "\n" not in str(caught.value)


class System:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Evaluate(System):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.mark)!r}, 'w')",)


class ThroughUltralytics(System):
    """A class that an allow-list of real classes would let through, whose constructor evaluates its argument."""

    def __reduce__(self) -> tuple[Any, ...]:
        from ultralytics.nn.tasks import DetectionModel

        config = {"activation": f"open({str(self.mark)!r}, 'w')", "backbone": [], "head": [], "nc": 1, "channels": 3}
        return DetectionModel, (config,)


class ThroughGetattr(System):
    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (torch.nn.Module, "forward")


@pytest.mark.parametrize("kind", [System, Evaluate, ThroughUltralytics, ThroughGetattr])
def test_a_malicious_checkpoint_executes_nothing(kind: type[System], tmp_path: Path) -> None:
    if kind is ThroughUltralytics:
        pytest.importorskip("ultralytics")
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    torch.save({"model": kind(mark)}, path)
    fails("evil.pt: ", lambda: load(str(path)))
    assert not mark.exists()
    if kind in (System, Evaluate):
        fails("refused, it names '(posix.system|nt.system|builtins.eval|eval)'", lambda: load(str(path)))


def test_malice_hidden_in_a_real_checkpoint_is_refused(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    held = pickle.dumps(System(mark), protocol=2)
    with zipfile.ZipFile(WEIGHTS) as source, zipfile.ZipFile(path, "w") as out:
        for name in source.namelist():
            out.writestr(name, held if name.endswith("data.pkl") else source.read(name))
    fails("refused", lambda: load(str(path)))
    assert not mark.exists()


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


FILES = {
    "empty": (b"", "expected a torch.save file"),
    "text": (b"hello", "expected a torch.save file"),
    "truncated": (WEIGHTS.read_bytes()[:200_000], "expected a torch.save file"),
    "bare pickle": (pickle.dumps({"model": 1}), "expected a torch.save file"),
    "no model": (saved({"epoch": 3}), "a dict with a 'model' object in it"),
    "weights only": (saved({"model": {"conv.weight": torch.zeros(3)}}), "a dict with a 'model' object in it"),
    "a tensor": (saved(torch.zeros(3)), "a dict with a 'model' object in it"),
    "another network": (saved({"model": torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))}), "without its part 'model'"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_checkpoint(case: str, tmp_path: Path) -> None:
    data, message = FILES[case]
    path = tmp_path / "w.pt"
    path.write_bytes(data)
    fails(f"w.pt: .*{message}", lambda: load(str(path)))


def test_a_checkpoint_damaged_inside(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(WEIGHTS) as source, zipfile.ZipFile(path, "w") as out:
        for name in source.namelist():
            data = source.read(name)
            out.writestr(name, data[: len(data) // 2] if name.endswith("data.pkl") else data)
    fails("w.pt: damaged or truncated", lambda: load(str(path)))
    with zipfile.ZipFile(WEIGHTS) as source, zipfile.ZipFile(path, "w") as out:
        for name in source.namelist():
            if "/data/5" not in name:
                out.writestr(name, source.read(name))
    fails("w.pt: damaged or truncated", lambda: load(str(path)))


def test_weights_of_another_family_are_named() -> None:
    fails("found none; it holds a SAM, say hlsgen build sam", lambda: load("yolo", str(SAM_WEIGHTS)))
    fails("nothing in it was executed; an ultralytics checkpoint is a YOLO's", lambda: load("sam", str(WEIGHTS)))
    fails("model 'nothing.png' is unknown; known are .* a .pt, a .pth and an .onnx file", lambda: load("nothing.png"))


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    fails("expected a file, there is none", lambda: load("yolo", str(tmp_path / "no.pt")))
    fails("expected a file, there is none", lambda: load(str(tmp_path / "no.pt")))
    fails("expected a file, there is none", lambda: load("yolo", str(tmp_path)))


@pytest.mark.parametrize("task", ["seg", "pose", "cls", "obb"])
def test_other_tasks_are_refused(task: str, tmp_path: Path) -> None:
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    kinds = {"seg": "SegmentationModel", "pose": "PoseModel", "cls": "ClassificationModel", "obb": "OBBModel"}
    torch.save({"model": getattr(tasks, kinds[task])(f"yolov8n-{task}.yaml", verbose=False)}, tmp_path / "w.pt")
    fails("expected a detection model .* are not supported", lambda: load(str(tmp_path / "w.pt")))


def test_end_to_end_heads_are_refused(tmp_path: Path) -> None:
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    torch.save({"model": tasks.DetectionModel("yolov10n.yaml", verbose=False)}, tmp_path / "w.pt")
    fails("expected a detection model|is not supported", lambda: load(str(tmp_path / "w.pt")))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_their_layer(value: float, tmp_path: Path) -> None:
    held = read_checkpoint(WEIGHTS)
    layer = held.state["_modules"]["model"].state["_modules"]["1"]
    with torch.no_grad():
        layer.state["_modules"]["conv"].state["_parameters"]["weight"][0, 0, 0, 0] = value
    fails(r"weights that are not finite \(NaN or infinity\) at model\.1\.conv", lambda: yolo.build(held, "x"))


DAMAGED: dict[str, Callable[[Any], object]] = {
    "no layers": lambda m: part(m, "model").update(_modules={}),
    "a layer reads the future": lambda m: part(m, "model", "3").update(f=7),
    "odd source": lambda m: part(m, "model", "3").update(f="x"),
    "no convolution": lambda m: part(m, "model", "0")["_modules"].pop("conv"),
    "no weight": lambda m: part(m, "model", "0", "conv").update(_parameters={}),
    "odd stride": lambda m: part(m, "model", "0", "conv").update(stride="2"),
    "other channels": lambda m: part(m, "model", "2").update(c=7),
    "no strides": lambda m: [part(m, "model", "22").update(stride=None), m.state.update(stride=None)],
    "a zero stride": lambda m: part(m, "model", "22").update(stride=torch.zeros(3)),
    "modules of another type": lambda m: part(m, "model").update(_modules=[1, 2]),
    "a layer of another type": lambda m: part(m, "model")["_modules"].update({"3": 5}),
    "no batch norm statistics": lambda m: part(m, "model", "0", "bn").update(_buffers={}),
    "short batch norm": lambda m: part(m, "model", "0", "bn")["_buffers"].update(running_mean=torch.zeros(2)),
}


def part(model: Any, *names: str) -> dict[str, Any]:
    """The state of a module inside a checkpoint's model."""
    for name in names:
        model = model.state["_modules"][name]
    held: dict[str, Any] = model.state
    return held


@pytest.mark.parametrize("case", DAMAGED)
def test_a_checkpoint_of_a_damaged_structure(case: str) -> None:
    held = read_checkpoint(WEIGHTS)
    DAMAGED[case](held)
    with pytest.raises(HlsgenError, match=r"^x: "):
        yolo.build(held, "x")


def test_unknown_names_and_sizes(tmp_path: Path) -> None:
    fails("model 'yolov8q' is unknown; did you mean yolov8", lambda: load("yolov8q"))
    fails("model 'resnet50' is unknown.*; known are yolov8n", lambda: load("resnet50"))
    fails("the nearest are 608x640 and 640x640", lambda: load("yolo", "demo", (630, 640)))
    fails("the nearest is 32x32", lambda: load("yolo", "demo", (0, 5)))
    fails("the nearest is 32x640", lambda: load("yolo", "demo", (-64, 640)))
    fails("demo weights are for yolov8n, got yolov8s", lambda: load("yolov8s", "demo"))
    fails("expected yolov8s, it holds yolov8n", lambda: load("yolov8s", str(WEIGHTS)))
    fails("has its weights in it", lambda: load(str(WEIGHTS), "demo"))
    fails("has its weights in it", lambda: load("m.onnx", "demo"))
    fails("output names are for an .onnx model only", lambda: load("yolo", "demo", None, ["a"]))
    fails("random:x: expected a file", lambda: load("yolo", "random:x"))


def test_without_ultralytics_random_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", None)
    fails(r"pip install 'hlsgen\[yolo\]'", lambda: load("yolov8n", "random"))


def test_a_loaded_folder_that_is_none(tmp_path: Path) -> None:
    fails("model.json is damaged or missing", lambda: Loaded.read(tmp_path))
    (tmp_path / "model.json").write_text("{")
    fails("model.json is damaged or missing", lambda: Loaded.read(tmp_path))
    (tmp_path / "file").write_text("")
    fails("cannot be written", lambda: load("yolo", "demo", (32, 32)).save(tmp_path / "file" / "x"))


def test_images(tmp_path: Path) -> None:
    fails("no.jpg: cannot be read", lambda: images.read_image(tmp_path / "no.jpg"))
    fails("cannot be read", lambda: images.read_image(tmp_path))
    for name, data in {"text.jpg": b"hello", "empty.png": b"", "cut.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF"}.items():
        (tmp_path / name).write_bytes(data)
        fails(f"{name}: expected a picture", lambda name=name: images.read_image(tmp_path / name))
    fails("expected a folder, there is none", lambda: images.list_images(tmp_path / "no"))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("")
    fails("expected pictures .*, it holds none", lambda: images.list_images(tmp_path / "none"))


# ONNX


def model_of(
    nodes: list[onnx.NodeProto],
    shape: tuple[Any, ...] = (1, 4, 8, 8),
    elem: int = TensorProto.FLOAT,
    **constants: np.ndarray,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list("nchw"))],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def one(kind: str, *inputs: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, list(inputs), ["y"], name="here", **attributes)]


W = np.ones((4, 4, 3, 3), np.float32)
S = "; supported are Add, BatchNormalization, Concat, Conv"
BAD: dict[str, tuple[onnx.ModelProto, str]] = {
    "unknown operator": (model_of(one("Softmax", "x")), f"operator Softmax at here is not supported{S}"),
    "clip": (
        model_of(one("Clip", "x", "a", "b"), a=np.float32(0), b=np.float32(6)),
        "operator Clip at here is not supported",
    ),
    "multiplication": (model_of(one("Mul", "x", "x")), "operator Mul at here is not supported"),
    "dilation": (model_of(one("Conv", "x", "w", dilations=[2, 2]), w=W), "Conv at here has dilations"),
    "asymmetric padding": (model_of(one("Conv", "x", "w", pads=[0, 0, 1, 1]), w=W), "pads .* only equal padding"),
    "asymmetric same": (
        model_of(one("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2]), w=W),
        "pads .* only equal padding",
    ),
    "channels": (
        model_of(one("Conv", "x", "w"), w=np.ones((4, 3, 3, 3), np.float32)),
        "expects 3 channels in 1 groups, got 4",
    ),
    "weights that are maps": (model_of(one("Conv", "x", "x")), "Conv at here expects a constant weight"),
    "NaN": (model_of(one("Conv", "x", "w"), w=W * np.float32("nan")), "Conv at here has a weight that is not finite"),
    "too small": (model_of(one("Conv", "x", "w"), (1, 4, 2, 2), w=W), "Conv at here has no pixels left"),
    "lone batch norm": (
        model_of(one("BatchNormalization", "x", "s", "s", "s", "s"), s=np.ones(4, np.float32)),
        "BatchNormalization at here does not stand alone behind a convolution",
    ),
    "adding a constant": (
        model_of(one("Add", "x", "c"), c=np.ones((1, 4, 1, 1), np.float32)),
        "expects two maps of one shape, got",
    ),
    "concat of rows": (model_of(one("Concat", "x", "x", axis=2)), "along axis 2, and only the channels"),
    "slice of rows": (
        model_of(one("Slice", "x", "s", "e", "a"), s=np.array([0]), e=np.array([2]), a=np.array([2])),
        "only a step of 1 along the channels",
    ),
    "slice of nothing": (
        model_of(one("Slice", "x", "s", "e", "a"), s=np.array([3]), e=np.array([2]), a=np.array([1])),
        "takes nothing",
    ),
    "pool rounds up": (
        model_of(one("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
        "rounds its size up",
    ),
    "bilinear": (
        model_of(one("Resize", "x", "", "s", mode="linear"), s=np.array([1, 1, 2, 2], np.float32)),
        "interpolates",
    ),
    "odd factor": (model_of(one("Resize", "x", "", "s"), s=np.array([1, 1, 1.5, 2], np.float32)), "only whole factors"),
    "odd rounding": (
        model_of(
            one("Resize", "x", "", "s", coordinate_transformation_mode="asymmetric", nearest_mode="ceil"),
            s=np.array([1, 1, 2, 2], np.float32),
        ),
        "not plain repetition",
    ),
    "tanh gelu": (
        helper.make_model(
            model_of(one("Gelu", "x", approximate="tanh")).graph,
            ir_version=9,
            opset_imports=[helper.make_opsetid("", 20)],
        ),
        "approximated by tanh",
    ),
    "dynamic height": (model_of(one("Relu", "x"), ("n", 3, "rows", 8)), r"dynamic height axis \(rows\)"),
    "dynamic channels": (model_of(one("Relu", "x"), (1, "c", 8, 8)), "dynamic channels axis"),
    "batch": (model_of(one("Relu", "x"), (2, 3, 8, 8)), "expected a batch of 1, input x has 2"),
    "axes": (model_of(one("Relu", "x"), (3, 8, 8)), "expected an image .*, input x has 3 axes"),
    "double": (model_of(one("Relu", "x"), elem=TensorProto.DOUBLE), "expected a float32 image, input x is DOUBLE"),
    "hostile names": (
        model_of([helper.make_node("Tan", ["x"], ["y"], name='"; system("x")\x1b[31m' + "z" * 99)]),
        r'operator Tan at "; system\("x"\)\?\[31mz+\.\.\. is not supported',
    ),
    "another domain": (
        helper.make_model(
            helper.make_graph(
                [helper.make_node("Conv", ["x", "x"], ["y"], name="here", domain="evil")],
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
            ),
            ir_version=8,
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)],
        ),
        "operator Conv at here is not supported",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_onnx_that_is_not_supported(case: str, tmp_path: Path) -> None:
    model, message = BAD[case]
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    fails(f"m.onnx: .*{message}", lambda: load(str(path)))


def test_two_images(tmp_path: Path) -> None:
    model = model_of(one("Add", "x", "z"))
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 8, 8]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    fails(r"expected one image as input, got 2 inputs \(x, z\)", lambda: load(str(tmp_path / "m.onnx")))


def test_onnx_files_that_are_none(tmp_path: Path) -> None:
    good = model_of(one("Conv", "x", "w"), w=W).SerializeToString()
    for name, data in {
        "empty": b"",
        "text": b"hello world",
        "cut": good[: len(good) // 2],
        "noise": bytes(range(256)) * 9,
    }.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        fails(f"{name}.onnx: (not a valid ONNX file|expected an ONNX network)", lambda path=path: load(str(path)))
    fails("expected an ONNX file, there is none", lambda: load(str(tmp_path / "no.onnx")))


def test_an_onnx_file_has_its_own_size(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model_of(one("Relu", "x")).SerializeToString())
    assert load(str(tmp_path / "m.onnx"), None, (8, 8)).shape == (4, 8, 8)
    fails("m.onnx is for images of 8x8, got --imgsz 640x640", lambda: load(str(tmp_path / "m.onnx"), None, (640, 640)))


def test_weights_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    """External data may not reach out of the file's folder."""
    secret = tmp_path / "secret"
    secret.write_bytes(W.tobytes())
    model = model_of(one("Conv", "x", "w"), w=W)
    held = model.graph.initializer[0]
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="../secret")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "m.onnx").write_bytes(model.SerializeToString())
    fails("not a valid ONNX file", lambda: load(str(inner / "m.onnx")))
