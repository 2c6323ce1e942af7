"""What three computations of one picture segment for a prompt: the float network, the INT8 reference, the simulated hardware.

Encoding the prompt and making masks of logits is the host's in all three.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy.typing as npt
import torch

from hlsgen.models.images import Picture as Pixels
from hlsgen.models.sam.evaluate import iou
from hlsgen.models.sam.prompts import Prompt
from hlsgen.report.detections import JPEG_QUALITY, TITLES, real
from hlsgen.report.masks import Mask, side_by_side
from hlsgen.report.write import Picture

if TYPE_CHECKING:
    from hlsgen.build import Build


@dataclass(frozen=True, eq=False)
class Segmented:
    """mask: bool [H, W] of the picture. facts: area in pixels, predicted_iou, iou with the float network's mask."""

    mask: Mask
    facts: dict[str, float]


def segment_all(b: "Build", size: tuple[int, int]) -> dict[str, Segmented]:
    """By source, of every computation that has run, the mask of the build's prompt in its picture, of `size` (H, W)."""
    found: dict[str, Segmented] = {}
    for source, (logits, quality) in _logits(b).items():
        (mask,) = b.loaded.prompting.masks(logits[:1], size)
        plain = found["fp32"].mask if found else mask
        facts = {
            "area": int(mask.sum()),
            "predicted_iou": round(float(quality.reshape(-1)[0]), 4),
            "iou": round(iou(torch.from_numpy(plain), torch.from_numpy(mask)), 4),
        }
        found[source] = Segmented(mask, facts)
    return found


def _logits(b: "Build") -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """By source, logits float32 [k, h, w] and predicted IoUs [k, 1, 1]."""
    with torch.inference_mode():
        _, *plain = (x[0].numpy() for x in b.loaded.network(*(torch.from_numpy(x)[None] for x in b.inputs)))
    spec = b.reference.spec.tensors
    found = {"fp32": tuple(plain), "int8": tuple(real(b.tensors[name], spec[name]) for name in b.outputs[1:])}
    if b.simulated is not None:
        from hlsgen.csim import tensor_of

        maps, program = b.simulated.maps, b.program
        named = {program.tensors[name].reference: name for name in program.outputs}
        outs = [named[name] for name in b.outputs[1:]]
        found["csim"] = tuple(real(tensor_of(program, maps, out), program.tensors[out].quant) for out in outs)
    return {source: (logits, quality) for source, (logits, quality) in found.items()}


def draw_masks(pixels: Pixels, prompt: Prompt, found: Mapping[str, Segmented]) -> Picture:
    """The picture, uint8 [H, W, 3] BGR, with the prompt and each source's mask side by side, as a JPEG file."""
    sheet = side_by_side(pixels, prompt, {TITLES[source][0]: one.mask for source, one in found.items()})
    encoded = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    text = "image encoder and mask decoder in float, in INT8, and simulated"
    return Picture("masks", "Masks of one prompt", text, len(found), encoded.tobytes())


def facts_of(found: Mapping[str, Segmented]) -> dict[str, Any]:
    """By source, what is said of its mask."""
    return {source: one.facts for source, one in found.items()}
