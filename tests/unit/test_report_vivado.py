"""Vivado's utilization and timing reports and co-simulation's, of several families and versions, and what is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hlsgen.cost.resources import Usage
from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports import cosim, timing, utilization
from hlsgen.handoff.reports.vivado import is_device
from tests.unit import _vivado


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("version", ["2020.1", "2021.2", "2023.2", "2024.2"])
@pytest.mark.parametrize("family", ["7", "us", "versal"])
def test_utilization(tmp_path: Path, family: str, version: str) -> None:
    blocks = 0 if family == "7" else 31
    used = (45218, 58077, 103.5, 216, blocks)
    found = utilization.read(put(tmp_path / "u.rpt", _vivado.utilization(family, version, used)))
    assert found.used == Usage(45218, 58077, 216, 103.5, blocks)
    lut, ff, bram, dsp, uram = _vivado.THERE[family]
    assert found.available == Usage(lut, ff, dsp, bram, uram)
    assert (found.head.version, found.head.state, found.head.design) == (version, "Routed", "system_wrapper")
    found.expect(_vivado.DEVICES[family])
    with pytest.raises(HlsgenError, match=r"is a report for .*, but the build is for xc7a100tcsg324-1: give its own"):
        found.expect("xc7a100tcsg324-1")


@pytest.mark.parametrize("version", ["2020.1", "2024.2"])
def test_timing(tmp_path: Path, version: str) -> None:
    met = timing.read(put(tmp_path / "t.rpt", _vivado.timing(version=version)))
    assert (met.wns, met.tns, met.whs, met.ths, met.failing, met.met) == (0.084, 0.0, 0.021, 0.0, 0, True)
    missed = timing.read(put(tmp_path / "m.rpt", _vivado.timing(-0.412, -0.003, version, failing=(310, 2))))
    assert (missed.wns, missed.whs, missed.failing, missed.met) == (-0.412, -0.003, 312, False)
    assert missed.reachable_mhz(1000 / 150) == pytest.approx(1000 / (1000 / 150 + 0.412))
    met.expect("xc7z020clg400-1")
    with pytest.raises(HlsgenError, match="is a report for 7z020-clg400, but the build is for xck26"):
        met.expect("xck26-sfvc784-2LV-c")


def test_devices() -> None:
    for device in ("xc7z020clg400-1", "7z020clg400-1", "7z020-clg400", "7z020"):
        assert is_device(device, "xc7z020clg400-1")
    assert is_device("xck26-sfvc784", "xck26-sfvc784-2LV-c")
    for device in ("7z010-clg400", "xc7z020clg400-2", ""):
        assert not is_device(device, "xc7z020clg400-1")


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("language", ["Verilog", "VHDL"])
def test_cosim(tmp_path: Path, language: str, total: bool) -> None:
    put(tmp_path / language.lower() / "result.transaction.rpt", _vivado.transactions([18211, 90001, 402118]))
    path = put(tmp_path / "hlsgen_engine_cosim.rpt", _vivado.cosim(language=language, total=total))
    found = cosim.read(path)
    assert (found.language, found.passed, found.latency) == (language, True, (18211, 94122, 402118))
    assert found.total == (6212044 if total else None)
    assert found.calls == (18211, 90001, 402118)
    assert not cosim.read(put(path, _vivado.cosim("Fail", language))).passed


def test_calls_that_do_not_count_from_0_are_none(tmp_path: Path) -> None:
    put(tmp_path / "verilog" / "result.transaction.rpt", _vivado.transactions([5, 6, 7]).replace("  1:", "  9:"))
    assert cosim.read(put(tmp_path / "x_cosim.rpt", _vivado.cosim())).calls == ()


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (utilization.read, "", "names no Vivado version and device, expected Vivado's utilization report"),
        (
            utilization.read,
            _vivado.utilization().split("| Slice Registers")[0],
            "has no line 'Slice Registers' or 'CLB Registers' or 'Registers'",
        ),
        (utilization.read, _vivado.utilization().replace("DSPs", "Multipliers"), "has no line 'DSPs' or 'DSP Slices'"),
        (utilization.read, _vivado.timing(), "has no line 'Slice LUTs' or 'CLB LUTs'"),
        (timing.read, _vivado.utilization(), "has no Design Timing Summary, expected Vivado's timing summary"),
        (timing.read, _vivado.timing().split("    -------")[0], "has no Design Timing Summary, expected"),
        (
            timing.read,
            _vivado.timing("NA", "NA"),
            "gives no worst slack of setup and hold: the design has no timed path",
        ),
        (timing.read, _vivado.timing("soon"), "has .* where the slacks belong, expected Vivado's timing summary"),
        (timing.read, _vivado.timing().replace("Vivado v.", "Quartus "), "names no Vivado version and device"),
        (cosim.read, "nothing", "has no row for VHDL or Verilog, expected the co-simulation report of Vitis HLS"),
        (cosim.read, _vivado.cosim(language="SystemC"), "says that no language was simulated; run cosim again"),
        (cosim.read, _vivado.cosim("Unknown"), "says 'Unknown' of Verilog, expected Pass or Fail"),
    ],
)
def test_what_is_no_report(tmp_path: Path, read: Callable[[Path], Any], text: str, message: str) -> None:
    path = put(tmp_path / "some.rpt", text)
    with pytest.raises(HlsgenError, match=message) as raised:
        read(path)
    assert str(path) in str(raised.value)
