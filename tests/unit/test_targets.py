"""targets/: every file is sound, and a bad one is refused in one sentence."""

from pathlib import Path

import pytest

from hlsgen import targets
from hlsgen.errors import HlsgenError
from hlsgen.resources import folder

PARTS = [
    "xc7z010",
    "xc7z020",
    "xc7a100t",
    "xczu3eg",
    "xck26",
    "xczu7ev",
    "xczu9eg",
    "xcvu9p",
    "xcu250",
    "xcu55c",
    "xcvc1902",
]
BOARDS = [
    "pynq-z1",
    "pynq-z2",
    "zedboard",
    "zybo-z7-20",
    "arty-z7-20",
    "ultra96-v2",
    "kv260",
    "zcu102",
    "zcu104",
    "vcu118",
    "alveo-u250",
]


def test_every_file_is_a_target() -> None:
    found = targets.all_targets()
    assert set(found) == {path.stem for path in folder("targets").glob("*.toml")}
    assert {name for name, t in found.items() if t.kind == "part"} >= set(PARTS)
    assert {name for name, t in found.items() if t.kind == "board"} >= set(BOARDS)


@pytest.mark.parametrize("name", PARTS + BOARDS)
def test_figures_hang_together(name: str) -> None:
    t = targets.find(name)
    assert t.resources.ff == 2 * t.resources.lut  # two flip-flops a LUT in every AMD family since 7 series
    assert t.memory.usable_gb_s < t.memory.peak_gb_s
    assert t.bandwidth_gb_s <= t.axi.bandwidth_gb_s
    assert t.vivado.startswith(t.part)
    kinds = {"zynq-7000": "DSP48E1", "artix-7": "DSP48E1", "versal": "DSP58"}
    assert t.resources.dsp_kind == kinds.get(t.family, "DSP48E2")
    for source in (t.resources.source, t.axi.source, t.memory.source, t.clock.source):
        assert source.startswith(("AMD", "estimate", "Digilent", "TUL", "ZedBoard", "Avnet", "DS925", "the PS"))


def test_the_part_everything_is_measured_on() -> None:
    r = targets.find("xc7z020").resources
    assert (r.lut, r.ff, r.bram36, r.uram, r.dsp, r.dsp_kind) == (53_200, 106_400, 140, 0, 220, "DSP48E1")


def test_a_board_takes_its_part_and_keeps_its_own_memory() -> None:
    board, part = targets.find("pynq-z2"), targets.find("xc7z020")
    assert board.part == "xc7z020"
    assert board.resources == part.resources
    assert board.memory.usable_gb_s == 1.6 < part.memory.usable_gb_s
    assert targets.find("kv260").memory == targets.find("xck26").memory


def test_find_is_generous() -> None:
    assert targets.find(" XC7Z020 ").name == "xc7z020"
    assert targets.find("xc7z020clg400-1").name == "xc7z020"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xc7z02", "unknown part or board 'xc7z02': the nearest names are xc7z020, "),
        ("pynqz2", "unknown part or board 'pynqz2': the nearest names are pynq-z2, "),
        ("", "unknown part or board '': known are xc7a100t, "),
        ('"; exit', "unknown part or board '\"; exit': known are "),
    ],
)
def test_unknown_names(name: str, said: str) -> None:
    with pytest.raises(HlsgenError) as caught:
        targets.find(name)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


BOARD = """name = "b"
kind = "board"
title = "B"
part = "xc7z020"
vivado = "xc7z020clg400-1"
speed_grade = "-1"
source = "a manual"
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name = ", "name = ="), "b.toml: not a readable TOML file"),
        (('kind = "board"', 'kind = "card"'), 'b.toml: kind must be "part" or "board", got \'card\''),
        (('title = "B"', 'titel = "B"'), "b.toml: title: field required"),
        (('source = "a manual"', 'source = "a manual"\nlut = 3'), "b.toml: lut: extra inputs are not permitted, got 3"),
        (('"xc7z020clg400-1"', '"xc7z020; exec sh"'), "b.toml: vivado: string should match pattern"),
        (('"xc7z020clg400-1"', '"xc7z020clg400-1\\n"'), None),
        (('name = "b"', 'name = "c"'), "b.toml: name must be 'b' as the file is called, got 'c'"),
    ],
)
def test_a_bad_file(tmp_path: Path, change: tuple[str, str], said: str | None) -> None:
    path = tmp_path / "b.toml"
    path.write_text(BOARD.replace(*change))
    if said is None:  # a stray newline is stripped, never kept
        assert targets.read(path).vivado == "xc7z020clg400-1"
        return
    with pytest.raises(HlsgenError) as caught:
        targets.read(path)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('parts = []\nsource = "a manual"', "b.toml: board_file.parts: tuple should have at least 1 item"),
        ('parts = ["b"]\nsource = "a manual"', "b.toml: board_file.parts.0: string should match pattern"),
        (
            'parts = ["a.com:b:part0:*; exec sh"]\nsource = "a manual"',
            "b.toml: board_file.parts.0: string should match",
        ),
        ('parts = ["a.com:b:part0:*"]', "b.toml: board_file.source: field required"),
        (
            'parts = ["a.com:b:part0:*"]\ncarrier = "a.com:c:d"\nsource = "a manual"',
            "b.toml: board_file: value error, a carrier card needs connector, carrier and carrier_versions",
        ),
    ],
)
def test_a_bad_board_file(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "b.toml"
    path.write_text(f"{BOARD}\n[board_file]\n{table}\n")
    with pytest.raises(HlsgenError) as caught:
        targets.read(path)
    assert str(caught.value).startswith(said)


def test_what_the_hand_off_needs() -> None:
    for t in targets.all_targets().values():
        assert t.memory.size_mb & (t.memory.size_mb - 1) == 0
        if t.kind == "board" and t.family.startswith("zynq"):
            assert t.board_file is not None
        if t.platform is not None:
            assert t.memory.size_mb % t.platform.banks == 0
