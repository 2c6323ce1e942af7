"""Masks of one picture by several computations, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from hlsgen.models.images import Picture
from hlsgen.models.sam.prompts import Prompt

PANEL = 360  # pixels: a smaller picture is enlarged to about this height
BAR = 26  # pixels, the title above a panel
GAP = 6
COLOUR = np.array([255, 160, 40], np.float32)  # BGR
POINT, NOT_POINT, BOX = (60, 220, 60), (60, 60, 230), (60, 220, 60)

Mask = npt.NDArray[np.bool_]


def draw_mask(picture: Picture, mask: Mask) -> Picture:
    """The picture, uint8 [H, W, 3] BGR, with ``mask``, bool [H, W], tinted and outlined; a new array."""
    tinted = picture.astype(np.float32)
    tinted[mask] = 0.45 * tinted[mask] + 0.55 * COLOUR
    made = np.rint(tinted).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(made, outlines, -1, (255, 255, 255), 1)
    return made


def draw_prompt(picture: Picture, prompt: Prompt, factor: int) -> Picture:
    """The picture enlarged ``factor`` times, with the prompt's box and points; a new array."""
    made = _enlarged(picture, factor)

    def at(x: float, y: float) -> tuple[int, int]:
        return round((x + 0.5) * factor - 0.5), round((y + 0.5) * factor - 0.5)

    if prompt.box is not None:
        cv2.rectangle(made, at(*prompt.box[:2]), at(*prompt.box[2:]), BOX, 2)
    for points, colour in ((prompt.points, POINT), (prompt.not_points, NOT_POINT)):
        for x, y in points:
            cv2.circle(made, at(x, y), 6, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(made, at(x, y), 4, colour, -1, cv2.LINE_AA)
    return made


def side_by_side(picture: Picture, prompt: Prompt, masks: Mapping[str, Mask]) -> Picture:
    """The picture with its prompt, then with each mask, titled.

    Args:
        picture: uint8 [H, W, 3] BGR.
        prompt: in its pixels.
        masks: by title, bool [H, W].

    Returns:
        uint8 [*, *, 3] BGR.
    """
    factor = max(1, round(PANEL / picture.shape[0]))
    panels = [("prompt", draw_prompt(picture, prompt, factor))]
    large = _enlarged(picture, factor)
    for title, mask in masks.items():
        grown = np.repeat(np.repeat(mask, factor, 0), factor, 1)
        panels.append((title, draw_mask(large, grown)))
    height, width = large.shape[:2]
    sheet = np.full((height + BAR, len(panels) * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, (title, panel) in enumerate(panels):
        left = i * (width + GAP)
        sheet[BAR:, left : left + width] = panel
        cv2.putText(sheet, title, (left + 2, BAR - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return sheet


def _enlarged(picture: Picture, factor: int) -> Picture:
    size = (picture.shape[1] * factor, picture.shape[0] * factor)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), np.uint8)
