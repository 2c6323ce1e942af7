"""Attention in the network's vocabulary: two functions on feature maps, float.

A map [N, C, H, W] is also H * W tokens of C values; heads are equal ranges of consecutive channels (docs/arithmetic-attention.md).
"""

import copy

from torch import Tensor, nn


def attention_scores(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """Products of queries [N, heads * d, H, W] and keys [N, heads * d, H', W']: [N, heads * H' * W', H, W].

    Nothing is scaled: 1 / sqrt(d) belongs into the convolution that makes the queries.
    """
    a, b = tokens(q, heads), tokens(k, heads)
    return (b.transpose(2, 3) @ a).reshape(len(q), -1, *q.shape[2:])


def attend(s: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax of scores [N, heads * H' * W', H, W] over the keys of a head, times values [N, heads * e, H', W'].

    Returns [N, heads * e, H, W].
    """
    weights = tokens(s, heads).softmax(2)
    return (tokens(v, heads) @ weights).reshape(len(s), -1, *s.shape[2:])


def tokens(x: Tensor, heads: int) -> Tensor:
    """[N, heads * d, H, W] to [N, heads, d, H * W]."""
    return x.reshape(len(x), heads, x.shape[1] // heads, -1)


def some_outputs(conv: nn.Conv2d, channels: Tensor, factor: float = 1.0) -> nn.Conv2d:
    """A convolution (of one group, with a bias) with only some of its output channels, times `factor`."""
    assert conv.bias is not None and conv.groups == 1
    part = copy.copy(conv)
    part._parameters = dict(conv._parameters)
    part.out_channels = len(channels)
    part.weight = nn.Parameter(conv.weight[channels] * factor, requires_grad=False)
    part.bias = nn.Parameter(conv.bias[channels] * factor, requires_grad=False)
    return part
