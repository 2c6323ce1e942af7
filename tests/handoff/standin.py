"""Running the generated Tcl in a real tclsh against the stand-in for the vendor's commands (vendor.tcl beside this file)."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hlsgen.targets import Target

HERE = Path(__file__).parent
CATALOG = (
    "xilinx.com:ip:processing_system7:5.5",
    "xilinx.com:ip:zynq_ultra_ps_e:3.4",
    "xilinx.com:ip:zynq_ultra_ps_e:3.5",
    "xilinx.com:ip:smartconnect:1.0",
    "xilinx.com:ip:proc_sys_reset:5.0",
    "xilinx.com:ip:clk_wiz:6.0",
    "xilinx.com:ip:axi_intc:4.1",
)
CARRIERS = "xilinx.com:kv260_carrier:som240_1_connector:1.2 xilinx.com:kv260_carrier:som240_1_connector:1.3"


@dataclass(frozen=True)
class Vendor:
    """What the stand-in pretends to be. board_files: whether the target's board file is installed."""

    version: str = "2022.2"
    board_files: bool = True
    wns: float = 0.123
    whs: float = 0.031
    stops: str = "never"
    board_part: str | None = None
    catalog: tuple[str, ...] = field(default=CATALOG)

    def facts(self, target: Target, project: Path) -> str:
        joined = (
            "ip:xlconcat:2.1" if tuple(map(int, self.version.split("."))) < (2025, 1) else "inline_hdl:ilconcat:1.0"
        )
        boards = []
        if target.board_file is not None and self.board_files:
            for pattern in target.board_file.parts:
                boards += [pattern.replace("*", version) for version in ("1.0", "1.10", "1.9")]
        pairs = " ".join(f"{{{board}}} {self.board_part or target.vivado}" for board in boards)
        values = {
            "version": self.version,
            "part": target.vivado,
            "boards": pairs,
            "carriers": CARRIERS,
            "catalog": " ".join((*self.catalog, f"xilinx.com:{joined}")),
            "masters": " ".join(masters(project)),
            "ddr_mb": str(target.memory.size_mb),
            "wns": str(self.wns),
            "whs": str(self.whs),
            "stops": self.stops,
        }
        return "".join(f"set facts({key}) {{{value}}}\n" for key, value in values.items())


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    error: str
    calls: tuple[str, ...]

    def of(self, command: str) -> list[str]:
        """The calls of one command."""
        return [call for call in self.calls if call.split()[0] == command]


def masters(project: Path) -> list[str]:
    """The AXI masters of the generated engine, by its own pragmas."""
    return re.findall(
        r"INTERFACE m_axi port=\w+ offset=slave bundle=(\w+)", (project / "src" / "engine.cpp").read_text()
    )


def run_tcl(tool: str, script: str, project: Path, target: Target, vendor: Vendor, *words: str, ops: str = "1") -> Ran:
    """Run project/tcl/SCRIPT; skips where there is no tclsh."""
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        pytest.skip("tclsh is not installed (Debian: apt install tcl)")
    facts, record = project / f"{tool}.facts", project / f"{tool}.record"
    facts.write_text(vendor.facts(target, project))
    done = subprocess.run(
        [tclsh, HERE / "vendor.tcl", tool, facts, record, project / "tcl" / script, *words],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "HLSGEN_OPS": ops, "JOBS": "2"},
        capture_output=True,
        text=True,
    )
    return Ran(done.returncode, done.stdout, done.stderr, tuple(record.read_text().splitlines()))


def export_ip(project: Path) -> None:
    """What `make export` does with the IP that the stand-in packaged."""
    shutil.copytree(project / "hls" / "solution" / "impl" / "ip", project / "export" / "ip", dirs_exist_ok=True)
