"""Quantization strategies, one a file. Importing this imports no torch."""

import difflib

from hlsgen.errors import HlsgenError
from hlsgen.quantize.strategies.affine import Affine
from hlsgen.quantize.strategies.base import Strategy, Task
from hlsgen.quantize.strategies.bf16 import Bf16
from hlsgen.quantize.strategies.dynamic import DynamicStrategy
from hlsgen.quantize.strategies.fixed import Fixed
from hlsgen.quantize.strategies.fp16 import Fp16
from hlsgen.quantize.strategies.fp32 import Fp32
from hlsgen.quantize.strategies.minifloat import MinifloatStrategy
from hlsgen.quantize.strategies.mixed import Mixed
from hlsgen.quantize.strategies.rescaled import Rescaled
from hlsgen.quantize.strategies.static import Static
from hlsgen.quantize.strategies.trainable_fixed import TrainableFixed

__all__ = ["ALIASES", "REGISTRY", "Strategy", "Task", "find", "for_engine", "runnable"]

_CLASSES: tuple[type[Strategy], ...] = (
    Fp32,
    Fp16,
    Bf16,
    MinifloatStrategy,
    DynamicStrategy,
    Static,
    Affine,
    Rescaled,
    Fixed,
    Mixed,
    TrainableFixed,
)
REGISTRY: dict[str, type[Strategy]] = {c.name: c for c in _CLASSES}
"""By name, from the most to the least float."""
ALIASES = {"native": "static"}


def find(text: str) -> Strategy:
    """The strategy NAME or NAME:VARIANT (`minifloat:e5m2`, `fixed:w6`) with its default settings.

    Raises:
        HlsgenError: there is none (with the nearest names), or it has no such variant.
    """
    name, colon, variant = text.partition(":")
    name = ALIASES.get(name, name)
    if name not in REGISTRY:
        near = difflib.get_close_matches(name.lower(), [*REGISTRY, *ALIASES], n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise HlsgenError(f"strategy {name[:60]!r} is unknown{hint}; known are {', '.join(REGISTRY)}")
    found = REGISTRY[name]()
    return found.varied(variant) if colon else found


def runnable() -> list[str]:
    """The names of those that the engine can run."""
    return [name for name, c in REGISTRY.items() if c.scheme is not None]


def for_engine(text: str) -> Strategy:
    """`find`, of those that the engine can run.

    Raises:
        HlsgenError: as `find`, or it cannot run that strategy; the sentence says what it lacks.
    """
    found = find(text)
    if found.scheme is None:
        raise HlsgenError(
            f"the engine cannot run strategy {found.name}: {found.missing}; it runs {', '.join(runnable())}"
        )
    return found
