"""`report_timing_summary` of Vivado (UG835, UG906): the worst slacks of the whole design."""

import re
from dataclasses import dataclass
from pathlib import Path

from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports.files import read_text
from hlsgen.handoff.reports.vivado import Head, head, is_device

WHAT = "Vivado's timing summary"
_COLUMNS = (
    "WNS(ns)",
    "TNS(ns)",
    "TNS Failing Endpoints",
    "TNS Total Endpoints",
    "WHS(ns)",
    "THS(ns)",
    "THS Failing Endpoints",
)


@dataclass(frozen=True)
class Timing:
    """Worst and total slack in ns, negative where violated: wns, tns of setup, whs, ths of hold; failing: endpoints of both."""

    path: Path
    head: Head
    wns: float
    tns: float
    whs: float
    ths: float
    failing: int

    @property
    def met(self) -> bool:
        return self.wns >= 0 and self.whs >= 0

    def reachable_mhz(self, period_ns: float) -> float:
        """The clock that the worst setup path would keep, if it is of the clock with this period."""
        return 1000 / (period_ns - self.wns)

    def expect(self, part: str) -> None:
        """Whether it is a report for this part.

        Raises:
            HlsgenError: another device.
        """
        if not is_device(self.head.device, part):
            raise HlsgenError(
                f"{self.path} is a report for {self.head.device}, but the build is for {part}: give its own"
            )


def read(path: Path) -> Timing:
    """The report in `path`.

    Raises:
        HlsgenError: unreadable, cut off, another kind of file, or a design without timed paths.
    """
    text = read_text(path, WHAT)
    about = head(text, path, WHAT)
    lines = text[max(0, text.find("| Design Timing Summary")) :].splitlines()
    at = next((i for i, line in enumerate(lines) if line.split()[:2] == ["WNS(ns)", "TNS(ns)"]), None)
    if "| Design Timing Summary" not in text or at is None or len(lines) < at + 3:
        raise HlsgenError(f"{path} has no Design Timing Summary, expected {WHAT}; run the implementation again")
    cells = lines[at + 2].split()
    if len(cells) < len(_COLUMNS) or any(cell == "NA" for cell in (cells[0], cells[4])):
        raise HlsgenError(f"{path} gives no worst slack of setup and hold: the design has no timed path, or no clock")
    if any(not re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in cells[: len(_COLUMNS)]):
        raise HlsgenError(f"{path} has {lines[at + 2].strip()[:60]!r} where the slacks belong, expected {WHAT}")
    wns, tns, setup, _, whs, ths, hold = cells[: len(_COLUMNS)]
    return Timing(path, about, float(wns), float(tns), float(whs), float(ths), int(setup) + int(hold))
