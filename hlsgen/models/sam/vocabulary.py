"""What the graphs of SAM are made of: ``nn`` modules, and these functions on tokens.

Tokens are float32 [B, N, C]: B windows (or 1) of N tokens of C channels. A map is [1, C, H, W]; its tokens are its pixels,
row by row, so that going from one to the other moves nothing in a memory that holds a pixel's channels side by side.
Modules: ``nn.Conv2d``, ``nn.ConvTranspose2d`` (kernel = stride), ``nn.Linear``, ``nn.LayerNorm``, ``nn.GELU``, ``nn.ReLU``.
Functions: those below, ``torch.add`` (the second operand may be broadcast over tokens), ``torch.cat`` of tokens (dim 1).
Constants (positions, learned tokens) are ``get_attr`` nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def to_tokens(x: Tensor) -> Tensor:
    """A map [1, C, H, W] as tokens [1, H*W, C]."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    """Tokens [1, H*W, C] as a map [1, C, H, W]."""
    return x.transpose(1, 2).reshape(1, x.shape[2], height, width)


def partition(x: Tensor, side: int, window: int) -> Tensor:
    """Tokens [1, side*side, C] in windows [n*n, window*window, C], n = ceil(side / window), zeros on the right and below."""
    count, channels = -(-side // window), x.shape[2]
    padding = count * window - side
    padded = nn.functional.pad(x.view(side, side, channels), (0, 0, 0, padding, 0, padding))
    cells = padded.view(count, window, count, window, channels).transpose(1, 2)
    return cells.reshape(count * count, window * window, channels)


def unpartition(x: Tensor, side: int, window: int) -> Tensor:
    """The inverse of ``partition``: the padding is dropped."""
    count, channels = -(-side // window), x.shape[2]
    padded = x.view(count, count, window, window, channels).transpose(1, 2)
    cut = padded.reshape(count * window, count * window, channels)[:side, :side]
    return cut.reshape(1, side * side, channels)


def narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """``length`` tokens (dim 1) or channels (dim 2) from ``start``."""
    return x.narrow(dim, start, length)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Tokens [B, N, heads*d] by head: [B, heads, N, d]."""
    batch, count, channels = x.shape
    return x.view(batch, count, heads, channels // heads).transpose(1, 2)


def scores(q: Tensor, k: Tensor, heads: int, scale: float) -> Tensor:
    """Queries [B, N, heads*d] times keys [B, M, heads*d] times ``scale``: [B, heads, N, M]."""
    found: Tensor = (split_heads(q, heads) * scale) @ split_heads(k, heads).transpose(2, 3)
    return found


def relative(q: Tensor, table: Tensor, heads: int, axis: int) -> Tensor:
    """How much each query likes each row (axis 0) or column (axis 1) of keys (Li et al., MViTv2, 2022, eq. 4).

    Args:
        q: queries [B, n*n, heads*d] of a square of n x n tokens.
        table: [n, n, d], for the query's and the key's row (or column).
        heads: attention heads.
        axis: 0 for rows, 1 for columns.

    Returns:
        [B, heads, n*n, n].
    """
    n = table.shape[0]
    by_head = split_heads(q, heads)
    square = by_head.reshape(*by_head.shape[:2], n, n, by_head.shape[3])
    by_place = square if axis == 0 else square.transpose(2, 3)
    found: Tensor = by_place @ table.transpose(1, 2)
    return (found if axis == 0 else found.transpose(2, 3)).flatten(2, 3)


def add_relative(s: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Scores [B, heads, N, n*n] plus the terms of the key's row and column, each [B, heads, N, n]."""
    n = rows.shape[3]
    return (s.reshape(*s.shape[:3], n, n) + rows[..., None] + columns[..., None, :]).flatten(3)


def attend(s: Tensor, v: Tensor) -> Tensor:
    """Softmax of the scores [B, heads, N, M] over the keys, times values [B, M, heads*d]: tokens [B, N, heads*d]."""
    out: Tensor = s.softmax(-1) @ split_heads(v, s.shape[1])
    return out.transpose(1, 2).flatten(2)


MODULES: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.LayerNorm, nn.GELU, nn.ReLU)
FUNCTIONS = (
    to_tokens,
    to_map,
    partition,
    unpartition,
    narrow,
    scores,
    relative,
    add_relative,
    attend,
    torch.add,
    torch.cat,
)
