"""What the host does around a built SAM, in numpy: a prompt as the mask decoder on the engine takes it, its logits as masks.

`hlsgen.models.sam.prompts` says the same in torch for the float model. Sums are taken in float64, so that the driver
(`templates/driver/hlsgen_driver/prompts.py`), which computes as this file does, gives the same integers and the same masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hlsgen.errors import HlsgenError
from hlsgen.models.images import Picture
from hlsgen.models.sam.config import MEAN, PROMPT_TOKENS, SamConfig
from hlsgen.models.sam.decoder import PRESENT
from hlsgen.models.sam.prompts import Prompt, scaled_size

Floats = npt.NDArray[np.float32]
Size = tuple[int, int]
_ARRAYS = ("frequencies", "kinds", "padding", "learned")


@dataclass(frozen=True, eq=False)
class Prompting:
    """The prompt encoder's weights, float32, and the decoder's learned tokens.

    side: of the square image, pixels. frequencies: [2, C / 2], of x and y. kinds: [4, C], a point outside, a point in the object,
    a box's top left and its bottom right corner. padding: [C], SAM's token for no point. learned: [2 + masks, C], IoU, masks.
    """

    side: int
    frequencies: Floats
    kinds: Floats
    padding: Floats
    learned: Floats

    @classmethod
    def of(cls, config: SamConfig, state: Mapping[str, Tensor]) -> Prompting:
        """From a checkpoint's weights by segment_anything's names."""

        def held(name: str) -> Floats:
            return np.asarray(state[name].detach().float().numpy())

        encoder, decoder = "prompt_encoder", "mask_decoder"
        kinds = [held(f"{encoder}.point_embeddings.{i}.weight") for i in range(4)]
        return cls(
            config.img_size,
            held(f"{encoder}.pe_layer.positional_encoding_gaussian_matrix"),
            np.concatenate(kinds),
            held(f"{encoder}.not_a_point_embed.weight")[0],
            np.concatenate([held(f"{decoder}.{name}.weight") for name in ("iou_token", "mask_tokens")]),
        )

    def facts(self) -> dict[str, Any]:
        """As plain values, which hold float32 exactly; with them what else the driver has to know (docs/driver.md)."""
        fixed = {"side": self.side, "room": PROMPT_TOKENS, "absent": -PRESENT, "mean": [round(v) for v in MEAN]}
        return {**fixed, **{name: getattr(self, name).tolist() for name in _ARRAYS}}

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Prompting:
        """What `facts` gave."""
        return cls(int(facts["side"]), *(np.array(facts[name], np.float32) for name in _ARRAYS))

    def picture(self, picture: Picture) -> Picture:
        """uint8 [H, W, 3], RGB, as the image encoder takes it: the longer side scaled to `side`, the mean's levels beside it."""
        size = scaled_size((picture.shape[0], picture.shape[1]), self.side)
        whole = np.empty((self.side, self.side, 3), np.uint8)
        whole[:] = [round(v) for v in MEAN]
        whole[: size[0], : size[1]] = picture if picture.shape[:2] == size else scaled(picture, size)
        return whole

    def inputs(self, prompt: Prompt, size: Size) -> tuple[Floats, Floats]:
        """A prompt in the pixels of a picture of `size` (height, width).

        Returns:
            float32 [C, 1, N], the learned tokens, the prompt's, then the last of these again; float32 [1, 1, N], 0 for a token that
            is there, -PRESENT for one that only fills up.

        Raises:
            HlsgenError: the prompt has more than PROMPT_TOKENS tokens.
        """
        check_room(prompt)
        given = self.tokens(prompt, size)
        room = PROMPT_TOKENS - len(given)
        whole = np.concatenate([self.learned, given, np.tile(given[-1:], (room, 1))])
        absent = np.zeros((1, 1, len(whole)), np.float32)
        absent[..., len(whole) - room :] = -PRESENT
        return np.ascontiguousarray(whole.T[:, None]), absent

    def tokens(self, prompt: Prompt, size: Size) -> Floats:
        """float32 [T, C]: points in the object, points outside, then the box's corners, or, without a box, a padding token."""
        corners = [prompt.box[:2], prompt.box[2:]] if prompt.box else []
        places = np.array([*prompt.points, *prompt.not_points, *corners], np.float64)
        kinds = [1] * len(prompt.points) + [0] * len(prompt.not_points) + ([2, 3] if corners else [])
        height, width = scaled_size(size, self.side)
        shares = (places * (width / size[1], height / size[0]) + 0.5) / self.side
        x, y = (2 * shares - 1).T
        turned = 2 * np.pi * (np.outer(x, self.frequencies[0]) + np.outer(y, self.frequencies[1]))
        found = np.concatenate([np.sin(turned), np.cos(turned)], axis=1) + self.kinds[kinds]
        return np.asarray(found if corners else np.concatenate([found, self.padding[None]]), np.float32)

    def masks(self, logits: npt.NDArray[Any], size: Size) -> npt.NDArray[np.bool_]:
        """The decoder's logits [k, h, h], which show the whole square image, as masks bool [k, H, W] of a picture of `size`."""
        height, width = scaled_size(size, self.side)
        whole = resized(logits.astype(np.float64), (self.side, self.side))
        return np.asarray(resized(whole[:, :height, :width], size) > 0)


def check_room(prompt: Prompt) -> None:
    """Hold a prompt to what the built mask decoder takes.

    Raises:
        HlsgenError: it has more than PROMPT_TOKENS tokens.
    """
    count = len(prompt.points) + len(prompt.not_points) + (2 if prompt.box else 1)
    if count > PROMPT_TOKENS:
        raise HlsgenError(
            f"the built mask decoder takes prompts of {PROMPT_TOKENS} tokens at most (a box is two, a point one, and one more "
            f"where there is no box), got {count}; leave out points"
        )


def scaled(picture: Picture, size: Size) -> Picture:
    """uint8 [H, W, C] to uint8 [*size, C]: bilinear with antialiasing, rounded once, ties to even.

    Where it gets smaller, a pixel is a mean of those under a triangle as wide as two of it (as `torch.nn.functional.interpolate`
    has it, and Pillow's BILINEAR); columns first, then rows, each sum tap by tap.
    """
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
        shape = (-1, 1) if axis == 1 else (-1, 1, 1)
        total = np.zeros(())
        for tap in taps:
            total = total + levels.take(at[:, tap], axis) * weights[:, tap].reshape(shape)
        levels = total
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def resized(maps: npt.NDArray[np.float64], size: Size) -> npt.NDArray[np.float64]:
    """[k, h, w] to [k, *size], bilinear between pixel centres, edges repeated: rows first, then columns."""
    for axis, n in ((1, size[0]), (2, size[1])):
        old = maps.shape[axis]
        at = np.maximum((np.arange(n) + 0.5) * (old / n) - 0.5, 0)
        low = np.minimum(at.astype(np.int64), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape((-1, 1) if axis == 1 else (1, -1))
        maps = maps.take(low, axis) * (1 - share) + maps.take(high, axis) * share
    return maps
