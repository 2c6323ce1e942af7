"""hls_config.cfg and link.cfg: legal keys and values (UG1399, UG1702, UG1393), and what they say against the Program."""

import dataclasses
import re
from pathlib import Path

import pytest

from hlsgen import targets
from hlsgen.errors import HlsgenError
from hlsgen.handoff import platform
from hlsgen.program.encode import encode
from hlsgen.program.ops import Program
from hlsgen.render import ProjectFacts, render
from tests.handoff.standin import masters
from tests.numerics.test_engine import ENGINES, random_program

NUMBER = r"[0-9.]+"
BOOL = "true|false|0|1"
# section: key -> pattern of its value; a key that may come more than once ends in *
HLS_KEYS = {
    "": {"part": r"xc[a-z0-9]+(-[A-Za-z0-9]+)*", "platform": r"\S+", "work_dir": r"\S+"},
    "hls": {
        "flow_target": "vivado|vitis",
        "clock": rf"{NUMBER}(ns|MHz)?",
        "clock_uncertainty": rf"{NUMBER}(ns|%)?",
        "syn.top": r"\w+",
        "syn.file*": r"\S+",
        "syn.cflags": r".+",
        "syn.csimflags": r".+",
        "tb.file*": r"\S+",
        "tb.cflags": r".+",
        "syn.interface.m_axi_addr64": BOOL,
        "syn.interface.m_axi_max_widen_bitwidth": "0|8|16|32|64|128|256|512|1024",
        "csim.O": BOOL,
        "csim.argv": r".+",
        "csim.clean": BOOL,
        "cosim.rtl": "verilog|vhdl",
        "cosim.argv": r".+",
        "cosim.O": BOOL,
        "package.output.format": "ip_catalog|xo|syn_dcp|sysgen|rtl",
        "package.output.file": r"\S+",
        "package.output.syn": BOOL,
        "package.ip.vendor": r"[a-z.]+",
        "package.ip.library": r"\w+",
        "package.ip.name": r"\w+",
        "package.ip.version": r"\d+\.\d+(\.\d+)?",
    },
}
LINK_KEYS = {
    "": {"kernel_frequency": r"(\d+:)?\d+(\|\d+:\d+)*", "platform": r"\S+"},
    "connectivity": {
        "nk*": r"\w+:\d+(:\w+(\.\w+)*)?",
        "sp*": r"\w+\.\w+:(DDR|HBM|PLRAM)\[\d+(:\d+)?\]",
        "slr*": r"\w+:SLR\d",
        "sc*": r"\S+",
    },
}

Parsed = dict[str, dict[str, list[str]]]


