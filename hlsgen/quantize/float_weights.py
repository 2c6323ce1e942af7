"""Weights as floats of few bits, fitted to the rounded inputs that they will meet: `hlsgen.quantize.refine` for `minifloat`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.quantize.executables import Rounded
from hlsgen.quantize.minifloat import Minifloat
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.refine import fitted
from hlsgen.quantize.rounding import compensated_on
from hlsgen.quantize.structure import module_of

SCALES = [2.0 ** (k / 4) for k in range(-2, 3)]
"""Of the scale that takes a channel's largest weight to the format's largest number: a float's grid repeats at every power of
two, and between two of them its steps lie elsewhere."""


@torch.no_grad()
def fitted_floats(
    network: fx.GraphModule,
    form: Minifloat,
    forms: Mapping[str, Minifloat],
    rounded: Mapping[str, Rounded],
    images: Sequence[npt.NDArray[np.float32]],
    recipe: Recipe,
    progress: Callable[[int, int], None],
    relevant: Mapping[str, Sequence[Tensor]] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """By convolution's node, its weight and bias, float32, the weight in numbers of `form` times a scale a channel.

    forms: by convolution's node, of those whose weights have another format. rounded: how each tensor is rounded; images:
    float32 [C, H, W], all of one shape.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    last = {source: node for node in network.graph.nodes for source in node.all_input_nodes}
    total = sum(isinstance(module_of(network, n), nn.Conv2d) for n in network.graph.nodes)
    values: list[dict[fx.Node, Any]] = [{}, {}]  # the float network's, the rounded one's
    weights: dict[str, tuple[Tensor, Tensor]] = {}
    for node in network.graph.nodes:
        if node.op == "output":
            break
        module = module_of(network, node)
        if node.op == "placeholder":
            results: list[Any] = [torch.from_numpy(np.stack(images))] * 2
        else:
            function: Any = module if module is not None else node.target
            given = [fx.map_arg(node.args, held.__getitem__) for held in values]
            results = [function(*given[0], **node.kwargs)]
            if isinstance(module, nn.Conv2d):
                weight, bias = _rounded_weights(
                    module,
                    forms.get(node.name, form),
                    given[1][0],
                    results[0],
                    generator,
                    recipe,
                    relevant.get(node.name, ()) if relevant else (),
                )
                weights[node.name] = weight, bias
                conv = nn.functional.conv2d(
                    given[1][0],
                    weight,
                    bias,
                    module.stride,
                    module.padding,
                    module.dilation,
                    module.groups,
                )
                results.append(conv)
                progress(len(weights), total)
            else:
                results.append(function(*given[1], **node.kwargs))
        if node.name in rounded:
            results[1] = rounded[node.name](results[1])
        for held, result in zip(values, results, strict=True):
            held[node] = result
            for source in node.all_input_nodes:
                if last[source] is node:
                    del held[source]
    return weights


def _rounded_weights(
    conv: nn.Conv2d,
    form: Minifloat,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    recipe: Recipe,
    relevant: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Weight and bias for the inputs x [N, C, H, W] and the wished outputs y."""
    moved, seen = fitted(conv, x, y, generator, recipe.refit, relevant)
    flat = moved.weight.reshape(conv.groups, conv.out_channels // conv.groups, -1)  # [G, O / G, D]
    largest = (flat.abs().amax(-1) / form.largest).clamp(min=1e-30)
    best, scales = torch.full(flat.shape[:2], np.inf), largest
    for factor in SCALES:
        candidate = largest * factor
        error = flat - form.round(flat / candidate[..., None]) * candidate[..., None]
        cost = ((error @ seen.moments) * error).sum(-1)
        best, scales = torch.minimum(cost, best), torch.where(cost < best, candidate, scales)
    if recipe.rounding == "nearest":
        codes = form.round(flat / scales[..., None])
    else:
        codes = compensated_on(form.round, flat, scales, seen.moments).float()
    result = codes * scales[..., None]
    bias = moved.bias if moved.bias is not None else torch.zeros(conv.out_channels)
    if recipe.correct_bias:
        bias = bias + ((flat - result) @ seen.mean[..., None])[..., 0].reshape(-1)
    return result.reshape(conv.weight.shape), bias.detach()
