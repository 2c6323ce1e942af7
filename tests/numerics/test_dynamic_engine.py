"""Scheme dynamic on the engine: docs/arithmetic-dynamic.md against PyTorch, against exact numbers, and as machine ops."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.errors import HlsgenError
from hlsgen.models.sam.evaluate import generated, iou
from hlsgen.models.sam.load import load
from hlsgen.models.sam.model import dynamic_sam, levels
from hlsgen.models.sam.network import encoder_network, linears, sam_network
from hlsgen.models.sam.prompting import Prompting
from hlsgen.models.sam.prompts import preprocess
from hlsgen.program import dynamic as d
from hlsgen.program import golden, golden_dynamic
from hlsgen.program.lower import lower
from hlsgen.program.ops import EngineConfig, Program
from hlsgen.quantize.dynamic import DynamicLinear
from hlsgen.quantize.dynamic_network import DynamicReference, dynamic_spec, load_dynamic
from tests.quantize_nets import traced
from tests.sam_nets import MICRO, micro

Floats = npt.NDArray[np.float32]
seeds = st.integers(0, 2**32 - 1)
magnitudes = st.floats(-6, 4).map(lambda e: 10.0**e)


def floats(seed: int, *shape: int, scale: float = 1.0) -> Floats:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def sqnr(wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    a, b = wanted.astype(float), got.astype(float)
    return 10 * math.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-300))


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 30), st.integers(1, 900), st.integers(1, 40), magnitudes)
def test_linear_layers_are_the_references(seed: int, rows: int, inputs: int, outputs: int, scale: float) -> None:
    """The reference is PyTorch's quantize_dynamic, bit for bit (tests/numerics/test_dynamic.py)."""
    layer = DynamicLinear(torch.nn.Linear(inputs, outputs))
    x = floats(seed, rows, inputs, scale=scale)
    made = d.choose(*d.extent(x))
    u = d.quantize(x.T, made)
    acc = d.linear(u, made, layer.weight.numpy())
    assert np.array_equal(acc.T, layer.accumulate(torch.from_numpy(u.T.astype(np.uint8)), made).numpy())
    scales = np.full(outputs, layer.weight_scale, np.float32) * np.float32(made.scale)
    assert np.array_equal(d.affine(acc, scales, layer.bias.numpy()).T, layer(torch.from_numpy(x)).numpy())


@given(st.lists(st.integers(-d.LARGEST, d.LARGEST), min_size=1, max_size=50))
def test_halves_are_two_signed_bytes(values: list[int]) -> None:
    m = np.array(values)
    high, low = d.halves(m)
    assert np.array_equal(256 * high + low, m)
    assert min(high.min(), low.min()) >= -128 and max(high.max(), low.max()) <= 127


@settings(deadline=None)
@given(seeds, magnitudes, st.integers(1, 200))
def test_products_of_16_bits(seed: int, scale: float, inputs: int) -> None:
    a, b = floats(seed, 3, inputs, scale=scale), floats(seed + 1, inputs, 5)
    (sa, ra), (sb, rb) = (d.steps_of(d.magnitude(d.extent(x)), d.LARGEST) for x in (a, b))
    m, n = d.integers(a, ra), d.integers(b, rb)
    assert max(np.abs(m).max(), np.abs(n).max()) <= d.LARGEST
    ml, nl = d.halves(m)[1], d.halves(n)[1]
    assert np.array_equal(d.product(m, n) * 256, m @ n - ml @ nl)
    assert np.abs(m * sa - a).max() <= sa * 0.51 and np.abs(n * sb - b).max() <= sb * 0.51


def test_nothing_is_zero() -> None:
    assert d.steps_of(0.0, d.LARGEST) == (0, 0) and d.steps_of(1e-38, d.LARGEST) == (0, 0)
    zeros = np.zeros((8, 4), np.float32)
    assert not d.scores(zeros, zeros, (0.0, 0.0)).any() and not d.attend(zeros, zeros.T, 0.0).any()
    assert not d.layer_norm(zeros, 0.0, np.ones(8, np.float32), np.zeros(8, np.float32), 1e-6).any()


