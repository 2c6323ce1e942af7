"""What a build says of a SAM."""

from __future__ import annotations

from hlsgen.errors import HlsgenError

ON_THE_HOST = "image encoder and mask decoder are on the accelerator; the host encodes prompts and makes pictures' masks of logits"
"""What the user of a build is told."""


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
