"""Weights that lie on a grid: the grid is found, they stay as they are; others have none."""

import numpy as np
import pytest
import torch
from torch import nn

from hlsgen.quantize.executables import Simulated
from hlsgen.quantize.grid import NEAR, factors, off, steps
from hlsgen.quantize.minifloat import BFLOAT16, HALF, Minifloat
from hlsgen.quantize.reference import quantize
from hlsgen.quantize.spec import TensorQ
from hlsgen.quantize.strategies import Task, find
from hlsgen.quantize.weights import exact


def rows(low: int, high: int, seed: int, count: int = 40) -> torch.Tensor:
    """Integers [4, count], float64, `high` among each row's."""
    found = torch.randint(low, high + 1, (4, count), generator=torch.Generator().manual_seed(seed)).double()
    found[:, 7] = high
    return found


@pytest.mark.parametrize("high", [1, 3, 50, 127])
def test_the_step_of_integers_or_a_part_of_it_is_found(high: int) -> None:
    step = torch.tensor([0.3, 1.0, 1e-6, 77.7], dtype=torch.float64)
    found = steps(rows(-high, high, high) * step[:, None], 127)
    parts = step / found
    assert torch.allclose(parts, parts.round(), atol=1e-6) and bool((parts > 0.5).all())
    assert bool((high * step / found < 127.5).all())


def test_halves_of_a_grid_are_near_enough_and_one_more_step_is_too_many() -> None:
    held = (rows(-120, 127, 3) * 0.01171).half().double()
    assert bool((steps(held, 127) > 0).all())
    assert not bool(steps(rows(-120, 129, 4) * 0.3, 127).any())
    assert bool((steps(rows(-120, 129, 4) * 0.3, 255) > 0).all())


