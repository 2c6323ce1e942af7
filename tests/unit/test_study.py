"""The study: boxes matched rightly, one small study from end to end, and going on with it."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hlsgen.cli import main
from hlsgen.study.agreement import Agreement, agreement, confident, ious, pairs

pytest.importorskip("ultralytics")


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


A = boxes((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 30, 0.8, 2), (50, 50, 60, 60, 0.7, 3), (0, 0, 5, 5, 0.1, 1))


def test_a_detector_agrees_with_itself() -> None:
    assert agreement(A, A) == Agreement(3, 3, 3, 0, 3.0)
    assert agreement(A, A).share == 1 and agreement(A, A).mean_iou == 1
    assert len(confident(A)) == 3


def test_lost_new_and_flipped_boxes() -> None:
    b = boxes((0, 0, 10, 8, 0.5, 1), (20, 20, 30, 30, 0.5, 7), (80, 80, 90, 90, 0.5, 3), (70, 0, 80, 9, 0.5, 1))
    found = agreement(A, b)
    assert (found.a, found.b, found.matched, found.flips) == (3, 4, 2, 1)
    assert found.iou == pytest.approx(0.8 + 1.0)
    assert found.share == pytest.approx(4 / 7)


def test_one_box_has_one_partner_and_prefers_its_own_class() -> None:
    twice = boxes((0, 0, 10, 10, 0.9, 2), (0, 0, 10, 9, 0.9, 1))
    assert [(i, j) for i, j, _ in pairs(A[:1], twice)] == [(0, 1)]
    assert agreement(A[:1], twice).matched == 1
    assert pairs(A[:1], boxes((0, 0, 10, 4.9, 0.9, 1))) == []  # an IoU of 0.49


def test_nothing_seen() -> None:
    none = boxes()
    assert agreement(none, none).share == 1 and agreement(none, none).mean_iou == 1
    assert agreement(A, none).share == 0
    assert ious(none, A).shape == (0, 4)


ARGUMENTS = "strategies yolo --weights demo --imgsz 96 --images 3 --calib-images 2 --jobs 1 --strategies fp16,static"


def run(capsys: pytest.CaptureFixture[str], out: Path, more: str = "") -> dict[str, Any]:
    assert main([*ARGUMENTS.split(), "--out", str(out), "--json", *more.split()]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "study"
    assert main([*ARGUMENTS.split(), "--out", str(out), "--seeds", "2"]) == 0
    return out


def test_the_study_s_facts(finished: Path) -> None:
    facts = json.loads((finished / "strategies.json").read_text())
    rows = {row["strategy"]: row for row in facts["strategies"]}
    assert list(rows) == ["fp32", "fp16", "static"]
    assert [len(row["runs"]) for row in rows.values()] == [1, 1, 2]
    fp32, fp16, static = rows.values()
    assert fp32["agreement"]["mean"] == 1 and fp32["drop"] == 0
    assert all(db is None for db in fp32["sqnr_db"].values())
    assert (
        0.5 <= fp16["parameter_bytes"] / fp32["parameter_bytes"] < 0.51
    )  # the factors of batch normalizations besides
    assert fp32["parameter_bytes"] > 3 * static["parameter_bytes"]
    assert set(static["sqnr_db"]) == set(fp16["sqnr_db"])
    heads = facts["outputs"]
    assert all(fp16["sqnr_db"][n] > static["sqnr_db"][n] + 10 > 15 for n in heads)
    assert fp16["engine"] is None and "floating-point" in fp16["missing"]
    assert static["engine"]["fits"] and static["engine"]["fps"] > 0 and static["engine"]["dsp"] <= 220
    for row in rows.values():
        assert row["torch"]["ms"] > 0 and row["onnxruntime"]["ms"] > 0
        assert 0.5 < row["map50_95"]["mean"] <= row["map50"]["mean"] <= 1  # the demo model knows these pictures
        assert row["drop"] == pytest.approx(fp32["map50_95"]["mean"] - row["map50_95"]["mean"])


def test_the_page_and_the_table(finished: Path) -> None:
    page, table = (finished / "index.html").read_text(), (finished / "strategies.md").read_text()
    assert "http" not in re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", page)  # opens without a network
    pictures = re.findall(r"data:image/(jpeg|svg\+xml);base64,([A-Za-z0-9+/=]+)", page)
    assert sum(kind == "svg+xml" for kind, _ in pictures) == 3
    shown = sum(kind == "jpeg" for kind, _ in pictures)
    assert shown >= 4 and shown % 4 == 0  # an image by the input and three strategies
    assert all(base64.b64decode(data)[:2] in (b"\xff\xd8", b"<?") for _, data in pictures)
    for name in ("fp32", "fp16", "static"):
        assert f"| {name} |" in table and f">{name}<" in page
    assert "fp16 has no engine: its multipliers are integer" in table


def test_a_second_run_measures_nothing_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = finished / "work"
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file() and "demo" not in str(p)}
    first = json.loads((finished / "strategies.json").read_text())
    lost = sorted(work.glob("results/static/1/*.npz"))[1]  # as if it had been interrupted here
    bytes_before = lost.read_bytes()
    lost.unlink()
    assert main([*ARGUMENTS.split(), "--out", str(finished), "--seeds", "2"]) == 0
    assert "mAP50-95" in capsys.readouterr().out
    assert np.array_equal(np.load(lost)["boxes"], np.load(__import__("io").BytesIO(bytes_before))["boxes"])
    after = {p: p.stat().st_mtime_ns for p in before}
    assert [p for p in before if before[p] != after[p]] == [lost]
    again = json.loads((finished / "strategies.json").read_text())
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


def fails(capsys: pytest.CaptureFixture[str], arguments: str) -> str:
    assert main(arguments.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.strip().splitlines()[-1].removeprefix("hlsgen: error: ")


def test_another_study_in_the_folder(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, f"{ARGUMENTS} --out {finished} --calib-images 3")
    assert "holds a study with another calib-images (2, now 3)" in said


BAD = [
    ("strategies yolo --strategies fp32,fixd", "strategy 'fixd' is unknown; did you mean fixed"),
    ("strategies yolo --strategies fixed:w12", "weights have 2 to 8 bits, got 12"),
    ("strategies yolo --seeds 0", "--seeds expects 1 or more, got 0"),
    ("strategies yolo --images 0", "--images expects 1 or more, got 0"),
    ("strategies yolo --jobs 0", "--jobs expects 1 or more processes, got 0"),
    ("strategies yolo --part zynq", "unknown part or board 'zynq'"),
    ("strategies yolo --weights demo --imgsz 96 --data none", "none: expected a folder with images/"),
    ("strategies yolo --weights demo --imgsz 96 --data empty", "empty: expected a folder with images/"),
    ("strategies yolo --weights random --imgsz 96", "accuracy needs labelled images: give --data"),
    ("strategies yolo --weights random --imgsz 96 --data set", "calibration needs pictures that are not measured on"),
    ("strategies yolo --weights demo --imgsz 96 --data set --calib set", "set and set have 1 images in common"),
    (
        "strategies yolo --weights demo --imgsz 96 --data foreign",
        "line 1: class 77, the network has 6 classes (0 to 5)",
    ),
    ("strategies yolo --weights demo --imgsz 96 --data broken", "line 1: expected a class and a box"),
    ("strategies yolo --weights demo --imgsz 96 --data bare", "none of its 1 images has a box"),
    ("strategies yolo --weights demo --imgsz 96 --images 1 --out set", "set holds files that hlsgen did not write"),
    ("quantize yolo --strategy fixde --out q.pt", "strategy 'fixde' is unknown; did you mean fixed"),
    ("quantize yolo --strategy fixed:w0 --out q.pt", "weights have 2 to 8 bits, got 0"),
    (
        "quantize yolo --strategy fp16 --rounding adaround --out q.pt",
        "strategy fp16 makes no use of --rounding; it is for ",
    ),
    ("quantize yolo --strategy minifloat --pre-bits 9 --out q.pt", "strategy minifloat makes no use of --pre-bits"),
    (
        "quantize yolo --weights demo --imgsz 96 --pre-bits 30 --images 1 --out q.pt",
        "pre-activations have 8 to 16 bits",
    ),
    ("quantize yolo --images 0 --out q.pt", "calibration needs at least one image, got --images 0"),
    ("quantize yolo --seed -1 --out q.pt", "a seed is 0 or more, got --seed -1"),
    ("quantize yolo --out set", "--out expects a file such as q.pt, set is a folder"),
    ("quantize yolo --weights demo --imgsz 96 --calib empty --out q.pt", "image folder empty: expected pictures"),
    ("quantize yolo --weights random --imgsz 96 --out file/q.pt --strategy fp32", "file/q.pt: cannot be written"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[a for a, _ in BAD])
def test_bad_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, said: str
) -> None:
    import cv2

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, label in (
        ("set", "1 0.5 0.5 0.2 0.2\n"),
        ("foreign", "77 0.5 0.5 0.2 0.2\n"),
        ("bare", ""),
        ("broken", "1 a b\n"),
    ):
        for part in ("images", "labels"):
            (tmp_path / name / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "images" / "a.png"), np.full((96, 96, 3), 99, np.uint8))
        (tmp_path / name / "labels" / "a.txt").write_text(label)
    assert said in fails(capsys, arguments)
    assert not (tmp_path / "q.pt").exists() and not (tmp_path / "build").exists()


def test_a_quantized_file_is_not_quantized_again_and_builds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = "--weights demo --imgsz 64 --images 1"
    assert main(f"quantize yolo {small} --strategy static --out q.pt".split()) == 0
    assert "runs it: hlsgen build --weights q.pt" in capsys.readouterr().out
    assert "is quantized already" in fails(capsys, "quantize yolo --weights q.pt --out r.pt")
    assert "is quantized already" in fails(capsys, "strategies yolo --weights q.pt")
    assert "expected yolov8s, it holds yolov8n" in fails(capsys, "build yolov8s --weights q.pt --part xc7z020")
    assert main(["build", "q.pt", "--part", "xc7z020", "--stop-after", "passes", "--out", "b", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["scheme"] == "native"
    assert main(f"quantize yolo {small} --strategy fp16 --out h.pt".split()) == 0
    assert "cannot run it: its multipliers are integer" in capsys.readouterr().out
    assert "the engine cannot run strategy fp16" in fails(capsys, "build yolo --weights h.pt --part xc7z020")
