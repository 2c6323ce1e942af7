"""Every generated Tcl script, run against a stand-in that knows the vendor's commands and refuses what they would."""

# ruff: noqa: E501  (tables of error messages)

import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from hlsgen import targets
from hlsgen.program.ops import Program
from hlsgen.render import ProjectFacts, render
from tests.handoff.standin import Ran, Vendor, export_ip, masters, run_tcl
from tests.numerics.test_engine import ENGINES, random_program

ZYNQ = [name for name, t in targets.all_targets().items() if t.family.startswith("zynq")]
OTHERS = [name for name in targets.all_targets() if name not in ZYNQ]


@cache
def program() -> Program:
    return random_program(1, "fixed", ENGINES[3])  # 128-bit beats


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """rendered(target, cores): a project, rendered once; copy it before running anything in it."""
    root = tmp_path_factory.mktemp("projects")

    def get(name: str, cores: int) -> Path:
        folder = root / f"{name}-{cores}"
        if not folder.exists():
            t = targets.find(name)
            render(program(), folder, ProjectFacts("random", t.vivado, t.clock.default_mhz, "8x8", 25, cores, name))
        return folder

    return get


def project(rendered: Callable[[str, int], Path], name: str, cores: int, to: Path) -> Path:
    """A fresh copy in which the engine has been synthesized and exported."""
    shutil.copytree(rendered(name, cores), to / name)
    ran = run_tcl("hls", "run_hls.tcl", to / name, targets.find(name), Vendor(), "csynth", "export")
    assert ran.code == 0, ran.error
    if (to / name / "hls" / "solution" / "impl" / "ip").exists():
        export_ip(to / name)
    return to / name


def bitstream(folder: Path, name: str, vendor: Vendor) -> Ran:
    return run_tcl("vivado", "vivado.tcl", folder, targets.find(name), vendor)


# ---- Vitis HLS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(targets.all_targets()))
@pytest.mark.parametrize("version", ["2020.1", "2023.2"])
def test_hls_steps(rendered: Callable[[str, int], Path], name: str, version: str, tmp_path: Path) -> None:
    target = targets.find(name)
    folder = tmp_path / "p"
    shutil.copytree(rendered(name, 1), folder)
    ran = run_tcl("hls", "run_hls.tcl", folder, target, Vendor(version), "csim", "csynth", "cosim", "export")
    assert ran.code == 0, ran.error
    assert [c.split()[0] for c in ran.calls if c.split()[0].endswith("_design")] == [
        "csim_design", "csynth_design", "cosim_design", "export_design"]  # fmt: skip
    assert ran.of("set_part") == [f"set_part {target.vivado}"]
    assert ran.of("create_clock") == [f"create_clock -period {1000 / target.clock.default_mhz:.3f} -name default"]
    assert "--ops 1" in ran.of("cosim_design")[0]
    card = target.platform is not None
    assert ("-flow_target vitis" in ran.of("open_solution")[0]) == card
    assert ("-format xo" in ran.of("export_design")[0]) == card
    assert (folder / "hls" / "hlsgen_engine.xo").exists() == card
    assert ("does not widen" in ran.out) == (version == "2020.1")


def test_export_goes_on_where_csynth_left_off(rendered: Callable[[str, int], Path], tmp_path: Path) -> None:
    folder, target = tmp_path / "p", targets.find("pynq-z2")
    shutil.copytree(rendered("pynq-z2", 1), folder)
    alone = run_tcl("hls", "run_hls.tcl", folder, target, Vendor(), "export")
    assert alone.code == 0, alone.error
    assert alone.of("open_project") == ["open_project -reset hls"] and alone.of("csynth_design")
    again = run_tcl("hls", "run_hls.tcl", folder, target, Vendor(), "cosim", ops="3")
    assert again.of("open_project") == ["open_project hls"] and not again.of("csynth_design")
    assert "--ops 3" in again.of("cosim_design")[0]


