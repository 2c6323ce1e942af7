"""SAM's image encoder and mask decoder as explicit graphs (``vocabulary``), built from a state dict.

segment_anything is not imported: its forward pass is written here once, in the terms that quantization, ONNX export and
lowering read, and tests hold it to segment_anything's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from hlsgen.models.sam import vocabulary as v
from hlsgen.models.sam.config import EPS, MEAN, STD, SamConfig
from hlsgen.models.sam.named import Named, State

DECODER_EPS = 1e-5
"""LayerNorm's epsilon in the two-way transformer: PyTorch's default."""


_ALL = slice(None)


class Builder(Named):
    """A graph of the vocabulary of tokens being built."""

    def input(self, name: str) -> fx.Node:
        return self.graph.placeholder(name)

    def linear(self, name: str, key: str, x: fx.Node, rows: slice = _ALL, factor: float = 1.0) -> fx.Node:
        """The layer ``key``, or only its output channels ``rows``, its results times ``factor``."""
        weight, bias = (self.weight(f"{key}.{part}")[rows] * factor for part in ("weight", "bias"))
        made = nn.Linear(weight.shape[1], weight.shape[0], device="meta").to_empty(device="cpu")
        made.weight.data, made.bias.data = weight.clone(), bias.clone()
        return self.module(name, made.requires_grad_(False), x)

    def norm(self, name: str, key: str, x: fx.Node, eps: float) -> fx.Node:
        return self.module(name, self._filled(nn.LayerNorm(len(self.weight(f"{key}.weight")), eps), key), x)

    def conv(self, name: str, key: str, x: fx.Node, stride: int = 1, padding: int = 0) -> fx.Node:
        o, i, *kernel = self.weight(f"{key}.weight").shape
        made = nn.Conv2d(i, o, (kernel[0], kernel[1]), stride, padding, device="meta").to_empty(device="cpu")
        return self.module(name, self._filled(made, key), x)

    def upscale(self, name: str, key: str, x: fx.Node) -> fx.Node:
        i, o, *kernel = self.weight(f"{key}.weight").shape
        side = (kernel[0], kernel[1])
        made = nn.ConvTranspose2d(i, o, side, side, device="meta").to_empty(device="cpu")
        return self.module(name, self._filled(made, key), x)

    def _filled(self, module: nn.Module, key: str) -> nn.Module:
        """``module`` with the state's weights; a bias that the state lacks is zero."""
        for name, parameter in module.named_parameters():
            held = self.state.get(f"{self.prefix}{key}.{name}")
            parameter.data = torch.zeros_like(parameter) if held is None else held.detach().float().clone()
        return module.requires_grad_(False)

    def finish(self, *outputs: fx.Node) -> fx.GraphModule:
        self.graph.output(outputs)
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph).eval()


def relative_table(weight: Tensor, side: int) -> Tensor:
    """The learned relative positions [2*side - 1, d] by query and key place: [side, side, d]."""
    places = torch.arange(side)
    return weight[places[:, None] - places[None, :] + side - 1]


