"""`report_utilization` of Vivado (UG835): its tables, in the spelling of 7 series, UltraScale+ and Versal."""

import re
from dataclasses import dataclass
from pathlib import Path

from hlsgen.cost.resources import Usage
from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports.files import read_text
from hlsgen.handoff.reports.vivado import Head, head, is_device

WHAT = "Vivado's utilization report"
SITES = {
    "lut": ("Slice LUTs", "CLB LUTs"),
    "ff": ("Slice Registers", "CLB Registers", "Registers"),
    "dsp": ("DSPs", "DSP Slices"),
    "bram36": ("Block RAM Tile",),
    "uram": ("URAM",),
}
"""What each family calls them."""


@dataclass(frozen=True)
class Utilization:
    """Of the whole design around the engines: processor system, interconnect and resets included."""

    path: Path
    head: Head
    used: Usage
    available: Usage

    def expect(self, part: str) -> None:
        """Whether it is a report for this part.

        Raises:
            HlsgenError: another device.
        """
        if not is_device(self.head.device, part):
            raise HlsgenError(
                f"{self.path} is a report for {self.head.device}, but the build is for {part}: give its own"
            )


def read(path: Path) -> Utilization:
    """The report in `path`.

    Raises:
        HlsgenError: unreadable, cut off, or another kind of file.
    """
    text = read_text(path, WHAT)
    about = head(text, path, WHAT)
    rows = _rows(text)
    found = {name: _figures(rows, sites, path, needed=name != "uram") for name, sites in SITES.items()}
    return Utilization(
        path, about, _usage({k: v[0] for k, v in found.items()}), _usage({k: v[1] for k, v in found.items()})
    )


def _rows(text: str) -> list[tuple[str, dict[str, str]]]:
    """(site, cell by heading) of every row of every table that begins with Site Type."""
    rows: list[tuple[str, dict[str, str]]] = []
    headings: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            if not line.startswith("+"):
                headings = []
        elif cells[0] == "Site Type":
            headings = cells
        elif headings and len(cells) == len(headings):
            rows.append((cells[0].rstrip("*"), dict(zip(headings, cells, strict=True))))
    return rows


def _figures(
    rows: list[tuple[str, dict[str, str]]], sites: tuple[str, ...], path: Path, needed: bool
) -> tuple[float, float]:
    """(used, available) of the first row with one of the names."""
    for site, cells in rows:
        if site in sites:
            used, there = _number(cells.get("Used")), _number(cells.get("Available"))
            if used is not None and there is not None:
                return used, there
    if needed:
        raise HlsgenError(
            f"{path} has no line {' or '.join(repr(site) for site in sites)}, expected {WHAT}; run the implementation again"
        )
    return 0.0, 0.0


def _number(cell: str | None) -> float | None:
    return float(cell) if cell and re.fullmatch(r"\d+(\.\d+)?", cell) else None


def _usage(found: dict[str, float]) -> Usage:
    return Usage(int(found["lut"]), int(found["ff"]), int(found["dsp"]), found["bram36"], int(found["uram"]))
