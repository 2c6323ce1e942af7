"""The road, stage by stage, on a small ONNX network: stop, go on, the same bytes; and what a finished build is good for."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import fx, nn

from hlsgen import build, revisit
from hlsgen.build import STAGES, BuildOptions
from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_write import write_fp32
from hlsgen.progress import Quiet
from hlsgen.report.facts import ReportFacts

TIMED = {"report.json", "report.html", "stages/facts.json"}


class Net(nn.Module):
    """A stem, a split with a residual, a concatenation, a pool and two outputs: one of each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU()
        self.inner, self.inner_act = nn.Conv2d(8, 8, 3, 1, 1), nn.SiLU()
        self.pool, self.up = nn.MaxPool2d(2, 2), nn.Upsample(scale_factor=2)
        self.out = nn.Conv2d(24, 5, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = torch.split(self.act(self.stem(image)), [8, 8], 1)
        c = torch.add(b, self.inner_act(self.inner(b)))
        joined = torch.cat([a, b, c], 1)
        return self.out(joined), self.up(self.pool(c))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    torch.manual_seed(0)
    write_fp32(fx.symbolic_trace(Net().eval()), (3, 32, 48), folder / "net.onnx", "net")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        picture = cv2.resize(rng.integers(0, 256, (6, 9, 3), np.uint8), (90, 60), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(folder / "photos" / f"{i}.png"), picture)
    return folder


def options(work: Path, out: str, **more: Any) -> BuildOptions:
    base: dict[str, Any] = {
        "model": str(work / "net.onnx"),
        "part": "xc7z020",
        "out": work / out,
        "calib": work / "photos",
    }
    return BuildOptions(**base | more)


@pytest.fixture(scope="module")
def whole(work: Path) -> dict[str, Any]:
    return build.run(options(work, "whole"))


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file whose bytes may not depend on the clock."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    names = {p.relative_to(folder).as_posix(): p for p in files}
    return {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in names.items() if name not in TIMED}


def test_the_whole_road(work: Path, whole: dict[str, Any]) -> None:
    assert whole["verdict"] == "exact"
    assert whole["csim"]["elements"] > 5000
    assert ReportFacts.model_validate(json.loads((work / "whole" / "report.json").read_text())).verdict == "exact"
    for name in (
        "src",
        "tb",
        "data",
        "tcl",
        "Makefile",
        "README.md",
        "manifest.json",
        "report.html",
        *whole["files"].values(),
    ):
        assert (work / "whole" / name).exists(), name
    assert list(whole["stages"]) == list(STAGES)
    assert [row["mismatches"] for row in whole["layers"] if row["name"] == "act"] == [0]
    assert whole["detections"] is None


def test_another_build_stopping_at_every_stage_gives_the_same_bytes(work: Path, whole: dict[str, Any]) -> None:
    names = list(STAGES)
    for first, stage in enumerate(names):
        report = build.run(options(work, "steps", stop_after=stage, start_from=stage if first else None))
        assert list(report["stages"]) == names[: first + 1]
        assert report["verdict"] == ("exact" if stage == "csim" else "not run")
    assert sums(work / "steps") == sums(work / "whole")
    assert {key: value for key, value in report.items() if key not in ("stages", "csim", "files")} == {
        key: value for key, value in whole.items() if key not in ("stages", "csim", "files")
    }


def test_another_part_needs_lowering_only(work: Path, whole: dict[str, Any]) -> None:
    shutil.copytree(work / "whole", work / "part")
    with pytest.raises(HlsgenError, match=r"was built with part 'xc7z020', now asked for 'zcu104': start from 'lower'"):
        build.run(options(work, "part", part="zcu104", start_from="csim"))
    report = build.run(options(work, "part", part="zcu104", start_from="lower"))
    assert (report["part"], report["verdict"]) == ("zcu104", "exact")
    assert "xczu7ev-ffvc1156-2-e" in (work / "part" / "tcl" / "run_hls.tcl").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"start_from": "render", "scheme": "fixed"}, "was built with scheme 'affine', now asked for 'fixed'"),
        (
            {"start_from": "quantize", "imgsz": (64, 64)},
            "was built with imgsz None, now asked for [64, 64]: start from 'load'",
        ),
        ({"start_from": "lower", "calib": None}, "was built with calib "),
    ],
)
def test_a_build_that_does_not_fit_its_record(
    work: Path, whole: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    before = sums(work / "whole")
    with pytest.raises(HlsgenError) as caught:
        build.run(options(work, "whole", **more))
    assert said in str(caught.value)
    assert sums(work / "whole") == before


def test_a_build_that_has_not_come_so_far(work: Path) -> None:
    build.run(options(work, "early", stop_after="quantize"))
    with pytest.raises(
        HlsgenError, match="was built up to 'quantize'; to start from 'lower' build it up to 'passes' first"
    ):
        build.run(options(work, "early", start_from="lower"))
    with pytest.raises(HlsgenError, match="was built up to 'quantize' only; build it up to 'render' first"):
        revisit.simulate(work / "early", None, False, Quiet())


def test_damaged_products(work: Path, whole: dict[str, Any]) -> None:
    shutil.copytree(work / "whole", work / "damaged")
    (work / "damaged" / "stages" / "facts.json").write_text("{}")
    with pytest.raises(HlsgenError, match="the earlier stages' record, is damaged or missing"):
        build.run(options(work, "damaged", start_from="csim"))
    shutil.copy(work / "whole" / "stages" / "facts.json", work / "damaged" / "stages" / "facts.json")
    (work / "damaged" / "stages" / "6-lower" / "program.json").write_text("{")
    with pytest.raises(HlsgenError, match=r"the Program in .*/damaged/stages/6-lower is missing or damaged"):
        build.run(options(work, "damaged", start_from="render"))


def test_a_qdq_file_keeps_its_scales(work: Path, whole: dict[str, Any]) -> None:
    qdq = work / "whole" / "stages" / "3-export" / "model.qdq.onnx"
    report = build.run(
        options(work, "qdq", model=str(qdq), calib=None, image=work / "photos" / "0.png", scheme="fixed")
    )
    assert report["verdict"] == "exact"
    assert report["scheme"] == "affine"  # the file's own, whatever was asked for
    assert report["quantization"]["images"] == 0
    scales = [{row["name"]: row["scale"] for row in r["layers"]} for r in (report, whole)]
    assert scales[0] == scales[1]
    assert sums(work / "qdq")["data/parameters.bin"] == sums(work / "whole")["data/parameters.bin"]


@pytest.mark.parametrize("strategy", ["static", "rescaled", "fixed:w6", "mixed:0.6", "trainable-fixed"])
def test_a_quantized_file_is_exact_in_hardware(work: Path, strategy: str) -> None:
    from hlsgen.cli_quantize import quantize_model

    file = work / f"{strategy.replace(':', '-')}.pt"
    facts = quantize_model(str(work / "net.onnx"), file, Quiet(), strategy=strategy, calib=work / "photos")
    again = work / "again.pt"
    quantize_model(str(work / "net.onnx"), again, Quiet(), strategy=strategy, calib=work / "photos")
    assert again.read_bytes() == file.read_bytes()
    report = build.run(options(work, facts["strategy"], model=str(file), calib=None, image=work / "photos" / "0.png"))
    assert report["verdict"] == "exact"
    assert report["scheme"] == facts["scheme"]
    assert report["weights"] == str(file)
    if strategy == "fixed:w6":  # asked for by name it is the same network
        build.run(options(work, "named", scheme=strategy, stop_after="render"))
        name = "data/parameters.bin"
        assert sums(work / "named").get(name) == sums(work / facts["strategy"])[name]


def test_real_weights_need_real_pictures(work: Path) -> None:
    with pytest.raises(HlsgenError, match="give --calib FOLDER"):
        build.run(options(work, "none", calib=None))
    assert not (work / "none").exists()


def test_a_finished_build_on_another_picture(work: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    again = revisit.simulate(work / "whole", None, False, Quiet())
    assert (again.mismatches, again.elements) == (0, whole["csim"]["elements"])
    other = revisit.compare(work / "whole", work / "photos" / "2.png", tmp_path / "out", Quiet())
    assert other["csim"]["mismatches"] == 0
    assert set(other["sqnr_db"]) == set(whole["quantization"]["sqnr_db_outputs"])
    assert other["files"] == {}  # no detector, no boxes


def test_the_recorded_picture_is_the_one_that_was_simulated(work: Path, whole: dict[str, Any]) -> None:
    first = build.opened(work / "whole", "render")
    assert np.array_equal(first.picture, build.Build.picture.func(_with_calib(first, work)))  # type: ignore[attr-defined]


def _with_calib(b: build.Build, work: Path) -> build.Build:
    return build.Build(b.folder, options(work, "whole"), b.progress, b.target, b.facts)


STUBS = """
foreach name {open_project set_top add_files open_solution set_part create_clock config_interface csim_design csynth_design
              cosim_design export_design} {
    proc $name {args} [string map [list NAME $name] { puts "NAME $args" }]
}
source [lindex $argv 0]
"""


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        ([], ["csim_design", "csynth_design"]),
        (["-f", "tcl/run_hls.tcl", "export", "csim"], ["csim_design", "csynth_design", "export_design"]),
        (["csynth", "cosim"], ["csynth_design", "cosim_design"]),
    ],
)
def test_the_tcl_script_runs(
    work: Path, whole: dict[str, Any], tmp_path: Path, asked: list[str], run: list[str]
) -> None:
    """Under a plain Tcl interpreter, with Vitis HLS' commands printing what they are given."""
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed")
    (tmp_path / "stubs.tcl").write_text(STUBS)
    project = work / "whole"
    command = ["tclsh", str(tmp_path / "stubs.tcl"), str(project / "tcl" / "run_hls.tcl"), *asked]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("hlsgen: ")]
    assert lines[:2] == ["open_project -reset hls", "set_top hlsgen_engine"]
    assert "set_part xc7z020clg400-1" in lines
    assert "create_clock -period 6.667 -name default" in lines
    added = [
        line.split()[1] if line.split()[1] != "-tb" else line.split()[2]
        for line in lines
        if line.startswith("add_files")
    ]
    assert added == ["src/engine.cpp", "tb/tb.cpp"]
    assert all((project / name).is_file() for name in added)
    assert [line.split()[0] for line in lines if line.split()[0].endswith("_design")] == run


