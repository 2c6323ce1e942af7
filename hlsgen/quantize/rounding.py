"""Which neighbour a weight is rounded to, given what it is multiplied with.

With e the error of an output channel's weights and M the second moments of their inputs (centred: the mean goes to the
bias), the output's mean squared error is e^T M e. Rounding to nearest ignores M; the two others use it.

Shapes: weights [G, O, D], scales [G, O], moments [G, D, D]; integers come back as float64 [G, O, D].
"""

from collections.abc import Callable

import torch
from torch import Tensor

DAMPING = 0.01  # of the mean variance, added to M's diagonal: it is estimated from a sample
BLOCK = 128  # columns whose mutual compensation is applied at once
STEPS = 400  # of AdaRound
STRETCH = (-0.1, 1.1)  # of AdaRound's rectified sigmoid (gamma, zeta)
SHARPNESS = (20.0, 2.0)  # of its regularizer, from first to last (beta)
PRESSURE = 0.01  # its weight (lambda)


def nearest(weights: Tensor, scales: Tensor, low: int, high: int) -> Tensor:
    """Each by itself."""
    return torch.clamp(torch.round(weights / scales[..., None]), low, high)


def compensated(weights: Tensor, scales: Tensor, moments: Tensor, low: int, high: int) -> Tensor:
    """Integers, column by column, the error of each spread over those still to come (`compensated_on`)."""
    return compensated_on(lambda x: torch.clamp(torch.round(x), low, high), weights, scales, moments)


def compensated_on(grid: Callable[[Tensor], Tensor], weights: Tensor, scales: Tensor, moments: Tensor) -> Tensor:
    """As `compensated`, to whatever numbers `grid` rounds to: weights / scale on that grid, float64 [G, O, D].

    Frantar et al., "GPTQ", ICLR 2023 (algorithm 1, with columns in the order of falling variance): after column i, the
    rest moves by -(w_i - q_i) / U_ii * U_i, U the upper Cholesky factor of the inverse of M.
    """
    return torch.stack([_compensated(grid, w, s, m) for w, s, m in zip(weights, scales, moments, strict=True)]).double()


def _compensated(grid: Callable[[Tensor], Tensor], weights: Tensor, scales: Tensor, moments: Tensor) -> Tensor:
    order = torch.argsort(moments.diagonal(), descending=True)
    left = weights.T[order].float().contiguous()  # [D, O]: what is still wanted of each column
    damped = moments[order][:, order].double()
    mean = damped.diagonal().mean().clamp(min=1e-20)
    upper = inverse_factor(damped + torch.eye(len(order)) * DAMPING * mean).float()
    scale = scales.float()
    rounded = torch.zeros_like(left)
    for begin in range(0, len(left), BLOCK):
        end = min(begin + BLOCK, len(left))
        errors = torch.zeros(end - begin, left.shape[1])
        for i in range(begin, end):
            q = grid(left[i] / scale)
            rounded[i] = q
            error = (left[i] - q * scale) / upper[i, i]
            left[i + 1 : end] -= upper[i, i + 1 : end, None] * error
            errors[i - begin] = error
        left[end:] -= upper[begin:end, end:].T @ errors
    return rounded[torch.argsort(order)].T


def inverse_factor(a: Tensor) -> Tensor:
    """U, upper triangular, with U^T U the inverse of the symmetric positive definite a [D, D].

    With both axes turned round a is L L^T, so that a is R R^T with R upper triangular, and U is R's inverse: one Cholesky and one
    triangular solution instead of two and an inverse.
    """
    turned = torch.linalg.cholesky(a.flip(0, 1)).flip(0, 1)
    found: Tensor = torch.linalg.solve_triangular(turned, torch.eye(len(a), dtype=a.dtype), upper=True)
    return found


def adaround(weights: Tensor, scales: Tensor, moments: Tensor, low: int, high: int) -> Tensor:
    """Up or down as learned.

    Nagel et al., "Up or down? Adaptive rounding for post-training quantization", ICML 2020: the integer is
    floor(w / s) + h(v), h a rectified sigmoid; v minimizes e^T M e under a regularizer (its eq. 24) that drives h to 0 or 1.
    """
    scale = scales[..., None].float()
    real = weights.float() / scale
    floor = torch.floor(real)
    gamma, zeta = STRETCH
    fraction = torch.clamp((real - floor - gamma) / (zeta - gamma), 1e-4, 1 - 1e-4)
    variable = torch.logit(fraction).requires_grad_(True)
    matrix = moments / moments.diagonal(dim1=1, dim2=2).mean().clamp(min=1e-20)
    optimizer = torch.optim.Adam([variable], lr=0.02)
    for step in range(STEPS):
        with torch.enable_grad():
            up = torch.clamp(torch.sigmoid(variable) * (zeta - gamma) + gamma, 0, 1)
            error = torch.clamp(floor + up, low, high) - real
            loss = ((error @ matrix) * error).sum()
            if step > STEPS // 5:  # the first fifth is free
                done = (step / STEPS - 0.2) / 0.8
                beta = SHARPNESS[1] + (SHARPNESS[0] - SHARPNESS[1]) * (1 + torch.cos(torch.tensor(done * torch.pi))) / 2
                loss = loss + PRESSURE * (1 - (2 * up - 1).abs() ** beta).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return torch.clamp(floor + (variable.detach() > 0), low, high).double()
