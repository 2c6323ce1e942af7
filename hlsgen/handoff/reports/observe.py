"""What a csynth report says of the processes of an engine: the observations that calibrate the cost model."""

from hlsgen.cost.array import latency
from hlsgen.cost.calibrate import PLACES, PROCESSES, REGION, RESOURCES, TOP, Row, Sample
from hlsgen.cost.resources import Usage, Widths
from hlsgen.cost.streams import Depths
from hlsgen.errors import HlsgenError
from hlsgen.handoff.reports.csynth import Csynth, Loop, Module
from hlsgen.program.ops import EngineConfig


def sample(report: Csynth, family: str, clock_mhz: float, engine: EngineConfig, w: Widths, d: Depths) -> Sample:
    """What a report says of an engine.

    Raises:
        HlsgenError: where the report's modules take more than its top, so that it cannot be whole.
    """
    modules = {place: _module(report, place) for place in PLACES[:-1]}
    found = {place: module.used for place, module in modules.items() if module is not None}
    rows = [Row((place,), used) for place, used in found.items() if place in PROCESSES]
    inside = sum((found[place] for place in PROCESSES if place in found), Usage())
    missing = tuple(place for place in PROCESSES if place not in found)
    if REGION in found:
        rows.append(Row((REGION, *missing), _less(found[REGION], inside, report)))
        rows.append(Row((TOP,), _less(report.used, found[REGION], report)))
    else:
        rows.append(Row((TOP, REGION, *missing), _less(report.used, inside, report)))
    depths = loop_depths(report, engine)
    where = str(report.path)
    return Sample(where, family, report.version, report.part, clock_mhz, engine, w, d, report.used, tuple(rows), depths)


def missed_intervals(report: Csynth) -> dict[str, int]:
    """The processes whose pipelined loops take more than one cycle an iteration, with how many: each is built for one."""
    found: dict[str, int] = {}
    for place in PROCESSES:
        for module in _family(report, place):
            for loop in module.all_loops():
                if loop.ii is not None and loop.ii > 1:
                    found[place] = max(found.get(place, 1), loop.ii)
    return found


def loop_depths(report: Csynth, engine: EngineConfig) -> dict[str, int]:
    """The depths that a report tells, in the meaning of `Loops`: a pipelined loop takes (trips - 1) x interval + depth.

    The MAC loop is the longest of its process, the epilogue's the one with ACC_DEPTH x TP x TM / LANES trips at most. The step's
    setup is what an iteration of the loop around takes longer than the MAC loop alone. A loop that missed its interval tells
    nothing.
    """
    found: dict[str, int] = {}
    missed = missed_intervals(report)
    inner = _longest(report, "mac")
    if inner is not None and inner.depth is not None and "mac" not in missed:
        found["loop_depth"] = inner.depth - 1 - latency(engine)
        outer = [loop for m in _family(report, "mac") for loop in m.all_loops() if loop.iteration and loop.ii is None]
        around = max(outer, key=lambda loop: loop.iteration.most if loop.iteration else 0, default=None)
        if around is not None and around.iteration is not None and inner.trip is not None:
            least = max(1, inner.trip.least) - 1 + inner.depth
            if around.iteration.least > least:
                found["step_setup"] = around.iteration.least - least
    most = engine.acc_depth * engine.tp * engine.tm // engine.lanes
    for module in _family(report, "epilogue") if "epilogue" not in missed else []:
        for loop in module.all_loops():
            if loop.depth is not None and loop.trip is not None and loop.trip.most == most:
                found["epilogue_depth"] = loop.depth - 1
    return found


def _module(report: Csynth, place: str) -> Module | None:
    """The module of a place: the function's name, or with the suffix that the tool gives to a copy (mac_1, mac_s)."""
    names = [place, f"{place}_s", f"{place}_1"]
    return next((report.modules[name] for name in names if name in report.modules), None)


def _family(report: Csynth, place: str) -> list[Module]:
    """The module of a place and the loops that the tool has outlined from it: mac_Pipeline_VITIS_LOOP_120_4."""
    module = _module(report, place)
    own = [] if module is None else [module]
    return own + [m for name, m in report.modules.items() if name.startswith(f"{place}_Pipeline_")]


def _longest(report: Csynth, place: str) -> Loop | None:
    """The pipelined loop of a place with the most trips."""
    loops = [loop for m in _family(report, place) for loop in m.all_loops() if loop.ii is not None and loop.trip]
    return max(loops, key=lambda loop: loop.trip.most if loop.trip else 0, default=None)


def _less(whole: Usage, part: Usage, report: Csynth) -> Usage:
    left = {name: getattr(whole, name) - getattr(part, name) for name in RESOURCES}
    for name, value in left.items():
        if value < -0.02 * getattr(whole, name) - 2:
            raise HlsgenError(
                f"{report.path} says that parts of {report.top} take more {name.upper()} than all of it: not a whole report"
            )
    return Usage(**{name: max(0, value) for name, value in left.items()})
