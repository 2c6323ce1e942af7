"""Prompts for the generated images' shapes: what the tiny SAM is trained and measured with."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Prompt = tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]


def prompt(owner: NDArray[np.uint8], shape: int, rng: np.random.Generator, jitter: float = 0.0) -> Prompt:
    """The mask of shape number ``shape`` in ``owner``, its box, and a point well inside it drawn from ``rng``.

    Args:
        owner: uint8 [s, s], which shape each pixel shows.
        shape: a number that occurs in it.
        rng: decides the point and the box's jitter.
        jitter: standard deviation of the box's corners as a share of its sides.

    Returns:
        bool [s, s]; float32 [4], x0, y0, x1, y1 of the mask's first and last column and row; float32 [2], x and y of
        a pixel that is at least half as far from the mask's edge as its innermost pixel.
    """
    mask = owner == shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    if jitter:
        sides = np.tile(box[2:] - box[:2], 2)
        box = np.clip(box + rng.normal(0, jitter, 4) * sides, 0, owner.shape[0] - 1).astype(np.float32)
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    ys, xs = np.nonzero(inside >= inside.max() / 2)
    chosen = int(rng.integers(len(ys)))
    return mask, box, np.array([xs[chosen], ys[chosen]], np.float32)
