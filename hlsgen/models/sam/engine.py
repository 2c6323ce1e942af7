"""What the engine cannot do yet of what a SAM needs: one sentence, before anything is downloaded or built."""

from __future__ import annotations

from typing import NoReturn

from torch import nn

from hlsgen.errors import HlsgenError
from hlsgen.models.sam import vocabulary as v
from hlsgen.models.sam.checkpoint import SUFFIX
from hlsgen.models.sam.load import ALIASES, RANDOM, load

MISSING: dict[object, str] = {
    v.relative: "relative positions",
    "get_attr": "learned constants",
    nn.ConvTranspose2d: "transposed convolutions",
    v.narrow: "slices of tokens",
}
"""Parts of the vocabulary (functions, modules, kinds of node) that have no machine op, by what a user would call them."""
DYNAMIC = "activation ranges found while it runs"


def refuse(model: str, weights: str | None, scheme: str) -> NoReturn:
    """Say why ``model`` cannot be built; a checkpoint that is at hand is looked at first, nothing is downloaded.

    Raises:
        HlsgenError: always: what is wrong with the checkpoint, else what the engine lacks.
    """
    name = ALIASES.get(model.lower(), model.lower())
    held_here = weights is not None and weights.partition(":")[0] != RANDOM
    if held_here or model.lower().endswith(SUFFIX):
        name = load(model, weights).config.name
    lacking = [*MISSING.values(), *([DYNAMIC] if scheme == "dynamic" else [])]
    listed = f"{', '.join(lacking[:-1])} and {lacking[-1]}"
    raise HlsgenError(
        f"{name} cannot be built yet: the engine has no {listed}; its INT8 references run, see hlsgen segment {model} "
        "--image FILE --point X,Y"
    )