def parse(text: str, legal: dict[str, dict[str, str]]) -> Parsed:
    """The configuration by section and key; ValueError at what v++ would refuse."""
    section, found = "", {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            if section not in legal:
                raise ValueError(f"no section {line}")
            continue
        key, equals, value = line.partition("=")
        pattern = legal[section].get(key) or legal[section].get(f"{key}*")
        if not equals or pattern is None:
            raise ValueError(f"no key {key} in [{section}]")
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{key} cannot be {value}")
        values = found.setdefault(section, {}).setdefault(key, [])
        values.append(value)
        if len(values) > 1 and f"{key}*" not in legal[section]:
            raise ValueError(f"{key} comes twice")
    return found


PROGRAM = random_program(1, "fixed", ENGINES[3])


def rendered(name: str, cores: int, folder: Path, program: Program = PROGRAM) -> targets.Target:
    target = targets.find(name)
    render(program, folder, ProjectFacts("random", target.vivado, target.clock.default_mhz, "8x8", 25, cores, name))
    return target


@pytest.mark.parametrize("name", list(targets.all_targets()))
def test_hls_config(name: str, tmp_path: Path) -> None:
    target = rendered(name, 1, tmp_path)
    found = parse((tmp_path / "hls_config.cfg").read_text(), HLS_KEYS)
    hls = found["hls"]
    card = target.platform is not None
    assert found[""]["part"] == [target.vivado]
    assert hls["flow_target"] == ["vitis" if card else "vivado"]
    assert hls["package.output.format"] == ["xo" if card else "ip_catalog"]
    assert hls["clock"] == [f"{1000 / target.clock.default_mhz:.3f}ns"]
    source = (tmp_path / hls["syn.file"][0]).read_text()
    assert re.search(rf"^void {hls['syn.top'][0]}\(", source, re.M)
    assert hls["package.ip.name"] == hls["syn.top"]
    assert "tb/tb.cpp" in hls["tb.file"] and (tmp_path / "tb" / "tb.cpp").is_file()
    bench = "".join(path.read_text() for path in (tmp_path / "tb").iterdir() if path.is_file())
    data = set(re.findall(r'data \+ "/(\w+\.bin)"', bench))
    assert data and {f"data/{name}" for name in data} == {f for f in hls["tb.file"] if f.startswith("data/")}
    for flag in re.findall(r"-I(\S+)", hls["tb.cflags"][0]):
        assert (tmp_path / flag).is_dir()
    # A transfer is as wide as the struct that the C++ reads, whatever the flow's default.
    beat = int(re.search(r"^#define BEAT (\d+)", (tmp_path / "src" / "config.h").read_text(), re.M).group(1))  # type: ignore[union-attr]
    system = platform.system(target, PROGRAM, target.clock.default_mhz, 1)
    assert system.data_bits == beat * 8 == PROGRAM.engine.beat * 8
    assert hls["syn.interface.m_axi_max_widen_bitwidth"] == ["0"]
    assert (tmp_path / "link.cfg").exists() == card


@pytest.mark.parametrize("name", ["alveo-u250", "xcu250", "xcu55c"])
@pytest.mark.parametrize("cores", [1, 2, 3, 7])
def test_link_config(name: str, cores: int, tmp_path: Path) -> None:
    target = rendered(name, cores, tmp_path)
    assert target.platform is not None
    found = parse((tmp_path / "link.cfg").read_text(), LINK_KEYS)["connectivity"]
    kernel, count, names = found["nk"][0].split(":")
    assert (kernel, int(count)) == ("hlsgen_engine", cores)
    units = names.split(".")
    assert len(set(units)) == cores
    assert re.search(rf"^void {kernel}\(", (tmp_path / "src" / "engine.cpp").read_text(), re.M)
    placed = dict(entry.split(":", 1) for entry in found["sp"])
    assert set(placed) == {f"{unit}.{master}" for unit in units for master in masters(tmp_path)}
    for unit in units:  # one buffer, one bank
        assert placed[f"{unit}.residuals"] == placed[f"{unit}.feature_maps"] == placed[f"{unit}.results"]
    used = [int(n) for where in placed.values() for n in re.findall(r"\d+", where)]
    assert max(used) < target.platform.banks
    # Spread: no bank serves two cores while another is free.
    assert len({placed[f"{unit}.feature_maps"] for unit in units}) == min(cores, target.platform.banks)
    assert {s.split(":")[0] for s in found["slr"]} == set(units)
    assert {s.split(":")[1] for s in found["slr"]} <= set(target.platform.slrs)


def test_the_link_takes_whole_megahertz(tmp_path: Path) -> None:
    target = targets.find("alveo-u250")
    render(PROGRAM, tmp_path, ProjectFacts("random", target.vivado, 266.667, "8x8", 25, 1, "alveo-u250"))
    assert parse((tmp_path / "link.cfg").read_text(), LINK_KEYS)[""]["kernel_frequency"] == ["266"]


def test_a_large_network_spans_banks(tmp_path: Path) -> None:
    """U55C's banks hold 512 MB: 1,200 MB of feature maps take three in a row, the parameters another."""
    large = dataclasses.replace(PROGRAM, fmap_beats=1200 * 2**20 // PROGRAM.engine.beat)
    target = targets.find("xcu55c")
    card = platform.system(target, large, 300.0, 2).card
    assert card is not None
    assert [dict(link.banks)["feature_maps"] for link in card.links] == ["HBM[0:2]", "HBM[4:6]"]
    assert [dict(link.banks)["parameters"] for link in card.links] == ["HBM[3]", "HBM[7]"]
    assert len(encode(PROGRAM).weights) < 512 * 2**20
    huge = dataclasses.replace(PROGRAM, fmap_beats=20000 * 2**20 // PROGRAM.engine.beat)
    with pytest.raises(HlsgenError, match=r"has 32 memory banks of 512 MB; one core of this network expects 40"):
        platform.system(target, huge, 300.0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("part=xc7z020clg400-1\n[hls]\nsyn.tpo=x", "no key syn.tpo in .hls."),
        ("[hls]\nflow_target=vivdo", "flow_target cannot be vivdo"),
        ("[hsl]\n", "no section .hsl."),
        ("[hls]\nsyn.top=a\nsyn.top=b", "syn.top comes twice"),
        ("[hls]\npart=xc7z020", "no key part in .hls."),
    ],
)
def test_the_parser_refuses(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text, HLS_KEYS)


# ---- the system itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(targets.all_targets()))
def test_every_target_has_a_system_or_a_reason(name: str) -> None:
    target = targets.find(name)
    system = platform.system(target, PROGRAM, 100.0, 1)
    kinds = {"zynq-7000": "zynq", "zynq-ultrascale+": "zynq", "artix-7": "ip", "versal": "ip"}
    assert system.kind == kinds.get(target.family, "card" if target.platform else "ip")
    assert sum(x is not None for x in (system.zynq, system.card, system.alone)) == 1
    if system.alone:
        assert system.alone.startswith(name) and "make export" in system.alone
        assert not set(system.alone) & set('`$"\\\n')  # it stands in a shell script's double quotes


def test_several_cores_share_the_ports_evenly() -> None:
    for cores in range(1, 16):
        zynq = platform.system(targets.find("xczu9eg"), PROGRAM, 300.0, cores).zynq
        assert zynq is not None
        loads = [len(switch.masters) for switch in zynq.switches]
        assert loads == [cores] * 4
        for switch in zynq.switches[
            : min(cores, 4)
        ]:  # each port serves every kind of master before it serves one twice
            kinds = [m.rsplit("m_axi_")[1] for m in switch.masters[:4]]
            assert len(set(kinds)) == min(cores, 4)
    too_many = platform.system(targets.find("xczu9eg"), PROGRAM, 300.0, 16)
    assert too_many.alone is not None and "16 cores are more than the 15" in too_many.alone


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([("a", "x", 0, 4096), ("a", "y", 0, 4096)], "x and y overlap in a at 0x0"),
        ([("a", "x", 0, 8192), ("a", "y", 4096, 4096)], "x and y overlap in a at 0x1000"),
        ([("a", "x", 4096, 8192)], "x expects a power of two of at least 4096 bytes on a multiple of itself"),
        ([("a", "x", 0, 5000)], "x expects a power of two"),
        ([("a", "x", 0, 1024)], "x expects a power of two"),
    ],
)
def test_addresses_are_checked(segments: list[tuple[str, str, int, int]], said: str) -> None:
    with pytest.raises(HlsgenError, match=said):
        platform.check_addresses(tuple(platform.Segment(*s) for s in segments))


def test_registers_must_lie_in_the_masters_window() -> None:
    zynq = platform.system(targets.find("pynq-z2"), PROGRAM, 150.0, 1).zynq
    assert zynq is not None
    moved = dataclasses.replace(zynq.addresses[0], offset=0x8000_0000)
    with pytest.raises(HlsgenError, match="expect to lie in 0x40000000"):
        dataclasses.replace(zynq, addresses=(moved, *zynq.addresses[1:]))