# ---- Vivado ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZYNQ)
@pytest.mark.parametrize("cores", [1, 2, 5])
def test_a_zynq_design_is_whole(rendered: Callable[[str, int], Path], name: str, cores: int, tmp_path: Path) -> None:
    """The stand-in validates pins, drivers, clocks, resets, interrupts and addresses; here: what must be where."""
    folder, target = project(rendered, name, cores, tmp_path), targets.find(name)
    ran = bitstream(folder, name, Vendor())
    assert ran.code == 0, ran.error
    assert {p.name for p in (folder / "export").iterdir()} == {"ip", "hlsgen.bit", "hlsgen.hwh", "hlsgen.xsa"}
    # Every master of the C++ engine reaches the memory, on as many ports as the part has.
    assigned = [c.split() for c in ran.of("assign_bd_address")]
    spaces = {words[6] for words in assigned}
    expected = {f"/hlsgen_engine_{c}/Data_m_axi_{m}" for c in range(cores) for m in masters(folder)}
    assert spaces == expected | {"/ps/Data"}
    ports = {words[7].split("/")[2] for words in assigned if words[6] != "/ps/Data"}
    assert len(ports) == min(target.axi.ports, 4 * cores)
    for space in expected:
        size = sum(int(words[4], 16) for words in assigned if words[6] == space)
        assert size == target.memory.size_mb << 20
    # One register file a core, and for several the interrupt controller.
    registers = [int(words[2], 16) for words in assigned if words[6] == "/ps/Data"]
    base = 0x4000_0000 if target.family == "zynq-7000" else 0xA000_0000
    assert registers == [base + 0x1_0000 * n for n in range(cores + 1)]
    assert ("board file" in ran.out) == (target.board_file is not None)
    assert any("axi_intc" in c for c in ran.of("create_bd_cell"))
    # 150 and 200 MHz are not among the PLL's frequencies; 250 and 300 are.
    assert ("clock wizard" in ran.out) == (target.clock.default_mhz in (150.0, 200.0))


@pytest.mark.parametrize("version", ["2020.1", "2020.2", "2021.2", "2023.2", "2025.1"])
@pytest.mark.parametrize("name", ["pynq-z2", "kv260"])
def test_every_version(rendered: Callable[[str, int], Path], name: str, version: str, tmp_path: Path) -> None:
    folder = project(rendered, name, 2, tmp_path)
    ran = bitstream(folder, name, Vendor(version))
    assert ran.code == 0, ran.error
    assert bool(ran.of("wait_on_runs")) == (version >= "2021.2") != bool(ran.of("wait_on_run"))
    assert any("ilconcat" in c for c in ran.of("create_bd_cell")) == (version == "2025.1")


def test_the_newest_board_file_is_taken(rendered: Callable[[str, int], Path], tmp_path: Path) -> None:
    folder = project(rendered, "kv260", 1, tmp_path)
    calls = bitstream(folder, "kv260", Vendor()).of("set_property")
    assert "set_property board_part xilinx.com:kv260_som:part0:1.10 project" in calls
    assert "xilinx.com:kv260_carrier:som240_1_connector:1.3" in [c for c in calls if "board_connections" in c][-1]


@pytest.mark.parametrize("name", ["pynq-z2", "zcu104"])
def test_without_a_board_file_it_says_what_is_missing(
    rendered: Callable[[str, int], Path], name: str, tmp_path: Path
) -> None:
    folder = project(rendered, name, 1, tmp_path)
    ran = bitstream(folder, name, Vendor(board_files=False))
    assert ran.code == 0, ran.error
    assert "WARNING: no board file" in ran.out and "write tcl/board.tcl" in ran.out
    own = "PCW_PRESET_BANK1_VOLTAGE {LVCMOS 2.5V}" if name == "pynq-z2" else "PSU__PSS_REF_CLK__FREQMHZ 33.333"
    (folder / "tcl" / "board.tcl").write_text(f"set_property CONFIG.{own} $ps\n")
    ran = bitstream(folder, name, Vendor(board_files=False))
    assert ran.code == 0 and "write tcl/board.tcl" not in ran.out
    (folder / "tcl" / "board.tcl").write_text("set_property CONFIG.PCW_NO_SUCH 1 $ps\n")
    assert "has no setting PCW_NO_SUCH" in bitstream(folder, name, Vendor(board_files=False)).error


