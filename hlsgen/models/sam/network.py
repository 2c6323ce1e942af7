"""SAM's image encoder in the network's vocabulary (`hlsgen.models.network`): what the engine builds.

The same function as `hlsgen.models.sam.graph.encoder`, to which tests hold it; relative positions are products of longer queries
and keys (`hlsgen.models.relative`), and 1 / sqrt(d) is in the keys, so that queries and what they think of rows and columns,
which share a scale, are of one size.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from hlsgen.models import attention as vocabulary
from hlsgen.models.attention import WHOLE, attend, attention_scores, cropped, grown
from hlsgen.models.norm import ChannelNorm
from hlsgen.models.relative import place_map, table_map
from hlsgen.models.sam.config import EPS, MEAN, STD, SamConfig
from hlsgen.models.sam.graph import State


class _Builder:
    def __init__(self, state: State) -> None:
        self.state = state
        self.root, self.graph = nn.Module(), fx.Graph()

    def weight(self, key: str) -> Tensor:
        return self.state[f"image_encoder.{key}"].detach().float()

    def call(self, name: str, function: Any, *args: Any) -> fx.Node:
        return self.graph.create_node("call_function", function, args, name=name)

    def constant(self, name: str, value: Tensor) -> fx.Node:
        self.root.register_buffer(name, value.clone())
        return self.graph.create_node("get_attr", name, name=name)

    def module(self, name: str, module: nn.Module, x: fx.Node) -> fx.Node:
        self.root.add_module(name, module.requires_grad_(False))
        return self.graph.create_node("call_module", name, (x,), name=name)

    def conv(self, name: str, weight: Tensor, bias: Tensor, x: fx.Node, stride: int = 1, padding: int = 0) -> fx.Node:
        o, i, kh, kw = weight.shape
        made = nn.Conv2d(i, o, (kh, kw), stride, padding, device="meta").to_empty(device="cpu")
        made.weight.data, made.bias.data = weight.clone(), bias.clone()  # type: ignore[union-attr]
        return self.module(name, made, x)

    def linear(self, name: str, key: str, x: fx.Node, part: slice = slice(None), factor: float = 1.0) -> fx.Node:
        weight, bias = (self.weight(f"{key}.{kind}")[part] * factor for kind in ("weight", "bias"))
        return self.conv(name, weight[:, :, None, None], bias, x)

    def norm(self, name: str, key: str, x: fx.Node) -> fx.Node:
        made = ChannelNorm(len(self.weight(f"{key}.weight")), EPS)
        made.weight.data, made.bias.data = self.weight(f"{key}.weight").clone(), self.weight(f"{key}.bias").clone()
        return self.module(name, made, x)

    def parts(self, name: str, x: fx.Node, heads: int, size: int) -> list[fx.Node]:
        """A map's heads, of `size` channels each."""
        if heads == 1:
            return [x]
        split = self.call(f"{name}_heads", torch.split, x, [size] * heads, 1)
        return [self.call(f"{name}_head{h}", operator.getitem, split, h) for h in range(heads)]

    def attention(self, p: str, key: str, qkv: list[fx.Node], heads: int, n: int, grid: int) -> fx.Node:
        """Attention with relative positions in windows of n x n; head by head where all scores are too many to keep."""
        side = -(-grid // n) * n
        window = WHOLE if side == n else (n, n)
        more = () if window == WHOLE else (window,)
        d = len(self.weight(f"{key}.rel_pos_h")[0])
        terms, places = [], []
        for axis, letter in enumerate("hw"):
            table = table_map(self.weight(f"{key}.rel_pos_{letter}"), heads, (side, side), axis)
            held = self.constant(f"{p}_table_{letter}", table)
            line = (1, n) if axis == 0 else (n, 1)
            term = self.call(f"{p}_relative_{letter}", attention_scores, qkv[0], held, heads, line)
            terms.append(self.parts(f"{p}_relative_{letter}", term, heads, n))
            places.append(self.constant(f"{p}_place_{letter}", place_map(n, (side, side), axis)))
        q, k = (self.parts(f"{p}_{part}", x, heads, d) for part, x in zip("qk", qkv[:2], strict=True))
        longer = [[q[h], terms[0][h], terms[1][h]] for h in range(heads)], [[part, *places] for part in k]
        if heads * n * n * side * side < vocabulary.MANY_SCORES:
            q1, k1 = (
                self.call(f"{p}_{name}", torch.cat, [x for head in part for x in head], 1)
                for name, part in zip(("queries", "keys"), longer, strict=True)
            )
            s = self.call(f"{p}_scores", attention_scores, q1, k1, heads, *more)
            return self.call(f"{p}_attend", attend, s, qkv[2], heads, *more)
        found = []
        for h, v in enumerate(self.parts(f"{p}_v", qkv[2], heads, d)):
            q1, k1 = (
                self.call(f"{p}_{name}{h}", torch.cat, part[h], 1)
                for name, part in zip(("queries", "keys"), longer, strict=True)
            )
            s = self.call(f"{p}_scores{h}", attention_scores, q1, k1, 1, *more)
            found.append(self.call(f"{p}_attend{h}", attend, s, v, 1, *more))
        return self.call(f"{p}_attend", torch.cat, found, 1)


def encoder_network(config: SamConfig, state: State) -> fx.GraphModule:
    """The image encoder for square images.

    Args:
        config: the sizes.
        state: the checkpoint's weights by segment_anything's names.

    Returns:
        ``image`` float32 [1, 3, S, S], 0..1, to one output ``embedding``, float32 [1, embedding, grid, grid].
    """
    b = _Builder(state)
    grid, heads, dim = config.grid, config.heads, config.dim
    image = b.graph.placeholder("image")
    weight, bias = b.weight("patch_embed.proj.weight"), b.weight("patch_embed.proj.bias")
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    bias = bias - (weight * (mean / std)).sum((1, 2, 3))
    x = b.conv("patch_embed", weight * (255 / std), bias, image, config.patch)
    x = b.call("positioned", torch.add, x, b.constant("pos_embed", b.weight("pos_embed").permute(0, 3, 1, 2)))
    for i in range(config.depth):
        p, key = f"block{i}", f"blocks.{i}"
        n = grid if i in config.global_blocks else config.window
        more = -grid % n
        y = b.norm(f"{p}_norm1", f"{key}.norm1", x)
        if more:
            y = b.call(f"{p}_grown", grown, y, more, more)
        qkv = [
            b.linear(f"{p}_{part}", f"{key}.attn.qkv", y, slice(j * dim, (j + 1) * dim), factor)
            for j, (part, factor) in enumerate((("q", 1.0), ("k", (dim // heads) ** -0.5), ("v", 1.0)))
        ]
        y = b.attention(p, f"{key}.attn", qkv, heads, n, grid)
        if more:
            y = b.call(f"{p}_cropped", cropped, y, grid, grid)
        x = b.call(f"{p}_add1", torch.add, x, b.linear(f"{p}_proj", f"{key}.attn.proj", y))
        y = b.linear(f"{p}_lin1", f"{key}.mlp.lin1", b.norm(f"{p}_norm2", f"{key}.norm2", x))
        y = b.linear(f"{p}_lin2", f"{key}.mlp.lin2", b.module(f"{p}_gelu", nn.GELU(), y))
        x = b.call(f"{p}_add2", torch.add, x, y)
    nothing = torch.zeros(config.embedding)
    y = b.norm("neck_norm1", "neck.1", b.conv("neck_conv1", b.weight("neck.0.weight"), nothing, x))
    y = b.conv("neck_conv2", b.weight("neck.2.weight"), nothing, y, padding=1)
    b.graph.output((b.norm("embedding", "neck.3", y),))
    b.graph.lint()
    return fx.GraphModule(b.root, b.graph).eval()


def linears(network: fx.GraphModule) -> list[dict[str, float]]:
    """The linear layers of `encoder_network`: for each, the convolutions that it was cut into and what each was multiplied by."""
    nodes = {node.name: node for node in network.graph.nodes}
    found: list[dict[str, float]] = []
    block = 0
    while f"block{block}_q" in nodes:
        p = f"block{block}"
        query: Any = network.get_submodule(str(nodes[f"{p}_q"].target))
        heads = int(nodes[f"{p}_relative_h"].args[2])
        found.append({f"{p}_q": 1.0, f"{p}_k": (query.out_channels // heads) ** -0.5, f"{p}_v": 1.0})
        found += [{f"{p}_{part}": 1.0} for part in ("proj", "lin1", "lin2")]
        block += 1
    return found
