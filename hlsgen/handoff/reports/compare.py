"""The vendor's reports of a build beside its estimate: what went wrong first, then every figure with its error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hlsgen.build import opened
from hlsgen.cost.calibrate import RESOURCES
from hlsgen.cost.resources import Usage
from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports import cosim, csynth, timing, utilization
from hlsgen.handoff.reports.find import find
from hlsgen.handoff.reports.observe import missed_intervals
from hlsgen.render import TOP

Facts = dict[str, Any]
NAMES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36", "uram": "URAM"}
MADE_BY = {"csynth": "make csynth", "cosim": "make cosim", "utilization": "make bitstream", "timing": "make bitstream"}


def compare(folder: Path) -> Facts:
    """What the reports in a build folder say.

    Returns the keys part, clock_mhz, cores; problems (sentences: a missed clock or interval, an overflow, a failed
    co-simulation); rows, one a figure, {name, estimate, csynth, csynth_error, estimate_all, vivado, vivado_error}, where
    errors are estimate / report - 1, estimate is one core's (csynth's scope) and estimate_all all cores' (Vivado's);
    reports {csynth, cosim, utilization, timing: {file, ...} or None}; missing, by report the make target that makes it.

    Raises:
        HlsgenError: no build, no report in it, or one that is damaged or not of this build.
    """
    b = opened(folder, "lower")
    said, part = b.facts["lower"]["estimate"], b.target.vivado
    clock, cores = float(b.facts["lower"]["clock_mhz"]), int(said["cores"])
    found = find(folder, TOP)
    if not any(vars(found).values()):
        raise HlsgenError(
            f"{folder} holds no report of Vitis HLS or Vivado yet: run make csynth (minutes), make cosim or make bitstream in it"
        )
    synthesized = csynth.read(found.csynth) if found.csynth else None
    simulated = cosim.read(found.cosim) if found.cosim else None
    placed = utilization.read(found.utilization) if found.utilization else None
    timed = timing.read(found.timing) if found.timing else None
    if synthesized:
        synthesized.expect(TOP, part, 1000 / clock)
    for report in (placed, timed):
        if report:
            report.expect(part)
    layers = [int(layer["cycles"]) for layer in said["layers"]]
    problems = [
        *(_csynth_problems(synthesized, clock, cores) if synthesized else []),
        *(_cosim_problems(simulated) if simulated else []),
        *(_overflows("Vivado", placed.used, placed.available, 1) if placed else []),
        *(_timing_problems(timed, clock) if timed else []),
    ]
    return {
        "part": b.target.name,
        "clock_mhz": clock,
        "cores": cores,
        "problems": problems,
        "rows": _rows(said, clock, layers, synthesized, simulated, placed, timed),
        "reports": {
            "csynth": _csynth_facts(synthesized, folder),
            "cosim": _cosim_facts(simulated, layers, folder),
            "utilization": _utilization_facts(placed, folder),
            "timing": _timing_facts(timed, clock, folder),
        },
        "missing": {name: MADE_BY[name] for name, path in vars(found).items() if path is None},
    }


def _csynth_problems(report: csynth.Csynth, clock: float, cores: int) -> list[str]:
    problems = []
    if not report.clock_met:
        problems.append(
            f"csynth: the clock of {clock:g} MHz is missed: {report.estimated_ns:.2f} ns estimated where "
            f"{report.target_ns - report.uncertainty_ns:.2f} ns are left after the uncertainty; about "
            f"{int(report.reachable_mhz)} MHz would hold (build with --clock)"
        )
    for place, ii in missed_intervals(report).items():
        problems.append(f"csynth: {place} takes {ii} cycles an iteration where the engine is built for 1")
    return problems + _overflows("csynth", report.used, report.available, cores)


def _cosim_problems(report: cosim.Cosim) -> list[str]:
    return [] if report.passed else [f"cosim: the RTL ({report.language}) differs from the reference"]


def _timing_problems(report: timing.Timing, clock: float) -> list[str]:
    if report.met:
        return []
    text = (
        f"Vivado: the clock of {clock:g} MHz is missed at {report.failing:,} endpoints: setup slack {report.wns:.3f} ns, "
        f"hold slack {report.whs:.3f} ns"
    )
    if report.wns < 0:
        text += f"; about {int(report.reachable_mhz(1000 / clock))} MHz would hold (build with --clock)"
    return [text]


def _overflows(tool: str, used: Usage, available: Usage, cores: int) -> list[str]:
    return [
        f"{tool}: {_figure(getattr(used, name) * cores)} {NAMES[name]}"
        f"{f' for {cores} cores' if cores > 1 else ''}, the part has {_figure(getattr(available, name))}"
        for name in RESOURCES
        if getattr(used, name) * cores > getattr(available, name)
    ]


def _rows(
    said: Facts,
    clock: float,
    layers: Sequence[int],
    synthesized: csynth.Csynth | None,
    simulated: cosim.Cosim | None,
    placed: utilization.Utilization | None,
    timed: timing.Timing | None,
) -> list[Facts]:
    rows = []
    for name in RESOURCES:
        one = sum(term[name] for term in said["terms"].values())
        all_cores = said["resources"][name]["used"]
        rows.append(
            _row(
                name,
                one,
                getattr(synthesized.used, name) if synthesized else None,
                all_cores,
                getattr(placed.used, name) if placed else None,
            )
        )
    csynth_mhz = synthesized.reachable_mhz if synthesized else None
    rows.append(_row("clock_mhz", clock, csynth_mhz, clock, timed.reachable_mhz(1000 / clock) if timed else None))
    calls = simulated.calls if simulated else ()
    if calls and len(calls) <= len(layers):
        rows.append(_row("cycles", sum(layers[: len(calls)]), sum(calls), None, None))
    return rows


def _row(name: str, one: float, by_csynth: float | None, all_cores: float | None, by_vivado: float | None) -> Facts:
    return {
        "name": name,
        "estimate": one,
        "csynth": by_csynth,
        "csynth_error": _error(one, by_csynth),
        "estimate_all": all_cores,
        "vivado": by_vivado,
        "vivado_error": _error(all_cores, by_vivado),
    }


def _error(estimate: float | None, report: float | None) -> float | None:
    return estimate / report - 1 if estimate is not None and report else None


def _csynth_facts(report: csynth.Csynth | None, folder: Path) -> Facts | None:
    if report is None:
        return None
    return {
        "file": _inside(report.path, folder),
        "version": report.version,
        "clock_met": report.clock_met,
        "estimated_ns": report.estimated_ns,
        "uncertainty_ns": report.uncertainty_ns,
        "reachable_mhz": report.reachable_mhz,
        "used": dict(vars(report.used)),
        "available": dict(vars(report.available)),
        "intervals_missed": missed_intervals(report),
    }


def _cosim_facts(report: cosim.Cosim | None, layers: Sequence[int], folder: Path) -> Facts | None:
    if report is None:
        return None
    return {
        "file": _inside(report.path, folder),
        "language": report.language,
        "passed": report.passed,
        "calls": len(report.calls),
        "ops": len(layers),
        "latency": report.latency,
        "total": report.total,
    }


def _utilization_facts(report: utilization.Utilization | None, folder: Path) -> Facts | None:
    if report is None:
        return None
    return {
        "file": _inside(report.path, folder),
        "version": report.head.version,
        "state": report.head.state,
        "used": dict(vars(report.used)),
        "available": dict(vars(report.available)),
    }


def _timing_facts(report: timing.Timing | None, clock: float, folder: Path) -> Facts | None:
    if report is None:
        return None
    return {
        "file": _inside(report.path, folder),
        "version": report.head.version,
        "met": report.met,
        "wns": report.wns,
        "tns": report.tns,
        "whs": report.whs,
        "ths": report.ths,
        "failing": report.failing,
        "reachable_mhz": report.reachable_mhz(1000 / clock),
    }


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _figure(value: float) -> str:
    return f"{value:,.10g}"
