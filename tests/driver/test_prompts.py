"""What the driver does around a SAM equals hlsgen's own, bit for bit; scaling is within a level of PyTorch's."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hlsgen.models.sam import prompts as in_torch
from hlsgen.models.sam.prompting import Prompting
from hlsgen.models.sam.prompts import Prompt
from tests.sam_nets import MICRO, micro

OURS = Prompting.of(MICRO, micro().state)
side = st.integers(1, 150)
share = st.floats(0, 1)


def theirs() -> Any:
    from hlsgen_driver.prompts import Prompting as Theirs

    return Theirs(OURS.facts())


@settings(max_examples=60, deadline=None)
@given(side, side, st.integers(0, 2**32 - 1))
@example(32, 32, 0)
@example(64, 32, 1)
@example(1, 150, 2)
def test_pictures(h: int, w: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
    found = OURS.picture(picture)
    np.testing.assert_array_equal(theirs().picture(picture), found)
    if min(h, w, *in_torch.scaled_size((h, w), MICRO.img_size)) == 1:
        return  # PyTorch takes a map one pixel wide for channels_last, and mixes its channels
    mean, std = (np.array(values) for values in (in_torch.MEAN, in_torch.STD))
    by_torch = in_torch.preprocess(picture[..., ::-1], MICRO.img_size)[0].permute(1, 2, 0).numpy() * std + mean
    assert np.abs(by_torch - found).max() <= 1.01 and (np.abs(by_torch - found) > 0.5).mean() < 0.02


@settings(max_examples=60, deadline=None)
@given(side, side, share, share, share, share, st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_prompts_and_masks(h: int, w: int, a: float, b: float, c: float, d: float, kind: int, seed: int) -> None:
    from hlsgen_driver.prompts import Prompt as TheirPrompt

    (x0, x1), (y0, y1) = sorted((a * w, b * w)), sorted((c * h, d * h))
    box = (x0, y0, x1, y1) if kind & 1 and x0 < x1 and y0 < y1 else None
    points = ((a * w, c * h),) if kind & 2 or box is None else ()
    outside = ((b * w, d * h),) if kind & 4 else ()
    size = (h, w)
    for ours, got in zip(
        OURS.inputs(Prompt(box, points, outside), size),
        theirs().inputs(TheirPrompt(box, points, outside), size),
        strict=True,
    ):
        assert got.dtype == ours.dtype == np.float32
        np.testing.assert_array_equal(got, ours)
    logits = np.random.default_rng(seed).integers(-3, 4, (2, 16, 16)) * np.float32(0.37)
    np.testing.assert_array_equal(theirs().masks(logits, size), OURS.masks(logits, size))


def test_integers_are_the_references() -> None:
    from hlsgen_driver.network import Tensor

    from hlsgen.quantize.integer import quantize_image
    from hlsgen.quantize.spec import TensorQ

    values = np.random.default_rng(0).normal(size=(4, 1, 9)).astype(np.float32) * 3
    row = {
        "name": "t",
        "address": 0,
        "expected": None,
        "channels": 4,
        "height": 1,
        "width": 9,
        "fold": 1,
        "lanes": [0, 1, 2, 3],
    }
    for q in (TensorQ(2.0**-5, 0), TensorQ(float(np.float32(0.0213)), -17)):
        got = Tensor({**row, "scale": q.scale, "zero_point": q.zero_point}, 4).integers(values)
        np.testing.assert_array_equal(got, quantize_image(torch.from_numpy(values), q).numpy())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ((None, ()), "a prompt needs a box or a point in the object"),
        ((None, ((3, 31),)), "3,31 lies outside the picture: it is 40 wide and 30 high"),
        ((None, ((float("nan"), 1),)), "nan,1 lies outside the picture"),
        (((9, 2, 4, 7), ()), "a box expects its top left corner, then its bottom right one"),
        (((1, 1, 4, 7), ((1, 1),) * 3), "a prompt has 4 tokens at most .* got 5; leave out points"),
    ],
)
def test_bad_prompts(prompt: tuple[Any, Any], message: str) -> None:
    from hlsgen_driver.errors import PromptError
    from hlsgen_driver.prompts import Prompt as TheirPrompt

    with pytest.raises(PromptError, match=message):
        theirs().inputs(TheirPrompt(*prompt), (30, 40))
