"""Where the reports of a project lie: as tcl/ and the Makefile put them, else anywhere below."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SKIPPED = {"stages", "src", "tb", "data", "tcl", "pictures", "driver", ".autopilot", ".git"}


@dataclass(frozen=True)
class Found:
    """The reports of a build folder; None where there is none."""

    csynth: Path | None
    cosim: Path | None
    utilization: Path | None
    timing: Path | None


def find(folder: Path, top: str) -> Found:
    """The reports below a build folder. Of several of a kind the one where this project puts it, else the newest."""
    below = _files(folder)

    def pick(usual: tuple[str, ...], kind: Callable[[str], bool]) -> Path | None:
        for name in usual:
            if (folder / name).is_file():
                return folder / name
        return max((p for p in below if kind(p.name)), key=lambda p: (p.stat().st_mtime, str(p)), default=None)

    return Found(
        pick(
            ("hls/solution/syn/report/csynth.xml", "hls/hls/syn/report/csynth.xml"),
            lambda name: name == "csynth.xml",
        ),
        pick(
            (f"hls/solution/sim/report/{top}_cosim.rpt", f"hls/hls/sim/report/{top}_cosim.rpt"),
            lambda name: name == f"{top}_cosim.rpt",
        ),
        pick(
            ("reports/utilization.rpt",),
            lambda name: name.endswith(("utilization_routed.rpt", "utilization_placed.rpt", "full_util_routed.rpt")),
        ),
        pick(("reports/timing_summary.rpt",), lambda name: name.endswith("timing_summary_routed.rpt")),
    )


def _files(folder: Path) -> list[Path]:
    """Every report file below, but for what can hold none."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED)
        found += [Path(base) / name for name in sorted(names) if name.endswith((".rpt", ".xml"))]
    return found
