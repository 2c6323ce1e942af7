"""`hlsgen calibrate` on a build of its own: kept, applied, shown, forgotten; every error is one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hlsgen import build, calibrations
from hlsgen.build import Build, BuildOptions, opened
from hlsgen.cli import main
from hlsgen.cost.array import PORTS
from hlsgen.cost.resources import widths
from hlsgen.cost.streams import stream_depths
from hlsgen.errors import HlsgenError
from tests.unit._reports import Synthesis, csynth_xml

HEAVY = {"products in LUTs": 1.6, "products in DSPs": 1.6, "AXI ports": 1.5, "epilogue lanes": 1.4}
ESTIMATE = ("estimate", "yolo", "--part", "xc7z020", "--weights", "demo", "--imgsz", "96", "--tm", "8", "--tp", "2")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "demo"
    options = BuildOptions(
        model="yolo", part="pynq-z2", out=folder, weights="demo", imgsz=(64, 64), images=1, stop_after="lower",
        tm=8, tn=8, tp=2, calibration=False,
    )  # fmt: skip
    build.run(options)
    return folder


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HLSGEN_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def of(b: Build, **more: Any) -> Synthesis:
    """A synthesis of that build's own engine."""
    base: dict[str, Any] = {
        "engine": b.program.engine,
        "widths": widths(b.program, PORTS[b.target.resources.dsp_kind]),
        "depths": stream_depths(b.program.engine),
        "factors": HEAVY,
        "part": b.target.vivado,
        "period": 1000 / b.facts["lower"]["clock_mhz"],
    }
    return Synthesis(**base | more)


