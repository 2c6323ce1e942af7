"""make csynth, cosim, export and bitstream, with fake tools of several versions that record what they are given."""

# ruff: noqa: E501  (tables of error messages)

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hlsgen import targets
from hlsgen.render import ProjectFacts, render
from tests.handoff.fakes import install
from tests.numerics.test_engine import ENGINES, random_program

CSYNTH = "vitis_hls -f tcl/run_hls.tcl csynth"
UNIFIED = ["v++ -c --mode hls --config hls_config.cfg --work_dir hls"]


@dataclass(frozen=True)
class Made:
    code: int
    out: str
    error: str
    calls: list[str]


@dataclass
class Project:
    folder: Path
    tools: Path

    def make(self, *words: str, **environment: str) -> Made:
        record = self.folder.parent / "record"
        record.write_text("")
        done = subprocess.run(
            ["make", "--no-print-directory", *words],
            cwd=self.folder,
            env={"PATH": f"{self.tools}:/usr/bin:/bin", "RECORD": str(record), **environment},
            capture_output=True,
            text=True,
        )
        return Made(done.returncode, done.stdout, done.stderr, record.read_text().splitlines())


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, program = tmp_path_factory.mktemp("projects"), random_program(1, "fixed", ENGINES[0])

    def get(name: str) -> Path:
        if not (root / name).exists():
            t = targets.find(name)
            render(program, root / name, ProjectFacts("random", t.vivado, t.clock.default_mhz, "8x8", 25, 1, name))
        return root / name

    return get


@pytest.fixture
def project(templates: Callable[[str], Path], tmp_path: Path) -> Callable[..., Project]:
    """project(target, tool=version, ...): a project, and a PATH with these fake tools."""
    for tool in ("vitis_hls", "v++", "vitis-run", "vivado"):
        if shutil.which(tool, path="/usr/bin:/bin"):
            pytest.skip(f"a real {tool} is in /usr/bin")

    def get(name: str, **versions: str) -> Project:
        shutil.copytree(templates(name), tmp_path / "p")
        return Project(tmp_path / "p", install(tmp_path / "tools", **versions))

    return get


ALL = {"vpp": "2024.1", "vitis_run": "2024.1", "vitis_hls": "2024.1"}


@pytest.mark.parametrize(
    ("versions", "variables", "first"),
    [
        ({"vitis_hls": "2020.1"}, [], CSYNTH),
        ({"vitis_hls": "2023.2", "vpp": "2023.2", "vitis_run": "2023.2"}, [], CSYNTH),
        (ALL, [], UNIFIED[0]),
        (ALL, ["FLOW=classic"], CSYNTH),
        ({"vpp": "2025.1", "vitis_run": "2025.1"}, [], UNIFIED[0]),
        ({"vpp": "2024.10", "vitis_run": "2024.10"}, ["FLOW=unified"], UNIFIED[0]),
        ({"vitis_hls": "2022.2", "vpp": "2024.2"}, [], CSYNTH),  # v++ without vitis-run cannot go on
    ],
)
def test_the_flow_is_picked_by_what_is_there(
    project: Callable[..., Project], versions: dict[str, str], variables: list[str], first: str
) -> None:
    p = project("pynq-z2", **versions)
    made = p.make("csynth", *variables)
    assert made.code == 0, made.error
    assert made.calls == [first]
    assert "hlsgen: csynth done: hls/" in made.out
    again = p.make("csynth", *variables)
    assert again.calls == [] and "holds the synthesis of these sources" in again.out
    later = (p.folder / "hls" / "csynth.done").stat().st_mtime + 2
    os.utime(p.folder / "src" / "config.h", (later, later))
    assert p.make("csynth", *variables).calls == [first]


@pytest.mark.parametrize("versions", [{"vitis_hls": "2022.2"}, {"vpp": "2024.2", "vitis_run": "2024.2"}])
def test_bitstream_runs_what_it_needs_once(project: Callable[..., Project], versions: dict[str, str]) -> None:
    p = project("pynq-z2", vivado="2024.2", **versions)
    made = p.make("bitstream")
    assert made.code == 0, made.error
    classic = "vitis_hls" in versions
    package = "vitis_hls -f tcl/run_hls.tcl export"
    if not classic:
        package = "vitis-run --mode hls --package --config hls_config.cfg --work_dir hls"
    vivado = "vivado -mode batch -nojournal -log vivado.log -source tcl/vivado.tcl"
    assert made.calls == [CSYNTH if classic else UNIFIED[0], package, vivado]
    assert (p.folder / "export" / "ip" / "component.xml").exists()
    assert p.make("bitstream").calls == [vivado]
    assert p.make("clean").code == 0
    assert not (p.folder / "hls").exists() and (p.folder / "export" / "hlsgen.bit").exists()


