"""SAM in the network's vocabulary (`hlsgen.models.network`): what the engine builds, image encoder and mask decoder in one network.

The encoder is the same function as `hlsgen.models.sam.graph.encoder`, to which tests hold it; relative positions are products of
longer queries and keys (`hlsgen.models.relative`), and 1 / sqrt(d) is in the keys, so that queries and what they think of rows
and columns, which share a scale, are of one size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from hlsgen.models import attention as vocabulary
from hlsgen.models.attention import WHOLE, attend, attention_scores, cropped, grown
from hlsgen.models.relative import place_map, table_map
from hlsgen.models.sam.builder import Builder
from hlsgen.models.sam.config import MEAN, STD, SamConfig
from hlsgen.models.sam.decoder import decoder
from hlsgen.models.sam.named import State


class _Encoder(Builder):
    """The image encoder's own layers."""

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
        longer = [[terms[0][h], terms[1][h], q[h]] for h in range(heads)], [[*places, part] for part in k]
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


def sam_network(config: SamConfig, state: State, apart: bool = False) -> fx.GraphModule:
    """Image encoder and mask decoder, for square images and prompts of up to PROMPT_TOKENS tokens.

    What depends on the image alone comes first. Inputs (`hlsgen.models.sam.prompting` makes the last two):
    ``image`` float32 [1, 3, S, S], 0..1; ``tokens`` [1, embedding, 1, N]; ``absent`` [1, 1, 1, N]. Outputs: ``embedding``
    [1, embedding, grid, grid]; ``masks``, logits [1, 1 + masks, 4 * grid, 4 * grid], the first for a clear prompt; ``iou``,
    predicted, [1, 1 + masks, 1, 1].

    Args:
        config: the sizes.
        state: the checkpoint's weights by segment_anything's names.
        apart: the hypernetworks one by one, so that each has ranges of its own.
    """
    b = _Encoder(state, "image_encoder.")
    image = b.graph.placeholder("image")
    tokens = b.given("tokens", (config.embedding, 1, config.tokens))
    absent = b.given("absent", (1, 1, config.tokens))
    embedding = _encoder(b, config, image)
    b.prefix = "mask_decoder."
    b.graph.output((embedding, *decoder(b, config, embedding, tokens, absent, apart)))
    _image_first(b.graph, {tokens, absent})
    b.graph.lint()
    return fx.GraphModule(b.root, b.graph).eval()


def _image_first(graph: fx.Graph, changing: set[fx.Node]) -> None:
    """Move what depends on no node of `changing` in front of all that does, but for the inputs."""
    first = None
    for node in list(graph.nodes):
        if changing.intersection(node.all_input_nodes):
            changing.add(node)
            first = first or node
        elif first is not None and node.op != "output":
            first.prepend(node)


def encoder_network(config: SamConfig, state: State) -> fx.GraphModule:
    """The image encoder alone: ``image`` to ``embedding``, as `sam_network`'s."""
    b = _Encoder(state, "image_encoder.")
    b.graph.output((_encoder(b, config, b.graph.placeholder("image")),))
    b.graph.lint()
    return fx.GraphModule(b.root, b.graph).eval()


def _encoder(b: _Encoder, config: SamConfig, image: fx.Node) -> fx.Node:
    grid, heads, dim = config.grid, config.heads, config.dim
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
    return b.norm("embedding", "neck.3", y)


NO_LINEARS = ("patch_embed", "neck_conv1", "neck_conv2", "upscale1_channels", "pixels_channels")
"""The convolutions that are convolutions in segment_anything too."""


def linears(network: fx.GraphModule) -> list[dict[str, float]]:
    """The linear layers of `sam_network`: for each, the convolutions that it was cut into and what each was multiplied by."""
    nodes = {node.name: node for node in network.graph.nodes}
    found: dict[str, dict[str, float]] = {}
    for name, node in nodes.items():
        conv: Any = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or name in NO_LINEARS:
            continue
        layer, _, part = name.rpartition("_")
        encoder, factor = f"{layer}_relative_h" in nodes, 1.0
        if part in ("q", "k") and (part == "k") == encoder:  # 1 / sqrt(d) of attention
            heads = nodes[f"{layer}_relative_h" if encoder else f"{layer}_scores"].args[2]
            factor = (conv.out_channels // int(str(heads))) ** -0.5
        whole = f"{layer}_qkv" if encoder and part in ("q", "k", "v") else name
        found.setdefault(whole, {})[name] = factor
    return list(found.values())
