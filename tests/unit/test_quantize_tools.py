"""Calibration tools: each does what it is for, alone and together with the others."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hlsgen.quantize.rounding as rounding_module
from hlsgen.errors import HlsgenError
from hlsgen.quantize import Reference, quantize
from hlsgen.quantize.calibrate import Histogram
from hlsgen.quantize.equalize import equalized, pairs
from hlsgen.quantize.recipe import RANGES, ROUNDINGS, Ranges, Recipe, Rounding
from hlsgen.quantize.refine import solved
from hlsgen.quantize.rounding import adaround, compensated, inverse_factor, nearest
from hlsgen.quantize.scales import activation_scale
from hlsgen.quantize.spec import SCHEMES, Scheme
from tests.quantize_nets import mixed, photographs, traced


def correlated(seed: int, groups: int = 2, dimension: int = 150) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [G, 6, D], scales [G, 6] of 3 bits, moments [G, D, D] of strongly correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(groups, 6, dimension, generator=generator, dtype=torch.float64)
    scales = weights.abs().amax(-1) / 3
    base = torch.randn(groups, dimension, 20, generator=generator)
    x = base @ torch.randn(groups, 20, 4000, generator=generator) + 0.3 * torch.randn(
        groups, dimension, 4000, generator=generator
    )
    return weights, scales, x @ x.transpose(1, 2) / 4000


def cost(weights: Tensor, scales: Tensor, integers: Tensor, moments: Tensor) -> float:
    error = weights - integers * scales[..., None]
    return float(((error @ moments.double()) * error).sum())


@pytest.mark.parametrize("method", [compensated, adaround])
def test_rounding_by_the_inputs_costs_less_than_to_nearest(method) -> None:  # type: ignore[no-untyped-def]
    weights, scales, moments = correlated(0)
    plain, clever = nearest(weights, scales, -4, 3), method(weights, scales, moments, -4, 3)
    assert torch.equal(clever, clever.round()) and int(clever.min()) >= -4 and int(clever.max()) <= 3
    assert cost(weights, scales, clever, moments) < 0.6 * cost(weights, scales, plain, moments)


def test_compensated_rounding_of_independent_inputs_is_to_nearest() -> None:
    weights, scales, _ = correlated(1, 1, 40)
    eye = torch.eye(40)[None] * 2
    assert torch.equal(compensated(weights, scales, eye, -4, 3), nearest(weights, scales, -4, 3))


def test_adaround_moves_by_less_than_one() -> None:
    weights, scales, moments = correlated(2, 1, 60)
    inside = (weights / scales[..., None]).clamp(-4, 3)
    assert float((adaround(weights, scales, moments, -4, 3) - inside).abs().max()) <= 1


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram()
    tensor = torch.from_numpy(values.astype(np.float32)).reshape(1, 1, 1, -1)
    found.update(tensor, torch.ones_like(tensor))
    return found


def with_outlier() -> Histogram:
    values = np.abs(np.random.default_rng(0).standard_normal(100_000))
    values[7] = 60
    return histogram(values)


@pytest.mark.parametrize("scheme", ["fixed", "affine"])
def test_ranges(scheme: Scheme) -> None:
    """An outlier of sixty times the deviation: min-max keeps it, the others do not."""
    held = {r: activation_scale(with_outlier(), scheme, Recipe(ranges=r, percentile=99.99)) for r in RANGES}
    reach = {r: q.scale * (q.high - q.zero_point) for r, q in held.items()}
    assert reach["minmax"] >= 60 - held["minmax"].scale
    assert reach["percentile"] < 8
    assert reach["mse"] <= reach["minmax"] and reach["histogram"] < reach["minmax"]
    full = activation_scale(with_outlier(), scheme, Recipe(ranges="percentile", percentile=100))
    assert full == held["minmax"]


def test_percentile_of_both_ends() -> None:
    values = np.random.default_rng(1).uniform(-1, 3, 200_000)
    q = activation_scale(histogram(values), "affine", Recipe(ranges="percentile", percentile=90))
    low, high = (q.scale * (edge - q.zero_point) for edge in (q.low, q.high))
    assert low == pytest.approx(-0.6, abs=0.03) and high == pytest.approx(2.6, abs=0.03)


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_ranges_make_legal_networks(ranges: Ranges, scheme: Scheme) -> None:
    recipe = Recipe(ranges=ranges, percentile=99.9)
    reference = quantize(mixed(), photographs(2), scheme, recipe=recipe)
    check(reference, 0.5 if ranges in ("percentile", "histogram") else 0.1)  # noise of one colour has no tails to clip


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_tools_combine(rounding: Rounding, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they make is legal whatever AdaRound has learned; that it learns is held above."""
    monkeypatch.setattr(rounding_module, "STEPS", 40)
    recipe = Recipe("histogram", 99.9, rounding, refit=False, correct_bias=False, equalize=True, weight_bits=bits)
    for scheme in ("fixed", "affine"):
        reference = quantize(mixed(), photographs(2), scheme, recipe=recipe)
        for q in reference.spec.convs.values():
            assert int(q.weight.min()) >= -(1 << (bits - 1)) and int(q.weight.max()) < 1 << (bits - 1)
        if bits == 8:
            check(reference, 0.5)


