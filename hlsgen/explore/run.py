"""An exploration from its options to its folder: points priced, kept as they finish, taken over by the next run."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hlsgen import __version__, calibrations, targets
from hlsgen.cost.coefficients import MODEL
from hlsgen.cost.schedule import Objective as Goal
from hlsgen.errors import HlsgenError
from hlsgen.explore.executors import executor
from hlsgen.explore.network import Network
from hlsgen.explore.objectives import Objective, objectives, pareto
from hlsgen.explore.space import BUDGETS, Budget, Point, fixed_by, points
from hlsgen.explore.write import FILES, write
from hlsgen.progress import Progress, Quiet
from hlsgen.quantize.spec import DEFAULT_SCHEME, ENGINE_SCHEMES, Scheme
from hlsgen.workspace import growing, write_whole

Facts = dict[str, Any]
POINTS = "points"


@dataclass(frozen=True)
class ExploreOptions:
    """What is explored. clocks: MHz, none for three of each part's own. fixed: values of tm, tn, tp, lanes, cores to try;
    what is not there is scheduled. weights, imgsz, calibration: as for `hlsgen estimate`, for every model and part."""

    models: tuple[str, ...]
    parts: tuple[str, ...]
    out: Path
    objectives: tuple[str, ...] = ("fps", "lut")
    clocks: tuple[float, ...] = ()
    budgets: tuple[str, ...] = BUDGETS
    fixed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    weights: str | None = None
    imgsz: tuple[int, int] | None = None
    scheme: Scheme = DEFAULT_SCHEME
    calibration: bool = True
    jobs: int = 1
    executor: str | None = None


def explore(options: ExploreOptions, progress: Progress | None = None) -> tuple[Facts, Facts]:
    """Price every point that the folder does not hold yet, and write explore.json, explore.csv and explore.html.

    Returns:
        explore.json as a dict, and how it came about: {points, taken_over, priced}.

    Raises:
        HlsgenError: bad input, a folder that is not ours, a cluster that is not there. Finished points stay in the folder.
    """
    progress = progress or Quiet()
    weighed = objectives(options.objectives)
    chosen = {target.name: target for target in map(targets.find, options.parts)}
    budgets = {budget.label: budget for budget in map(Budget.parse, options.budgets)}
    if options.scheme not in ENGINE_SCHEMES:
        raise HlsgenError(f"unknown scheme {options.scheme!r}: expected one of {', '.join(ENGINE_SCHEMES)}")
    networks = _networks(options, progress)
    plan, left_out = points(
        list(networks),
        list(chosen.values()),
        options.clocks,
        list(budgets.values()),
        options.fixed,
        _goals(weighed),
        calibrations.coefficients if options.calibration else lambda family: MODEL,
    )
    if left_out:
        progress.note(f"{len(left_out)} combinations are no engine; the first: {left_out[0]['why']}")
    with growing(options.out, (POINTS, *FILES)) as folder:
        kept = folder / POINTS
        kept.mkdir(exist_ok=True)
        done = {point.key: facts for point in plan if (facts := _read(kept, point)) is not None}
        taken_over = len(done)
        left = [point for point in plan if point.key not in done]
        began = time.perf_counter()
        if left:
            with executor(options.executor, options.jobs, list(networks.values()), progress) as pricer:
                progress.stage("explore", "designs for each part, clock and budget")
                progress.step(0, len(left))
                named = {point.key: point for point in left}
                for facts in pricer(left):
                    point = named[facts["key"]]
                    done[point.key] = facts
                    whole = _asked(point, networks[point.network]) | facts
                    write_whole(kept / f"{point.key}.json", json.dumps(whole, indent=1) + "\n")
                    progress.step(len(done) - taken_over, len(left))
        taken = f", {taken_over} taken over from an earlier run" if taken_over else ""
        progress.done("explore", time.perf_counter() - began, f"{len(left)} points priced{taken}")
        rows = [_asked(point, networks[point.network]) | done[point.key] for point in plan]
        found = _found(options, rows, weighed, left_out)
        write(folder, found)
    return found, {"points": len(plan), "taken_over": taken_over, "priced": len(left)}


def _networks(options: ExploreOptions, progress: Progress) -> dict[str, Network]:
    from hlsgen.cli_estimate import weights_at_hand

    found: dict[str, Network] = {}
    for i, model in enumerate(options.models):
        progress.stage("load", model)
        progress.step(i, len(options.models))
        began = time.perf_counter()
        weights = options.weights or weights_at_hand(model)
        network = Network.load(model, weights, options.imgsz, options.scheme)
        found[network.digest] = network
        progress.done("load", time.perf_counter() - began, f"{network.model}, weights {network.origin}")
    return found


def _goals(weighed: Sequence[Objective]) -> list[Goal]:
    """What the scheduler makes best: latency where it is an objective, throughput where that or nothing of both is."""
    names = {o.name for o in weighed}
    goals: list[Goal] = ["latency"] if "latency_ms" in names else []
    return goals + (["throughput"] if not goals or names & {"fps", "gops", "gops_per_dsp"} else [])


def _read(folder: Path, point: Point) -> Facts | None:
    """The point's own facts as an earlier run wrote them; None where there are none that can be read whole."""
    try:
        found = json.loads((folder / f"{point.key}.json").read_text(encoding="utf-8"))
        return {name: found[name] for name in _FACTS} if found["key"] == point.key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


_FACTS = ("key", "fits", "why", "engine", "cores", "values", "binds", "resources")


def _asked(point: Point, network: Network) -> Facts:
    return {
        "model": network.model,
        "weights": network.origin,
        "part": point.target.name,
        "clock_mhz": point.clock_mhz,
        "budget": point.budget.label,
        "fixed": fixed_by(point.overrides),
        "goal": point.goal,
        "calibration": point.coefficients.described() if point.coefficients.calibrated else None,
    }


def _found(options: ExploreOptions, rows: list[Facts], weighed: Sequence[Objective], left_out: list[Facts]) -> Facts:
    """explore.json: `front` is "all" on the network's front over all parts, "part" on that of its part alone."""
    for row in rows:
        row["front"] = None
    for mark, keys in (("part", ("model", "weights", "part")), ("all", ("model", "weights"))):
        groups: dict[tuple[str, ...], list[Facts]] = {}
        for row in rows:
            if row["fits"]:
                groups.setdefault(tuple(row[key] for key in keys), []).append(row)
        for group in groups.values():
            for row, best in zip(group, pareto([r["values"] for r in group], weighed), strict=True):
                row["front"] = mark if best else row["front"]
    return {
        "hlsgen": __version__,
        "scheme": options.scheme,
        "imgsz": list(options.imgsz) if options.imgsz else None,
        "objectives": [{"name": o.name, "better": "more" if o.more else "less"} for o in weighed],
        "points": rows,
        "left_out": left_out,
    }
