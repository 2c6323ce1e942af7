"""SAM's graphs and the host's part equal segment_anything's own modules."""

from typing import Any

import numpy as np
import pytest
import torch

from hlsgen.models.sam import graph, prompts
from hlsgen.models.sam.checkpoint import expected_shapes
from hlsgen.models.sam.config import TINY, VARIANTS, SamConfig
from hlsgen.models.sam.model import Sam, float_sam, levels
from hlsgen.models.sam.prompts import Prompt
from tests.sam_nets import MICRO, micro

SIZE = (24, 30)
PROMPTS = [
    Prompt((2, 3, 20, 21)),
    Prompt(points=((4, 5),)),
    Prompt((2, 3, 20, 21), ((9, 9), (4, 5)), ((1, 1),)),
    Prompt(points=((4, 5),), not_points=((8, 20), (1, 1))),
]


@pytest.fixture(scope="module")
def theirs() -> Any:
    if _absent():
        pytest.skip("needs segment-anything")
    from hlsgen.models.sam.original import original

    made = original(MICRO)
    made.load_state_dict(dict(micro().state))
    return made


def _absent() -> bool:
    from importlib.util import find_spec

    return find_spec("segment_anything") is None


def picture(size: tuple[int, int] = SIZE, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def close(a: torch.Tensor, b: torch.Tensor, absolute: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=absolute)


@torch.no_grad()
def test_encoder_equals_segment_anything(theirs: Any) -> None:
    image = prompts.preprocess(picture((32, 32)), MICRO.img_size)
    (embedding,) = float_sam(micro()).encoder(image)
    close(embedding, theirs.image_encoder(image))
    assert embedding.std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_prompts_and_decoder_equal_segment_anything(theirs: Any, prompt: Prompt) -> None:
    state = micro().state
    tokens = prompts.tokens(MICRO, state, prompt, (32, 32))
    points = [*prompt.points, *prompt.not_points]
    asked = (
        (torch.tensor([points]), torch.tensor([[1] * len(prompt.points) + [0] * len(prompt.not_points)]))
        if points
        else None
    )
    box = None if prompt.box is None else torch.tensor([prompt.box])
    sparse, dense = theirs.prompt_encoder(asked, box, None)
    close(tokens, sparse)
    embedding = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    wanted, wanted_iou = theirs.mask_decoder.predict_masks(
        embedding, theirs.prompt_encoder.get_dense_pe(), sparse, dense
    )
    masks, iou = float_sam(micro()).decoder(embedding, tokens)
    close(masks[0, 0], wanted[0].flatten(1))
    close(iou[0], wanted_iou)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (24, 32), (16, 11), (50, 64)])
def test_the_whole_way_equals_sam_forward(theirs: Any, size: tuple[int, int]) -> None:
    from segment_anything.utils.transforms import ResizeLongestSide

    sam, shown = float_sam(micro()), picture(size)
    prompt = Prompt((1, 2, size[1] - 3, size[0] - 4), ((5, 6),))
    resize = ResizeLongestSide(MICRO.img_size)
    assert prompts.scaled_size(size, MICRO.img_size) == resize.get_preprocess_shape(*size, MICRO.img_size)
    height, width = prompts.scaled_size(size, MICRO.img_size)
    scaled = prompts.preprocess(shown, MICRO.img_size)[0, :, :height, :width]
    mean, std = theirs.pixel_mean, theirs.pixel_std
    found = theirs(
        [
            {
                "image": scaled * std + mean,
                "original_size": size,
                "boxes": torch.as_tensor(resize.apply_boxes(np.array([prompt.box]), size)).float(),
                "point_coords": torch.as_tensor(resize.apply_coords(np.array([prompt.points]), size)).float(),
                "point_labels": torch.ones(1, 1),
            }
        ],
        multimask_output=False,
    )[0]
    embedding = sam.embed(shown)
    logits, iou = sam.logits(embedding, prompt, size)
    close(logits[0, 0, 0], found["low_res_logits"][0, 0].flatten(), 3e-4)  # its image was normalized back and forth
    close(iou[0, :, :1], found["iou_predictions"], 3e-4)
    differing = (sam.mask(embedding, prompt, size) != found["masks"][0, 0]).sum()
    assert int(differing) <= 2  # logits that are zero up to rounding
    assert sam.mask(embedding, prompt, size).shape == size


@torch.no_grad()
def test_folded_graphs_compute_the_same() -> None:
    held = micro()
    plain = float_sam(held)
    encoder = graph.encoder(MICRO, held.state, folded=True)
    folded = Sam(MICRO, held.state, lambda x: encoder(levels(x)), graph.decoder(MICRO, held.state, folded=True))
    shown = picture((32, 32))
    close(folded.embed(shown), plain.embed(shown))
    for prompt in PROMPTS:
        for a, b in zip(*(s.logits(plain.embed(shown), prompt, (32, 32)) for s in (folded, plain)), strict=True):
            close(a, b)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=lambda c: c.name)
def test_expected_shapes_are_segment_anythings(config: SamConfig) -> None:
    if _absent():
        pytest.skip("needs segment-anything")
    from hlsgen.models.sam.original import original

    with torch.device("meta"):
        state = original(config).state_dict()
    assert {name: tuple(t.shape) for name, t in state.items()} == expected_shapes(config)


@torch.no_grad()
def test_macs_of_the_tiny_encoder_by_hand() -> None:
    from hlsgen.models.sam.load import random

    network = graph.encoder(TINY, random(TINY).state)
    counted = graph.macs(network, torch.zeros(1, 3, 128, 128))
    assert counted["patch_embed"] == 256 * 96 * 3 * 64
    assert counted["block0_qkv"] == 324 * 96 * 288  # 18 x 18 tokens with their padding
    assert counted["block0_scores"] == counted["block0_attend"] == 9 * 36 * 36 * 96
    assert counted["block1_scores"] == 256 * 256 * 96
    assert counted["block1_relative_h"] == 256 * 16 * 96
    assert counted["neck_conv2"] == 256 * 64 * 64 * 9


@torch.no_grad()
def test_macs_of_vit_b_are_the_published_ones() -> None:
    """486 GMAC in the encoder of 89.7 M weights, 1.8 GMAC in the decoder, at 1024 pixels; counted without computing."""
    config = VARIANTS["sam_vit_b"]
    state = {name: torch.zeros(1).expand(shape) for name, shape in expected_shapes(config).items()}
    encoder, decoder = graph.encoder(config, state).to("meta"), graph.decoder(config, state).to("meta")
    image, embedding, prompt = (torch.empty(1, *s, device="meta") for s in ((3, 1024, 1024), (256, 64, 64), (2, 256)))
    assert sum(graph.macs(encoder, image).values()) == 486_038_667_264
    assert sum(graph.macs(decoder, embedding, prompt).values()) == 1_811_302_400
    assert sum(t.numel() for name, t in state.items() if name.startswith("image_encoder")) == 89_670_912