@pytest.mark.parametrize("versions", [{"vitis_hls": "2022.2"}, {"vpp": "2024.2", "vitis_run": "2024.2"}])
def test_cosim_simulates_as_many_ops_as_asked(project: Callable[..., Project], versions: dict[str, str]) -> None:
    p = project("pynq-z2", **versions)
    said = {True: "ops {}", False: "cosim.argv=. --ops {}"}["vitis_hls" in versions]
    assert p.make("cosim").calls[-1] == said.format(1)
    assert p.make("cosim", "OPS=2").calls[-1] == said.format(2)
    whole = p.make("cosim", "OPS=all")
    assert f"the first {whole.calls[-1].split()[-1]} of {whole.calls[-1].split()[-1]} machine ops" in whole.out
    for wrong in ("0", "1000", "two", "-1"):
        made = p.make("cosim", f"OPS={wrong}")
        assert made.code == 2 and f"or all, got {wrong}" in made.error and made.calls == []


@pytest.mark.parametrize(
    ("name", "words", "versions", "said"),
    [
        ("pynq-z2", ["csynth"], {}, "make csynth needs Vitis HLS: neither vitis_hls (2020.1 to 2023.2) nor v++ and vitis-run (2024.1 or newer) is on the PATH; install AMD Vitis"),
        ("pynq-z2", ["cosim"], {}, "make cosim needs Vitis HLS"),
        ("pynq-z2", ["export"], {}, "make csynth needs Vitis HLS"),
        ("pynq-z2", ["bitstream"], {"vitis_hls": "2022.2"}, "make bitstream needs Vivado: vivado is not on the PATH; install AMD Vivado"),
        ("pynq-z2", ["bitstream"], {"vivado": "2022.2"}, "make bitstream needs Vitis HLS"),
        ("pynq-z2", ["bitstream"], {"vitis_hls": "2022.2", "vivado": "2019.2"}, "make bitstream needs Vivado 2020.1 or newer"),
        ("pynq-z2", ["csynth"], {"vitis_hls": "2019.2"}, "expects to be version 2020.1 or newer"),
        ("pynq-z2", ["csynth"], {"vitis_hls": ""}, "expects to be version 2020.1 or newer"),
        ("pynq-z2", ["csynth"], {"vpp": "2023.1", "vitis_run": "2023.1"}, "and v++ here is 2023.1 with vitis-run"),
        ("pynq-z2", ["csynth", "FLOW=unified"], {"vitis_hls": "2022.2"}, "FLOW=unified needs v++ and vitis-run 2024.1 or newer"),
        ("pynq-z2", ["csynth", "FLOW=both"], {"vitis_hls": "2022.2"}, "FLOW expects classic or unified, got both"),
        ("xc7a100t", ["bitstream"], {"vitis_hls": "2022.2", "vivado": "2022.2"}, "there is no bitstream to make: xc7a100t has no processor"),
        ("vcu118", ["bitstream"], {}, "there is no bitstream to make: vcu118 has no processor, and its memory needs a controller (MIG)"),
        ("xcvc1902", ["bitstream"], {}, "there is no bitstream to make: xcvc1902 is a Versal"),
        ("alveo-u250", ["bitstream"], {"vitis_hls": "2022.2"}, "make bitstream needs v++: it is not on the PATH; install AMD Vitis"),
        ("alveo-u250", ["bitstream"], {"vpp": "2022.2"}, "make bitstream needs the platform xilinx_u250_gen3x16_xdma_4_1_202210_1"),
        ("alveo-u250", ["bitstream", "PLATFORM=/no/p.xpfm"], {"vpp": "2022.2"}, "/no/p.xpfm does not exist"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_sentence(
    project: Callable[..., Project], name: str, words: list[str], versions: dict[str, str], said: str
) -> None:
    made = project(name, **versions).make(*words)
    assert made.code == 2 and made.calls == []
    errors = [line for line in made.error.splitlines() if not line.startswith("make")]
    assert len(errors) == 1 and errors[0].startswith("hlsgen: error: ") and said in errors[0]


@pytest.mark.parametrize("name", ["xc7a100t", "xcvc1902", "vcu118"])
def test_a_part_alone_exports_its_ip_and_says_what_is_left(project: Callable[..., Project], name: str) -> None:
    p = project(name, vitis_hls="2022.2")
    made = p.make("export")
    assert made.code == 0, made.error
    assert (p.folder / "export" / "ip" / "component.xml").exists()
    assert f"hlsgen: {name} " in made.out and "connect its masters to the" in made.out
    assert not (p.folder / "tcl" / "vivado.tcl").exists()


@pytest.mark.parametrize("versions", [{"vitis_hls": "2022.2", "vpp": "2022.2"}, ALL])
def test_a_card_is_linked_on_its_platform(
    project: Callable[..., Project], versions: dict[str, str], tmp_path: Path
) -> None:
    p = project("alveo-u250", **versions)
    (tmp_path / "platforms" / "xilinx_u250_gen3x16_xdma_4_1_202210_1").mkdir(parents=True)
    repository = {"PLATFORM_REPO_PATHS": f"/elsewhere:{tmp_path / 'platforms'}"}
    made = p.make("bitstream", "JOBS=4", **repository)
    assert made.code == 0, made.error
    assert made.calls[-1] == (
        "v++ -l -t hw --platform xilinx_u250_gen3x16_xdma_4_1_202210_1 --config link.cfg --temp_dir vitis --jobs 4 "
        "-o export/hlsgen.xclbin export/hlsgen_engine.xo"
    )
    assert "bitstream done: export/hlsgen.xclbin" in made.out
    slow = p.make("bitstream", **repository, KERNEL_MHZ="271")
    assert slow.code == 2 and "the clock of 300 MHz was missed: v++ made export/hlsgen.xclbin for 271 MHz" in slow.error


def test_the_tools_of_the_environment_are_found(project: Callable[..., Project], tmp_path: Path) -> None:
    p = project("pynq-z2")
    install(tmp_path / "Vitis_HLS" / "bin", vitis_hls="2021.1")
    install(tmp_path / "Vivado" / "bin", vivado="2021.1")
    folders = {"XILINX_HLS": str(tmp_path / "Vitis_HLS"), "XILINX_VIVADO": str(tmp_path / "Vivado")}
    made = p.make("bitstream", **folders)
    assert made.code == 0, made.error
    assert [call.split()[0] for call in made.calls] == ["vitis_hls", "vitis_hls", "vivado"]
    named = p.make("csynth", "-B", f"VITIS_HLS={tmp_path}/Vitis_HLS/bin/vitis_hls")
    assert named.calls == [CSYNTH]


def test_flows_and_versions_are_not_mixed(project: Callable[..., Project], tmp_path: Path) -> None:
    p = project("pynq-z2", vivado="2023.1", **ALL)
    assert p.make("export").code == 0
    mixed = p.make("cosim", "FLOW=classic")
    assert mixed.code == 2 and "was made by the flow unified 2024.1, and found now is classic 2024.1" in mixed.error
    old = p.make("bitstream")
    assert old.code == 2 and "Vivado 2023.1 does not read newer IPs" in old.error and old.calls == []


@pytest.mark.parametrize(
    ("words", "fails", "said"),
    [
        (["csynth"], "vitis_hls", "vitis_hls failed at csynth; see vitis_hls.log"),
        (["bitstream"], "vivado", "no bitstream; the reason stands above and in vivado.log"),
        (["csynth", "FLOW=unified"], "v++", "v++ failed at csynth"),
        (["export", "FLOW=unified"], "vitis-run", "vitis-run failed at export"),
    ],
)
def test_a_failing_tool_stops_make(project: Callable[..., Project], words: list[str], fails: str, said: str) -> None:
    p = project("pynq-z2", vivado="2024.1", **ALL)
    flow = [] if len(words) > 1 else ["FLOW=classic"]
    made = p.make(*words, *flow, FAIL=fails)
    assert made.code == 2 and said in made.error  # make's own status for a recipe that failed
    assert not (p.folder / "hls" / "csynth.done").exists() or fails in ("vivado", "vitis-run")
    assert p.make(*words, *flow).code == 0  # and a second run goes on
