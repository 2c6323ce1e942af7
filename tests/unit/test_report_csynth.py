"""csynth.xml of several versions, and everything that is none."""

from pathlib import Path

import pytest

from hlsgen.cost.calibrate import PROCESSES, REGION, TOP
from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports.csynth import Range, read
from hlsgen.handoff.reports.files import LARGEST, same_part
from hlsgen.handoff.reports.observe import loop_depths, missed_intervals
from tests.unit._reports import Synthesis, array_depth, csynth_xml

VERSIONS = ("2020.1", "2020.2", "2021.1", "2022.2", "2023.2", "2024.2", "2025.1")


def written(folder: Path, s: Synthesis, name: str = "csynth.xml") -> Path:
    path = folder / name
    path.write_text(csynth_xml(s), encoding="utf-8")
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version(tmp_path: Path, version: str) -> None:
    s = Synthesis(version=version)
    found, truth = read(written(tmp_path, s)), s.inclusive()
    assert (found.version, found.top, found.part) == (version, TOP, "xc7z020-clg400-1")
    assert (found.target_ns, found.estimated_ns, found.clock_met) == (6.67, 4.857, True)
    assert found.latency is None
    assert found.used == truth[TOP]
    assert (found.available.lut, found.available.dsp, found.available.bram36) == (53200, 220, 140)
    assert {name: found.modules[name].used for name in (*PROCESSES, REGION)} == {
        name: truth[name] for name in (*PROCESSES, REGION)
    }
    assert ("mac_Pipeline_VITIS_LOOP_104_3" in found.modules) == (version >= "2021.1")
    loops = [loop for m in found.modules.values() if m.name.startswith("mac") for loop in m.all_loops()]
    assert {(loop.ii, loop.depth) for loop in loops} == {(1, 40), (None, None)}
    assert Range(1, 90_000) in [loop.trip for loop in loops]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_depths_are_the_loops_own(tmp_path: Path, version: str) -> None:
    s = Synthesis(version=version, mac_depth=37, setup=19, epilogue_depth=44)
    assert loop_depths(read(written(tmp_path, s)), s.engine) == {
        "loop_depth": 37 - 1 - array_depth(s),
        "step_setup": 19,
        "epilogue_depth": 43,
    }


def test_a_missed_interval_tells_no_depth(tmp_path: Path) -> None:
    s = Synthesis(mac_ii=2)
    found = read(written(tmp_path, s))
    assert missed_intervals(found) == {"mac": 2}
    assert loop_depths(found, s.engine) == {"epilogue_depth": s.epilogue_depth - 1}


def test_a_missed_clock(tmp_path: Path) -> None:
    assert not read(written(tmp_path, Synthesis(estimated=4.99))).clock_met  # 6.67 less 27 % is 4.87


def test_modules_beside_the_report(tmp_path: Path) -> None:
    """A report that lists no modules has them in files of their own; one that is cut off is as if it were not there."""
    whole = csynth_xml(Synthesis())
    start, end = whole.index("<ModuleInformation>"), whole.index("</ModuleInformation>") + len("</ModuleInformation>")
    (tmp_path / "csynth.xml").write_text(whole[:start] + whole[end:], encoding="utf-8")
    (tmp_path / "mac_csynth.xml").write_text(whole[:start] + whole[end:], encoding="utf-8")
    (tmp_path / "epilogue_csynth.xml").write_text(whole[:900], encoding="utf-8")
    found = read(tmp_path / "csynth.xml")
    assert set(found.modules) == {"mac"}
    assert found.modules["mac"].used == Synthesis().inclusive()[TOP]


def test_what_is_not_of_this_build(tmp_path: Path) -> None:
    found = read(written(tmp_path, Synthesis()))
    found.expect(TOP, "xc7z020clg400-1", 1000 / 150)
    for arguments, message in (
        (("other", "xc7z020clg400-1", 6.667), "is the report of 'hlsgen_engine', expected the top function 'other'"),
        (
            (TOP, "xck26-sfvc784-2LV-c", 6.667),
            "is a report for xc7z020-clg400-1, but the build is for xck26-sfvc784-2LV-c",
        ),
        ((TOP, "xc7z020clg400-1", 10.0), "was made for a clock of 6.67 ns, but the build's is 10.000 ns"),
    ):
        with pytest.raises(HlsgenError, match=message):
            found.expect(*arguments)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><profile>&b;</profile>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (csynth_xml(Synthesis())[:4000], "is cut off or damaged at line"),
        ("", "is cut off or damaged at line 1, expected the csynth.xml of Vitis HLS; run the tool again"),
        (BOMB, "declares a document type or entities, which the csynth.xml of Vitis HLS never does: not read"),
        ("<project/>", "begins with <project>, expected the csynth.xml of Vitis HLS, which begins with <profile>"),
        ("<profile></profile>", "has no <ReportVersion/Version>, expected the csynth.xml of Vitis HLS"),
        (
            csynth_xml(Synthesis(version="2019.2")),
            "was written by version '2019.2', expected Vitis HLS 2020.1 or newer",
        ),
        (
            csynth_xml(Synthesis(version="18.1.0")),
            "was written by version '18.1.0', expected Vitis HLS 2020.1 or newer",
        ),
        (csynth_xml(Synthesis()).replace("<LUT>", "<LUTS>").replace("</LUT>", "</LUTS>"), "has no LUT or FF in"),
        (csynth_xml(Synthesis()).replace("<TargetClockPeriod>6.67", "<TargetClockPeriod>soon"), "says 'soon' in <User"),
        (csynth_xml(Synthesis()).replace("AvailableResources", "Others"), "has no <AreaEstimates/AvailableResources>"),
    ],
)
def test_what_is_no_report(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "csynth.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HlsgenError, match=message) as raised:
        read(path)
    assert str(path) in str(raised.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HlsgenError, match=r"expected the csynth\.xml of Vitis HLS: No such file"):
        read(tmp_path / "none.xml")
    with pytest.raises(HlsgenError, match="Is a directory"):
        read(tmp_path)
    (tmp_path / "binary.xml").write_bytes(b"\x7fELF\xff\xfe")
    with pytest.raises(HlsgenError, match="is no text"):
        read(tmp_path / "binary.xml")
    with (tmp_path / "large.xml").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(HlsgenError, match=r"has 64 MiB, the csynth\.xml of Vitis HLS at most 64"):
        read(tmp_path / "large.xml")


def test_part_names() -> None:
    assert same_part("xc7z020-clg400-1", "xc7z020clg400-1")
    assert same_part("xcu250-figd2104-2L-e", "XCU250-FIGD2104-2L-E")
    assert not same_part("xc7z020clg400-1", "xc7z020clg400-2")
