"""`csynth.xml` of Vitis HLS 2020.1 and newer: estimated clock, latency and area, of the top and of every module.

The classic flow writes it to PROJECT/SOLUTION/syn/report/, `v++ --mode hls` to WORK/hls/syn/report/. Beside it lies one
MODULE_csynth.xml a module with the same layout but for <ModuleInformation>.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from hlsgen.cost.resources import Usage
from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports.files import read_xml, same_part

WHAT = "the csynth.xml of Vitis HLS"
OLDEST = (2020, 1)


@dataclass(frozen=True)
class Range:
    """Cycles, least and most."""

    least: int
    most: int


@dataclass(frozen=True)
class Loop:
    """trip: iterations. iteration: cycles of one iteration of a loop that is not pipelined. ii, depth: initiation interval and
    iteration latency of a pipelined one. None where the report does not say."""

    name: str
    trip: Range | None
    latency: Range | None
    iteration: Range | None
    ii: int | None
    depth: int | None
    inner: tuple["Loop", ...] = ()

    def all(self) -> Iterator["Loop"]:
        yield self
        for loop in self.inner:
            yield from loop.all()


@dataclass(frozen=True)
class Module:
    """A function or an outlined loop; used: with everything below it."""

    name: str
    used: Usage
    latency: Range | None
    loops: tuple[Loop, ...]

    def all_loops(self) -> Iterator[Loop]:
        for loop in self.loops:
            yield from loop.all()


@dataclass(frozen=True)
class Csynth:
    """A synthesis report of one top function. Periods in ns; latency in cycles, None where it depends on data without bounds."""

    path: Path
    version: str
    part: str
    top: str
    target_ns: float
    uncertainty_ns: float
    estimated_ns: float
    latency: Range | None
    used: Usage
    available: Usage
    modules: dict[str, Module]

    @property
    def reachable_mhz(self) -> float:
        """The clock that the estimated period would keep, with the same share of it left as uncertainty."""
        return 1000 / self.estimated_ns * (1 - self.uncertainty_ns / self.target_ns)

    @property
    def clock_met(self) -> bool:
        """Whether the estimated period keeps the target's less the uncertainty, as the tool itself judges it."""
        return self.estimated_ns <= self.target_ns - self.uncertainty_ns + 5e-3

    def expect(self, top: str, part: str, period_ns: float) -> None:
        """Whether it is a report of this design.

        Raises:
            HlsgenError: another top function, part or clock.
        """
        if self.top != top:
            raise HlsgenError(f"{self.path} is the report of {self.top!r}, expected the top function {top!r}")
        if not same_part(self.part, part):
            raise HlsgenError(f"{self.path} is a report for {self.part}, but the build is for {part}: give its own")
        if abs(self.target_ns - period_ns) > 0.011:  # the report rounds to 10 ps
            raise HlsgenError(
                f"{self.path} was made for a clock of {self.target_ns:g} ns, but the build's is {period_ns:.3f} ns: give its own"
            )


def read(path: Path) -> Csynth:
    """The report in `path`; modules that it does not list are taken from the MODULE_csynth.xml beside it.

    Raises:
        HlsgenError: unreadable, cut off, another kind of file, an older tool, a field missing.
    """
    root = read_xml(path, WHAT, "profile")
    version = _text(root, "ReportVersion/Version", path)
    number = re.match(r"(\d{4})\.(\d+)", version)
    if not number or (int(number[1]), int(number[2])) < OLDEST:
        raise HlsgenError(f"{path} was written by version {version[:20]!r}, expected Vitis HLS 2020.1 or newer")
    modules = {m.name: m for m in (_module(e, path) for e in root.iterfind("ModuleInformation/Module"))}
    if path.name == "csynth.xml":
        modules = _siblings(path) | modules
    user, timing = "UserAssignments", "PerformanceEstimates/SummaryOfTimingAnalysis"
    return Csynth(
        path,
        version,
        _text(root, f"{user}/Part", path),
        _text(root, f"{user}/TopModelName", path),
        _period(root, f"{user}/TargetClockPeriod", path),
        _period(root, f"{user}/ClockUncertainty", path, zero=True),
        _period(root, f"{timing}/EstimatedClockPeriod", path),
        _overall(root),
        _area(root, "AreaEstimates/Resources", path),
        _area(root, "AreaEstimates/AvailableResources", path),
        modules,
    )


