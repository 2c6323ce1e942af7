"""Weights that lie on a grid already, because the network was trained or stored in few bits: the grid that they lie on.

A checkpoint of integers is, in float, a step times whole numbers; one of halves behind a folded batch normalization is a factor
times numbers of eleven significant bits. With the step as scale, or the factor set aside, such weights are exact where any other
choice would round them a second time.
"""

import torch
from torch import Tensor

NEAR = 0.02
"""Of a step, root mean square, that weights on a grid may be off it: half precision moves 255 steps by 0.06 at most and most
weights by far less; weights off any grid are off by 0.29."""

PROBED = 16  # of a row's weights, from the largest to the smallest, on which factors are tried
CLOSE = 2.0**-21  # relative: two roundings to float32, and some


def steps(weights: Tensor, most: int) -> Tensor:
    """The step of each row of `weights` [..., D], float64 [...]: 0 where they lie on no grid with at most `most` steps to the
    farthest weight."""
    largest = weights.abs().amax(-1)
    found, least = torch.zeros_like(largest), torch.full_like(largest, NEAR)
    for count in range(most // 2 + 1, most + 1):  # of fewer steps, halves of them do as well
        step = largest / count
        error = off(weights, step)
        found, least = torch.where(error < least, step, found), torch.minimum(error, least)
    return found


def off(weights: Tensor, step: Tensor) -> Tensor:
    """How far the rows of `weights` [..., D] are off multiples of their steps [...]: root mean square, in steps."""
    ratio = weights / step[..., None]
    return (ratio - torch.round(ratio)).square().mean(-1).sqrt()


def factors(weights: Tensor, mantissa: int) -> Tensor:
    """For each row of `weights` [O, D] the factor, float64 [O], that makes it of numbers with so many bits of mantissa, the
    largest between 1 and 2: 1 where there is none, or none is needed.
    """
    rows = weights.double()
    ordered = rows.abs().sort(-1, descending=True).values
    probed = ordered[:, torch.linspace(0, rows.shape[1] - 1, min(PROBED, rows.shape[1])).long()]  # few of them equal
    fractions = 1 + torch.arange(1 << mantissa, dtype=torch.float64) * 2.0**-mantissa
    tried = ordered[:, :1] / fractions  # [O, 2^mantissa]
    passed = _beyond(probed[:, None] / tried[..., None], mantissa).amax(-1) < CLOSE
    found = torch.ones(len(rows), dtype=torch.float64)
    for index in torch.nonzero(passed.any(-1) & (_beyond(rows, mantissa).amax(-1) > 0))[:, 0].tolist():
        left = tried[index][passed[index]]
        wrong = _beyond(rows[index] / left[:, None], mantissa).amax(-1)
        best = int(wrong.argmin())
        if wrong[best] < CLOSE:
            found[index] = left[best]
    return found


def _beyond(numbers: Tensor, mantissa: int) -> Tensor:
    """How much of each number, relative, is lost with so many bits of mantissa, float64."""
    fraction, _ = torch.frexp(numbers)  # 0.5 to 1
    unit = 2.0 ** (mantissa + 1)
    return torch.nan_to_num((fraction - torch.round(fraction * unit) / unit).abs())
