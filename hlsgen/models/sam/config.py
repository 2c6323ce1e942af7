"""What distinguishes one SAM from another: sizes, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

PROMPT_TOKENS = 4
"""Tokens of a prompt on the engine, at most: a box has two, a point one; a prompt without a box SAM's padding token too."""


@dataclass(frozen=True)
class SamConfig:
    """The sizes of a SAM, in the terms of its paper (Kirillov et al., 2023) and of the segment_anything package.

    img_size: the square input's side, pixels. patch: a token's side, pixels. dim, depth, heads, mlp_ratio: the image
    encoder's width, blocks, attention heads and MLP expansion. window: side of a windowed block's window, tokens.
    global_blocks: the blocks that attend to all tokens. embedding: channels of the image embedding and of the mask
    decoder. decoder_depth, decoder_heads, decoder_mlp: the two-way transformer's layers, heads, MLP width. masks:
    outputs for an ambiguous prompt, beside the one for a clear prompt. mask_channels: hidden channels of the prompt
    encoder's mask branch. iou_depth, iou_hidden: the quality head's layers and width.
    """

    name: str
    img_size: int
    patch: int
    dim: int
    depth: int
    heads: int
    window: int
    global_blocks: tuple[int, ...]
    embedding: int
    decoder_heads: int
    decoder_mlp: int
    iou_hidden: int
    mask_channels: int = 16
    mlp_ratio: int = 4
    decoder_depth: int = 2
    masks: int = 3
    iou_depth: int = 3

    @property
    def tokens(self) -> int:
        """The mask decoder's tokens on the engine: IoU, masks, and those of a prompt."""
        return 1 + (self.masks + 1) + PROMPT_TOKENS

    @property
    def grid(self) -> int:
        """The token grid's side."""
        return self.img_size // self.patch


def _published(name: str, dim: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> SamConfig:
    return SamConfig(name, 1024, 16, dim, depth, heads, 14, global_blocks, 256, 8, 2048, 256)


TINY = SamConfig("sam_tiny", 128, 8, 96, 4, 3, 6, (1, 3), 64, 4, 256, 64)
"""The demo: 16 x 16 tokens, windows of 6 (so 16 is padded to 18), two windowed and two global blocks."""

VARIANTS: dict[str, SamConfig] = {
    c.name: c
    for c in (
        _published("sam_vit_b", 768, 12, 12, (2, 5, 8, 11)),
        _published("sam_vit_l", 1024, 24, 16, (5, 11, 17, 23)),
        _published("sam_vit_h", 1280, 32, 16, (7, 15, 23, 31)),
        TINY,
    )
}
"""Every SAM that hlsgen knows, by name."""

MEAN = (123.675, 116.28, 103.53)
"""Mean of the image's R, G, B levels (0..255), as segment_anything takes it away."""
STD = (58.395, 57.12, 57.375)
"""Standard deviation of the image's R, G, B levels."""
EPS = 1e-6
"""LayerNorm's epsilon in the image encoder and in LayerNorm2d; the two-way transformer has PyTorch's 1e-5."""
