"""The dynamic scheme is PyTorch's quantize_dynamic with engine qnnpack, bit for bit."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hlsgen.models.sam.evaluate import iou
from hlsgen.models.sam.model import Sam, dynamic_sam
from hlsgen.models.sam.prompts import Prompt
from hlsgen.quantize.dynamic import DynamicLinear, Levels, choose, quantize, quantize_weight
from tests.sam_nets import MICRO, micro

finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
magnitudes = st.floats(-6, 4).map(lambda e: 10.0**e)


@pytest.fixture(autouse=True, scope="module")
def qnnpack() -> Iterator[None]:
    if "qnnpack" not in torch.backends.quantized.supported_engines:
        pytest.skip("this PyTorch has no qnnpack engine to compare with")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated, and what we reproduce
        yield
    torch.backends.quantized.engine = before


pytestmark = pytest.mark.filterwarnings("ignore:.*quantize.*:UserWarning")


def theirs(linear: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(linear, {nn.Linear}, dtype=torch.qint8)


def tensor(rng: np.random.Generator, *shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    return torch.from_numpy((rng.standard_normal(shape) * scale + offset).astype(np.float32))


@given(finite, finite)
def test_ranges_give_pytorchs_scale_and_zero_point(a: float, b: float) -> None:
    scale, zero_point = torch._choose_qparams_per_tensor(torch.tensor([a, b]), False)
    assert choose(min(a, b), max(a, b)) == Levels(float(np.float32(scale)), zero_point)


@given(st.floats(-40, -1), st.sampled_from([(-1, 1), (0, 1), (-1, 0), (-0.3, 0.7)]))
def test_tiny_ranges_too(exponent: float, ends: tuple[float, float]) -> None:
    a, b = (float(np.float32(end * 10.0**exponent)) for end in ends)
    scale, zero_point = torch._choose_qparams_per_tensor(torch.tensor([a, b]), False)
    assert choose(a, b) == Levels(float(np.float32(scale)), zero_point)


@given(st.integers(0, 2**32 - 1), magnitudes, st.floats(-3, 3))
def test_activations_quantize_as_pytorchs(seed: int, scale: float, offset: float) -> None:
    x = tensor(np.random.default_rng(seed), 7, 33, scale=scale, offset=offset * scale)
    levels = choose(float(x.min()), float(x.max()))
    wanted = torch.quantize_per_tensor(x, levels.scale, levels.zero_point, torch.quint8).int_repr()
    assert torch.equal(quantize(x, levels), wanted)


@given(st.integers(0, 2**32 - 1), magnitudes, st.integers(0, 255))
def test_activations_beside_a_half_too(seed: int, scale: float, zero_point: int) -> None:
    rng = np.random.default_rng(seed)
    levels = Levels(float(np.float32(scale)), zero_point)
    x = ((rng.integers(-zero_point, 256 - zero_point, 300) + 0.5) * levels.scale).astype(np.float32)
    for _ in range(2):
        x = np.where(rng.random(300) < 0.5, np.nextafter(x, np.float32(rng.choice([-np.inf, np.inf]))), x)
    wanted = torch.quantize_per_tensor(torch.from_numpy(x), levels.scale, zero_point, torch.quint8).int_repr()
    assert torch.equal(quantize(torch.from_numpy(x), levels), wanted)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.one_of(st.integers(1, 80), st.sampled_from([513, 520, 768, 1500])),
    st.integers(1, 70),
    magnitudes,
    st.floats(-3, 3),
    st.booleans(),
)
def test_linear_layers_equal_pytorchs(
    seed: int, rows: int, inputs: int, outputs: int, scale: float, offset: float, bias: bool
) -> None:
    rng = np.random.default_rng(seed)
    linear = nn.Linear(inputs, outputs, bias=bias)
    linear.weight.data = tensor(rng, outputs, inputs, scale=float(rng.uniform(0.01, 3)))
    if bias:
        linear.bias.data = tensor(rng, outputs)
    reference, ours = theirs(nn.Sequential(linear))[0], DynamicLinear(linear)
    assert torch.equal(ours.weight, reference.weight().int_repr())
    assert ours.weight_scale == reference.weight().q_scale()
    x = tensor(rng, rows, inputs, scale=scale, offset=offset * scale)
    assert torch.equal(ours(x), reference(x))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 9))
def test_sums_are_exact(seed: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    layer = DynamicLinear(nn.Linear(inputs, outputs))
    u = rng.integers(0, 256, (5, inputs))
    levels = Levels(0.5, int(rng.integers(0, 256)))
    wanted = (u - levels.zero_point) @ layer.weight.numpy().astype(np.int64).T
    got = layer.accumulate(torch.from_numpy(u.astype(np.uint8)), levels)
    assert np.array_equal(got.numpy().astype(np.int64), wanted)


@pytest.mark.parametrize("value", [0.0, -3.0, 3.0])
def test_constant_inputs_and_weights(value: float) -> None:
    linear = nn.Linear(4, 3)
    linear.weight.data.fill_(value)
    reference, ours = theirs(nn.Sequential(linear))[0], DynamicLinear(linear)
    x = torch.full((2, 4), value)
    assert torch.equal(ours(x), reference(x))
    assert quantize_weight(linear.weight)[1] == reference.weight().q_scale()


@torch.no_grad()
def test_a_whole_sam_against_quantize_dynamic() -> None:
    from importlib.util import find_spec

    if find_spec("segment_anything") is None:
        pytest.skip("needs segment-anything")
    from hlsgen.models.sam.original import original

    held = micro()
    model = original(MICRO)
    model.load_state_dict(dict(held.state))
    quantized = theirs(model)
    count = sum(type(m).__name__ == "Linear" and "dynamic" in type(m).__module__ for m in quantized.modules())
    ours = dynamic_sam(held)
    assert count == sum(isinstance(m, DynamicLinear) for n in (ours.encoder, ours.decoder) for m in n.modules())  # type: ignore[attr-defined]

    def decoded(embedding: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        dense = quantized.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, 4, 4)
        position = quantized.prompt_encoder.get_dense_pe()
        masks, quality = quantized.mask_decoder.predict_masks(embedding, position, tokens, dense)
        return masks.flatten(2)[None], quality[None]

    reference = Sam(MICRO, held.state, lambda image: (quantized.image_encoder(image),), decoded)
    picture = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    a, b = reference.embed(picture), ours.embed(picture)
    assert 10 * torch.log10(a.square().sum() / (a - b).square().sum()) > 40
    for prompt in (Prompt((3, 4, 25, 22)), Prompt(points=((10, 12),))):
        assert iou(reference.mask(a, prompt, (32, 32)), ours.mask(a, prompt, (32, 32))) >= 0.99
