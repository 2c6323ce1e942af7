"""Pricing one point: what a worker process does, with the networks that it holds."""

from collections import Counter
from pathlib import Path
from typing import Any

from hlsgen.cost.array import PORTS
from hlsgen.cost.budget import CEILINGS
from hlsgen.cost.estimate import estimate
from hlsgen.cost.fit import NAMES, describe
from hlsgen.cost.schedule import Design, Scheduler, smallest
from hlsgen.errors import HlsgenError
from hlsgen.explore.network import Network, graph_in
from hlsgen.explore.space import Point, code

Facts = dict[str, Any]
_graphs: dict[str, Any] = {}  # ModelGraphs of this process by digest
_lowered: dict[tuple[str, int], dict[Any, Any]] = {}  # what schedulers of one network and DSP port have lowered already


def hold(network: Network) -> None:
    """Keep a network in this process, for `price`."""
    if network.digest not in _graphs:
        _graphs[network.digest] = network.graph()


def price(point: Point, made_by: str, folder: Path | None = None) -> Facts:
    """The best design of a point: key, fits, why (a sentence where nothing fits), engine, cores, values, binds, resources.

    made_by: `code()` of who asks. folder: where networks lie that this process does not hold yet.

    Raises:
        HlsgenError: this process runs another version of hlsgen than the one that asks.
    """
    if made_by != code():
        raise HlsgenError(
            "a worker runs another hlsgen than this machine; install the same version on the cluster's workers"
        )
    if point.network not in _graphs:
        if folder is None:
            raise HlsgenError("a worker lost the network that it was given; run the same command again to go on")
        _graphs[point.network] = graph_in(folder, point.network)
    shared = _lowered.setdefault((point.network, PORTS[point.target.resources.dsp_kind]), {})
    scheduler = Scheduler(
        _graphs[point.network], point.budget.of(point.target), point.clock_mhz, point.coefficients, shared
    )
    why = None
    design = scheduler.best(point.overrides, point.goal)
    if design is None:
        try:
            design = smallest(scheduler, point.overrides)
        except HlsgenError as error:
            return {"key": point.key, "fits": False, "why": str(error), **dict.fromkeys(_DESIGN)}
        why = _too_large(design)
    return {"key": point.key, "fits": why is None, "why": why, **_facts(design, point)}


_DESIGN = ("engine", "cores", "values", "binds", "resources")


def _facts(design: Design, point: Point) -> Facts:
    """The design's figures on the whole part, whatever share of it was allowed."""
    e = estimate(design.program, point.target, point.clock_mhz, design.cores, point.coefficients)
    used = {name: r["used"] for name, r in e["resources"].items()}
    used["bram36"] = design.used.bram36  # in halves
    binding: Counter[str] = Counter()
    for layer in e["layers"]:
        binding[layer["binds"]] += layer["cycles"]
    share = max(r["share"] for r in e["resources"].values())
    figures = ("fps", "latency_ms", "gops", "gops_per_dsp", "mac_utilization", "ddr_bytes", "clock_mhz", "cores")
    values = {name: e[name] for name in figures} | used
    return {
        "engine": e["engine"],
        "cores": design.cores,
        "values": values | {"share": share, "bandwidth_gb_s": e["bandwidth_gb_s"]["needed"]},
        "binds": {name: cycles / e["cycles"] for name, cycles in binding.most_common()},
        "resources": e["resources"],
    }


def _too_large(design: Design) -> str:
    over = design.over
    if not over:
        return f"nothing was found that fits, though {describe(design)} would"
    available = design.target.resources
    needs = (
        f"{-(-getattr(design.used, name) // 1):,.0f} {NAMES[name]} where "
        f"{int(getattr(available, name) * CEILINGS[name]):,} are allowed"
        for name in over
    )
    return f"nothing fits: the smallest engine, {describe(design)}, needs {' and '.join(needs)}"
