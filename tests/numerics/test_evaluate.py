"""Our measure of accuracy is ultralytics' own."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hlsgen.errors import HlsgenError
from hlsgen.evaluate import accuracy

DETECTOR = SimpleNamespace(classes=("disc", "square"), strides=(8, 16, 32), reg_max=16)
pytest.importorskip("ultralytics")


def few(shared: Path, folder: Path, labels: str) -> Path:
    """Four labelled images, linked."""
    for kind, name in (("images", "images"), ("boxes", labels)):
        (folder / name).mkdir(parents=True)
        for path in sorted((shared / "coco" / "val" / kind).iterdir())[:4]:
            (folder / name / path.name).symlink_to(path)
    return folder


@pytest.mark.shared
def test_the_float_network_scores_what_ultralytics_says(shared: Path, tmp_path: Path) -> None:
    from ultralytics.models import YOLO

    from hlsgen.models import load

    weights = shared / "weights" / "yolov8n.pt"
    loaded = load("yolo", str(weights), (640, 640))
    data = few(shared, tmp_path / "data", "boxes")
    told: list[tuple[int, int]] = []
    got = accuracy(loaded.network, loaded, data, progress=lambda done, total: told.append((done, total)))
    assert sorted(p.name for p in data.iterdir()) == ["boxes", "images"]  # no cache is left beside the data
    assert told == [(i + 1, 4) for i in range(4)]

    theirs = few(shared, tmp_path / "theirs", "labels")
    names = "\n".join(f"  {i}: '{name}'" for i, name in enumerate(loaded.classes))
    (theirs / "data.yaml").write_text(f"path: {theirs}\ntrain: images\nval: images\nnames:\n{names}\n")
    result = YOLO(str(weights)).val(
        data=str(theirs / "data.yaml"),
        batch=1,
        workers=0,
        plots=False,
        verbose=False,
        project=str(tmp_path),
        device="cpu",
    )
    assert got["images"] == 4
    assert got["map50_95"] == pytest.approx(float(result.box.map), abs=1e-6)
    assert got["map50"] == pytest.approx(float(result.box.map50), abs=1e-6)
    again = accuracy(loaded.network, loaded, theirs / "data.yaml", limit=2)
    assert again["images"] == 2


def heads(image: Tensor) -> list[Tensor]:
    """A detector that sees nothing."""
    found = []
    for stride in DETECTOR.strides:
        size = [n // stride for n in image.shape[2:]]
        found += [torch.zeros(1, 64, *size), torch.full((1, 2, *size), -20.0)]
    return found


def dataset(folder: Path) -> Path:
    import cv2
    import numpy as np

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((40, 64, 3), 99, np.uint8))
    (folder / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.25\n")
    return folder


def test_nothing_seen(tmp_path: Path) -> None:
    assert accuracy(heads, DETECTOR, dataset(tmp_path / "d"), 64) == {"map50_95": 0.0, "map50": 0.0, "images": 1}


def test_wrong_heads(tmp_path: Path) -> None:
    with pytest.raises(HlsgenError, match="6 tensors; got 5"):
        accuracy(lambda image: heads(image)[:5], DETECTOR, dataset(tmp_path / "d"), 64)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("val: [", "not a readable YAML"),
        ("nothing: here", "`val`"),
        ("val: nowhere/images\nnames: [a, b]", "existing folder"),
        ("val: images\nnames: [a, b, c]", "2 classes, the data set 3"),
    ],
)
def test_bad_descriptions(tmp_path: Path, yaml: str, said: str) -> None:
    folder = dataset(tmp_path / "d")
    (folder / "data.yaml").write_text(yaml)
    with pytest.raises(HlsgenError, match=said):
        accuracy(heads, DETECTOR, folder / "data.yaml", 64)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(HlsgenError, match="expected a folder with images/"):
        accuracy(heads, DETECTOR, tmp_path / "missing", 64)
    with pytest.raises(HlsgenError, match="images/ and labels/"):
        accuracy(heads, DETECTOR, tmp_path, 64)
    empty = dataset(tmp_path / "d")
    (empty / "images" / "a.png").unlink()
    with pytest.raises(HlsgenError, match="no images"):
        accuracy(heads, DETECTOR, empty, 64)