def test_the_project_simulates_by_its_own_makefile(work: Path, whole: dict[str, Any]) -> None:
    done = subprocess.run(["make", "csim"], cwd=work / "whole", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for ops, code, said in (("1", 0, "EXACT: 1 ops, "), ("0", 2, "--ops expects 1 to ")):  # as co-simulation runs it
        words = ["build/csim", "data", "--ops", ops]
        done = subprocess.run(words, cwd=work / "whole", capture_output=True, text=True)
        assert done.returncode == code and said in done.stdout + done.stderr


def test_a_network_that_is_no_detector_packages_and_tests_itself(work: Path, whole: dict[str, Any]) -> None:
    made = subprocess.run(["make", "package"], cwd=work / "whole", capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    (package,) = (p for p in (work / "whole" / "package").iterdir() if p.is_dir())

    def detect(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(package / "detect.py"), "--device", "sim", *arguments]
        return subprocess.run(command, cwd=work, capture_output=True, text=True)

    done = detect("--self-test", "--json")
    assert done.returncode == 0, done.stderr
    cores = json.loads((work / "whole" / "manifest.json").read_text())["cores"]
    assert json.loads(done.stdout)["self_test"]["integers"] == cores * whole["csim"]["elements"]
    done = detect(str(work / "photos" / "0.png"))
    assert done.returncode == 2
    assert "net is no detector: its outputs are " in done.stderr and "use Accelerator.infer" in done.stderr
