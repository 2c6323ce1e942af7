"""The verdict before anything is rendered: does the design fit, and if not, which is the nearest that does."""

from dataclasses import replace
from itertools import combinations
from typing import Any

from hlsgen.cost.budget import CEILINGS, budget
from hlsgen.cost.schedule import Design, Overrides, Scheduler
from hlsgen.errors import HlsgenError
from hlsgen.program.encode import parameter_memory
from hlsgen.program.ops import Program
from hlsgen.targets import Target

NAMES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36", "uram": "URAM"}


def check_fit(design: Design, graph: Any, overrides: Overrides | None = None, force: bool = False) -> str | None:
    """None where the design fits its target; with `force`, the verdict's text where it does not.

    graph: the ModelGraph it was scheduled from, for the nearest design. overrides: what the user fixed.

    Raises:
        HlsgenError: where it does not fit and `force` is not set: which resource overflows, by how much, the nearest design
            that fits and what it costs.
    """
    if design.fits:
        return None
    limits, over = budget(design.target), design.over
    parts = [
        f"{-(-getattr(design.used, name) // 1):,.0f} {NAMES[name]} where {limits[name]:,} are allowed "
        f"({CEILINGS[name]:.0%} of {design.target.name}'s {getattr(design.target.resources, name):,}), {value:,} too many"
        for name, value in over.items()
    ]
    text = f"the design {describe(design)} needs {'; '.join(parts)}"
    if force:
        return text
    near = nearest(design, graph, overrides or Overrides())
    if near is None:
        raise HlsgenError(f"{text}; no engine for this network fits {design.target.name}, choose a larger part")
    cost = f" instead of {design.fps:.1f}" if near.fps < design.fps else ""
    raise HlsgenError(
        f"{text}; the nearest that fits is {describe(near)} at {near.fps:.1f} images/s{cost}; "
        "take that, a larger part, or --force to generate it anyway"
    )


def check_memory(program: Program, target: Target, cores: int) -> None:
    """Hold feature maps, a core's own each, and parameters, once for all, to the memory behind the ports.

    Raises:
        HlsgenError: what is needed, and what there is.
    """
    maps, parameters = program.fmap_beats * program.engine.beat, parameter_memory(program)
    needed, there = maps * cores + parameters, target.memory.size_mb << 20
    if needed > there:
        each = f" for each of {cores} cores" if cores > 1 else ""
        fewer = "fewer cores (--cores), " if cores > 1 and maps + parameters <= there else ""
        raise HlsgenError(
            f"{program.name} needs {needed / 1e6:,.0f} MB of memory ({maps / 1e6:,.0f} MB for feature maps{each}, "
            f"{parameters / 1e6:,.0f} MB for weights and constants), {target.name} has {there / 1e6:,.0f} MB; take {fewer}"
            "a smaller model or a board with more"
        )


def describe(design: Design) -> str:
    """A design as the options that make it."""
    e = design.engine
    return f"--tm {e.tm} --tn {e.tn} --tp {e.tp} --lanes {e.lanes} --cores {design.cores}"


def nearest(design: Design, graph: Any, overrides: Overrides) -> Design | None:
    """The design that fits and keeps the most of what the user fixed; of several, the fastest. None where none fits."""
    scheduler = Scheduler(graph, design.target, design.clock_mhz, design.coefficients)
    fixed = [name for name, value in vars(overrides).items() if value is not None]
    for dropped in range(len(fixed) + 1):
        found = []
        for names in combinations(fixed, dropped):
            kept = replace(overrides, **dict.fromkeys(names))
            try:
                found.append(scheduler.best(kept, "throughput"))
            except HlsgenError:  # what is kept is legal only together with what was dropped
                continue
        fitting = [d for d in found if d is not None]
        if fitting:
            return max(fitting, key=lambda d: d.fps)
    return None
