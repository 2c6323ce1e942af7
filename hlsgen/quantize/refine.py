"""Weights refitted to the inputs that they will really meet.

Convolution by convolution, in the network's order: the quantized network so far computes the inputs x' that this
convolution will get, the float network the outputs y that it should give. Its weights move to the ridge solution of
least squares, argmin |y - w x'|^2 + lambda |w - w0|^2, and only then are they rounded; the bias takes up what is left of
the mean. So each layer makes up for the layers before it (layer-wise reconstruction: Nagel et al., 2020, section 3).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from hlsgen.models.network import constant_of
from hlsgen.quantize.integer import operation, quantize_image
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.spec import ConvQ, QuantSpec, Scheme, TensorQ
from hlsgen.quantize.structure import module_of
from hlsgen.quantize.weights import Inputs, exact, quantize_weights

FIELDS = 4096  # receptive fields that a convolution is fitted on, drawn evenly;
WEIGHED = 16384  # where relevance is known, so many,
RELEVANT = 0.9  # of them by what their outputs matter, the others evenly
RIDGE = 3.0  # lambda, in units of the inputs' mean square
IMAGES = 16  # as many of the calibration images are used, fewer where maps are large:
LARGEST_BATCH = 1 << 25  # elements of the largest map over all images, for the memory's sake


@torch.no_grad()
def refitted(
    network: fx.GraphModule,
    scheme: Scheme,
    tensors: Mapping[str, TensorQ],
    images: Sequence[tuple[npt.NDArray[np.float32], ...]],
    recipe: Recipe,
    step: Callable[[], None] | None = None,
    relevant: Mapping[str, Sequence[Tensor]] | None = None,
) -> QuantSpec:
    """The spec of `tensors`' scales, its convolutions fitted on `images` (of each its inputs, [C, H, W], float32, all of one
    shape).

    relevant: by convolution and image, how much each position's output matters, [OH, OW] (none: all alike).
    step: told after each convolution.
    """
    convs: dict[str, ConvQ] = {}
    spec = QuantSpec(scheme, tensors, convs)
    generator = torch.Generator().manual_seed(recipe.seed)
    last = {source: node for node in network.graph.nodes for source in node.all_input_nodes}
    wanted: dict[fx.Node, Any] = {}  # the float network's values
    got: dict[fx.Node, Any] = {}  # the quantized network's integers
    given = iter(zip(*images, strict=True))
    for node in network.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            wanted[node] = torch.from_numpy(np.stack(next(given)))
            got[node] = quantize_image(wanted[node], spec.tensors[node.name])
            continue
        if node.op == "get_attr":
            of_all = (len(images), -1, -1, -1)
            wanted[node] = constant_of(network, node).expand(of_all)
            got[node] = operation(network, node, spec)().expand(of_all)
            continue
        module = module_of(network, node)
        arguments = [fx.map_arg(node.args, values.__getitem__) for values in (wanted, got)]
        function: Any = module if module is not None else node.target
        wanted[node] = function(*arguments[0], **node.kwargs)
        if isinstance(module, nn.Conv2d):
            x = spec.tensors[node.all_input_nodes[0].name]
            inputs = (arguments[1][0] - x.zero_point) * x.scale
            matters = relevant.get(node.name, ()) if relevant else ()
            kept = exact(module, x, tensors[node.name], scheme, recipe.bits_of(node.name))
            moved, seen = fitted(module, inputs, wanted[node], generator, recipe.refit, matters, kept)
            convs[node.name] = quantize_weights(node.name, moved, x, tensors[node.name], seen, scheme, recipe)
            if step is not None:
                step()
        got[node] = operation(network, node, spec)(*arguments[1], **node.kwargs)
        for source in node.all_input_nodes:
            if last[source] is node:
                del wanted[source], got[source]
    return spec


def fitted(
    conv: nn.Conv2d,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    refit: bool,
    relevant: Sequence[Tensor] = (),
    kept: Tensor | None = None,
) -> tuple[nn.Conv2d, Inputs]:
    """The convolution refitted to take x [N, C, H, W] to y [N, O, H', W'], or as it is, and what its weights meet.

    relevant: how much each position of y matters, [H', W'] for each of the N images; none: all alike. kept: the channels, bool [O],
    that stay as they are; their biases too, for where weights cannot follow, the mean where it matters is not to be had for the
    mean of all the rest.
    """
    positions = _drawn(y.shape[0] * y.shape[2] * y.shape[3], relevant[: y.shape[0]], generator)
    fields = receptive_fields(conv, x, y.shape[-2:], positions)  # [samples, G, D]
    outputs = y.permute(0, 2, 3, 1).reshape(-1, conv.groups, y.shape[1] // conv.groups)[
        positions
    ]  # [samples, G, O / G]
    n = len(fields)
    mean, mean_out = fields.mean(0), outputs.mean(0)
    centred, wished = (fields - mean).transpose(0, 1), (outputs - mean_out).transpose(0, 1)
    covariance = centred.transpose(1, 2) @ centred / n  # [G, D, D]
    if not refit:
        return conv, Inputs(covariance, mean)
    weight = conv.weight.reshape(conv.groups, -1, fields.shape[-1])  # [G, O / G, D]
    left = wished - centred @ weight.transpose(1, 2)
    power = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-20)
    ridge = covariance + torch.eye(fields.shape[-1]) * (RIDGE * power)[:, None, None]
    weight = weight + solved(ridge, centred.transpose(1, 2) @ left / n).transpose(1, 2)
    bias = mean_out - (weight @ mean[..., None])[..., 0]
    if kept is not None:
        own = kept.reshape(conv.groups, -1)
        weight = torch.where(own[..., None], conv.weight.reshape(weight.shape), weight)
        bias = torch.where(own, torch.zeros(()) if conv.bias is None else conv.bias.reshape(bias.shape), bias)
    moved = copy.deepcopy(conv)
    moved.weight = nn.Parameter(weight.reshape(conv.weight.shape), requires_grad=False)
    moved.bias = nn.Parameter(bias.reshape(-1), requires_grad=False)
    return moved, Inputs(covariance, mean)


def solved(a: Tensor, b: Tensor) -> Tensor:
    """x of a x = b for a [G, D, D] and b [G, D, O], float32.

    Group by group: given several at once, PyTorch's LU runs them in several threads in which oneMKL may fail ("Parameter 6 was
    incorrect on entry to SLASWP") or never come back.
    """
    return torch.stack([torch.linalg.solve(one, wanted) for one, wanted in zip(a, b, strict=True)])


def _drawn(count: int, relevant: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Some of `count` positions, most of them by relevance, again and again where it is high: weighted least squares.

    Of a small map every position is there once, and the drawn ones besides.
    """
    evenly = torch.randperm(count, generator=generator)
    if not relevant:
        return evenly[:FIELDS]
    cumulated = torch.cat([r.reshape(-1) for r in relevant]).double().cumsum(0)
    if not 0 < float(cumulated[-1]) < float("inf"):
        return evenly[:FIELDS]
    drawn = torch.rand(int(min(count, WEIGHED) * RELEVANT), generator=generator, dtype=torch.float64) * cumulated[-1]
    return torch.cat([torch.searchsorted(cumulated, drawn).clamp(max=count - 1), evenly[: WEIGHED - len(drawn)]])


def receptive_fields(conv: nn.Conv2d, x: Tensor, size: Sequence[int], positions: Tensor) -> Tensor:
    """What the outputs at `positions` (image * rows * columns + row * columns + column) see: [positions, groups, D].

    x: [N, C, H, W]; size: the output's rows and columns. D = C / groups * KH * KW.
    """
    (kh, kw), (sh, sw) = conv.kernel_size, conv.stride
    ph, pw = (int(p) for p in conv.padding)
    padded = F.pad(x, (pw, pw, ph, ph))
    rows, columns = size
    image, place = positions // (rows * columns), positions % (rows * columns)
    r = ((place // columns) * sh)[:, None, None] + torch.arange(kh)[:, None]
    c = ((place % columns) * sw)[:, None, None] + torch.arange(kw)
    fields = padded[image[:, None, None], :, r, c]  # [positions, KH, KW, C]
    return fields.permute(0, 3, 1, 2).reshape(len(positions), conv.groups, -1)