@pytest.mark.parametrize(
    ("vendor", "said"),
    [
        (Vendor(wns=-0.5), "the clock of 150.000 MHz was missed (setup -0.5 ns, hold 0.031 ns; reports/timing_summary.rpt); build with --clock 139"),
        (Vendor(whs=-0.01), "missed (setup 0.123 ns, hold -0.01 ns"),
        (Vendor(stops="synth_1"), "synth_1 stopped"),
        (Vendor(stops="impl_1"), "impl_1 stopped"),
        (Vendor("2019.2"), "expected Vivado 2020.1 or newer, this is 2019.2"),
        (Vendor(catalog=()), "this Vivado holds no xilinx.com:ip:processing_system7:*"),
        (Vendor(board_part="xc7z010clg400-1"), "is for xc7z010clg400-1, the engine was synthesized for xc7z020clg400-1"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said(
    rendered: Callable[[str, int], Path], vendor: Vendor, said: str, tmp_path: Path
) -> None:
    folder = project(rendered, "pynq-z2", 1, tmp_path)
    ran = bitstream(folder, "pynq-z2", vendor)
    assert ran.code == 1
    assert said in ran.error and "hlsgen: error: in tcl/" in ran.error
    assert not (folder / "export" / "hlsgen.bit").exists()


def test_vivado_needs_the_ip(rendered: Callable[[str, int], Path], tmp_path: Path) -> None:
    shutil.copytree(rendered("pynq-z2", 1), tmp_path / "p")
    ran = bitstream(tmp_path / "p", "pynq-z2", Vendor())
    assert ran.code == 1 and "expected the engine's IP in export/ip; run make export first" in ran.error


# ---- the stand-in catches what a broken script does ---------------------------------------------------------------------

MUTATIONS = [
    ("design.tcl", r"connect_bd_net \$clock \[pin \$core/ap_clk\]", "", "ap_clk (clk) is not connected"),
    ("design.tcl", r"connect_bd_net \$clock \[pin ps/\$port_clock\]", "", "S_AXI_HP0_ACLK (clk) is not connected"),
    ("design.tcl", r"connect_bd_net \$clock \[pin \$switch/aclk\]", "", "aclk (clk) is not connected"),
    ("design.tcl", r"connect_bd_net \[pin reset/peripheral_aresetn\] \[pin \$core/ap_rst_n\]", "", "ap_rst_n (rst_n) is not connected"),
    ("design.tcl", r"reset/interconnect_aresetn\] \[pin control", "reset/peripheral_reset] [pin control", "control/aresetn (rst_n) is driven by /reset/peripheral_reset (rst)"),
    ("design.tcl", r"\[pin requests/dout\] \[pin interrupts/intr\]", "[pin requests/dout] [pin hlsgen_engine_0/interrupt]", "would be driven by"),
    ("design.tcl", r"connect_bd_net \[pin interrupts/irq\].*", "", "ps/IRQ_F2P (intr) is not connected"),
    ("design.tcl", r"connect_bd_intf_net \[interface \$switch/M00_AXI\].*", "", "/hlsgen_engine_0/Data_m_axi_feature_maps does not reach /ps/S_AXI_HP0/HP0_DDR_LOWOCM"),
    ("design.tcl", r"CONFIG.NUM_MI \[llength \$registers\]", "CONFIG.NUM_MI 1", "found none"),
    ("design.tcl", r"CONFIG.NUM_PORTS", "CONFIG.NUM_INPUTS", "xlconcat has no setting NUM_INPUTS"),
    ("design.tcl", r"NUM_SI \[llength \$masters\]", "NUM_SI 17", "smartconnect NUM_SI expects 1..16, got '17'"),
    ("design.tcl", r"\[pin \$core/ap_clk\]", "[pin $core/ap_clock]", "a pin hlsgen_engine_0/ap_clock, found none"),
    ("design.tcl", r"connect_bd_net \$clock \[pin reset/slow", "connect_bd_net -nett x $clock [pin reset/slow", "connect_bd_net has no option -nett"),
    ("design.tcl", r"ip_cell xilinx.com:ip:proc_sys_reset:\* reset", "create_bd_cel reset", "no command create_bd_cel"),
    ("processor.tcl", r"CONFIG.PCW_S_AXI_HP0_DATA_WIDTH \{64\}", "CONFIG.PCW_S_AXI_HP0_DATA_WIDTH {128}", "expects 32 64, got '128'"),
    ("processor.tcl", r"CONFIG.PCW_USE_S_AXI_HP3 \{1\}", "CONFIG.PCW_USE_S_AXI_HP3 {0}", "an interface ps/S_AXI_HP3, found none"),
    ("processor.tcl", r"CONFIG.PRIM_IN_FREQ \$source", "CONFIG.PRIM_IN_FREQ 50", "is set to 50"),
    ("processor.tcl", r"set clock \[pin clock/clk_out1\]", "set clock [pin ps/FCLK_CLK0]", "the engine's clock expects 150.000 MHz, got 100.0"),
    ("processor.tcl", r"connect_bd_net \[pin ps/FCLK_CLK0\] \[pin clock/clk_in1\]", "", "clock/clk_in1 (clk) is not connected"),
    ("processor.tcl", r"make_external \{FIXED_IO, DDR\}", "make_external {FIXED_IO}", "ps/DDR is not external"),
    ("addresses.tcl", r"0x0040010000", "0x0040000000", "overlaps"),
    ("addresses.tcl", r"0x0040010000", "0x0040018000", "is not a multiple of its range"),
    ("addresses.tcl", r"0x0040010000", "0x0020000000", "outside the master's window"),
    ("addresses.tcl", r"0x20000000 0\n", "0x40000000 0\n", "holds 536870912 bytes"),
    ("addresses.tcl", r" +hlsgen_engine_0/Data_m_axi_results .*\n", "", "no such element in array"),
    ("addresses.tcl", r" +ps/Data interrupts.*\n", "", "/interrupts/S_AXI/Reg has no address in /ps/Data"),
    ("addresses.tcl", r"-offset \$offset", "-ofset $offset", "assign_bd_address has no option -ofset"),
    ("implement.tcl", r"finish synth_1", "", "impl_1 needs synth_1 first"),
    ("implement.tcl", r"validate_bd_design|open_run impl_1", "", "no design is open"),
    ("addresses.tcl", r"save_bd_design", "", "the block design is not saved"),
    ("export.tcl", r"-include_bit", "-include_bits", "write_hw_platform has no option -include_bits"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "pattern", "instead", "said"), MUTATIONS)
def test_a_broken_script_is_caught(
    rendered: Callable[[str, int], Path], script: str, pattern: str, instead: str, said: str, tmp_path: Path
) -> None:
    folder = project(rendered, "pynq-z2", 2, tmp_path)
    path = folder / "tcl" / script
    text = path.read_text()
    broken = re.sub(pattern, lambda _: instead, text, count=1)
    assert broken != text
    path.write_text(broken)
    ran = bitstream(folder, "pynq-z2", Vendor())
    assert ran.code == 1
    assert said in ran.error


@pytest.mark.parametrize(
    ("pattern", "instead", "said"),
    [
        (r"-m_axi_addr64=true", "-m_axi_address64=true", "config_interface has no option -m_axi_address64"),
        (r"-m_axi_addr64=true", "-m_axi_addr64=yes", "config_interface -m_axi_addr64 is true or false, got yes"),
        (r"csynth_design", "csynth_desing", "no command csynth_desing"),
        (r"-rtl verilog -argv", "-rtl system -argv", "cosim_design -rtl expects verilog vhdl, got 'system'"),
        (r"-format ip_catalog", "-format ip", "export_design -format expects ip_catalog sysgen syn_dcp xo, got 'ip'"),
        (r"-format ip_catalog", "-format xo", "needs open_solution -flow_target vitis"),
        (r"set part   xc7z020", "set part   xc7z021", "no part xc7z021"),
        (r"set top    hlsgen_engine", "set top    engine", "no function engine"),
        (r"set_part \$part", "", "needs part first"),
    ],
)
def test_a_broken_hls_script_is_caught(
    rendered: Callable[[str, int], Path], pattern: str, instead: str, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    shutil.copytree(rendered("pynq-z2", 1), folder)
    path = folder / "tcl" / "run_hls.tcl"
    path.write_text(re.sub(pattern, lambda _: instead, path.read_text(), count=1))
    ran = run_tcl("hls", "run_hls.tcl", folder, targets.find("pynq-z2"), Vendor(), "csynth", "cosim", "export")
    assert ran.code == 1
    assert said in ran.error
