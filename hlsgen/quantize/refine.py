"""Weights refitted to the inputs that they will really meet.

Convolution by convolution, in the network's order: the quantized network so far computes the inputs x' that this
convolution will get, the float network the outputs y that it should give. Its weights move to the ridge solution of
least squares, argmin |y - w x'|^2 + lambda |w - w0|^2, and only then are they rounded; the bias takes up what is left of
the mean. So each layer makes up for the layers before it (layer-wise reconstruction: Nagel et al., 2020, section 3).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.quantize.calibrate import Inputs, receptive_fields
from hlsgen.quantize.integer import operation, quantize_image
from hlsgen.quantize.spec import ConvQ, QuantSpec
from hlsgen.quantize.structure import module_of
from hlsgen.quantize.weights import quantize_weights

FIELDS = 4096  # receptive fields that a convolution is fitted on
RIDGE = 3.0  # lambda, in units of the inputs' mean square
IMAGES = 8  # as many of the calibration images are used


@torch.no_grad()
def refined(network: fx.GraphModule, spec: QuantSpec, images: Sequence[npt.NDArray[np.float32]]) -> QuantSpec:
    """`spec` with its convolutions refitted on `images` ([C, H, W], float32, all of one shape); scales of tensors stay."""
    convs: dict[str, ConvQ] = dict(spec.convs)
    current = replace(spec, convs=convs)
    generator = torch.Generator().manual_seed(0)
    last = {source: node for node in network.graph.nodes for source in node.all_input_nodes}
    wanted: dict[fx.Node, Any] = {}  # the float network's values
    got: dict[fx.Node, Any] = {}  # the quantized network's integers
    for node in network.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            wanted[node] = torch.from_numpy(np.stack(images))
            got[node] = quantize_image(wanted[node], spec.tensors[node.name])
            continue
        module = module_of(network, node)
        arguments = [fx.map_arg(node.args, values.__getitem__) for values in (wanted, got)]
        function: Any = module if module is not None else node.target
        wanted[node] = function(*arguments[0], **node.kwargs)
        if isinstance(module, nn.Conv2d):
            x = spec.tensors[node.all_input_nodes[0].name]
            inputs = (arguments[1][0] - x.zero_point) * x.scale
            fitted, seen = _fitted(module, inputs, wanted[node], generator)
            convs[node.name] = quantize_weights(node.name, fitted, x, spec.tensors[node.name], seen, spec.scheme)
        got[node] = operation(network, node, current)(*arguments[1], **node.kwargs)
        for source in node.all_input_nodes:
            if last[source] is node:
                del wanted[source], got[source]
    return current


def _fitted(conv: nn.Conv2d, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[nn.Conv2d, Inputs]:
    """The convolution refitted to take x [N, C, H, W] to y [N, O, H', W'], and what its weights meet."""
    positions = torch.randperm(y.shape[0] * y.shape[2] * y.shape[3], generator=generator)[:FIELDS]
    fields = receptive_fields(conv, x, y.shape[-2:], positions)  # [samples, G, D]
    outputs = y.permute(0, 2, 3, 1).reshape(-1, conv.groups, y.shape[1] // conv.groups)[
        positions
    ]  # [samples, G, O / G]
    n = len(fields)
    mean, mean_out = fields.mean(0), outputs.mean(0)
    centred, wished = (fields - mean).transpose(0, 1), (outputs - mean_out).transpose(0, 1)
    covariance = centred.transpose(1, 2) @ centred / n  # [G, D, D]
    weight = conv.weight.reshape(conv.groups, -1, fields.shape[-1])  # [G, O / G, D]
    left = wished - centred @ weight.transpose(1, 2)
    power = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-20)
    ridge = covariance + torch.eye(fields.shape[-1]) * (RIDGE * power)[:, None, None]
    weight = weight + torch.linalg.solve(ridge, centred.transpose(1, 2) @ left / n).transpose(1, 2)
    bias = mean_out - (weight @ mean[..., None])[..., 0]
    fitted = copy.deepcopy(conv)
    fitted.weight = nn.Parameter(weight.reshape(conv.weight.shape), requires_grad=False)
    fitted.bias = nn.Parameter(bias.reshape(-1), requires_grad=False)
    return fitted, Inputs(covariance, mean, n)