@pytest.fixture
def report(built: Path) -> Callable[..., Path]:
    def write(**more: Any) -> Path:
        path = built / "hls" / "solution" / "syn" / "report" / "csynth.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(csynth_xml(of(opened(built, "lower"), **more)), encoding="utf-8")
        return path

    return write


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    assert main([str(a) for a in arguments] + ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_report_changes_the_estimates_until_it_is_forgotten(
    report: Callable[..., Path], capsys: pytest.CaptureFixture[str], own: Path
) -> None:
    before = said(capsys, *ESTIMATE)
    facts = said(capsys, "calibrate", report())
    (group,) = facts["groups"]
    assert (group["family"], group["tool"], group["reports"], group["error"]) == ("zynq-7000", "2023.2", 1, 0.25)
    (one,) = group["samples"]
    assert one["error"]["model"]["lut"] > 0.1 > 0.02 > one["error"]["calibrated"]["lut"]
    assert group["loops"]["epilogue_depth"] == 30

    after, plain = said(capsys, *ESTIMATE), said(capsys, *ESTIMATE, "--no-calibration")
    assert after["calibration"]["digest"] == group["digest"]
    assert "calibration" not in before
    assert {**plain, "seconds": 0} == {**before, "seconds": 0}
    assert after["resources"]["lut"]["used"] > before["resources"]["lut"]["used"]
    assert after["cycles"] > before["cycles"]
    assert main(ESTIMATE) == 0
    assert "model     calibrated by 1 report of Vitis HLS 2023.2 for zynq-7000" in capsys.readouterr().out

    assert said(capsys, "calibrate", "--show")["groups"] == facts["groups"]
    assert said(capsys, "calibrate", "--reset") == {"forgotten": 1}
    assert not (own / "calibration.json").exists()
    assert {**said(capsys, *ESTIMATE), "seconds": 0} == {**before, "seconds": 0}


def test_the_same_design_again_replaces_its_report(
    report: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "calibrate", report())
    facts = said(capsys, "calibrate", report(factors=dict.fromkeys(HEAVY, 1.2)))
    assert facts["groups"][0]["reports"] == 1
    said(capsys, "calibrate", report(version="2024.1"))
    assert [g["tool"] for g in said(capsys, "calibrate", "--show")["groups"]] == ["2023.2", "2024.1"]
    assert calibrations.coefficients("zynq-7000").tool == "2024.1"  # the newest
    assert not calibrations.coefficients("versal").calibrated


def test_a_build_records_the_calibration_that_it_used(
    built: Path, report: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    group = said(capsys, "calibrate", report())["groups"][0]
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    plain = opened(built, "lower").facts["lower"]["estimate"]
    options = BuildOptions(
        model="yolo", part="pynq-z2", out=copy, weights="demo", imgsz=(64, 64), images=1, start_from="lower",
        stop_after="lower", tm=8, tn=8, tp=2,
    )  # fmt: skip
    found = build.run(options)["estimate"]
    assert found["calibration"]["digest"] == group["digest"]
    assert "calibration" not in plain
    assert found["error_bar"]["resources"] == 0.25
    assert "calibrated by 1 report of Vitis HLS 2023.2" in (copy / "report.html").read_text(encoding="utf-8")


def test_what_the_user_sees(report: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--show"]) == 0
    assert "nothing is calibrated; hlsgen calibrate CSYNTH.XML takes a report in" in capsys.readouterr().out
    assert main(["calibrate", str(report(mac_ii=2))]) == 0
    out = capsys.readouterr().out
    assert "mac reached an initiation interval of 2 where the engine is built for 1" in out
    assert "zynq-7000, Vitis HLS 2023.2: 1 report" in out
    assert "epilogue depth 30 (model 16)" in out
    assert "error     resources to 25% (a second engine's report would test it)" in out


def test_what_is_wrong_keeps_nothing(
    built: Path, report: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, own: Path
) -> None:
    good, elsewhere = report(), tmp_path / "elsewhere.xml"
    shutil.copy(good, elsewhere)
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        ((), "give reports (csynth.xml), or --show, or --reset"),
        ((good, "--reset"), "give reports (csynth.xml), or --show, or --reset"),
        ((tmp_path / "none.xml",), "cannot read"),
        ((elsewhere,), "lies in no build folder; give the build it was made from with --build"),
        ((elsewhere, "--build", tmp_path), "is no build of hlsgen"),
    ]
    for name, change, message in (
        ("cut.xml", lambda text: text[:3000], "is cut off or damaged at line"),
        ("old.xml", lambda text: text.replace("2023.2", "2018.3"), "was written by version '2018.3'"),
        ("top.xml", lambda text: text.replace("hlsgen_engine", "fir"), "is the report of 'fir', expected the top"),
        (
            "part.xml",
            lambda text: text.replace("xc7z020clg400-1", "xc7z010clg400-1"),
            "is a report for xc7z010clg400-1",
        ),
    ):
        path = tmp_path / name
        path.write_text(change(good.read_text(encoding="utf-8")), encoding="utf-8")
        cases.append(((good, path, "--build", built), message))
    for arguments, message in cases:
        assert main(["calibrate", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert len(err.splitlines()) == 1
        assert not own.exists()


def test_a_damaged_calibration_says_how_to_go_on(
    report: Callable[..., Path], capsys: pytest.CaptureFixture[str], own: Path
) -> None:
    own.mkdir()
    for text in (
        "{",
        '{"format": 1}',
        '{"format": 1, "samples": [{"source": 3}]}',
        '{"format": 99, "samples": []}',
        "[]",
    ):
        (own / "calibration.json").write_text(text, encoding="utf-8")
        assert main(ESTIMATE) == 2
        err = capsys.readouterr().err
        assert "give --no-calibration to go on without, or run hlsgen calibrate --reset" in err
        assert len(err.splitlines()) == 1
    assert main([*ESTIMATE, "--no-calibration"]) == 0
    assert main(["calibrate", "--reset"]) == 0
    assert main(ESTIMATE) == 0


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HLSGEN_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert calibrations.place() == tmp_path / "hlsgen" / "calibration.json"
    (tmp_path / "hlsgen").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(HlsgenError, match="set HLSGEN_CONFIG to a folder that you may write to"):
        calibrations.keep([])
