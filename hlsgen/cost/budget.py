"""How much of a part a design may use, and by how much it is over."""

import math

from hlsgen.cost.resources import Usage
from hlsgen.targets import Target

CEILINGS = {"lut": 0.80, "ff": 0.80, "dsp": 1.0, "bram36": 0.85, "uram": 0.85}
"""The share of each resource that a design may use; the rest is left to placement, routing and the system around."""


def budget(target: Target) -> dict[str, int]:
    """What a design may use of each resource."""
    return {name: int(getattr(target.resources, name) * share) for name, share in CEILINGS.items()}


def overflows(used: Usage, target: Target) -> dict[str, int]:
    """By how much each resource is over its budget; empty where the design fits."""
    over = {name: math.ceil(getattr(used, name) - limit) for name, limit in budget(target).items()}
    return {name: value for name, value in over.items() if value > 0}
