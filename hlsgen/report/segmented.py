"""What three computations of one picture segment for a prompt: the float network, the INT8 reference, the simulated hardware.

They differ in the image encoder's embedding. From there on all three are the host's: prompt encoder and mask decoder, float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import torch

from hlsgen.models.images import Picture as Pixels
from hlsgen.models.sam import graph
from hlsgen.models.sam.evaluate import iou
from hlsgen.models.sam.load import load
from hlsgen.models.sam.model import Sam
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


def segment_all(b: "Build", prompt: Prompt, size: tuple[int, int]) -> dict[str, Segmented]:
    """By source, of every computation that has run, the mask of a prompt in a picture of `size` (H, W), which is b.picture.

    Raises:
        HlsgenError: the checkpoint that was built from is not there any more, or is another one.
    """
    checkpoint = load(b.options.model, b.options.weights)
    decoder = graph.decoder(checkpoint.config, checkpoint.state)
    sam = Sam(checkpoint.config, checkpoint.state, b.loaded.network, decoder)
    masks: dict[str, torch.Tensor] = {}
    found = {}
    for source, embedding in _embeddings(b).items():
        _, quality = sam.logits(embedding, prompt, size)
        masks[source] = sam.mask(embedding, prompt, size)
        facts = {
            "area": int(masks[source].sum()),
            "predicted_iou": round(float(quality.reshape(-1)[0]), 4),
            "iou": round(iou(masks["fp32"], masks[source]), 4),
        }
        found[source] = Segmented(masks[source].numpy(), facts)
    return found


def _embeddings(b: "Build") -> dict[str, torch.Tensor]:
    (name,) = b.outputs
    with torch.inference_mode():
        (plain,) = b.loaded.network(torch.from_numpy(b.picture)[None])
    found = {"fp32": plain, "int8": torch.from_numpy(real(b.tensors[name], b.reference.spec.tensors[name]))[None]}
    if b.simulated is not None:
        from hlsgen.csim import tensor_of

        (out,) = b.program.outputs
        values = real(tensor_of(b.program, b.simulated.maps, out), b.program.tensors[out].quant)
        found["csim"] = torch.from_numpy(values)[None]
    return found


def draw_masks(pixels: Pixels, prompt: Prompt, found: Mapping[str, Segmented]) -> Picture:
    """The picture, uint8 [H, W, 3] BGR, with the prompt and each source's mask side by side, as a JPEG file."""
    sheet = side_by_side(pixels, prompt, {TITLES[source][0]: one.mask for source, one in found.items()})
    encoded = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    text = "the encoder in float, in INT8, and simulated; the mask decoder runs on the host, in float32"
    return Picture("masks", "Masks of one prompt", text, len(found), encoded.tobytes())


def facts_of(found: Mapping[str, Segmented]) -> dict[str, Any]:
    """By source, what is said of its mask."""
    return {source: one.facts for source, one in found.items()}
