"""`hlsgen report`: a build's reports beside its estimate, what was missed first; the page gets them too."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hlsgen import build
from hlsgen.build import BuildOptions, opened
from hlsgen.cli import main
from hlsgen.cost.array import PORTS
from hlsgen.cost.resources import widths
from hlsgen.cost.streams import stream_depths
from tests.unit import _vivado
from tests.unit._reports import Synthesis, csynth_xml

CSYNTH, SIM = "hls/solution/syn/report/csynth.xml", "hls/solution/sim/report"
UTILIZATION, TIMING = "reports/utilization.rpt", "reports/timing_summary.rpt"
Golden = Callable[[str, str], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "demo"
    options = BuildOptions(
        model="yolo", part="xc7z020", out=folder, weights="demo", imgsz=(64, 64), images=1, stop_after="lower",
        tm=8, tn=8, tp=2, lanes=4, cores=1, calibration=False,
    )  # fmt: skip
    build.run(options)
    return folder


@pytest.fixture
def built(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(whole, tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return Path("demo")


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def synthesis(whole: Path) -> Synthesis:
    b = opened(whole, "lower")
    known = widths(b.program, PORTS[b.target.resources.dsp_kind])
    return Synthesis(engine=b.program.engine, widths=known, depths=stream_depths(b.program.engine))


def layer_cycles(folder: Path) -> list[int]:
    return [layer["cycles"] for layer in opened(folder, "lower").facts["lower"]["estimate"]["layers"]]


def test_nothing_is_there_yet(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "demo"]) == 2
    assert capsys.readouterr().err == (
        "hlsgen: error: demo holds no report of Vitis HLS or Vivado yet: run make csynth (minutes), make cosim or "
        "make bitstream in it\n"
    )


def test_everything_met(built: Path, synthesis: Synthesis, capsys: pytest.CaptureFixture[str]) -> None:
    put(built / CSYNTH, csynth_xml(synthesis))
    put(built / SIM / "hlsgen_engine_cosim.rpt", _vivado.cosim())
    first = layer_cycles(built)[:3]
    put(built / SIM / "verilog" / "result.transaction.rpt", _vivado.transactions([n + n // 20 for n in first]))
    put(built / UTILIZATION, _vivado.utilization(used=(17001, 22002, 40.5, 100, 0)))
    put(built / TIMING, _vivado.timing())
    assert main(["report", "demo", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in facts["rows"]}
    assert facts["problems"] == []
    assert facts["missing"] == {}
    assert abs(rows["lut"]["csynth_error"]) < 0.001  # the pretended synthesis is the model's own
    assert rows["lut"]["vivado"] == 17001
    assert rows["lut"]["vivado_error"] == rows["lut"]["estimate_all"] / 17001 - 1
    assert rows["cycles"]["estimate"] == sum(first)
    assert -0.06 < rows["cycles"]["csynth_error"] < -0.03
    assert rows["clock_mhz"]["vivado"] > 150

    held = json.loads((built / "report.json").read_text(encoding="utf-8"))
    assert held["reports"] == facts
    page = (built / "report.html").read_text(encoding="utf-8")
    assert "What Vitis HLS and Vivado report" in page
    assert "Everything reported so far is met." in page
    assert not list(built.glob(".report.*"))

    assert main(["report", "demo"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("MET       everything that Vitis HLS and Vivado reported so far\n")
    assert "cosim       demo/hls/solution/sim/report/hlsgen_engine_cosim.rpt (passed, Verilog, 3 of" in out
    assert err == ""


def test_what_is_missed_comes_first(
    built: Path, synthesis: Synthesis, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    put(built / CSYNTH, csynth_xml(replace(synthesis, estimated=5.31, mac_ii=2)))
    put(built / SIM / "hlsgen_engine_cosim.rpt", _vivado.cosim("Fail"))
    put(built / UTILIZATION, _vivado.utilization(used=(61022, 58077, 103.5, 216, 0)))
    put(built / TIMING, _vivado.timing(-0.412, failing=(310, 0)))
    assert main(["report", "demo"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    said = [line for line in out.splitlines() if line.startswith("MISSED")]
    assert out.splitlines()[: len(said)] == said
    golden("report_missed.txt", "\n".join(said) + "\n")
    page = (built / "report.html").read_text(encoding="utf-8")
    assert page.index("61,022 LUT") < page.index("work an image") < page.index("estimate, 1 core")


def test_half_of_them(built: Path, synthesis: Synthesis, capsys: pytest.CaptureFixture[str]) -> None:
    """The unified flow's place, found by name; what is missing says how it is made."""
    put(built / "hls/hls/syn/report/csynth.xml", csynth_xml(synthesis))
    put(built / "vivado/hlsgen.runs/impl_1/system_wrapper_timing_summary_routed.rpt", _vivado.timing())
    put(built / "vivado/hlsgen.runs/synth_1/system_wrapper_utilization_synth.rpt", "not this one")
    assert main(["report", "demo"]) == 0
    out = capsys.readouterr().out
    assert "csynth      demo/hls/hls/syn/report/csynth.xml (Vitis HLS 2023.2)" in out
    assert "utilization not made yet: make bitstream" in out
    assert "cosim       not made yet: make cosim" in out
    assert "timing      demo/vivado/hlsgen.runs/impl_1/system_wrapper_timing_summary_routed.rpt" in out


