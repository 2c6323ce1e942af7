"""The points of an exploration: which network, on how much of which part, at which clock, with what fixed."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import hlsgen
from hlsgen.cost.budget import CEILINGS
from hlsgen.cost.coefficients import MODEL, Coefficients
from hlsgen.cost.schedule import Objective as Goal
from hlsgen.cost.schedule import Overrides, legal_engines
from hlsgen.errors import HlsgenError
from hlsgen.targets import Target

BUDGETS = ("20%", "40%", "60%", "80%", "100%")
CLOCKS = (2 / 3, 1.0, 4 / 3)  # of the target's default clock
_SHARE = re.compile(r"(?:([a-z0-9]+):)?([0-9]*\.?[0-9]+)(%?)")


@dataclass(frozen=True)
class Budget:
    """How much of what a design may use of a part (`hlsgen.cost.budget.CEILINGS`) this one gets, by resource, 0 to 1."""

    label: str
    shares: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """`50%` of everything, `dsp:50%` of one resource and all of the others, `lut:60%+dsp:25%`.

        Raises:
            HlsgenError: something else, or a share outside 1 to 100 %.
        """
        shares = dict.fromkeys(CEILINGS, 1.0)
        parts = []
        for part in text.lower().replace(" ", "").split("+"):
            found = _SHARE.fullmatch(part)
            name = found[1] if found else None
            share = float(found[2]) / (100 if found[3] else 1) if found else 0.0
            if not 0.01 <= share <= 1 or (name is not None and name not in CEILINGS):
                raise HlsgenError(
                    f"a budget expects a share of 1% to 100% such as 50%, dsp:50% or lut:60%+dsp:25% (of "
                    f"{', '.join(CEILINGS)}), got {text!r}"
                )
            shares.update(dict.fromkeys(CEILINGS, share) if name is None else {name: share})
            parts.append(f"{name + ':' if name else ''}{100 * share:.3g}%")
        return cls("+".join(parts), tuple(shares.items()))

    def of(self, target: Target) -> Target:
        """The target with that much of its fabric; memory and ports stay."""
        r = target.resources
        left = {name: max(int(getattr(r, name) > 0), int(getattr(r, name) * share)) for name, share in self.shares}
        return target.model_copy(update={"resources": r.model_copy(update=left)})


@dataclass(frozen=True)
class Point:
    """One design to find: the best for `goal` that fits `budget` of `target`. network: its digest (`Network.digest`)."""

    network: str
    target: Target
    clock_mhz: float
    budget: Budget
    overrides: Overrides
    goal: Goal
    coefficients: Coefficients = MODEL

    @property
    def key(self) -> str:
        """A digest of everything that determines the result; the point's file is called so."""
        determined_by = {
            "hlsgen": hlsgen.__version__,
            "code": code(),
            "network": self.network,
            "target": self.target.model_dump(mode="json"),
            "clock_mhz": self.clock_mhz,
            "budget": dict(self.budget.shares),
            "overrides": asdict(self.overrides),
            "goal": self.goal,
            "coefficients": asdict(self.coefficients),
        }
        return hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code() -> str:
    """A digest of the code that prices a point: another cost model is another result."""
    package = Path(hlsgen.__file__).parent
    files = [path for name in ("cost", "program") for path in sorted((package / name).rglob("*.py"))]
    files.append(package / "explore" / "price.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def points(
    networks: Sequence[str],
    targets: Sequence[Target],
    clocks: Sequence[float],
    budgets: Sequence[Budget],
    fixed: Mapping[str, Sequence[int]],
    goals: Sequence[Goal],
    coefficients: Callable[[str], Coefficients] = lambda family: MODEL,
) -> tuple[list[Point], list[dict[str, Any]]]:
    """Every combination, each once, and those that are no legal engine with the reason.

    clocks: in MHz; none means CLOCKS of each target's own. fixed: values of `Overrides` to try; those left out are scheduled.
    coefficients: of the cost model, by the target's family.

    Raises:
        HlsgenError: a clock or value out of range, or no combination is legal.
    """
    for clock in clocks:
        if not 10 <= clock <= 1000:
            raise HlsgenError(f"a clock expects 10 to 1000 MHz, got {clock:g}")
    found: dict[str, Point] = {}
    left_out: list[dict[str, Any]] = []
    for target in targets:
        fitted = coefficients(target.family)
        for overrides in _overrides(fixed):
            try:
                next(legal_engines(overrides, target))
            except HlsgenError as error:
                left_out.append({"part": target.name, "fixed": fixed_by(overrides), "why": str(error)})
                continue
            for network, clock, budget, goal in product(networks, clocks or _clocks(target), budgets, goals):
                point = Point(network, target, clock, budget, overrides, goal, fitted)
                found.setdefault(point.key, point)
    if not found:
        raise HlsgenError(left_out[0]["why"])
    return list(found.values()), left_out


def _clocks(target: Target) -> list[float]:
    return [float(round(target.clock.default_mhz * share)) for share in CLOCKS]


def _overrides(fixed: Mapping[str, Sequence[int]]) -> Iterator[Overrides]:
    names = [name for name in fixed if fixed[name]]
    for values in product(*(fixed[name] for name in names)):
        yield Overrides(**dict(zip(names, values, strict=True)))


def fixed_by(overrides: Overrides) -> dict[str, int]:
    """What is fixed, by name."""
    return {name: value for name, value in asdict(overrides).items() if value is not None}
