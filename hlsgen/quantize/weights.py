"""A convolution's integers: int8 weights with a scale a channel, int32 bias."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hlsgen.errors import HlsgenError
from hlsgen.quantize.calibrate import Floats
from hlsgen.quantize.grid import NEAR, off, steps
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.rounding import adaround, compensated, nearest
from hlsgen.quantize.spec import ConvQ, Scheme, TensorQ

LARGEST_BIAS = 2.0**30
LARGEST_SHIFT = 31
LARGEST_RATIO = 2.0**16  # of an accumulator's scale to the output's, `affine`
SHRINKS = np.linspace(0.52, 1.0, 13)
POWERS = 3


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a convolution's weights meet, over sampled receptive fields.

    moments: [groups, D, D], D = I/groups * KH * KW, the covariance of x; mean: [groups, D].
    """

    moments: torch.Tensor
    mean: torch.Tensor


def quantize_weights(
    name: str, conv: nn.Conv2d, x: TensorQ, out: TensorQ, seen: Inputs, scheme: Scheme, recipe: Recipe
) -> ConvQ:
    """Quantize the convolution at node `name`, whose input is quantized by `x` and whose output by `out`.

    The scale of each channel minimizes the output's mean squared error over the calibration inputs, e^T M e with e the
    weights' error and M the inputs' moments; then the integers are rounded as the recipe says. The bias absorbs the mean of
    what is left.
    """
    weight = conv.weight.detach().double()
    flat = weight.reshape(conv.groups, weight.shape[0] // conv.groups, -1)  # [G, O/G, D]
    bias = np.zeros(weight.shape[0]) if conv.bias is None else conv.bias.detach().double().numpy()
    if not (bool(torch.isfinite(weight).all()) and np.isfinite(bias).all()):
        raise HlsgenError(f"expected finite weights, got NaN or infinity at {name}; the checkpoint is damaged")
    bits = recipe.bits_of(name)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    lowest, highest = _bounds(bias, x, out, scheme)
    best_error = torch.full(flat.shape[:2], np.inf, dtype=torch.float64)
    best_scale = torch.zeros(flat.shape[:2], dtype=torch.float64)
    moments = seen.moments  # float32: the cost only ranks candidates
    unit = out.scale / x.scale
    for candidate in scale_candidates(flat, scheme, bits, unit):
        scale = _limited(candidate, lowest, highest, scheme, unit).reshape(flat.shape[:2])
        error = flat - nearest(flat, scale, low, high) * scale[..., None]
        cost = ((error.float() @ moments) * error).sum(-1)
        better = cost < best_error
        best_error, best_scale = torch.where(better, cost, best_error), torch.where(better, scale, best_scale)
    if recipe.rounding == "nearest":
        integers = nearest(flat, best_scale, low, high)
    else:
        method = compensated if recipe.rounding == "compensated" else adaround
        integers = method(flat, best_scale, moments, low, high)
    if recipe.correct_bias:
        error = flat - integers * best_scale[..., None]
        bias = bias + (error @ seen.mean.double()[..., None])[..., 0].reshape(-1).numpy()
    scales = best_scale.reshape(-1).numpy()
    return ConvQ(
        integers.reshape(weight.shape).to(torch.int8).numpy(),
        scales,
        np.rint(bias / (x.scale * scales)).astype(np.int32),
    )


def largest_weight_scale(conv: nn.Module | None, scheme: Scheme, bits: int, unit: float = 1.0) -> float:
    """The coarsest scale that `quantize_weights` would choose for a channel if nothing held it."""
    assert isinstance(conv, nn.Conv2d)
    flat = conv.weight.detach().double().reshape(conv.weight.shape[0], -1)
    return float(np.max(scale_candidates(flat, scheme, bits, unit)))


def scale_candidates(flat: torch.Tensor, scheme: Scheme, bits: int, unit: float = 1.0) -> list[Floats]:
    """Scales to try, each [O]; in `fixed`, `unit` times powers of two: the output's scale over the input's."""
    largest = flat.abs().amax(-1).reshape(-1).numpy() / ((1 << (bits - 1)) - 1)
    largest = np.where(largest > 0, largest, 1e-30)
    if scheme == "fixed":
        top = _upwards(largest, unit)
        return [top * 2.0**-k for k in range(POWERS)]
    tried = [largest * s for s in SHRINKS]
    step = steps(flat.reshape(len(largest), -1), (1 << (bits - 1)) - 1).numpy()
    return [*tried, np.where(step > 0, step, largest)] if step.any() else tried


def exact(conv: nn.Conv2d, x: TensorQ, out: TensorQ, scheme: Scheme, bits: int) -> torch.Tensor:
    """Which channels' weights are, or nearly, integers of so many bits times one of the scales that `quantize_weights` tries, bool
    [O]."""
    flat = conv.weight.detach().double().flatten(1)
    bias = np.zeros(len(flat)) if conv.bias is None else conv.bias.detach().double().numpy()
    lowest, highest = _bounds(bias, x, out, scheme)
    unit, most = out.scale / x.scale, (1 << (bits - 1)) - 1
    found = torch.zeros(len(flat), dtype=torch.bool)
    for candidate in scale_candidates(flat, scheme, bits, unit):
        scale = _limited(candidate, lowest, highest, scheme, unit)
        found |= (off(flat, scale) < NEAR) & (flat.abs().amax(-1) <= scale * (most + 0.5))
    return found


def _bounds(bias: Floats, x: TensorQ, out: TensorQ, scheme: Scheme) -> tuple[Floats, Floats]:
    """Between what a channel's scale must be for its bias and its requantization to be in range."""
    fits_bias = np.abs(bias) / (LARGEST_BIAS * x.scale)
    if scheme == "fixed":
        return np.maximum(fits_bias, out.scale / x.scale * 2.0**-LARGEST_SHIFT), np.full_like(bias, out.scale / x.scale)
    return np.maximum(fits_bias, out.scale / x.scale * 2.0**-LARGEST_SHIFT), np.full_like(
        bias, out.scale / x.scale * LARGEST_RATIO
    )


def _upwards(value: Floats, unit: float) -> Floats:
    """The next larger of `unit` times powers of two."""
    return np.asarray(unit * np.exp2(np.ceil(np.log2(value / unit))), np.float64)


def _limited(scale: Floats, lowest: Floats, highest: Floats, scheme: Scheme, unit: float) -> torch.Tensor:
    if scheme == "fixed":
        lowest = _upwards(lowest, unit)
    # Affine scales are float32 values, as ONNX and PyTorch hold them; powers of two are so anyway.
    return torch.from_numpy(np.clip(scale, lowest, highest).astype(np.float32).astype(np.float64))
