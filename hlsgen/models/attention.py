"""Attention in the network's vocabulary: functions on feature maps, float.

A map [N, C, H, W] is also H * W tokens of C values; heads are equal ranges of consecutive channels (docs/arithmetic-attention.md).
"""

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

Window = tuple[int, int]
WHOLE: Window = (0, 0)


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


def cropped(x: Tensor, height: int, width: int) -> Tensor:
    """The upper left part: [N, C, height, width]."""
    return x[..., :height, :width]


def some_outputs(conv: nn.Conv2d, channels: Tensor, factor: float = 1.0) -> nn.Conv2d:
    """A convolution (of one group, with a bias) with only some of its output channels, times `factor`."""
    assert conv.bias is not None and conv.groups == 1
    part = copy.copy(conv)
    part._parameters = dict(conv._parameters)
    part.out_channels = len(channels)
    part.weight = nn.Parameter(conv.weight[channels] * factor, requires_grad=False)
    part.bias = nn.Parameter(conv.bias[channels] * factor, requires_grad=False)
    return part