def test_gelu() -> None:
    x = np.concatenate([np.linspace(-12, 12, 100001), [-8, 8, 1e30, -1e30, 0]]).astype(np.float32)
    exact = np.array([0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x.tolist()])
    assert np.abs(d.gelu(x) - exact)[np.abs(x) <= 12].max() <= 8e-6 * 8
    assert np.array_equal(d.gelu(x[x >= 8]), x[x >= 8]) and not d.gelu(x[x <= -8]).any()
    assert sqnr(functional.gelu(torch.from_numpy(floats(0, 1000))).numpy(), d.gelu(floats(0, 1000))) > 100


def test_exponentials() -> None:
    below = np.concatenate([np.linspace(0, 30, 200001), [0, 1e30]]).astype(np.float32)
    p = d.exponential(below)
    assert np.abs(p - d.LARGEST * np.exp(-below.astype(float))).max() <= 0.7
    assert p[0] == d.LARGEST and p[-1] == 0 and (np.diff(p[:-2]) <= 0).all()


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(2, 200), magnitudes)
def test_layer_norm(seed: int, channels: int, scale: float) -> None:
    x, (gamma, beta) = floats(seed, channels, 9, scale=scale), floats(seed, 2, channels)
    wanted = functional.layer_norm(
        *(torch.from_numpy(v) for v in (x.T,)), (channels,), *(torch.from_numpy(v) for v in (gamma, beta))
    )
    got = d.layer_norm(x, d.magnitude(d.extent(x)), gamma, beta, 1e-5)
    assert got.dtype == np.float32 and sqnr(wanted.numpy().T, got) > 80


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 200))
def test_attention(seed: int, keys: int) -> None:
    q, k, v = floats(seed, 16, 7), floats(seed + 1, 16, keys), floats(seed + 2, 8, keys)
    s = d.scores(q, k, (float(np.abs(q).max()), float(np.abs(k).max())))
    assert s.dtype == np.float32 and sqnr(k.T @ q, s) > 70
    got = d.attend(s, v, float(np.abs(v).max()))
    assert got.dtype == np.float32 and sqnr(v.astype(float) @ torch.from_numpy(s).double().softmax(0).numpy(), got) > 60


def test_convolution_weights_are_as_fine_as_32_bits_allow() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 256, 3, 3))
    weight[3] = 0
    m, scale = d.quantize_conv("c", weight)
    high, low = (np.abs(h) for h in d.halves(m.astype(np.int64)))
    assert (128 * (256 * high + low) + 128 * high).sum(axis=(1, 2, 3)).max() < 1 << 31
    assert sqnr(weight[:3], (m * scale[:, None, None, None])[:3]) > 75 and not m[3].any()
    with pytest.raises(HlsgenError, match="convolution c has 200000 products a sum, too many"):
        d.quantize_conv("c", np.ones((1, 200000, 1, 1)))


def lowered(network: Any, spec: Any, side: int, engine: EngineConfig) -> Program:
    graph = model_graph(layer_list(network, spec, (3, side, side)), "encoder", "unused")
    run_passes(graph)
    return lower(graph, engine)


@torch.no_grad()
def test_the_tiny_sam_is_pytorchs_dynamic_one() -> None:
    """Embedding at least 40 dB, masks' mean IoU at least 0.99 against PyTorch's arithmetic, over pictures and prompts."""
    checkpoint = load("sam_tiny")
    network = sam_network(checkpoint.config, checkpoint.state, apart=True)
    spec = dynamic_spec(network, linears(network))
    side, prompting = checkpoint.config.img_size, Prompting.of(checkpoint.config, checkpoint.state)
    program = lowered(network, spec, side, EngineConfig())
    theirs = dynamic_sam(checkpoint)
    count = 0
    for stage in (theirs.encoder, theirs.decoder):
        count += sum(isinstance(m, DynamicLinear) for m in stage.modules())  # type: ignore[attr-defined]
    assert count == len(linears(network))
    for block in range(checkpoint.config.depth):
        wanted = theirs.encoder.get_submodule(f"block{block}_qkv")  # type: ignore[attr-defined]
        assert isinstance(wanted, DynamicLinear)
        ours = [spec.convs[f"block{block}_{part}"].weight[:, :, 0, 0] for part in "qkv"]
        assert np.array_equal(np.concatenate(ours), wanted.weight.numpy())
    found = []
    for picture, asked in generated(3, side):
        image = levels(preprocess(picture, side))[0].numpy().astype(np.int8)
        embedding, size = theirs.embed(picture), (picture.shape[0], picture.shape[1])
        for n, prompt in enumerate(p for one in asked[:2] for p in (one.box, one.point)):
            made = dict(golden.steps(program, image, *prompting.inputs(prompt, size)))
            if not n:
                assert sqnr(embedding.numpy()[0], made["embedding"]) > 40
            mask = torch.from_numpy(prompting.masks(made["masks"][:1], size)[0])
            found.append(iou(theirs.mask(embedding, prompt, size), mask))
    assert len(found) >= 6 and np.mean(found) >= 0.99