def test_several_cores_overflow_together(built: Path, synthesis: Synthesis, capsys: pytest.CaptureFixture[str]) -> None:
    facts_file = built / "stages" / "facts.json"
    facts = json.loads(facts_file.read_text(encoding="utf-8"))
    facts["lower"]["estimate"]["cores"] = 9
    facts_file.write_text(json.dumps(facts), encoding="utf-8")
    put(built / CSYNTH, csynth_xml(synthesis))
    assert main(["report", "demo", "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert any("LUT for 9 cores, the part has 53,200" in problem for problem in problems)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (CSYNTH, lambda s: csynth_xml(s)[:5000], "is cut off or damaged at line"),
        (CSYNTH, lambda s: csynth_xml(replace(s, top="fir")), "is the report of 'fir', expected the top function"),
        (CSYNTH, lambda s: csynth_xml(replace(s, part="xczu7ev-ffvc1156-2-e")), "but the build is for xc7z020clg400-1"),
        (CSYNTH, lambda s: csynth_xml(replace(s, period=10.0)), "was made for a clock of 10 ns"),
        (UTILIZATION, lambda s: _vivado.utilization(device="xc7z010clg400-1"), "is a report for xc7z010clg400-1"),
        (TIMING, lambda s: _vivado.timing(device="7z010-clg400"), "is a report for 7z010-clg400"),
    ],
)
def test_another_s_report_is_refused(
    built: Path,
    synthesis: Synthesis,
    capsys: pytest.CaptureFixture[str],
    path: str,
    text: Callable[[Synthesis], str],
    message: str,
) -> None:
    before = (built / "report.json").read_bytes()
    put(built / path, text(synthesis))
    assert main(["report", "demo"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert (built / "report.json").read_bytes() == before


def test_no_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "is no build of hlsgen" in capsys.readouterr().err


def test_a_page_of_another_version_is_left(
    built: Path, synthesis: Synthesis, capsys: pytest.CaptureFixture[str]
) -> None:
    put(built / CSYNTH, csynth_xml(synthesis))
    held: dict[str, Any] = json.loads((built / "report.json").read_text(encoding="utf-8"))
    (built / "report.json").write_text(json.dumps(held | {"unheard_of": 1}), encoding="utf-8")
    page = (built / "report.html").read_bytes()
    assert main(["report", "demo"]) == 0
    assert "demo/report.html was left as it is: report.json is damaged or another version's" in capsys.readouterr().err
    assert (built / "report.html").read_bytes() == page
