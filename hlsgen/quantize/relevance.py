"""How much an error in each activation matters: squared gradients of what the network is read for.

The expected damage of small errors e in a tensor is the mean of (g . e)^2, g the outputs' gradient. With outputs summed
under random signs, g^2 is an unbiased estimate of its diagonal (the Fisher information's; Hutchinson, 1990), one backward
pass an image. Calibration weights its histograms with it: an error far from any object costs little.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Relevance = Callable[[Sequence[Tensor]], list[Tensor]]
"""The network's outputs ([1, C, H, W] each) to the quantities whose squared error counts."""
QUIET = 5.0  # a class logit of -5 (0.7 %) and below says nothing
UNSURE = 3.0  # boxes count in full from a confidence of sigmoid(-3), 5 %
LEAST = 1e-4  # of a tensor's mean weight: what an element without gradient weighs


def outputs_alike(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Every output counts, in units of its own standard deviation."""
    return [y / y.detach().std().clamp(min=1e-12) for y in outputs]


def irrelevant(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Nothing counts more than anything else: plain histograms, and no backward pass."""
    return []


def detections(reg_max: int) -> Relevance:
    """For YOLO heads (box map, class map a level): class scores where they speak, box sides where a class does."""

    def relevant(outputs: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for box, classes in zip(outputs[0::2], outputs[1::2], strict=True):
            found.append(F.softplus(classes + QUIET))
            sure = torch.sigmoid(classes.amax(1, keepdim=True) + UNSURE).detach()
            sides = box.reshape(1, 4, reg_max, *box.shape[2:]).softmax(2)
            distance = (sides * torch.arange(float(reg_max)).reshape(1, 1, -1, 1, 1)).sum(2)
            found.append(distance * sure)
        return found

    return relevant


def probe(outputs: Sequence[Tensor], relevance: Relevance, generator: torch.Generator) -> Tensor:
    """The relevant quantities summed under random signs: a scalar to go back from."""
    total = torch.zeros(())
    for y in relevance(outputs):
        signs = torch.randint(0, 2, y.shape, generator=generator).to(y.dtype) * 2 - 1
        total = total + (y * signs).sum()
    return total


def weights_of(tensor: Tensor) -> Tensor:
    """The squared gradient of a tensor, never quite zero; ones where no gradient reached it."""
    gradient = tensor.grad
    if gradient is None:
        return torch.ones_like(tensor)
    squared = gradient.detach() ** 2
    mean = float(squared.mean())
    return squared + LEAST * mean if mean > 0 and mean < float("inf") else torch.ones_like(tensor)


@contextmanager
def parameters_held(network: nn.Module) -> Iterator[None]:
    """No gradients for the parameters meanwhile."""
    wanted = [(p, p.requires_grad) for p in network.parameters()]
    try:
        for p, _ in wanted:
            p.requires_grad_(False)
        yield
    finally:
        for p, before in wanted:
            p.requires_grad_(before)