def encoder(config: SamConfig, state: State, folded: bool = False) -> fx.GraphModule:
    """The image encoder.

    Args:
        config: the sizes.
        state: the checkpoint's weights.
        folded: the same function for the ``fixed`` scheme: the image's normalization and attention's 1 / sqrt(d) are
            folded into weights, and queries, keys and values come from a layer each, so that each has its own scale.

    Returns:
        ``image`` float32 [1, 3, S, S], normalized and padded (``prompts.preprocess``; folded: levels, 0..255 less 128),
        to one output ``embedding`` float32 [1, embedding, grid, grid].
    """
    b = Builder(state, "image_encoder.")
    grid, heads = config.grid, config.heads
    scale = (config.dim // heads) ** -0.5
    patches = b.conv("patch_embed", "patch_embed.proj", b.input("image"), config.patch)
    if folded:
        _take_levels(b.root.get_submodule("patch_embed"))
    x = b.call("patches", v.to_tokens, patches)
    x = b.call("positioned", torch.add, x, b.constant("pos_embed", b.weight("pos_embed").flatten(1, 2)))
    for i in range(config.depth):
        p, key = f"block{i}", f"blocks.{i}"
        windowed = i not in config.global_blocks
        side = config.window if windowed else grid
        y = b.norm(f"{p}_norm1", f"{key}.norm1", x, EPS)
        if windowed:
            y = b.call(f"{p}_windows", v.partition, y, grid, side)
        if folded:
            q, k, value = (
                b.linear(f"{p}_{part}", f"{key}.attn.qkv", y, slice(n * config.dim, (n + 1) * config.dim), factor)
                for n, (part, factor) in enumerate((("q", scale), ("k", 1.0), ("v", 1.0)))
            )
        else:
            qkv = b.linear(f"{p}_qkv", f"{key}.attn.qkv", y)
            q, k, value = (
                b.call(f"{p}_{part}", v.narrow, qkv, 2, n * config.dim, config.dim) for n, part in enumerate("qkv")
            )
        terms = []
        for axis, letter in enumerate("hw"):
            table = relative_table(b.weight(f"{key}.attn.rel_pos_{letter}"), side)
            held = b.constant(f"{p}_table_{letter}", table / scale if folded else table)
            terms.append(b.call(f"{p}_relative_{letter}", v.relative, q, held, heads, axis))
        s = b.call(f"{p}_scores", v.scores, q, k, heads, 1.0 if folded else scale)
        s = b.call(f"{p}_placed", v.add_relative, s, *terms)
        y = b.linear(f"{p}_proj", f"{key}.attn.proj", b.call(f"{p}_attend", v.attend, s, value))
        if windowed:
            y = b.call(f"{p}_joined", v.unpartition, y, grid, side)
        x = b.call(f"{p}_add1", torch.add, x, y)
        y = b.linear(f"{p}_lin1", f"{key}.mlp.lin1", b.norm(f"{p}_norm2", f"{key}.norm2", x, EPS))
        y = b.linear(f"{p}_lin2", f"{key}.mlp.lin2", b.module(f"{p}_gelu", nn.GELU(), y))
        x = b.call(f"{p}_add2", torch.add, x, y)
    y = b.conv("neck_conv1", "neck.0", b.call("neck_map", v.to_map, x, grid, grid))
    y = b.norm("neck_norm1", "neck.1", b.call("neck_tokens1", v.to_tokens, y), EPS)
    y = b.conv("neck_conv2", "neck.2", b.call("neck_map1", v.to_map, y, grid, grid), padding=1)
    y = b.norm("neck_norm2", "neck.3", b.call("neck_tokens2", v.to_tokens, y), EPS)
    return b.finish(b.call("embedding", v.to_map, y, grid, grid))


def _take_levels(conv: nn.Module) -> None:
    """Change a convolution of normalized images to one of levels less 128, in place."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    conv.weight.data = conv.weight.data / std
    conv.bias.data = conv.bias.data + (conv.weight.data * (128 - mean)).sum((1, 2, 3))


def decoder(config: SamConfig, state: State, folded: bool = False) -> fx.GraphModule:
    """The mask decoder, for one prompt of any number of tokens and no mask prompt.

    Args:
        config: the sizes.
        state: the checkpoint's weights.
        folded: as ``encoder``'s.

    Returns:
        ``embedding`` float32 [1, embedding, grid, grid] and ``prompt`` float32 [1, T, embedding] (``prompts.tokens``)
        to ``masks``, logits float32 [1, 1 + masks, (4*grid)^2], the first for a clear prompt, and ``iou``, predicted,
        float32 [1, 1 + masks].
    """
    from hlsgen.models.sam.prompts import grid_encoding

    b = Builder(state, "mask_decoder.")
    grid, count = config.grid, config.masks + 1
    embedding, prompt = b.input("embedding"), b.input("prompt")
    learned = torch.cat([b.weight("iou_token.weight"), b.weight("mask_tokens.weight")])[None]
    pe = b.call("tokens", torch.cat, [b.constant("learned_tokens", learned), prompt], 1)
    no_mask = state["prompt_encoder.no_mask_embed.weight"].detach().float()[None]
    keys = b.call("image_tokens", v.to_tokens, embedding)
    keys = b.call("image_dense", torch.add, keys, b.constant("no_mask", no_mask))
    position = b.constant("image_position", grid_encoding(config, state))
    queries = pe

    def attention(p: str, key: str, q: fx.Node, k: fx.Node, value: fx.Node) -> fx.Node:
        scale = (len(b.weight(f"{key}.q_proj.weight")) // config.decoder_heads) ** -0.5
        at_query, at_scores = (scale, 1.0) if folded else (1.0, scale)
        each = (("q", q, at_query), ("k", k, 1.0), ("v", value, 1.0))
        parts = [b.linear(f"{p}_{n}", f"{key}.{n}_proj", x, factor=factor) for n, x, factor in each]
        s = b.call(f"{p}_scores", v.scores, *parts[:2], config.decoder_heads, at_scores)
        return b.linear(f"{p}_out", f"{key}.out_proj", b.call(f"{p}_attend", v.attend, s, parts[2]))

    def norm(name: str, key: str, x: fx.Node) -> fx.Node:
        return b.norm(name, key, x, DECODER_EPS)

    for i in range(config.decoder_depth):
        p, key = f"layer{i}", f"transformer.layers.{i}"
        if i == 0:
            queries = attention(f"{p}_self", f"{key}.self_attn", queries, queries, queries)
        else:
            q = b.call(f"{p}_self_query", torch.add, queries, pe)
            y = attention(f"{p}_self", f"{key}.self_attn", q, q, queries)
            queries = b.call(f"{p}_self_add", torch.add, queries, y)
        queries = norm(f"{p}_norm1", f"{key}.norm1", queries)
        q, k = b.call(f"{p}_query1", torch.add, queries, pe), b.call(f"{p}_key1", torch.add, keys, position)
        y = attention(f"{p}_look", f"{key}.cross_attn_token_to_image", q, k, keys)
        queries = norm(f"{p}_norm2", f"{key}.norm2", b.call(f"{p}_look_add", torch.add, queries, y))
        y = b.module(f"{p}_relu", nn.ReLU(), b.linear(f"{p}_lin1", f"{key}.mlp.lin1", queries))
        y = b.call(f"{p}_mlp_add", torch.add, queries, b.linear(f"{p}_lin2", f"{key}.mlp.lin2", y))
        queries = norm(f"{p}_norm3", f"{key}.norm3", y)
        q = b.call(f"{p}_query2", torch.add, queries, pe)
        y = attention(f"{p}_tell", f"{key}.cross_attn_image_to_token", k, q, queries)
        keys = norm(f"{p}_norm4", f"{key}.norm4", b.call(f"{p}_tell_add", torch.add, keys, y))
    q, k = b.call("final_query", torch.add, queries, pe), b.call("final_key", torch.add, keys, position)
    y = attention("final", "transformer.final_attn_token_to_image", q, k, keys)
    queries = norm("final_norm", "transformer.norm_final_attn", b.call("final_add", torch.add, queries, y))

    x = b.upscale("upscale1", "output_upscaling.0", b.call("upscale_map", v.to_map, keys, grid, grid))
    x = b.norm("upscale_norm", "output_upscaling.1", b.call("upscale_tokens", v.to_tokens, x), EPS)
    x = b.call("upscale_map1", v.to_map, b.module("upscale_gelu1", nn.GELU(), x), 2 * grid, 2 * grid)
    x = b.upscale("upscale2", "output_upscaling.3", x)
    pixels = b.call("pixels", v.to_tokens, b.module("upscale_gelu2", nn.GELU(), x))

    def mlp(p: str, key: str, x: fx.Node, layers: int) -> fx.Node:
        for n in range(layers):
            x = b.linear(f"{p}_lin{n}", f"{key}.layers.{n}", x)
            if n < layers - 1:
                x = b.module(f"{p}_relu{n}", nn.ReLU(), x)
        return x

    kernels = []
    for i in range(count):
        token = b.call(f"mask{i}_token", v.narrow, queries, 1, i + 1, 1)
        kernels.append(mlp(f"mask{i}", f"output_hypernetworks_mlps.{i}", token, 3))
    stacked = b.call("kernels", torch.cat, kernels, 1)
    masks = b.call("masks", v.scores, stacked, pixels, 1, 1.0)
    token = b.call("iou_token", v.narrow, queries, 1, 0, 1)
    return b.finish(masks, mlp("iou", "iou_prediction_head", token, config.iou_depth))


def macs(network: fx.GraphModule, *inputs: Tensor) -> dict[str, int]:
    """Multiply-accumulates by node name, of the products that a pass over ``inputs`` computes.

    Args:
        network: ``encoder`` or ``decoder``.
        inputs: its inputs.
    """
    counted: dict[str, int] = {}

    class Count(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            out = super().run_node(n)
            args, _ = self.fetch_args_kwargs_from_env(n)
            if n.op == "call_module":
                module = network.get_submodule(str(n.target))
                if isinstance(module, nn.Linear | nn.Conv2d):
                    counted[n.name] = out.numel() * module.weight[0].numel()
                elif isinstance(module, nn.ConvTranspose2d):
                    counted[n.name] = out.numel() * module.in_channels
            elif n.target is v.scores:
                counted[n.name] = out.numel() * args[0].shape[2] // args[2]
            elif n.target is v.relative:
                counted[n.name] = out.numel() * args[1].shape[2]
            elif n.target is v.attend:
                counted[n.name] = out.numel() * args[1].shape[1]
            return out

    with torch.no_grad():
        Count(network).run(*inputs)
    return counted
