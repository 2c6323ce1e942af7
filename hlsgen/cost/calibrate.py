"""From synthesis reports to the cost model's coefficients: a least-squares fit that stays near the model.

Each report says what every process of templates/engine takes. A term of the model (`resources.terms`) lies in one process or
is shared by several; its factor is 1 in the model. For each resource the factors s minimise

    sum over reports and processes of ((sum over terms of s * modelled - reported) / (NOISE * scale))^2
        + (s - 1)' K^-1 (s - 1),    s >= 0

with scale the larger of modelled and reported, and K the prior's covariance: a standard deviation of SPREAD, correlated by
TOGETHER among the terms of one process. So one report moves a process's terms together; reports of different engines tell
them apart; and what no report speaks of stays 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hlsgen.cost.coefficients import MODEL, RESOURCES_UNCALIBRATED, Coefficients
from hlsgen.cost.hardware import EPILOGUE_DEPTH, LOOP_DEPTH, STEP_SETUP, Loops
from hlsgen.cost.resources import Factors, Usage, Widths, terms
from hlsgen.cost.streams import Depths
from hlsgen.program.ops import EngineConfig

Floats = npt.NDArray[np.float64]
RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")
PROCESSES = ("load_input", "load_weights", "load_residual", "mac", "epilogue", "store_output")
REGION, TOP = "run_op", "hlsgen_engine"
PLACES = (*PROCESSES, REGION, TOP)
"""Where a core's resources lie: its six processes; the DATAFLOW region beside them; the top beside the region."""

_EACH = dict.fromkeys(PROCESSES, 1 / 6)
PLACE_OF: dict[str, dict[str, float]] = {
    "products in DSPs": {"mac": 1},
    "products in LUTs": {"mac": 1},
    "weight registers": {"mac": 1},
    "accumulators": {"mac": 1},
    "patch buffers": {"mac": 1},
    "array control": {"mac": 1},
    "epilogue lanes": {"epilogue": 1},
    "tables": {"epilogue": 1},
    "channel parameters": {"epilogue": 1},
    "streams": {REGION: 1},
    "AXI ports": {TOP: 1},
    "AXI-Lite": {TOP: 1},
    "loaders": {"load_input": 2 / 7, "load_residual": 2 / 7, "store_output": 2 / 7, "load_weights": 1 / 7},
    "addresses": {"load_input": 3 / 12, "load_residual": 1 / 12, "store_output": 1 / 12, "mac": 7 / 12},
    "attention": {"load_residual": 1 / 4, "mac": 1 / 4, "epilogue": 1 / 2},
    "LayerNorm": {"mac": 1 / 4, "epilogue": 3 / 4},
    "program": _EACH,  # every process reads its own fields of the instruction
}
"""Which share of a term lies where."""

NOISE = 0.02  # relative, of what a report says of a process
SPREAD, TOGETHER = 0.5, 0.7  # the prior of a factor
DEPTH_SPREAD = 10.0  # cycles: the prior of a depth; a report's own are exact to one
FLOOR = 0.05  # relative: no calibration promises the resources closer than this


@dataclass(frozen=True)
class Row:
    """What a report says of some places together."""

    places: tuple[str, ...]
    used: Usage


@dataclass(frozen=True)
class Sample:
    """One report of one engine: what the fit needs, and where it is from.

    loops: the depths that it tells, by the name in `Loops`.
    """

    source: str
    family: str
    tool: str
    part: str
    clock_mhz: float
    engine: EngineConfig
    widths: Widths
    depths: Depths
    used: Usage
    rows: tuple[Row, ...]
    loops: dict[str, int]

    @property
    def design(self) -> tuple[object, ...]:
        """Two reports of the same design say the same thing: the later one replaces the earlier."""
        return self.part, self.clock_mhz, self.engine, self.widths, self.depths


def fit(samples: Sequence[Sample]) -> Coefficients:
    """The coefficients that reports of one family and one tool version tell, with the error that they can promise.

    error: each report predicted from the others, the worst resource (`FLOOR` at least); a single report proves nothing of
    other engines, so that the uncalibrated error stays.
    """
    if not samples:
        return MODEL
    found = _fitted(samples)
    if len(samples) == 1:
        error = RESOURCES_UNCALIBRATED
    else:
        others = [(one, [s for s in samples if s is not one]) for one in samples]
        error = max(FLOOR, *(max(errors(one, _fitted(rest)).values()) for one, rest in others))
    return replace(found, error=round(error, 4))


