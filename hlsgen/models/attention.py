"""Attention in the network's vocabulary: functions on feature maps, float.

A map [N, C, H, W] is also H * W tokens of C values; heads are equal ranges of consecutive channels (docs/arithmetic-attention.md).
"""

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

Window = tuple[int, int]
WHOLE: Window = (0, 0)
MANY_SCORES = 1 << 24
"""Scores of so many keys, queries and heads are too many to keep: blocks take their heads one after another, and of a head's
scores only the engine knows; what is made of them is kept and compared."""


def attention_scores(q: Tensor, k: Tensor, heads: int, window: Window = WHOLE) -> Tensor:
    """Products of queries [N, heads * d, H, W] and keys [N, heads * d, H', W']: [N, heads * H' * W', H, W].

    Nothing is scaled: 1 / sqrt(d) belongs into the convolution that makes the queries. window: (rows, columns) that divide
    maps of one size; queries meet the keys of their own window: [N, heads * rows * columns, H, W].
    """
    if window != WHOLE:
        parts = attention_scores(windows(q, window), windows(k, window), heads)
        return joined(parts, q.shape[2:])
    a, b = tokens(q, heads), tokens(k, heads)
    return (b.transpose(2, 3) @ a).reshape(len(q), -1, *q.shape[2:])


def attend(s: Tensor, v: Tensor, heads: int, window: Window = WHOLE) -> Tensor:
    """Softmax of scores [N, heads * H' * W', H, W] over the keys of a head, times values [N, heads * e, H', W'].

    Returns [N, heads * e, H, W]; window: the scores'.
    """
    if window != WHOLE:
        return joined(attend(windows(s, window), windows(v, window), heads), v.shape[2:])
    weights = tokens(s, heads).softmax(2)
    return (tokens(v, heads) @ weights).reshape(len(s), -1, *s.shape[2:])


def tokens(x: Tensor, heads: int) -> Tensor:
    """[N, heads * d, H, W] to [N, heads, d, H * W]."""
    return x.reshape(len(x), heads, x.shape[1] // heads, -1)


def windows(x: Tensor, window: Window) -> Tensor:
    """[N, C, H, W] to [N * windows, C, rows, columns]."""
    n, c, h, w = x.shape
    cells = x.reshape(n, c, h // window[0], window[0], w // window[1], window[1])
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, c, *window)


def joined(x: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of `windows`: [N * windows, C, rows, columns] to [N, C, *size]."""
    _, c, rows, columns = x.shape
    cells = x.reshape(-1, size[0] // rows, size[1] // columns, c, rows, columns)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, c, *size)


def grown(x: Tensor, bottom: int, right: int) -> Tensor:
    """Zeros below and on the right: [N, C, H + bottom, W + right]."""
    return F.pad(x, (0, right, 0, bottom))


def cropped(x: Tensor, height: int, width: int, top: int = 0, left: int = 0) -> Tensor:
    """The part [N, C, height, width] from row `top` and column `left` on."""
    return x[..., top : top + height, left : left + width]


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """Channels to pixels: [N, factor^2 * C, H, W], channels by (row, column, C), to [N, C, factor * H, factor * W].

    Behind a 1 x 1 convolution it makes a transposed one, whose kernel is its stride.
    """
    n, c, h, w = x.shape
    parts = x.reshape(n, factor, factor, c // factor**2, h, w)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, factor * h, factor * w)


def transposed(conv: nn.ConvTranspose2d) -> nn.Conv2d:
    """The 1 x 1 convolution that, before `depth_to_space`, is a transposed convolution (kernel = stride, one group, a bias)."""
    i, o, factor, _ = conv.weight.shape
    made = nn.Conv2d(i, o * factor**2, 1, device="meta").to_empty(device="cpu")
    assert conv.bias is not None and conv.groups == 1
    made.weight.data = conv.weight.detach().permute(2, 3, 1, 0).reshape(-1, i, 1, 1).clone()
    made.bias.data = conv.bias.detach().repeat(factor**2)  # type: ignore[union-attr]
    return made.requires_grad_(False)


def some_outputs(conv: nn.Conv2d, channels: Tensor, factor: float = 1.0) -> nn.Conv2d:
    """A convolution (of one group, with a bias) with only some of its output channels, times `factor`."""
    assert conv.bias is not None and conv.groups == 1
    part = copy.copy(conv)
    part._parameters = dict(conv._parameters)
    part.out_channels = len(channels)
    part.weight = nn.Parameter(conv.weight[channels] * factor, requires_grad=False)
    part.bias = nn.Parameter(conv.bias[channels] * factor, requires_grad=False)
    return part
