"""How good a SAM's masks are: IoU on generated images that no training has seen, SQNR of embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, fx

from hlsgen.models.demo.shapes import HELDOUT_SEED, render_masks
from hlsgen.models.fitted import fitted
from hlsgen.models.images import Picture
from hlsgen.models.network import run_prompts
from hlsgen.models.sam.model import Sam
from hlsgen.models.sam.prompts import Prompt

if TYPE_CHECKING:
    from hlsgen.models.zoo import Loaded
    from hlsgen.quantize import Reference


@dataclass(frozen=True, eq=False)
class Asked:
    """A shape of a generated picture and what to ask for it.

    mask: bool [H, W]. box, point: the two prompts.
    """

    mask: Tensor
    box: Prompt
    point: Prompt

    @property
    def both(self) -> Prompt:
        """The two in one."""
        return Prompt(self.box.box, self.point.points)


def generated(count: int, size: int, seed: int = HELDOUT_SEED) -> Iterator[tuple[Picture, list[Asked]]]:
    """Pictures 0 to ``count - 1`` of ``seed`` at ``size`` pixels, uint8 [size, size, 3] BGR, with every shape in them."""
    return (shown(index, size, seed) for index in range(count))


def shown(index: int, size: int, seed: int = HELDOUT_SEED) -> tuple[Picture, list[Asked]]:
    """Picture ``index`` of ``seed`` at ``size`` pixels, uint8 [size, size, 3] BGR, with every shape in it."""
    from hlsgen.models.demo.prompting import prompt

    picture, owner = render_masks(index, size, seed)
    rng = np.random.Generator(np.random.PCG64([seed, index, 3]))
    asked = []
    for shape in range(1, int(owner.max()) + 1):
        mask, box, point = prompt(owner, shape, rng)
        x0, y0, x1, y1 = box.tolist()
        at = Prompt(points=((float(point[0]), float(point[1])),))
        asked.append(Asked(torch.from_numpy(mask), Prompt((x0, y0, x1, y1)), at))
    return picture, asked


def iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two bool masks of one shape; 1 where both are empty."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 1.0


@dataclass(frozen=True)
class Accuracy:
    """Mean IoU with the truth, for box and for point prompts, and how many shapes there were."""

    box: float
    point: float
    shapes: int

    @property
    def miou(self) -> float:
        """The mean over both kinds of prompt."""
        return (self.box + self.point) / 2


def accuracy(sam: Sam, count: int, seed: int = HELDOUT_SEED) -> Accuracy:
    """The mean IoU of ``sam`` on ``count`` generated pictures of its own size."""
    box, point = [], []
    for picture, asked in generated(count, sam.config.img_size, seed):
        embedding, size = sam.embed(picture), (picture.shape[0], picture.shape[1])
        for one in asked:
            box.append(iou(sam.mask(embedding, one.box, size), one.mask))
            point.append(iou(sam.mask(embedding, one.point, size), one.mask))
    return Accuracy(float(np.mean(box)), float(np.mean(point)), len(box))


@dataclass(frozen=True)
class Kept:
    """What quantization keeps: accuracy in float and in INT8, and the masks' mean and least IoU with the float network's."""

    fp32: Accuracy
    int8: Accuracy
    mask_iou: float
    least_iou: float


def kept(loaded: Loaded, reference: Reference, count: int, progress: Callable[[int, int], None]) -> Kept:
    """A built SAM's INT8 reference, encoder and decoder, against its float network on ``count`` held-out pictures.

    Box and point prompts for every shape; both networks get the same inputs, with tokens that only fill up.
    """
    assert loaded.prompting is not None
    rows = []
    for done, (picture, asked) in enumerate(generated(count, loaded.shape[1])):
        size, image = (picture.shape[0], picture.shape[1]), fitted(loaded, picture)
        given = [loaded.prompting.inputs(prompt, size) for one in asked for prompt in (one.box, one.point)]
        as_tensors = [[torch.from_numpy(x)[None] for x in one] for one in given]
        with torch.inference_mode():
            plain = list(run_prompts(fx.Interpreter(loaded.network), torch.from_numpy(image)[None], as_tensors))
        for i, (a, b) in enumerate(zip(plain, reference.prompts(image, given), strict=True)):
            made = [torch.from_numpy(loaded.prompting.masks(x[1][0, :1].numpy(), size)[0]) for x in (a, b)]
            rows.append((*(iou(mask, asked[i // 2].mask) for mask in made), iou(*made)))
        progress(done + 1, count)
    found = np.array(rows)
    fp32, int8 = (Accuracy(found[0::2, i].mean(), found[1::2, i].mean(), len(found) // 2) for i in (0, 1))
    return Kept(fp32, int8, float(found[:, 2].mean()), float(found[:, 2].min()))


@dataclass(frozen=True)
class Likeness:
    """How near one SAM is to another: the embeddings' SQNR in dB over all pictures, the masks' mean and least IoU."""

    sqnr_db: float
    mask_iou: float
    least_iou: float


def likeness(reference: Sam, other: Sam, count: int, seed: int = HELDOUT_SEED) -> Likeness:
    """``other`` against ``reference`` on ``count`` generated pictures, box and point prompts."""
    signal = noise = 0.0
    ious = []
    for picture, asked in generated(count, reference.config.img_size, seed):
        size = (picture.shape[0], picture.shape[1])
        a, b = reference.embed(picture), other.embed(picture)
        signal += float(a.double().square().sum())
        noise += float((a - b).double().square().sum())
        ious += [iou(reference.mask(a, p, size), other.mask(b, p, size)) for one in asked for p in (one.box, one.point)]
    return Likeness(10 * math.log10(signal / noise) if noise else math.inf, float(np.mean(ious)), min(ious))
