"""hlsgen segment: the demo's masks in float and INT8, measured and drawn."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hlsgen import segment as segmenting
from hlsgen.cli import main
from hlsgen.errors import HlsgenError
from hlsgen.models.demo.shapes import HELDOUT_SEED, render_masks
from hlsgen.models.sam.prompts import Prompt
from hlsgen.report.masks import BAR, GAP, draw_mask, side_by_side


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Path, np.ndarray, str]:
    """A held-out picture, its first shape's mask, and that shape's box."""
    picture, owner = render_masks(1, 128, HELDOUT_SEED)
    path = tmp_path / "held.png"
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    rows, columns = (np.flatnonzero((owner == 2).any(axis)) for axis in (1, 0))
    return path, owner == 2, f"{columns[0]},{rows[0]},{columns[-1]},{rows[-1]}"


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_box_finds_its_shape(
    shown: tuple[Path, np.ndarray, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, truth, box = shown
    out, onnx = tmp_path / "out", tmp_path / "onnx"
    arguments = ["segment", "sam_tiny", "--image", str(path), "--box", box, "--out", str(out), "--onnx", str(onnx)]
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"] == "sam_tiny"
    assert facts["size"] == [128, 128]
    assert facts["embedding_sqnr_db"] > 40
    assert set(facts["masks"]) == {"fp32", "int8", "onnx"}
    for source, mask in facts["masks"].items():
        drawn = cv2.imread(facts["files"][source], cv2.IMREAD_GRAYSCALE)
        assert drawn is not None
        assert set(np.unique(drawn)) == {0, 255}
        assert int((drawn > 0).sum()) == mask["area"]
        assert iou(drawn > 0, truth) > 0.75
        assert mask["iou"] > 0.95  # a shape of 30 pixels: its edge is a third of it
    assert (onnx / "encoder.onnx").stat().st_size > 100_000
    sheet = cv2.imread(facts["files"]["masks"])
    assert sheet is not None
    assert sheet.shape == (3 * 128 + BAR, 4 * (3 * 128 + GAP) - GAP, 3)


def test_a_point_in_scheme_fixed(
    shown: tuple[Path, np.ndarray, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, truth, _ = shown
    monkeypatch.setattr(segmenting, "CALIBRATION_PICTURES", 3)
    ys, xs = np.nonzero(cv2.erode(truth.astype(np.uint8), np.ones((7, 7), np.uint8)))
    arguments = ["segment", "sam_tiny", "--image", str(path), "--point", f"{xs[0]},{ys[0]}", "--scheme", "fixed"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "IoU with the float mask" in said
    assert "dB SQNR, fixed against float" in said


def test_the_demo_has_a_picture_and_a_prompt_of_its_own(tmp_path: Path) -> None:
    facts = segmenting.segment("sam_tiny", None, tmp_path)
    assert facts["image"] == "generated"
    assert facts["size"] == [128, 128]
    assert facts["masks"]["fp32"]["area"] > 1000
    assert (tmp_path / "demo-masks.png").stat().st_size > 1000


def test_fixed_needs_pictures_where_the_model_is_not_the_demo(
    shown: tuple[Path, np.ndarray, str], tmp_path: Path
) -> None:
    from tests.sam_nets import micro

    with pytest.raises(HlsgenError, match="give --calib FOLDER"):
        segmenting._calibration(micro(), None)
    (tmp_path / "calib").mkdir()
    shown[0].rename(tmp_path / "calib" / "a.png")
    ((picture, prompts),) = segmenting._calibration(micro(), tmp_path / "calib")
    assert picture.shape == (128, 128, 3)
    assert len(prompts) == 4


def test_a_folder_that_cannot_be_written(shown: tuple[Path, np.ndarray, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HlsgenError, match="give --out a folder you may write to"):
        segmenting.segment("sam_tiny", shown[0], tmp_path / "file" / "x", points=["64,64"])


def test_masks_are_tinted_and_outlined_only_where_they_are() -> None:
    picture = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    drawn = draw_mask(picture, mask)
    assert np.array_equal((drawn != 100).any(2), mask)
    assert (drawn[10, 30:50] == 255).all()
    sheet = side_by_side(picture, Prompt((30, 10, 49, 19), ((5, 5),)), {"A": mask, "B": ~mask})
    factor = (sheet.shape[0] - BAR) // 40
    assert factor == 9
    assert sheet.shape[1] == 3 * (60 * factor + GAP) - GAP