@torch.no_grad()
def test_the_reference_is_saved_and_is_the_graphs(tmp_path: Any) -> None:
    held = micro()
    network = encoder_network(held.config, held.state)
    reference = DynamicReference(network, dynamic_spec(network, linears(network)), (3, 32, 32))
    picture = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = (levels(preprocess(picture, 32))[0] + 128) / 255
    tensors = reference.tensors(image)
    reference.save(tmp_path)
    again = load_dynamic(tmp_path).tensors(image)
    assert all(np.array_equal(again[name], value) for name, value in tensors.items())
    assert sqnr(dynamic_sam(held).embed(picture)[0].numpy(), tensors["embedding"]) > 40
    assert np.array_equal(reference.values(image)["embedding"][0].numpy(), tensors["embedding"])
    assert tensors["image"].dtype == np.int8 and np.array_equal(tensors["image"], reference.quantize_input(image))


class Strange(nn.Module):
    """What scheme dynamic does not lower."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1, groups=2 if what == "groups" else 1)
        self.first, self.then = nn.Conv2d(3, 8, 1), nn.SiLU() if what == "silu" else nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> Any:
        return (self.then(self.conv(self.first(x))),)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("groups", "convolution conv has groups, which scheme dynamic cannot"),
        ("silu", "scheme dynamic has no silu at then; its activations are GELU and ReLU"),
        ("pool", r"scheme dynamic has no machine op for layer then \(max_pool\)"),
    ],
)
def test_what_it_cannot_lower_is_said(what: str, said: str) -> None:
    network = traced(Strange(what))
    with pytest.raises(HlsgenError, match=said):
        lowered(network, dynamic_spec(network, []), 8, EngineConfig())


def test_a_golden_model_far_from_pytorch_is_refused() -> None:
    network = encoder_network(MICRO, micro().state)
    program = lowered(network, dynamic_spec(network, linears(network)), 32, EngineConfig())
    image = np.random.default_rng(0).integers(-128, 128, (3, 32, 32)).astype(np.int8)
    made = {program.tensors[name].reference: values for name, values in golden.run(program, image).items()}
    embedding = made["embedding"]
    near, itself = golden_dynamic.check(
        program, made, made, lambda: pytest.fail("nobody asks how near it is to itself")
    )
    assert near["embedding"] == 200 and itself is None
    wrong = made | {"embedding": embedding * np.float32(1.1)}
    with pytest.raises(HlsgenError, match=r"embedding comes to 20.*dB of PyTorch's dynamic INT8, 40 are expected"):
        golden_dynamic.check(program, made, wrong, lambda: wrong["embedding"] * np.float32(1.00001))
    with pytest.raises(HlsgenError, match=r"embedding comes to 20.*dB of PyTorch's dynamic INT8, 23.* are expected"):
        golden_dynamic.check(program, made, wrong, lambda: wrong["embedding"] * np.float32(1.05))
    near, itself = golden_dynamic.check(program, made, wrong, lambda: wrong["embedding"] * np.float32(1.08))
    assert near["embedding"] == pytest.approx(20.8, abs=0.1) and itself == pytest.approx(21.9, abs=0.1)


def test_the_disturbed_reference_is_always_the_same_and_near() -> None:
    network = encoder_network(MICRO, micro().state)
    reference = DynamicReference.of(network, linears(network), (3, 32, 32))
    image = np.random.default_rng(0).random((3, 32, 32), np.float32)
    plain = reference(image)[0][0].numpy()
    moved, again = (reference.disturbed(image)[0] for _ in range(2))
    assert np.array_equal(moved, again) and 20 < golden_dynamic.decibels(plain, moved) < 120
