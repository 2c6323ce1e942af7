"""A SAM that runs: an image encoder and a mask decoder, float or quantized, and the host's part around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hlsgen.models.images import Picture
from hlsgen.models.sam import graph, prompts
from hlsgen.models.sam.checkpoint import Checkpoint
from hlsgen.models.sam.config import MEAN, STD, SamConfig
from hlsgen.models.sam.prompts import Prompt
from hlsgen.quantize.dynamic import dynamic
from hlsgen.quantize.tokens import quantize_tokens

Stage = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class Sam:
    """encoder: image [1, 3, S, S] to (embedding,). decoder: embedding, prompt tokens to (masks, iou), as ``graph``'s."""

    config: SamConfig
    state: Mapping[str, Tensor]
    encoder: Stage
    decoder: Stage

    def embed(self, picture: Picture) -> Tensor:
        """A picture uint8 [H, W, 3] BGR to its embedding, float32 [1, embedding, grid, grid]."""
        with torch.no_grad():
            (embedding,) = self.encoder(prompts.preprocess(picture, self.config.img_size))
        return embedding

    def logits(self, embedding: Tensor, prompt: Prompt, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The decoder's outputs for a prompt in a picture of ``size`` (H, W)."""
        tokens = prompts.tokens(self.config, self.state, prompt, size)
        with torch.no_grad():
            masks, iou = self.decoder(embedding, tokens)
        return masks, iou

    def mask(self, embedding: Tensor, prompt: Prompt, size: tuple[int, int]) -> Tensor:
        """The mask for a clear prompt: bool [H, W]."""
        logits, _ = self.logits(embedding, prompt, size)
        return prompts.masks(self.config, logits[..., :1, :], size)[0]


def float_sam(checkpoint: Checkpoint) -> Sam:
    """The float32 model, segment_anything's own arithmetic."""
    config, state = checkpoint.config, checkpoint.state
    return Sam(config, state, graph.encoder(config, state), graph.decoder(config, state))


def dynamic_sam(checkpoint: Checkpoint) -> Sam:
    """The model in the ``dynamic`` scheme: PyTorch's ``quantize_dynamic`` of encoder and decoder."""
    made = float_sam(checkpoint)
    encoder, decoder = graph.encoder(made.config, made.state), graph.decoder(made.config, made.state)
    return Sam(made.config, made.state, dynamic(encoder), dynamic(decoder))


def levels(image: Tensor) -> Tensor:
    """A normalized image as the folded encoder takes it: levels 0..255 less 128, whole numbers, float32."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (image * std + mean).round().clamp(0, 255) - 128


def fixed_sam(checkpoint: Checkpoint, pictures: Iterable[tuple[Picture, list[Prompt]]]) -> Sam:
    """The model in the ``fixed`` scheme: static W8A8, integers only, calibrated on ``pictures`` with prompts for each.

    Raises:
        HlsgenError: no pictures, activations that are not finite, or scales out of range.
    """
    plain = float_sam(checkpoint)
    config, state = plain.config, plain.state
    held = [(prompts.preprocess(p, config.img_size), (p.shape[0], p.shape[1]), asked) for p, asked in pictures]
    encoder = quantize_tokens(graph.encoder(config, state, True), ((levels(image),) for image, _, _ in held))

    def decoded() -> Iterable[tuple[Tensor, Tensor]]:
        for image, size, asked in held:
            (embedding,) = plain.encoder(image)
            for prompt in asked:
                yield embedding, prompts.tokens(config, state, prompt, size)

    given = {"embedding": encoder.outputs[0]}
    decoder = quantize_tokens(graph.decoder(config, state, True), decoded(), given)
    return Sam(config, state, lambda image: encoder(levels(image)), decoder)
