"""SAM's mask decoder in the network's vocabulary, behind the image encoder of the same network: what the engine builds.

The same function as `hlsgen.models.sam.graph.decoder`, to which tests hold it, for prompts of up to PROMPT_TOKENS tokens
(`config`). Tokens are a map [C, 1, N]: the learned ones (IoU, masks), then the prompt's, then its last one again until the map is
full. Attention to tokens sees each once: every query is joined by PRESENT, every key that only fills up by its opposite, so that
softmax gives it nothing. The hypernetworks are groups of one, and each mask is the scores of one head of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, fx, nn

from hlsgen.models.attention import attend, attention_scores, cropped, depth_to_space, transposed
from hlsgen.models.sam.builder import Builder
from hlsgen.models.sam.config import EPS, SamConfig
from hlsgen.models.sam.graph import DECODER_EPS
from hlsgen.models.sam.prompts import grid_encoding

PRESENT = 3.875
"""The constant that joins a query, and its opposite, which joins the key of a token that is absent: of the size of queries and
keys, whose scales they share. A score loses its square, 15, so that the weight is 3e-7 of the token's that fills up."""


def decoder(
    b: Builder, config: SamConfig, embedding: fx.Node, tokens: fx.Node, absent: fx.Node, apart: bool = False
) -> tuple[fx.Node, fx.Node]:
    """The mask decoder.

    Args:
        b: the builder of the network, its prefix the decoder's.
        config: the sizes.
        embedding: [1, embedding, grid, grid].
        tokens: [1, embedding, 1, N], learned tokens, prompt, filling.
        absent: [1, 1, 1, N], 0 for what is there and -PRESENT for what only fills.
        apart: the hypernetworks as networks of their own, so that each has ranges of its own.

    Returns:
        masks, logits [1, 1 + masks, 4 * grid, 4 * grid], the first for a clear prompt, and iou, predicted, [1, 1 + masks, 1, 1].
    """
    grid, heads, count = config.grid, config.decoder_heads, config.masks + 1
    dense = b.state["prompt_encoder.no_mask_embed.weight"].detach().float().reshape(1, -1, 1, 1)
    position = grid_encoding(config, b.state).transpose(1, 2).reshape(1, -1, grid, grid)
    keys = b.call("image_dense", torch.add, embedding, b.constant("no_mask", dense.expand(-1, -1, grid, grid)))
    place = b.constant("image_position", position)
    full = {"tokens": b.constant("present_tokens", torch.full((1, 1, 1, config.tokens), PRESENT))}
    full["image"] = b.constant("present_image", torch.full((1, 1, grid, grid), PRESENT))

    def attention(p: str, key: str, q: fx.Node, k: fx.Node, v: fx.Node, of: str = "") -> fx.Node:
        """of: what the queries are, where the keys are tokens."""
        d = len(b.weight(f"{key}.q_proj.weight")) // heads
        parts = [
            b.linear(f"{p}_{n}", f"{key}.{n}_proj", x, factor=factor)
            for n, x, factor in (("q", q, d**-0.5), ("k", k, 1.0), ("v", v, 1.0))
        ]
        for i, more in enumerate((full[of], absent) if of else ()):
            name = f"{p}_{'qk'[i]}"
            joined = [x for part in b.parts(name, parts[i], heads, d) for x in (part, more)]
            parts[i] = b.call(f"{name}_present", torch.cat, joined, 1)
        s = b.call(f"{p}_scores", attention_scores, parts[0], parts[1], heads)
        return b.linear(f"{p}_out", f"{key}.out_proj", b.call(f"{p}_attend", attend, s, parts[2], heads))

    def norm(name: str, key: str, x: fx.Node) -> fx.Node:
        return b.norm(name, key, x, DECODER_EPS)

    queries = tokens
    for i in range(config.decoder_depth):
        p, key = f"layer{i}", f"transformer.layers.{i}"
        q = queries if i == 0 else b.call(f"{p}_self_query", torch.add, queries, tokens)
        y = attention(f"{p}_self", f"{key}.self_attn", q, q, queries, "tokens")
        queries = norm(f"{p}_norm1", f"{key}.norm1", y if i == 0 else b.call(f"{p}_self_add", torch.add, queries, y))
        q, k = b.call(f"{p}_query1", torch.add, queries, tokens), b.call(f"{p}_key1", torch.add, keys, place)
        y = attention(f"{p}_look", f"{key}.cross_attn_token_to_image", q, k, keys)
        queries = norm(f"{p}_norm2", f"{key}.norm2", b.call(f"{p}_look_add", torch.add, queries, y))
        y = b.module(f"{p}_relu", nn.ReLU(), b.linear(f"{p}_lin1", f"{key}.mlp.lin1", queries))
        y = b.call(f"{p}_mlp_add", torch.add, queries, b.linear(f"{p}_lin2", f"{key}.mlp.lin2", y))
        queries = norm(f"{p}_norm3", f"{key}.norm3", y)
        q = b.call(f"{p}_query2", torch.add, queries, tokens)
        y = attention(f"{p}_tell", f"{key}.cross_attn_image_to_token", k, q, queries, "image")
        keys = norm(f"{p}_norm4", f"{key}.norm4", b.call(f"{p}_tell_add", torch.add, keys, y))
    q, k = b.call("final_query", torch.add, queries, tokens), b.call("final_key", torch.add, keys, place)
    y = attention("final", "transformer.final_attn_token_to_image", q, k, keys)
    queries = norm("final_norm", "transformer.norm_final_attn", b.call("final_add", torch.add, queries, y))

    def upscaled(name: str, key: str, x: fx.Node, finish: Callable[[fx.Node], fx.Node]) -> fx.Node:
        i, o, *kernel = b.weight(f"{key}.weight").shape
        given = nn.ConvTranspose2d(i, o, kernel[0], kernel[0])
        given.weight.data, given.bias.data = b.weight(f"{key}.weight"), b.weight(f"{key}.bias")  # type: ignore[union-attr]
        made = finish(b.module(f"{name}_channels", transposed(given), x))
        return b.call(name, depth_to_space, made, kernel[0])

    x = upscaled("upscale1", "output_upscaling.0", keys, lambda y: y)
    x = b.module("upscale_gelu1", nn.GELU(), b.norm("upscale_norm", "output_upscaling.1", x, EPS))
    pixels = upscaled("pixels", "output_upscaling.3", x, lambda y: b.module("upscale_gelu2", nn.GELU(), y))

    def mlp(
        p: str, layers: int, x: fx.Node, weights: Callable[[int], tuple[Tensor, Tensor]], groups: int = 1
    ) -> fx.Node:
        for n in range(layers):
            last = n == layers - 1
            x = b.conv(p if last else f"{p}_lin{n}", *weights(n), x, groups=groups)
            x = x if last else b.module(f"{p}_relu{n}", nn.ReLU(), x)
        return x

    def of_one(i: int, n: int) -> tuple[Tensor, Tensor]:
        """Hypernetwork i's layer n."""
        key = f"output_hypernetworks_mlps.{i}.layers.{n}"
        return b.weight(f"{key}.weight")[:, :, None, None], b.weight(f"{key}.bias")

    def of_all(n: int) -> tuple[Tensor, Tensor]:
        """The hypernetworks' layers n, as groups of one convolution."""
        weights, biases = zip(*(of_one(i, n) for i in range(count)), strict=True)
        return torch.cat(weights), torch.cat(biases)

    def of_iou(n: int) -> tuple[Tensor, Tensor]:
        key = f"iou_prediction_head.layers.{n}"
        return b.weight(f"{key}.weight")[:, :, None, None], b.weight(f"{key}.bias")

    names = ["iou_token", *(f"mask{i}_token" for i in range(count))]
    iou, *masks = (b.call(name, cropped, queries, 1, 1, 0, i) for i, name in enumerate(names))
    if apart:
        each = [mlp(f"kernel{i}", 3, mask, partial(of_one, i)) for i, mask in enumerate(masks)]
        kernels = b.call("kernels", torch.cat, each, 1)
    else:
        kernels = mlp("kernels", 3, b.call("mask_tokens", torch.cat, masks, 1), of_all, count)
    everywhere = b.call("pixels_each", torch.cat, [pixels] * count, 1)
    return b.call("masks", attention_scores, everywhere, kernels, count), mlp("iou", config.iou_depth, iou, of_iou)
