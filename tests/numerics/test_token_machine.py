"""The fixed scheme on SAM's graphs: each op against its specification in whole numbers, the graph against the float one."""

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hlsgen.errors import HlsgenError
from hlsgen.models.sam import graph
from hlsgen.models.sam import vocabulary as v
from hlsgen.models.sam.model import fixed_sam, float_sam
from hlsgen.models.sam.prompts import Prompt
from hlsgen.program import attention
from hlsgen.program.arithmetic import fraction_bits
from hlsgen.program.layer_norm import layer_norm, norm_constants
from hlsgen.quantize import token_machine
from hlsgen.quantize.spec import QuantSpec, TensorQ
from hlsgen.quantize.token_machine import TokenMachine, as_conv, integers
from tests.sam_nets import micro

seeds = st.integers(0, 2**32 - 1)
fractions = st.integers(0, 7)


def rne(value: Fraction) -> int:
    return round(value)  # Python's rounds ties to even


def q(fraction: int, bits: int = 8) -> TensorQ:
    return TensorQ(2.0**-fraction, 0, bits)


def machine(build: graph.Builder, out: torch.fx.Node, tensors: dict[str, TensorQ]) -> TokenMachine:
    return TokenMachine(build.finish(out), QuantSpec("fixed", tensors, {}))


