"""Co-simulation's verdict and cycles: TOP_cosim.rpt, and where it lies beside, the cycles of each call.

Every version of Vitis HLS writes sim/report/TOP_cosim.rpt, and for each language sim/report/verilog/result.transaction.rpt,
a line a call of the top function: here a machine op.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports.files import read_text

WHAT = "the co-simulation report of Vitis HLS"
NAME = re.compile(r"(.+)_cosim\.rpt")
_ROW = re.compile(r"^\|\s*(VHDL|Verilog)\s*\|\s*(\w+)\s*\|([^\n]*)\|\s*$", re.MULTILINE)
_CALL = re.compile(r"^transaction\s+(\d+):\s+(\d+)\s+(\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Cosim:
    """language, status: of the one that ran. latency: least, mean and most cycles of a call. total: cycles from the first call to
    the end. calls: cycles of each call, empty where nothing lists them. None where the tool does not say."""

    path: Path
    language: str
    status: Literal["Pass", "Fail"]
    latency: tuple[int, int, int] | None
    total: int | None
    calls: tuple[int, ...]

    @property
    def passed(self) -> bool:
        return self.status == "Pass"


def read(path: Path) -> Cosim:
    """The report in `path`, with the calls that result.transaction.rpt lists beside it.

    Raises:
        HlsgenError: unreadable, cut off, or another kind of file; a simulation that has not run.
    """
    rows = _ROW.findall(read_text(path, WHAT))
    if not rows:
        raise HlsgenError(f"{path} has no row for VHDL or Verilog, expected {WHAT}; run cosim again")
    ran = [(language, status, cells) for language, status, cells in rows if status.upper() != "NA"]
    if not ran:
        raise HlsgenError(f"{path} says that no language was simulated; run cosim again")
    language, status, cells = ran[-1]
    if status not in ("Pass", "Fail"):
        raise HlsgenError(f"{path} says {status!r} of {language}, expected Pass or Fail")
    values = [int(cell) if cell.strip().isdigit() else None for cell in cells.split("|")]
    least, mean, most, *_ = (*values, None, None, None)
    latency = None if least is None or mean is None or most is None else (least, mean, most)
    calls = _calls(path.parent / language.lower() / "result.transaction.rpt")
    total = values[6] if len(values) > 6 else None  # 2020.1 has no such column
    return Cosim(path, language, "Pass" if status == "Pass" else "Fail", latency, total, calls)


def _calls(path: Path) -> tuple[int, ...]:
    """The latency of each call in order; empty where the file is missing or does not count from 0."""
    try:
        found = _CALL.findall(read_text(path, WHAT))
    except HlsgenError:
        return ()
    return (
        tuple(int(cycles) for _, cycles, _ in found) if [int(n) for n, *_ in found] == list(range(len(found))) else ()
    )
