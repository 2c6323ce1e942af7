"""Masks of a build whose mask decoder runs on the host (scheme dynamic): from each computation's embedding."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hlsgen.csim import tensor_of
from hlsgen.models.sam.load import load
from hlsgen.models.sam.model import dynamic_sam, float_sam

if TYPE_CHECKING:
    from hlsgen.build import Build
    from hlsgen.models.sam.prompts import Prompt


def decoded(
    b: "Build", prompt: "Prompt", size: tuple[int, int]
) -> dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]]:
    """By source, of every computation that has run, the mask bool [H, W] of a prompt in its picture of `size` and predicted IoUs.

    The float network's embedding is decoded in float, the others' by PyTorch's dynamic INT8 decoder.

    Raises:
        HlsgenError: the checkpoint that was built from is not there any more, or is another one.
    """
    checkpoint = load(b.options.model, b.options.weights)
    plain, int8 = float_sam(checkpoint), dynamic_sam(checkpoint)
    (name,) = b.outputs
    with torch.inference_mode():
        (embedding,) = b.loaded.network(torch.from_numpy(b.picture)[None])
    found = {"fp32": (plain, embedding), "int8": (int8, torch.from_numpy(b.tensors[name])[None])}
    if b.simulated is not None:
        (out,) = b.program.outputs
        found["csim"] = int8, torch.from_numpy(tensor_of(b.program, b.simulated.maps, out))[None]
    masks = {}
    for source, (sam, value) in found.items():
        _, quality = sam.logits(value, prompt, size)
        masks[source] = sam.mask(value, prompt, size).numpy(), quality.numpy()
    return masks