def check(reference: Reference, most: float) -> None:
    image = torch.from_numpy(photographs(1, seed=5)[0])[None]
    for y, t in zip(reference(image), reference.network(image), strict=True):
        assert float((y - t).norm() / t.norm()) < most


class Chain(nn.Module):
    """Two pairs that may be equalized, through a ReLU and a pool, and one behind a SiLU that may not."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.a1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.c2, self.pool = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.MaxPool2d(3, 1, 1)
        self.c3, self.a3 = nn.Conv2d(8, 6, 1), nn.SiLU()
        self.c4 = nn.Conv2d(6, 4, 1)
        with torch.no_grad():
            factor = torch.logspace(-2, 1, 8)[:, None, None, None]  # between channels: one scale cannot serve them
            self.c1.weight *= factor
            self.c2.weight /= factor

    def forward(self, image: Tensor) -> Tensor:
        return self.c4(self.a3(self.c3(self.pool(self.c2(self.a1(self.c1(image)))))))  # type: ignore[no-any-return]


def test_equalization_keeps_the_function_and_evens_the_channels() -> None:
    torch.manual_seed(0)
    network = traced(Chain())
    assert len(pairs(network)) == 2
    even, count = equalized(network)
    assert count == 2
    image = torch.from_numpy(photographs(1)[0])[None]
    torch.testing.assert_close(even(image), network(image), rtol=1e-4, atol=1e-5)
    for before, after in ((network, even),):
        assert not torch.equal(before.get_parameter("c1.weight"), after.get_parameter("c1.weight"))
    ahead = even.get_parameter("c1.weight").abs().flatten(1).amax(1)
    behind = even.get_parameter("c2.weight").abs().flatten(1).amax(1)
    torch.testing.assert_close(ahead, behind, rtol=1e-2, atol=0)


def test_equalization_helps_where_channels_differ() -> None:
    torch.manual_seed(0)
    network, images = traced(Chain()), photographs(4)
    image = torch.from_numpy(photographs(1, seed=3)[0])[None]
    errors = []
    for equalize in (False, True):
        recipe = Recipe(equalize=equalize, refit=False, rounding="nearest", ranges="minmax", correct_bias=False)
        reference = quantize(network, images, "fixed", recipe=recipe)
        wanted = network(image)
        errors.append(float((reference(image)[0] - wanted).norm() / wanted.norm()))
    assert errors[1] < 0.5 * errors[0]


def test_there_is_nothing_to_equalize_behind_silu() -> None:
    from hlsgen.models import load

    assert pairs(load("yolo", "random", (64, 64)).network) == []


def test_bias_correction_mends_the_mean() -> None:
    torch.manual_seed(0)
    network = traced(nn.Sequential(nn.Conv2d(3, 16, 3)))
    images = photographs(4)
    means = []
    for correct in (False, True):
        recipe = Recipe(correct_bias=correct, refit=False, rounding="nearest", weight_bits=3)
        reference = quantize(network, images, "affine", recipe=recipe)
        gap = torch.stack([reference(i)[0] - network(torch.from_numpy(i)[None]) for i in images])
        means.append(float(gap.mean((0, 1, 3, 4)).abs().mean()))
    assert means[1] < 0.3 * means[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ranges": "entropy"}, "unknown calibration 'entropy'"),
        ({"rounding": "stochastic"}, "unknown rounding 'stochastic'"),
        ({"percentile": 40.0}, "above 50 and at most 100, got 40"),
        ({"percentile": 101.0}, "got 101"),
        ({"weight_bits": 9}, "2 to 8 bits, got 9"),
        ({"bits": {"c1": 1}}, "2 to 8 bits, got 1"),
    ],
)
def test_bad_recipes(settings: dict, said: str) -> None:
    with pytest.raises(HlsgenError, match=said):
        Recipe(**settings)


def test_groups_are_solved_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several at once fail or hang in oneMKL's threads: 4 of 256 x 256 did nearly always, with two threads."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 512, 256, generator=generator)
    a = root.transpose(1, 2) @ root / 512 + 3 * torch.eye(256)
    x = torch.randn(4, 256, 32, generator=generator)
    library, sizes = torch.linalg.solve, []

    def solve(one: Tensor, wanted: Tensor) -> Tensor:
        sizes.append(one.shape)
        return library(one, wanted)

    monkeypatch.setattr(torch.linalg, "solve", solve)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.testing.assert_close(solved(a, a @ x), x, atol=1e-4, rtol=1e-4)
    finally:
        torch.set_num_threads(threads)
    assert sizes == [(256, 256)] * 4


def test_the_factor_of_an_inverse() -> None:
    made = torch.Generator().manual_seed(0)
    x = torch.randn(60, 40, generator=made, dtype=torch.float64)
    a = x.T @ x + torch.eye(40)
    upper = inverse_factor(a)
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(upper, torch.linalg.cholesky(torch.linalg.inv(a), upper=True))