@settings(deadline=None)
@given(seeds, st.integers(1, 300), st.integers(0, 7), st.integers(2, 6), st.sampled_from([0.0, 1e-6, 1e-5, 1.0]))
def test_layer_norm_is_its_specification(seed: int, channels: int, fx: int, fy: int, eps: float) -> None:
    rng = np.random.default_rng(seed)
    spread = int(rng.integers(0, 128))
    x = np.clip(rng.integers(-spread - 1, spread + 1, (3, channels)) + rng.integers(-40, 40), -128, 127)
    gamma, beta = rng.normal(1, 0.5, channels), rng.normal(0, 1, channels)
    k = norm_constants(gamma, beta, eps, q(fx), q(fy))
    got = layer_norm(x.astype(np.int64), k)
    assert np.abs(k.gain).max() < 1 << 16
    assert np.abs(k.offset).max() < 1 << 31
    for row, out in zip(x.tolist(), got.tolist(), strict=True):
        s1, s2 = sum(row), sum(c * c for c in row)
        var = channels * s2 - s1 * s1 + max(1, round(eps * channels**2 * 4.0**fx))
        t = 2 * ((var.bit_length() - 1) // 2)
        r = isqrt((1 << (32 + t)) // var)
        assert 1 << 15 <= r <= 1 << 16
        for c, value, g, b in zip(row, out, k.gain.tolist(), k.offset.tolist(), strict=True):
            n = rne(Fraction((channels * c - s1) * r, 1 << (6 + t // 2)))
            assert value == min(127, max(-128, rne(Fraction(n * g + b, 1 << k.shift))))


@settings(deadline=None, max_examples=30)
@given(seeds, st.sampled_from([16, 96, 768]))
def test_layer_norm_is_near_pytorchs(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = q(4), q(5)
    values = rng.integers(-100, 100, (4, channels))
    gamma, beta = rng.normal(1, 0.2, channels), rng.normal(0, 0.2, channels)
    got = layer_norm(values.astype(np.int64), norm_constants(gamma, beta, 1e-6, x, y)) * y.scale
    wanted = nn.functional.layer_norm(
        torch.from_numpy(values * x.scale), (channels,), torch.from_numpy(gamma), torch.from_numpy(beta), 1e-6
    ).numpy()
    assert np.abs(got - np.clip(wanted, -4, 3.96875)).max() <= 0.55 * y.scale


def test_layer_norm_refuses_what_is_out_of_range() -> None:
    with pytest.raises(HlsgenError, match="is out of range"):
        norm_constants(np.full(4, 1e9), np.zeros(4), 1e-6, q(4), q(4))
    with pytest.raises(HlsgenError, match="too large for 48-bit sums"):
        norm_constants(np.ones(1280), np.zeros(1280), 1e-6, q(4, 16), q(4))


@settings(deadline=None, max_examples=50)
@given(seeds, st.integers(1, 3), st.integers(1, 8), st.integers(1, 5), fractions, fractions)
def test_attention_equals_the_engines_golden_model(
    seed: int, heads: int, depth: int, side: int, fq: int, fs: int
) -> None:
    """The same integers as ``hlsgen.program.attention``, whose maps are [channels, H, W]."""
    rng = np.random.default_rng(seed)
    channels, count = heads * depth, side * side
    x = {name: rng.integers(-128, 128, (1, count, channels)).astype(np.int64) for name in "qkv"}
    tensors = {"q": q(fq), "k": q(4), "v": q(5), "s": q(min(fs, fq + 4)), "o": q(4)}
    b = graph.Builder({}, "")
    nodes = [b.input(name) for name in "qkv"]
    s = b.call("s", v.scores, nodes[0], nodes[1], heads, 1.0)
    made = machine(b, b.call("o", v.attend, s, nodes[2]), tensors)
    held = made.run(*(torch.from_numpy(x[n] * tensors[n].scale) for n in "qkv"))

    maps = {n: a[0].T.reshape(channels, side, side).astype(np.int8) for n, a in x.items()}
    scaling = attention.scores_scaling("fixed", tensors["q"], tensors["k"], tensors["s"])
    scored = attention.scores(maps["q"], maps["k"], heads, scaling)  # [heads * keys, H, W]
    wanted = scored.reshape(heads, count, count).transpose(0, 2, 1)
    assert np.array_equal(held["s"][0].numpy(), wanted)
    out = attention.attend(
        scored.astype(np.int8),
        maps["v"],
        heads,
        tensors["s"],
        0,
        attention.attend_scaling("fixed", tensors["v"], tensors["o"]),
    )
    assert np.array_equal(held["o"][0].numpy(), out.reshape(channels, count).T)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 3), st.integers(2, 4), fractions, fractions, fractions)
def test_relative_positions_are_their_specification(seed: int, heads: int, n: int, fr: int, fc: int, fs: int) -> None:
    rng = np.random.default_rng(seed)
    depth, count = 3, n * n
    x = {name: rng.integers(-128, 128, (2, count, heads * depth)).astype(np.int64) for name in "qk"}
    tables = {name: rng.integers(-128, 128, (n, n, depth)) for name in ("rows", "columns")}
    tensors = {"q": q(3), "k": q(4), "rows": q(5), "columns": q(6), "r": q(fr), "c": q(fc), "s": q(min(fs, fr, fc))}
    b = graph.Builder({}, "")
    nodes = [b.input(name) for name in "qk"]
    held_tables = [b.constant(k, torch.from_numpy(t * tensors[k].scale).float()) for k, t in tables.items()]
    terms = [
        b.call(name, v.relative, nodes[0], t, heads, i)
        for i, (name, t) in enumerate(zip("rc", held_tables, strict=True))
    ]
    raw = b.call("raw", v.scores, *nodes, heads, 1.0)
    made = machine(b, b.call("s", v.add_relative, raw, *terms), tensors)
    held = made.run(*(torch.from_numpy(x[name] * tensors[name].scale) for name in "qk"))

    def clamp(value: int) -> int:
        return min(127, max(-128, value))

    for _ in range(20):
        w, h, i, j = (int(rng.integers(top)) for top in (2, heads, count, count))
        query, key = (x[name][w, at, h * depth : (h + 1) * depth] for name, at in (("q", i), ("k", j)))
        row = clamp(rne(Fraction(int(query @ tables["rows"][i // n, j // n]), 1 << (3 + 5 - fr))))
        column = clamp(rne(Fraction(int(query @ tables["columns"][i % n, j % n]), 1 << (3 + 6 - fc))))
        assert held["r"][w, h, i, j // n] == row
        assert held["c"][w, h, i, j % n] == column
        real = Fraction(int(query @ key), 1 << 7) + Fraction(row, 1 << fr) + Fraction(column, 1 << fc)
        assert held["s"][w, h, i, j] == clamp(rne(real * (1 << fraction_bits(tensors["s"].scale))))


@given(seeds, st.integers(1, 9), st.integers(1, 5))
def test_windows_move_integers_and_come_back(seed: int, side: int, window: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).integers(-128, 128, (1, side * side, 3)))
    windows = v.partition(x, side, window)
    count = -(-side // window)
    assert windows.shape == (count * count, window * window, 3)
    assert torch.equal(v.unpartition(windows, side, window), x)
    assert int(windows.abs().sum()) == int(x.abs().sum())  # the padding is zero


@torch.no_grad()
def test_a_transposed_convolution_is_a_convolution_and_a_layout() -> None:
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(6, 4, 2, 2)
    x = torch.randn(1, 6, 3, 5)
    conv = as_conv(module)
    assert conv is not None
    places = conv(x).view(1, 4, 2, 2, 3, 5).permute(0, 1, 4, 2, 5, 3).reshape(1, 4, 6, 10)
    torch.testing.assert_close(places, module(x))
    with pytest.raises(HlsgenError, match="its kernel as stride"):
        as_conv(nn.ConvTranspose2d(6, 4, 3, 2))


@pytest.fixture(scope="module")
def calibrated() -> tuple[object, object, list[np.ndarray]]:
    rng = np.random.default_rng(5)
    pictures = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(6)]
    prompts = [Prompt((3, 4, 25, 22)), Prompt(points=((10, 12),)), Prompt(points=((20, 8),))]
    held = micro()
    return float_sam(held), fixed_sam(held, [(p, prompts) for p in pictures[:4]]), pictures[4:]


def test_a_whole_sam_is_near_the_float_one(calibrated: tuple) -> None:  # type: ignore[type-arg]
    plain, fixed, unseen = calibrated
    for picture in unseen:
        a, b = plain.embed(picture), fixed.embed(picture)
        assert 10 * torch.log10(a.square().sum() / (a - b).square().sum()) > 20
        for prompt in (Prompt((3, 4, 25, 22)), Prompt(points=((10, 12),))):
            wanted, got = (sam.logits(a, prompt, (32, 32))[0] for sam in (plain, fixed))
            assert 10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum()) > 12


def test_every_tensor_is_integers_of_its_width(calibrated: tuple) -> None:  # type: ignore[type-arg]
    _, fixed, unseen = calibrated
    network = fixed.decoder
    embedding = fixed.embed(unseen[0])
    held = network.run(embedding, torch.zeros(1, 2, 16))
    for name, tensor in held.items():
        held_to = network.spec.tensors.get(name)
        if held_to is None:
            assert tensor.dtype == torch.int32
        else:
            assert tensor.dtype == (torch.int8 if held_to.bits == 8 else torch.int16)
            assert held_to.zero_point == 0
            assert int(tensor.min()) >= held_to.low
            assert int(tensor.max()) <= held_to.high
    assert {t.bits for t in network.spec.tensors.values()} == {8, 14}
    assert torch.equal(integers(embedding, network.inputs[0]).float() * network.inputs[0].scale, embedding)


def test_queries_may_be_attended_a_few_at_a_time(
    calibrated: tuple,  # type: ignore[type-arg]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, fixed, unseen = calibrated
    wanted = fixed.embed(unseen[0])
    monkeypatch.setattr(token_machine, "QUERIES", 5)
    assert torch.equal(fixed.embed(unseen[0]), wanted)


def test_calibration_needs_pictures_and_finite_activations() -> None:
    held = micro()
    with pytest.raises(HlsgenError, match="at least one image"):
        fixed_sam(held, [])
    broken = dict(held.state) | {"image_encoder.pos_embed": torch.full((1, 4, 4, 24), 3e38)}
    picture = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(HlsgenError, match="NaN or infinity at "):
        fixed_sam(type(held)(held.config, broken), [(picture, [Prompt(points=((1, 1),))])])