def test_weights_of_any_value_have_no_step_and_zeros_have_none() -> None:
    drawn = torch.randn(64, 72, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert not bool(steps(drawn, 255).any())
    assert bool((off(drawn, drawn.abs().amax(-1) / 127) > 10 * NEAR).all())
    assert not bool(steps(torch.zeros(2, 9, dtype=torch.float64), 127).any())


@pytest.mark.parametrize("form", [HALF, BFLOAT16])
def test_the_factor_of_a_folded_batch_normalization_is_found(form: Minifloat) -> None:
    generator = torch.Generator().manual_seed(1)
    stored = form.round(torch.randn(6, 5, 3, 3, generator=generator))
    folded = torch.tensor([1.0, 2.0, 1.000476, 0.37, 5.1, 123.0])
    weights = (stored * folded[:, None, None, None]).flatten(1)
    found = factors(weights, form.mantissa)
    assert found[:2].tolist() == [1.0, 1.0]  # numbers of the format need none
    doublings = torch.log2(found[2:] / folded[2:].double())
    assert torch.allclose(doublings, doublings.round(), atol=2.0**-20)
    stored_again = weights[2:] / found[2:, None]
    assert torch.allclose(form.round(stored_again.float()).double(), stored_again, rtol=2.0**-21)


def test_one_factor_of_many_that_fit_the_few_weights_tried_first_fits_all() -> None:
    """Of weights of few different values many candidates pass the first look."""
    generator = torch.Generator().manual_seed(2)
    stored = (torch.randint(-31, 32, (8, 200), generator=generator) * 0.00665).half().float()
    weights = stored * 1.0004764
    found = factors(weights, 10)
    stored_again = weights.double() / found[:, None]
    assert torch.allclose(HALF.round(stored_again.float()).double(), stored_again, rtol=2.0**-21)


def test_floats_of_no_format_have_factor_one() -> None:
    weights = torch.randn(16, 27, generator=torch.Generator().manual_seed(0))
    assert factors(weights, 10).tolist() == [1.0] * 16
    assert factors(torch.zeros(2, 9), 10).tolist() == [1.0, 1.0]


class Net(nn.Module):
    """Two convolutions, of which the first has a table behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.act(self.first(x)))
        return y


def task(step: float) -> Task:
    """A network whose first weights are integers times `step` (0: any), calibrated on noise."""
    torch.manual_seed(5)
    network = torch.fx.symbolic_trace(Net().eval())
    images = [np.random.default_rng(i).random((3, 24, 24)).astype(np.float32) for i in range(3)]
    if step:
        conv = network.get_submodule("first")
        assert isinstance(conv, nn.Conv2d)
        conv.weight.data = torch.randint(-127, 128, conv.weight.shape).float() * step
    return Task(network, (3, 24, 24), images)


@pytest.mark.parametrize("name", ["affine", "rescaled"])
def test_weights_on_a_grid_are_kept(name: str) -> None:
    given = task(0.0031)
    spec = find(name).quantize(given).spec
    conv = given.network.get_submodule("first")
    assert spec is not None and isinstance(conv, nn.Conv2d)
    held = spec.convs["first"]
    real = held.weight * held.weight_scale[:, None, None, None]
    assert np.allclose(real, conv.weight.detach().numpy(), rtol=1e-6)
    x = spec.tensors["x"]
    bias = held.bias * x.scale * held.weight_scale
    assert conv.bias is not None
    assert np.allclose(bias, conv.bias.detach().numpy(), atol=x.scale * float(held.weight_scale.max()))


def test_channels_on_a_grid_without_a_bias_and_others_beside_them() -> None:
    given = task(0.0031)
    conv = given.network.get_submodule("first")
    assert isinstance(conv, nn.Conv2d)
    conv.bias = None
    conv.weight.data[3] *= 1 + 0.3 * torch.rand(conv.weight.shape[1:])
    held = quantize(given.network, given.images, "affine").spec.convs["first"]
    wrong = np.abs(held.weight * held.weight_scale[:, None, None, None] - conv.weight.detach().numpy()).max((1, 2, 3))
    assert (np.delete(wrong, 3) < 1e-6).all() and wrong[3] > 1e-4
    assert not np.delete(held.bias, 3).any() and held.bias[3]


def test_a_grid_whose_step_no_shift_to_the_right_reaches_is_none() -> None:
    conv = nn.Conv2d(1, 2, 3)
    conv.weight.data = (
        torch.arange(119, 128).float().reshape(1, 1, 3, 3).repeat(2, 1, 1, 1)
        * torch.tensor([1.0, 4.0])[:, None, None, None]
    )
    x, out = TensorQ(0.5, 0), TensorQ(0.5, 0, 14)  # the coarsest scale is 1
    assert exact(conv, x, out, "fixed", 8).tolist() == [True, False]
    assert exact(conv, x, out, "affine", 8).tolist() == [True, True]


def test_weights_on_no_grid_are_refitted() -> None:
    given = task(0.0)
    reference = quantize(given.network, given.images, "affine")
    conv = given.network.get_submodule("first")
    held = reference.spec.convs["first"]
    assert isinstance(conv, nn.Conv2d)
    wrong = held.weight * held.weight_scale[:, None, None, None] - conv.weight.detach().numpy()
    assert float(np.abs(wrong / held.weight_scale[:, None, None, None]).max()) > 0.3


def test_half_precision_keeps_weights_stored_in_halves_behind_a_batch_normalization() -> None:
    given = task(0.0)
    conv = given.network.get_submodule("first")
    assert isinstance(conv, nn.Conv2d)
    conv.weight.data = conv.weight.data.half().float() * torch.linspace(0.5, 3, 8)[:, None, None, None]
    made = find("fp16").quantize(given)
    assert isinstance(made.executable, Simulated)
    rounded = made.executable.weights["first"][0]
    assert torch.allclose(rounded, conv.weight.detach(), rtol=1e-6)
    assert made.parameter_bytes == find("fp16").quantize(task(0.0)).parameter_bytes + 4 * (8 + 4)
