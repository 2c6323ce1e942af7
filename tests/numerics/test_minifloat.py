"""Rounding to floats of few bits: equal to the nearest of all codes, to PyTorch's casts, and to the specification's limits."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hlsgen.errors import HlsgenError
from hlsgen.quantize.minifloat import BFLOAT16, E4M3, E5M2, HALF, Minifloat

ODD = [(1, 6), (2, 1), (2, 3), (3, 2), (3, 4), (4, 0), (4, 3), (5, 2), (5, 0), (6, 1), (7, 5)]


def codes(form: Minifloat) -> list[float]:
    """Every finite number of the format that is not negative, code by code: nothing of the code under test but its bits."""
    found = []
    for exponent in range(1 << form.exponent):
        for mantissa in range(1 << form.mantissa):
            last = exponent == (1 << form.exponent) - 1
            if last and form.exponent >= 5:
                continue  # infinity and NaN
            if last and form.exponent < 5 and form.bits >= 8 and mantissa == (1 << form.mantissa) - 1:
                continue  # NaN
            bias = 2 ** (form.exponent - 1) - 1
            fraction = mantissa / 2**form.mantissa
            found.append(fraction * 2.0 ** (1 - bias) if exponent == 0 else (1 + fraction) * 2.0 ** (exponent - bias))
    return found


def nearest(x: float, held: list[float]) -> float:
    """By search: the nearest code, ties to the even one; beyond the last, the last."""
    size = abs(x)
    index = int(np.searchsorted(held, size))
    if index == len(held):
        return math.copysign(held[-1], x)
    if index == 0 or held[index] == size:
        return math.copysign(held[index], x)
    below, above = held[index - 1], held[index]
    if size - below == above - size:
        return math.copysign(held[index - 1] if (index - 1) % 2 == 0 else held[index], x)
    return math.copysign(below if size - below < above - size else above, x)


def inputs(held: list[float]) -> Tensor:
    """Every code, every midpoint, their float32 neighbours, values far beyond, both signs."""
    points = np.array(held + [(a + b) / 2 for a, b in itertools.pairwise(held)], np.float64).astype(np.float32)
    points = np.unique(np.concatenate([points, [np.float32(held[-1]) * 1.01, np.float32(held[-1]) * 4, 1e30]]))
    points = points.astype(np.float32)
    around = np.concatenate(
        [points, np.nextafter(points, np.float32(-np.inf)), np.nextafter(points, np.float32(np.inf))]
    )
    return torch.from_numpy(np.concatenate([around, -around]).astype(np.float32))


@pytest.mark.parametrize(("exponent", "mantissa"), ODD)
def test_equals_the_nearest_of_all_codes(exponent: int, mantissa: int) -> None:
    form = Minifloat(exponent, mantissa)
    held = codes(form)
    assert held == sorted(held)
    assert held[-1] == form.largest and held[1] == form.step
    x = inputs(held)
    x = torch.cat([x, torch.from_numpy(np.random.default_rng(0).standard_cauchy(2000).astype(np.float32))])
    expected = torch.tensor([nearest(v, held) for v in x.tolist()])
    got = form.round(x)
    assert torch.equal(got, expected)
    assert torch.equal(torch.signbit(got), torch.signbit(x))
    assert torch.equal(form.round(got), got)


@pytest.mark.parametrize(
    ("form", "kind"),
    [(E4M3, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2), (HALF, torch.float16), (BFLOAT16, torch.bfloat16)],
)
def test_equals_pytorch_on_every_16_bit_pattern(form: Minifloat, kind: torch.dtype) -> None:
    """All bfloat16 and all float16 numbers (each a float32), infinities and NaNs among them."""
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    x = torch.cat([patterns.view(torch.bfloat16).float(), patterns.view(torch.float16).float()])
    x = torch.cat([x, inputs(codes(form))]) if form.bits <= 8 else x
    expected = x.to(kind).float()
    got, saturated = form.round(x, saturate=False), form.round(x)
    step = 2.0 ** (math.frexp(form.largest)[1] - 1 - form.mantissa)  # of the largest binade
    beyond = x.abs() >= form.largest + step / 2
    if form == E4M3:  # the largest is even: the tie still rounds to it; PyTorch saturates or not by its version
        beyond = x.abs() > form.largest + step / 2
        assert bool(torch.isnan(got[beyond]).all())
    else:
        assert torch.equal(got[beyond], expected[beyond])
    assert torch.equal(saturated[beyond], torch.copysign(torch.full_like(x, form.largest), x)[beyond])
    number = ~beyond & ~torch.isnan(x)
    for rounded in (got, saturated):
        assert torch.equal(rounded[number], expected[number])
        assert bool(torch.isnan(rounded[torch.isnan(x)]).all())


def test_the_specification_s_limits() -> None:
    """OFP8 table 1, and the MX formats'."""
    assert (E4M3.largest, E4M3.step, 2.0**E4M3.smallest_exponent) == (448.0, 2.0**-9, 2.0**-6)
    assert (E5M2.largest, E5M2.step, 2.0**E5M2.smallest_exponent) == (57344.0, 2.0**-16, 2.0**-14)
    assert [Minifloat(3, 2).largest, Minifloat(2, 3).largest, Minifloat(2, 1).largest] == [28.0, 7.5, 6.0]
    assert (HALF.largest, BFLOAT16.largest) == (65504.0, float(torch.finfo(torch.bfloat16).max))
    with pytest.raises(HlsgenError, match="neither infinity nor NaN"):
        Minifloat(2, 1).round(torch.zeros(1), saturate=False)