def predicted(one: Sample, coefficients: Coefficients) -> Usage:
    """What the model says of a report's engine."""
    found = coefficients.factors.applied(terms(one.engine, one.widths, one.depths))
    return sum(found.values(), Usage())


def errors(one: Sample, coefficients: Coefficients) -> dict[str, float]:
    """By resource, how far the model is from a report, relative to it; resources of which the report has few are left out:
    one block more or less says nothing of the model."""
    model = predicted(one, coefficients)
    return {
        name: abs(getattr(model, name) / reported - 1)
        for name in RESOURCES
        if (reported := float(getattr(one.used, name))) >= 8
    }


def deviations(samples: Sequence[Sample]) -> dict[tuple[str, str], float]:
    """How well each factor is known: its standard deviation after the fit, by (term, resource), of what any report's engine
    has of it. The prior's was SPREAD."""
    names = _names(samples)
    found = {}
    for resource in RESOURCES:
        a, _, _ = _equations(samples, names, resource)
        covariance = np.linalg.inv(a.T @ a + _precision(names))
        for i in np.flatnonzero(a.any(axis=0)):
            found[names[i], resource] = math.sqrt(float(covariance[i, i]))
    return found


def _fitted(samples: Sequence[Sample]) -> Coefficients:
    names = _names(samples)
    factors, extra = [], {}
    for resource in RESOURCES:
        a, b, beside = _equations(samples, names, resource)
        prior = _precision(names)
        solved = _nonnegative(a.T @ a + prior, a.T @ b + prior @ np.ones(len(names)))
        factors += [
            (name, resource, round(float(s), 4)) for name, s in zip(names, solved, strict=True) if abs(s - 1) >= 5e-5
        ]
        extra[resource] = beside
    known = {name: _depth(name, [s.loops[name] for s in samples if name in s.loops]) for name in vars(Loops())}
    first = samples[0]
    return Coefficients(
        Factors(tuple(factors), _rounded(extra)), Loops(**known), 0.0, first.family, first.tool, len(samples)
    )


def _names(samples: Sequence[Sample]) -> list[str]:
    names: list[str] = []
    for one in samples:
        names += [name for name in terms(one.engine, one.widths, one.depths) if name not in names]
    return names


def _equations(samples: Sequence[Sample], names: list[str], resource: str) -> tuple[Floats, Floats, float]:
    """(A [rows, terms], b [rows]) in units of the noise; and what lies a core, on average, where the model expects nothing."""
    a, b, beside = [], [], 0.0
    for one in samples:
        modelled = terms(one.engine, one.widths, one.depths)
        for row in one.rows:
            reported = float(getattr(row.used, resource))
            shares = [
                getattr(modelled[name], resource) * sum(PLACE_OF.get(name, {}).get(p, 0.0) for p in row.places)
                if name in modelled
                else 0.0
                for name in names
            ]
            total = sum(shares)
            if total == 0:
                beside += reported / len(samples)
                continue
            scale = NOISE * max(total, reported)
            a.append([share / scale for share in shares])
            b.append(reported / scale)
    return np.array(a, np.float64).reshape(-1, len(names)), np.array(b, np.float64), beside


def _precision(names: list[str]) -> Floats:
    """The inverse of the prior's covariance."""
    together = [[PLACE_OF.get(a) == PLACE_OF.get(b) for b in names] for a in names]
    covariance = SPREAD**2 * (TOGETHER * np.array(together) + (1 - TOGETHER) * np.eye(len(names)))
    return np.asarray(np.linalg.inv(covariance), np.float64)


def _nonnegative(h: Floats, g: Floats) -> Floats:
    """The s >= 0 that minimises s'Hs / 2 - g's, H positive definite: a coordinate at a time, until none moves."""
    s: Floats = np.maximum(0, np.linalg.solve(h, g))
    for _ in range(10_000):
        before = s.copy()
        for i in range(len(s)):
            s[i] = max(0.0, s[i] + (g[i] - h[i] @ s) / h[i, i])
        if np.abs(s - before).max() < 1e-9:
            break
    return s


def _depth(name: str, seen: list[int]) -> int:
    """The prior's and the reports' mean, weighted by their variances."""
    model = {"step_setup": STEP_SETUP, "loop_depth": LOOP_DEPTH, "epilogue_depth": EPILOGUE_DEPTH}[name]
    weight = 1 / DEPTH_SPREAD**2
    return round((model * weight + sum(seen)) / (weight + len(seen)))


def _rounded(values: dict[str, float]) -> Usage:
    return Usage(
        round(values["lut"]),
        round(values["ff"]),
        round(values["dsp"]),
        round(values["bram36"] * 2) / 2,
        round(values["uram"]),
    )
