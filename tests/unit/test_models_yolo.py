"""Checkpoints to networks: the traced network is ultralytics' own up to the raw head maps."""

import io
from pathlib import Path

import onnx
import pytest
import torch

from hlsgen.errors import HlsgenError
from hlsgen.models import Loaded, load, yolo
from hlsgen.models.checkpoint import Inert, parse_checkpoint, read_checkpoint
from hlsgen.models.demo import WEIGHTS
from hlsgen.models.network import check


def raw_heads(model: torch.nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """The raw head maps as ultralytics' own modules compute them."""
    layers = model.float().eval().model
    kept: list[torch.Tensor] = []
    x = image
    with torch.no_grad():
        for layer in layers[:-1]:
            if layer.f != -1:
                x = kept[layer.f] if isinstance(layer.f, int) else [x if j == -1 else kept[j] for j in layer.f]
            x = layer(x)
            kept.append(x)
        head = layers[-1]
        return [branch[i](kept[f]) for i, f in enumerate(head.f) for branch in (head.cv2, head.cv3)]


def same_as_ultralytics(path: Path, image: torch.Tensor) -> yolo.Yolo:
    made = yolo.build(read_checkpoint(path), "checkpoint")
    theirs = torch.load(path, weights_only=False, map_location="cpu")["model"]  # a file of ours: safe to unpickle
    with torch.no_grad():
        ours = made.network(image)
    for a, b in zip(ours, raw_heads(theirs, image), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    return made


def test_the_demo_checkpoint_is_what_ultralytics_computes() -> None:
    pytest.importorskip("ultralytics")
    made = same_as_ultralytics(WEIGHTS, torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0)))
    assert made.strides == (8, 16, 32)
    assert made.reg_max == 16
    assert len(made.classes) == 6


@pytest.mark.shared
def test_the_coco_checkpoint_is_what_ultralytics_computes(shared: Path) -> None:
    pytest.importorskip("ultralytics")
    path = shared / "weights" / "yolov8n.pt"
    made = same_as_ultralytics(path, torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(1)))
    assert made.classes[:2] == ("person", "bicycle")
    assert len(made.classes) == 80


@pytest.mark.parametrize("name", ["yolov8s", "yolov5nu", "yolo11n"])
def test_random_networks_live_and_equal_ultralytics(name: str) -> None:
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    torch.manual_seed(0)
    theirs = tasks.DetectionModel(f"{name.removesuffix('u')}.yaml", verbose=False).eval()
    buffer = io.BytesIO()
    torch.save({"model": theirs}, buffer)
    held = parse_checkpoint(buffer, name)
    assert yolo.identify(held) == name
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours = yolo.build(held, name).network(image)
    for a, b in zip(ours, raw_heads(theirs, image), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    loaded = load(name, "random:7", (64, 64))
    with torch.no_grad():
        maps = loaded.network(image)
    assert all(m.std() > 0.1 for m in maps)
    assert loaded.weights == "random:7"
    assert "accuracy means nothing" in str(loaded.notice)


def test_random_weights_are_a_function_of_the_seed() -> None:
    pytest.importorskip("ultralytics")
    state = torch.random.get_rng_state()
    a, b, c = (load("yolov8n", f"random:{seed}", (64, 64)).network.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_demo_and_its_folder_round_trip(tmp_path: Path) -> None:
    loaded = load("yolo", "demo", (96, 64))
    check(loaded.network)
    assert (loaded.name, loaded.weights, loaded.shape, loaded.task) == ("yolov8n", "demo", (3, 96, 64), "detect")
    assert "DEMO WEIGHTS" in str(loaded.notice)
    assert 3.0e6 < loaded.params < 3.2e6
    assert 4.0 < loaded.gmacs((640, 640)) < 4.4
    loaded.save(tmp_path / "a")
    read = Loaded.read(tmp_path / "a")
    assert [n.name for n in read.network.graph.nodes] == [n.name for n in loaded.network.graph.nodes]
    for field in (
        "name",
        "shape",
        "task",
        "classes",
        "strides",
        "reg_max",
        "weights",
        "notice",
        "params",
        "quantization",
    ):
        assert getattr(read, field) == getattr(loaded, field)
    image = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(read.network(image), loaded.network(image), strict=True))
    read.save(tmp_path / "b")
    for file in ("model.json", "network.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_pt_file_is_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "my best-model.pt"
    path.write_bytes(WEIGHTS.read_bytes())
    loaded = load(str(path), None, (64, 64))
    assert loaded.name == "my_best_model"
    assert loaded.notice is None
    assert load("yolov8n", str(path), (64, 64)).name == "yolov8n"


def test_names_in_a_checkpoint_are_cleaned() -> None:
    held = read_checkpoint(WEIGHTS)
    held.state["names"] = dict.fromkeys(range(6), "a\x1b[31m\n" + "x" * 100)
    classes = yolo.build(held, "x").classes
    assert all(name.isprintable() and len(name) == 64 for name in classes)


def test_unfused_variants_of_a_block_are_built() -> None:
    """A fused checkpoint (no batch norm, biases in the convolutions) gives the same network."""
    held = read_checkpoint(WEIGHTS)
    made = yolo.build(held, "x")
    layers = held.state["_modules"]["model"].state["_modules"]
    first = layers["0"]
    conv = made.network.get_submodule("model_0_conv")
    inner = first.state["_modules"]["conv"]
    inner.state["_parameters"] = {"weight": conv.weight, "bias": conv.bias}
    del first.state["_modules"]["bn"]
    again = yolo.build(held, "x").network.get_submodule("model_0_conv")
    assert torch.equal(again.weight, conv.weight)
    assert torch.equal(again.bias, conv.bias)
    assert isinstance(first, Inert)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_ultralytics_own_onnx_export_is_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file ends in decoded boxes; the network is cut in front of the decoding, and its maps mean what they did."""
    ultralytics = pytest.importorskip("ultralytics")
    (tmp_path / "mine.pt").write_bytes(WEIGHTS.read_bytes())
    monkeypatch.chdir(tmp_path)
    ultralytics.YOLO("mine.pt").export(format="onnx", imgsz=(64, 96), simplify=False, opset=17, verbose=False)
    loaded, plain = load("mine.onnx"), load("mine.pt", None, (64, 96))
    for field in ("name", "task", "shape", "classes", "strides", "reg_max", "params"):
        assert getattr(loaded, field) == getattr(plain, field)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for a, b in zip(loaded.network(image), plain.network(image), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    model = onnx.load("mine.onnx")
    del model.metadata_props[:]
    onnx.save(model, "nameless.onnx")
    with pytest.raises(HlsgenError, match=r"operator Reshape at .* the network up to there ends in "):
        load("nameless.onnx")