def _siblings(path: Path) -> dict[str, Module]:
    """What the reports of single modules say; those that are not whole say nothing."""
    found: dict[str, Module] = {}
    for sibling in sorted(path.parent.glob("*_csynth.xml")):
        name = sibling.name.removesuffix("_csynth.xml")
        try:
            root = read_xml(sibling, WHAT, "profile")
            found[name] = Module(name, _area(root, "AreaEstimates/Resources", sibling), _overall(root), _loops(root))
        except HlsgenError:
            continue
    return found


def _module(element: Element, path: Path) -> Module:
    name = _text(element, "Name", path)
    return Module(name, _area(element, "AreaEstimates/Resources", path), _overall(element), _loops(element))


def _loops(element: Element) -> tuple[Loop, ...]:
    summary = element.find("PerformanceEstimates/SummaryOfLoopLatency")
    return () if summary is None else tuple(_loop(e) for e in summary if _is_loop(e))


def _is_loop(element: Element) -> bool:
    return any(element.find(tag) is not None for tag in ("TripCount", "PipelineII", "IterationLatency"))


def _loop(element: Element) -> Loop:
    ii, depth = _range(element, "PipelineII"), _range(element, "PipelineDepth")
    return Loop(
        element.findtext("Name") or element.tag,
        _range(element, "TripCount"),
        _range(element, "Latency"),
        _range(element, "IterationLatency"),
        ii.most if ii else None,
        depth.most if depth else None,
        tuple(_loop(e) for e in element if _is_loop(e)),
    )


def _overall(element: Element) -> Range | None:
    base = "PerformanceEstimates/SummaryOfOverallLatency/"
    least = _cycles(element.findtext(f"{base}Best-caseLatency"))
    most = _cycles(element.findtext(f"{base}Worst-caseLatency"))
    return None if least is None or most is None else Range(least, most)


def _range(element: Element, tag: str) -> Range | None:
    """`<tag>7</tag>`, or `<tag><range><min>..</min><max>..</max></range></tag>`."""
    found = element.find(tag)
    if found is None:
        return None
    least, most = found.findtext("range/min") or found.text, found.findtext("range/max") or found.text
    low, high = _cycles(least), _cycles(most)
    return None if low is None or high is None else Range(low, high)


def _cycles(text: str | None) -> int | None:
    """A whole number; None for the tool's undef, ?, - and inf."""
    found = re.fullmatch(r"\s*(\d{1,18})\s*", text or "")
    return int(found[1]) if found else None


def _area(element: Element, where: str, path: Path) -> Usage:
    area = element.find(where)
    if area is None:
        raise HlsgenError(f"{path} has no <{where}>, expected {WHAT}; run csynth again")
    value = {tag: _cycles(area.findtext(tag)) for tag in ("LUT", "FF", "BRAM_18K", "DSP", "DSP48E", "URAM")}
    if value["LUT"] is None or value["FF"] is None:
        raise HlsgenError(f"{path} has no LUT or FF in <{where}>, expected {WHAT}; run csynth again")
    return Usage(
        value["LUT"],
        value["FF"],
        value["DSP"] if value["DSP"] is not None else value["DSP48E"] or 0,
        (value["BRAM_18K"] or 0) / 2,
        value["URAM"] or 0,
    )


def _text(element: Element, where: str, path: Path) -> str:
    found = (element.findtext(where) or "").strip()
    if not found:
        raise HlsgenError(f"{path} has no <{where}>, expected {WHAT}; run csynth again")
    return found


def _period(element: Element, where: str, path: Path, zero: bool = False) -> float:
    text = _text(element, where, path)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 if zero else 0.1) <= value <= 1000:
        raise HlsgenError(f"{path} says {text[:20]!r} in <{where}>, expected a period in ns")
    return value
