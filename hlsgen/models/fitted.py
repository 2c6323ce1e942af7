"""A picture as a network takes it: letterboxed, or for a SAM as segment_anything does, padded on the right and below."""

from typing import TYPE_CHECKING

import numpy as np

from hlsgen.models.images import Input, Picture, letterbox

if TYPE_CHECKING:
    from hlsgen.models.sam.prompts import Prompt
    from hlsgen.models.zoo import Loaded


def fitted(loaded: "Loaded", picture: Picture) -> Input:
    """uint8 [H, W, 3] BGR to float32 [3, H', W'], RGB, 0..1, of the network's size."""
    _, height, width = loaded.shape
    if loaded.task != "segment":
        return letterbox(picture, (height, width))
    assert loaded.prompting is not None
    whole = loaded.prompting.picture(picture[..., ::-1]).transpose(2, 0, 1)
    return np.asarray(whole.astype(np.float32) / np.float32(255), np.float32)


def prompted(loaded: "Loaded", picture: Picture, prompt: "Prompt", image: Input | None = None) -> tuple[Input, ...]:
    """The inputs of a SAM: the picture, fitted (`image`, where that is done), and a prompt in the picture's pixels."""
    assert loaded.prompting is not None
    size = (picture.shape[0], picture.shape[1])
    return fitted(loaded, picture) if image is None else image, *loaded.prompting.inputs(prompt, size)


def own_picture(loaded: "Loaded", index: int, seed: int) -> Picture:
    """Picture `index` of the demo's world, uint8 [H, W, 3] BGR: what demo and random weights are calibrated and shown on."""
    from hlsgen.models.demo.shapes import render, render_masks

    side = max(loaded.shape[1:])
    return (render_masks if loaded.task == "segment" else render)(index, side, seed)[0]
