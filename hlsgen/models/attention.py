"""Attention in the network's vocabulary: two functions on feature maps, float.

A map [N, C, H, W] is also H * W tokens of C values; heads are equal ranges of consecutive channels (docs/arithmetic-attention.md).
"""

from torch import Tensor


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
