"""Bad input: one clear sentence on stderr, exit code 2, no traceback, nothing half written; and the other exit codes."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hlsgen import build as build_module
from hlsgen.cli import STAGE_NAMES, main
from hlsgen.errors import HlsgenError

DEMO = ("build", "yolo", "--weights", "demo", "--part", "xc7z020", "--imgsz", "64", "--images", "1")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no picture, no model")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07\x12 broken")
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 broken")
    (tmp_path / "grey.png").write_bytes(cv2.imencode(".png", np.full((20, 30, 3), 128, np.uint8))[1].tobytes())
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    return tmp_path


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def fails(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """The one sentence that the command line says, and nothing else."""
    before = listing(Path())
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *progress, sentence = err.rstrip("\n").split("\n")
    assert sentence.startswith("hlsgen: error: ")
    assert not any("Traceback" in line for line in progress)
    assert listing(Path()) == before
    return sentence.removeprefix("hlsgen: error: ")


BEFORE_ANY_WORK = [
    ("build", "Missing argument 'MODEL' (see hlsgen build --help)"),
    ("build yolo", "Missing option '--part' / '--board' (see hlsgen build --help)"),
    ("bild yolo", "No such command 'bild'"),
    ("build yolo --part xc7z020 --frob", "No such option '--frob'"),
    ("build yolo --part xc7z02", "unknown part or board 'xc7z02': the nearest names are xc7z020, "),
    ("build yolo --part pynqz2", "unknown part or board 'pynqz2': the nearest names are pynq-z2, "),
    ("build yolo --part xc7z020 --imgsz six", "Invalid value for '--imgsz': expected a size such as 640 or 416x640"),
    ("build yolo --part xc7z020 --imgsz 64x64x3", "Invalid value for '--imgsz': expected a size such as"),
    (
        "build yolo --part xc7z020 --imgsz 0",
        "an image size is two numbers of 1 to 8192 pixels (height x width), got 0x0",
    ),
    ("build yolo --part xc7z020 --imgsz 64x9000", "an image size is two numbers of 1 to 8192 pixels (height x width)"),
    ("build yolo --part xc7z020 --scheme int4", "strategy 'int4' is unknown; known are fp32, "),
    ("build yolo --part xc7z020 --scheme fp16", "the engine cannot run strategy fp16: its multipliers are integer"),
    ("build yolo --part xc7z020 --images 0", "calibration needs at least one image, got --images 0"),
    ("build yolo --part xc7z020 --pre-bits 17", "pre-activations have 8 to 16 bits, got --pre-bits 17"),
    ("build yolo --part xc7z020 --stop-after lowr", "Invalid value for '--stop-after': 'lowr' is not one of 'load', "),
    (
        "build yolo --part xc7z020 --start-from csim --stop-after load",
        "--start-from csim comes after --stop-after load",
    ),
    ("build yolo --part xc7z020 --start-from lower --out none", "none is no build of hlsgen"),
    ("build yolo --part xc7z020 --calib none", "image folder none: expected a folder, there is none"),
    ("build yolo --part xc7z020 --calib empty", "image folder empty: expected pictures ("),
    ("build yolo --part xc7z020 --image none.jpg", "image none.jpg: cannot be read (No such file or directory)"),
    ("build yolo --part xc7z020 --image text.txt", "image text.txt: expected a picture ("),
    ("build yolo --part xc7z020 --image broken.jpg", "image broken.jpg: expected a picture ("),
    ("build yolo --part xc7z020 --out text.txt", "text.txt exists and is no folder; give --out another name"),
    (
        "build yolo --part xc7z020 --out .",
        ". holds files that hlsgen did not write; give --out another name or empty it",
    ),
    (
        "build yolo --part xc7z020 --out /proc/none/b",
        "cannot write /proc/none/b: No such file or directory; give --out",
    ),
    ("build yolo --part xc7z020 --out text.txt/b", "cannot write text.txt/b: "),
    ("build yolo --part xc7z020 --scheme dynamic", "the engine cannot run strategy dynamic: its ranges, found"),
    ("build sam --part xczu9", "unknown part or board 'xczu9'"),
    ("build sam --weights demo --part xczu9eg --imgsz 64", "sam_tiny is for images of 128x128, got --imgsz 64x64"),
    (
        "build sam_tiny --part xc7z020 --scheme dynamic --pre-bits 9",
        "scheme dynamic has float pre-activations; leave out",
    ),
    ("build sam --part xczu9eg --weights broken.pt", "checkpoint broken.pt: "),
    ("build none.pth --part xczu9eg", "checkpoint none.pth: expected a file, there is none"),
    ("quantize sam_tiny --out q.pt", "hlsgen quantize takes detectors and ONNX files, sam_tiny is a SAM"),
    ("compare empty --image broken.jpg --point 1,2", "empty is no build of hlsgen"),
    ("segment yolo --image broken.jpg --point 1,2", "segmenting needs a SAM: "),
    ("segment sam --point 1,2", "which picture? give --image FILE; only the demo (sam_tiny) has one of its own"),
    ("segment sam_tiny --image broken.jpg --point 1,2", "image broken.jpg: expected a picture ("),
    ("segment sam_tiny --image grey.png", "a prompt needs a box or a point in the object"),
    (
        "segment sam_tiny --image grey.png --point 40,5",
        "--point 40,5 lies outside the picture: it is 30 wide and 20 high",
    ),
    ("segment sam_tiny --image grey.png --box 1,2,3", "--box expects x0,y0,x1,y1 in pixels, 4 numbers"),
    ("segment sam_tiny --image grey.png --point 1,1 --scheme fixed --onnx x", "--onnx writes the dynamic scheme"),
    (
        "segment sam_vit_b --weights demo --image grey.png --point 1,1",
        "the demo weights are for sam_tiny, got sam_vit_b",
    ),
    ("csim none", "none is no build of hlsgen (it has no readable stages/build.json); run hlsgen build first"),
    ("csim empty", "empty is no build of hlsgen"),
    ("compare empty", "Missing option '--image' (see hlsgen compare --help)"),
    ("compare empty --image broken.jpg", "empty is no build of hlsgen"),
    ("evaluate empty --data empty", "empty is no build of hlsgen"),
    ("targets zynq", "unknown part or board 'zynq': "),
    ("targets a b", "Got unexpected extra argument (b)"),
]


@pytest.mark.parametrize(("arguments", "said"), BEFORE_ANY_WORK, ids=[a for a, _ in BEFORE_ANY_WORK])
def test_bad_input_before_any_work(capsys: pytest.CaptureFixture[str], arguments: str, said: str) -> None:
    assert fails(capsys, arguments.split()).startswith(said)


WHILE_LOADING = [
    ("build yolo9000 --part xc7z020", "model 'yolo9000' is unknown; did you mean "),
    ("build ../../etc/passwd --part xc7z020", "model '../../etc/passwd' is unknown"),
    ("build yolov8s --part xc7z020 --weights demo", "the demo weights are for yolov8n, got yolov8s"),
    ("build yolo --part xc7z020 --weights none.pt", "checkpoint none.pt: expected a file, there is none"),
    ("build yolo --part xc7z020 --weights broken.pt", "checkpoint broken.pt"),
    ("build broken.pt --part xc7z020", "checkpoint broken.pt"),
    ("build none.onnx --part xc7z020", "none.onnx: expected an ONNX file, there is none"),
    ("build broken.onnx --part xc7z020", "broken.onnx"),
    ("build yolo --part xc7z020 --weights demo --imgsz 100", "--imgsz expects multiples of the stride 32, got 100x100"),
    (
        "build yolo --part xc7z020 --weights demo --imgsz 64 --calib pictures",
        "image pictures/broken.jpg: expected a picture",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), WHILE_LOADING, ids=[a for a, _ in WHILE_LOADING])
def test_bad_input_while_loading(capsys: pytest.CaptureFixture[str], arguments: str, said: str) -> None:
    assert fails(capsys, arguments.split()).startswith(said)


def test_stage_names_are_the_builds() -> None:
    assert tuple(build_module.STAGES) == STAGE_NAMES
    assert tuple(build_module.WHAT) == STAGE_NAMES


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (HlsgenError("two\nlines"), 2, "hlsgen: error: two lines\n"),
        (KeyboardInterrupt(), 130, "hlsgen: interrupted, nothing was left half written\n"),
    ],
)
def test_errors_in_the_middle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def stage(b: Any) -> Any:
        (b.folder / "half").write_text("half")
        raise error

    monkeypatch.setitem(build_module.STAGES, "load", stage)
    before = listing(Path())
    assert main(DEMO) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(said)
    assert listing(Path()) == before


def test_a_defect_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(b: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setitem(build_module.STAGES, "load", stage)
    with pytest.raises(ZeroDivisionError):
        main(DEMO)


CSIM = {
    "ops": 3,
    "tensors": 3,
    "elements": 99,
    "mismatches": 0,
    "seconds": 1.0,
    "compile_seconds": 2.0,
    "gmacs_per_second": 3.0,
    "types": "fast",
    "values": "integers",
    "first": None,
}
FIRST = {"op": "conv", "index": [1, 2, 3], "expected": 4, "got": 5, "ops_affected": 2}


def pretend(monkeypatch: pytest.MonkeyPatch, **csim: Any) -> None:
    files = {"picture_csim": "pictures/csim.jpg"}
    verdict = "mismatch" if csim.get("mismatches") else "exact"
    report = {"verdict": verdict, "csim": CSIM | csim, "files": files, "stages": {}}

    def run(options: Any, progress: Any) -> dict[str, Any]:
        print("a library prints")  # must not reach stdout
        progress.stage("load", "")
        progress.done("load", 1.0, "[red]not markup[/red]")
        progress.note("loud")
        return report

    monkeypatch.setattr(build_module, "run", run)


def test_a_verdict(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert main(DEMO) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "EXACT     all 99 integers of 3 tensors (fast types) equal the INT8 reference",
        "          1.00 s simulated (3.00 GMAC/s), 2.0 s to compile",
        "project   build/yolov8n-xc7z020",
        "report    build/yolov8n-xc7z020/report.html",
        "picture   build/yolov8n-xc7z020/pictures/csim.jpg",
    ]
    assert err.splitlines() == ["a library prints", "  load         1.0 s  [red]not markup[/red]", "loud"]


def test_a_mismatch_is_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, mismatches=7, first=FIRST)
    assert main(DEMO) == 1
    assert capsys.readouterr().out.splitlines()[:2] == [
        "MISMATCH  7 of 99 integers of 3 tensors (fast types) differ from the INT8 reference",
        "          first at conv [1, 2, 3]: expected 4, got 5; 2 of 3 ops differ",
    ]
    assert main((*DEMO, "--json")) == 1


def test_json_is_all_that_stdout_gets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert main((*DEMO, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["csim"] == CSIM
    for arguments in (("targets", "--json"), ("targets", "kv260", "--json"), ("version", "--json")):
        assert main(arguments) == 0
        out, err = capsys.readouterr()
        assert isinstance(json.loads(out), dict)
        assert err == ""


def hlsgen(*arguments: str, **more: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "hlsgen.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(place: Path, number: signal.Signals) -> None:
    before = listing(place)
    process = hlsgen(*DEMO, "--out", "deep/b", cwd=place)
    try:
        _until(lambda: any((place / "deep").glob(".b.*.part/stages/1-load/*")), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.endswith("hlsgen: interrupted, nothing was left half written\n")
    assert "Traceback" not in err
    assert out == ""
    assert listing(place) == before


def _until(true: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    for _ in range(1200):
        if true():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("waited for a minute")


def test_files_that_may_not_grow(place: Path) -> None:
    """A limit on file size fails where a full disk would: in the middle of a write, in Python's writers and in others."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    before = listing(place)
    process = hlsgen(*DEMO, "--stop-after", "load", cwd=place, preexec_fn=limit, env=os.environ | {"HOME": str(place)})
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert out == ""
    assert err.splitlines()[-1].startswith("hlsgen: error: ")
    assert "Traceback" not in err
    assert listing(place) == before


def test_a_reader_that_goes_away() -> None:
    process = hlsgen("targets")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
