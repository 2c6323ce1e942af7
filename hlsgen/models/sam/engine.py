"""Which SAMs the engine takes: one sentence where it does not, before anything is downloaded or built."""

from __future__ import annotations

from hlsgen.errors import HlsgenError
from hlsgen.models.sam.checkpoint import Checkpoint
from hlsgen.models.sam.config import VARIANTS
from hlsgen.models.sam.load import ALIASES, RANDOM, load

DYNAMIC = "finds no activation ranges while it runs"
ON_THE_HOST = "image encoder and mask decoder are on the accelerator; the host encodes prompts and makes pictures' masks of logits"
"""What the user of a build is told."""


def buildable(model: str, weights: str | None, scheme: str) -> Checkpoint:
    """The checkpoint of a SAM that can be built; one that is at hand is looked at first, nothing is downloaded in vain.

    Raises:
        HlsgenError: what is wrong with the checkpoint, or what the engine lacks for it.
    """
    config, held = VARIANTS.get(ALIASES.get(model.lower(), model.lower())), None
    at_hand = weights is not None and weights.partition(":")[0] != RANDOM
    if config is None or at_hand:
        held = load(model, weights)
        config = held.config
    assert config is not None
    if scheme == "dynamic":
        raise HlsgenError(
            f"{config.name} cannot be built yet in scheme {scheme}: the engine {DYNAMIC}; build it with --scheme fixed, "
            f"and the INT8 references run, see hlsgen segment {model} --image FILE --point X,Y"
        )
    return held or load(model, weights)


def no_sam(name: str, task: str, command: str) -> None:
    """Refuse a SAM where a command takes networks as a whole: its encoder is quantized while it is built.

    Raises:
        HlsgenError: the task is a SAM's.
    """
    if task == "segment":
        raise HlsgenError(
            f"{command} takes detectors and ONNX files, {name} is a SAM; hlsgen build {name} quantizes it, "
            "hlsgen segment compares its schemes"
        )
