"""A SAM's graph in the network's vocabulary, being built from its weights."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx, nn

from hlsgen.models.norm import ChannelNorm
from hlsgen.models.sam.config import EPS
from hlsgen.models.sam.named import Named


class Builder(Named):
    """A graph of the networks' vocabulary being built. Its weights are the state's own where nothing changes them: of a large SAM
    nobody wants two."""

    def given(self, name: str, shape: tuple[int, int, int]) -> fx.Node:
        """A further input, (C, H, W)."""
        node = self.graph.placeholder(name)
        node.meta["shape"] = shape
        return node

    def conv(
        self, name: str, weight: Tensor, bias: Tensor, x: fx.Node, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> fx.Node:
        o, i, kh, kw = weight.shape
        made = nn.Conv2d(i * groups, o, (kh, kw), stride, padding, groups=groups, device="meta").to_empty(device="cpu")
        made.weight.data, made.bias.data = weight, bias  # type: ignore[union-attr]
        return self.module(name, made, x)

    def linear(self, name: str, key: str, x: fx.Node, part: slice = slice(None), factor: float = 1.0) -> fx.Node:
        weight, bias = (self.weight(f"{key}.{kind}")[part] for kind in ("weight", "bias"))
        if factor != 1:
            weight, bias = weight * factor, bias * factor
        return self.conv(name, weight[:, :, None, None], bias, x)

    def norm(self, name: str, key: str, x: fx.Node, eps: float = EPS) -> fx.Node:
        made = ChannelNorm(len(self.weight(f"{key}.weight")), eps)
        made.weight.data, made.bias.data = self.weight(f"{key}.weight"), self.weight(f"{key}.bias")
        return self.module(name, made, x)

    def parts(self, name: str, x: fx.Node, heads: int, size: int) -> list[fx.Node]:
        """A map's heads, of `size` channels each."""
        if heads == 1:
            return [x]
        split = self.call(f"{name}_heads", torch.split, x, [size] * heads, 1)
        return [self.call(f"{name}_head{h}", operator.getitem, split, h) for h in range(heads)]