def test_dynamic_convolution_is_pytorch_s_dynamic_linear() -> None:
    """A convolution of one pixel is a linear layer, and `quantize_dynamic` covers those."""
    from torch import nn
    from torch.ao.quantization import quantize_dynamic

    from hlsgen.quantize.executables import DynamicConv2d

    if "qnnpack" not in torch.backends.quantized.supported_engines:
        pytest.skip("this PyTorch has no qnnpack engine")
    torch.manual_seed(0)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        for _ in range(20):
            conv = nn.Conv2d(24, 7, 1)
            linear = nn.Linear(24, 7)
            linear.weight.data, linear.bias.data = conv.weight.detach()[:, :, 0, 0], conv.bias.detach()  # type: ignore[union-attr]
            x = torch.randn(1, 24) * 3
            with torch.inference_mode():
                wanted = quantize_dynamic(nn.Sequential(linear), {nn.Linear})(x)  # type: ignore[no-untyped-call]
                got = DynamicConv2d(conv)(x[:, :, None, None])[:, :, 0, 0]
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    finally:
        torch.backends.quantized.engine = before


def test_quantize_dynamic_alone_changes_nothing_in_a_convolutional_network() -> None:
    from torch.ao.quantization import quantize_dynamic

    from tests.quantize_nets import mixed

    network = mixed()
    kinds = [type(m) for m in network.modules()]
    assert [type(m) for m in quantize_dynamic(network).modules()][1:] == kinds[1:]  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", ["bf16", "minifloat:e4m3", "minifloat:e5m2"])
def test_what_onnx_runtime_is_timed_on_computes_the_same(name: str, tmp_path: Path) -> None:
    import onnxruntime as ort

    from hlsgen.quantize.strategies import Task, find
    from hlsgen.study.speed import _export
    from tests.quantize_nets import mixed, photographs

    made = find(name).quantize(Task(mixed(), (3, 16, 24), photographs(2)))
    path = tmp_path / "network.onnx"
    assert _export(made, path) is not None
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image = photographs(1, seed=4)[0][None]
    results = session.run(None, {session.get_inputs()[0].name: image})
    for got, wanted, exact in zip(
        results, made.executable(torch.from_numpy(image)), mixed()(torch.from_numpy(image)), strict=True
    ):
        # float32 sums in another order: a tie may fall the other way, but seldom
        assert np.linalg.norm(got - wanted.numpy()) < 0.1 * float((wanted - exact).norm())
    assert _export(find("minifloat:e3m2").quantize(Task(mixed(), (3, 16, 24), photographs(2))), path) is None
