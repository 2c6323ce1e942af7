"""What the host does around a SAM: the picture fitted, a prompt as the mask decoder takes it, its logits as masks.

As hlsgen computes it on the host (hlsgen/models/sam/prompting.py), with numpy alone: sums in float64, in a fixed order, so that
integers and masks are the same. Sizes and coordinates are pixels, x to the right, y down.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .errors import PictureError, PromptError


class Prompt(NamedTuple):
    """What to segment: a box (x0, y0, x1, y1), points in the object, points outside it."""

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    not_points: tuple[tuple[float, float], ...] = ()


class Prompting:
    """network.json's `prompting`: the prompt encoder's weights and the decoder's learned tokens.

    side: of the square image, pixels. room: tokens of a prompt at most. absent: what marks a token that only fills up. mean: the
    levels R, G, B beside a picture that is not square.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        self.side: int = found["side"]
        self.room: int = found["room"]
        self.absent: float = found["absent"]
        self.mean = np.array(found["mean"], np.uint8)
        self.frequencies, self.kinds, self.padding, self.learned = (
            np.array(found[name], np.float32) for name in ("frequencies", "kinds", "padding", "learned")
        )

    def picture(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] RGB as the image encoder takes it: the longer side scaled to `side`, the mean beside it."""
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise PictureError(
                f"expected a picture, uint8 [height, width, 3], got {picture.dtype} {list(picture.shape)}"
            )
        size = self.scaled(picture.shape[:2])
        whole = np.empty((self.side, self.side, 3), np.uint8)
        whole[:] = self.mean
        whole[: size[0], : size[1]] = picture if picture.shape[:2] == size else scaled(picture, size)
        return whole

    def scaled(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a picture of `size` in the square image."""
        scale = self.side / max(size)
        return max(int(size[0] * scale + 0.5), 1), max(int(size[1] * scale + 0.5), 1)

    def inputs(self, prompt: Prompt, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """A prompt in a picture of `size` (height, width): tokens float32 [C, 1, N], and [1, 1, N] which of them only fill up.

        Raises:
            PromptError: it is empty, has too many tokens, or lies outside the picture.
        """
        check(prompt, size)
        given = self.tokens(prompt, size)
        left = self.room - len(given)
        if left < 0:
            raise PromptError(
                f"a prompt has {self.room} tokens at most (a box is two, a point one, and one more where there is no box), got "
                f"{len(given)}; leave out points"
            )
        whole = np.concatenate([self.learned, given, np.tile(given[-1:], (left, 1))])
        absent = np.zeros((1, 1, len(whole)), np.float32)
        absent[..., len(whole) - left :] = self.absent
        return np.ascontiguousarray(whole.T[:, None]), absent

    def tokens(self, prompt: Prompt, size: tuple[int, int]) -> np.ndarray:
        """float32 [T, C]: points in the object, points outside, then the box's corners, or, without a box, a padding token."""
        corners = [prompt.box[:2], prompt.box[2:]] if prompt.box else []
        places = np.array([*prompt.points, *prompt.not_points, *corners], np.float64)
        kinds = [1] * len(prompt.points) + [0] * len(prompt.not_points) + ([2, 3] if corners else [])
        height, width = self.scaled(size)
        shares = (places * (width / size[1], height / size[0]) + 0.5) / self.side
        x, y = (2 * shares - 1).T
        turned = 2 * np.pi * (np.outer(x, self.frequencies[0]) + np.outer(y, self.frequencies[1]))
        found = np.concatenate([np.sin(turned), np.cos(turned)], axis=1) + self.kinds[kinds]
        return np.asarray(found if corners else np.concatenate([found, self.padding[None]]), np.float32)

    def masks(self, logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The decoder's logits [k, h, h] as masks bool [k, H, W] of a picture of `size`."""
        height, width = self.scaled(size)
        whole = resized(logits.astype(np.float64), (self.side, self.side))
        return resized(whole[:, :height, :width], size) > 0


def check(prompt: Prompt, size: tuple[int, int]) -> None:
    """Raises PromptError where a prompt is empty, no number, or outside a picture of `size` (height, width)."""
    if prompt.box is None and not prompt.points:
        raise PromptError("a prompt needs a box or a point in the object: give --box x0,y0,x1,y1 or --point x,y")
    corners = [prompt.box[:2], prompt.box[2:]] if prompt.box else []
    for x, y in [*prompt.points, *prompt.not_points, *corners]:
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= size[1] and 0 <= y <= size[0]):
            raise PromptError(
                f"{x:g},{y:g} lies outside the picture: it is {size[1]} wide and {size[0]} high, expected x of 0 to {size[1]} and "
                f"y of 0 to {size[0]}"
            )
    if corners and (corners[0][0] >= corners[1][0] or corners[0][1] >= corners[1][1]):
        raise PromptError("a box expects its top left corner, then its bottom right one (x0 < x1 and y0 < y1)")


def scaled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, C] to uint8 [*size, C]: bilinear with antialiasing, rounded once, ties to even."""
    levels = picture.astype(np.float64)
    for axis in (1, 0):
        old, new = levels.shape[axis], size[axis]
        stretch = max(old / new, 1.0)
        centre = (np.arange(new) + 0.5) * (old / new)
        first = np.maximum((centre - stretch + 0.5).astype(np.int64), 0)
        behind = np.minimum((centre + stretch + 0.5).astype(np.int64), old)
        taps = np.arange(int((behind - first).max()))
        at = first[:, None] + taps
        weights = np.maximum(1 - np.abs(at - centre[:, None] + 0.5) / stretch, 0) * (at < behind[:, None])
        weights /= weights.sum(axis=1, keepdims=True)
        at = np.minimum(at, old - 1)
        total = 0.0
        for tap in taps:
            shape = (-1, 1) if axis == 1 else (-1, 1, 1)
            total = total + levels.take(at[:, tap], axis) * weights[:, tap].reshape(shape)
        levels = np.asarray(total)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[k, h, w] to [k, *size], bilinear between pixel centres, edges repeated: rows first, then columns."""
    for axis, n in ((1, size[0]), (2, size[1])):
        old = maps.shape[axis]
        at = np.maximum((np.arange(n) + 0.5) * (old / n) - 0.5, 0)
        low = np.minimum(at.astype(np.int64), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape((-1, 1) if axis == 1 else (1, -1))
        maps = maps.take(low, axis) * (1 - share) + maps.take(high, axis) * share
    return maps
