"""What a calibration changes in the cost model, as one explicit value; `MODEL` changes nothing."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from hlsgen.cost.hardware import LOOPS, Loops
from hlsgen.cost.resources import AS_MODELLED, Factors

RESOURCES_UNCALIBRATED = 0.25  # relative: the assumptions of docs/cost-model.md are a quarter of a small engine's LUTs


@dataclass(frozen=True)
class Coefficients:
    """factors: of the resources, by term. loops: depths in cycles. error: relative, of the resources.

    family, tool: of what the reports are; tool: the version of Vitis HLS, empty for the model as it is. reports: how many.
    """

    factors: Factors = AS_MODELLED
    loops: Loops = LOOPS
    error: float = RESOURCES_UNCALIBRATED
    family: str = ""
    tool: str = ""
    reports: int = 0

    @property
    def calibrated(self) -> bool:
        return self.reports > 0

    def facts(self) -> dict[str, Any]:
        """What a build or an estimate records of the calibration that it used; digest: of every number in it."""
        numbers = json.dumps(asdict(self), sort_keys=True)
        return {
            "family": self.family,
            "tool": self.tool,
            "reports": self.reports,
            "loops": dict(vars(self.loops)),
            "factors": _by_term(self.factors),
            "not_foreseen": dict(vars(self.factors.extra)),
            "digest": hashlib.sha256(numbers.encode()).hexdigest()[:16],
        }

    def described(self) -> str:
        """The calibration in a few words."""
        reports = "1 report" if self.reports == 1 else f"{self.reports} reports"
        return f"calibrated by {reports} of Vitis HLS {self.tool} for {self.family}"


MODEL = Coefficients()


def _by_term(factors: Factors) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for term, resource, factor in factors.of:
        found.setdefault(term, {})[resource] = factor
    return found
