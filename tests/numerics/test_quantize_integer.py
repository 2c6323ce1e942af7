"""The torch references against docs/arithmetic.md in plain numpy: equal, on random and extreme networks."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hlsgen.quantize import Reference, quantize
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.spec import SCHEMES, ConvQ, QuantSpec, Scheme, TensorQ
from hlsgen.quantize.structure import outputs
from tests.quantize_nets import mixed, photographs, plain_integers, traced

SEED = st.integers(0, 2**32 - 1)


def same(reference: Reference, image: npt.NDArray[np.float32]) -> None:
    got = reference.tensors(image)
    expected = plain_integers(reference.network, reference.spec, reference.quantize_input(image).astype(np.int64))
    assert list(got) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(3))
def test_every_operator(scheme: Scheme, seed: int) -> None:
    images = photographs(2, seed=seed)
    reference = quantize(mixed(seed), images, scheme)
    same(reference, images[0])
    same(reference, photographs(1, (3, 9, 7), seed + 10)[0] * 3 - 1)  # another size, values beyond the range


@pytest.mark.parametrize("seed", range(3))
def test_every_operator_rescaled(seed: int) -> None:
    images = photographs(2, seed=seed)
    reference = quantize(mixed(seed), images, "fixed", recipe=Recipe(rescale=True))
    same(reference, images[0])
    same(reference, photographs(1, (3, 9, 7), seed + 10)[0] * 3 - 1)
    tensors = reference.spec.tensors
    assert any(np.frexp(q.scale)[0] != 0.5 for q in tensors.values()) and any(q.zero_point for q in tensors.values())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_heads_are_the_dequantized_integers(scheme: Scheme) -> None:
    images = photographs(2)
    reference = quantize(mixed(), images, scheme)
    held = reference.tensors(images[1])
    for head, node in zip(reference(torch.from_numpy(images[1])[None]), outputs(reference.network), strict=True):
        q = reference.spec.tensors[node.name]
        expected = (held[node.name].astype(np.float32) - q.zero_point) * np.float32(q.scale)
        np.testing.assert_array_equal(head[0].numpy(), expected)


class One(nn.Module):
    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.activation = conv, activation

    def forward(self, image: Tensor) -> Tensor:
        return self.activation(self.conv(image))  # type: ignore[no-any-return]


@settings(max_examples=25, deadline=None)
@given(
    seed=SEED,
    scheme=st.sampled_from(["fixed", "affine"]),
    bits=st.sampled_from([8, 10, 16]),
    extreme=st.booleans(),
    channels=st.sampled_from([(4, 4, 1), (6, 3, 3), (64, 2, 1)]),
    kernel=st.sampled_from([(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2)]),
)
def test_any_scales(
    seed: int, scheme: Scheme, bits: int, extreme: bool, channels: tuple[int, int, int], kernel: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs, groups = channels
    network = traced(One(nn.Conv2d(inputs, outputs, kernel[0], kernel[1], kernel[2], groups=groups), nn.SiLU()))
    low = -128 if extreme else -20
    weight = rng.integers(low, 128, (outputs, inputs // groups, kernel[0], kernel[0]), dtype=np.int8)
    if extreme:
        weight = np.where(weight > 0, 127, -128).astype(np.int8)
    largest = (1 << 20) if extreme else 1000
    bias = rng.integers(-largest, largest, outputs, dtype=np.int32)
    if scheme == "fixed":
        x, pre, out = TensorQ(2.0**-7, 0), TensorQ(2.0**-8, 0, bits), TensorQ(2.0**-4, 0)
        scale = 2.0 ** -rng.integers(4, 12, outputs).astype(float)
    else:
        x = TensorQ(float(np.float32(1 / 255)), int(rng.integers(-128, 128)))
        pre, out = TensorQ(rng.uniform(1e-3, 1), 0, bits), TensorQ(rng.uniform(1e-2, 1), int(rng.integers(-128, 128)))
        scale = rng.uniform(1e-5, 1, outputs)
    spec = QuantSpec(scheme, {"image": x, "conv": pre, "activation": out}, {"conv": ConvQ(weight, scale, bias)})
    same(Reference.from_spec(network, spec), rng.random((inputs, 7, 6), dtype=np.float32))


@pytest.mark.parametrize("scheme", ["fixed", "affine"])
def test_accumulators_beyond_float32(scheme: Scheme) -> None:
    """2304 products of extreme integers and an odd bias: sums above 2**24 whose last bit counts."""
    network = traced(One(nn.Conv2d(256, 2, 3, padding=1), nn.ReLU()))
    weight = np.full((2, 256, 3, 3), 127, np.int8)
    weight[1] = -127
    bias = np.array([(1 << 24) + 1, -(1 << 24) - 1], np.int32)
    convs = {"conv": ConvQ(weight, np.full(2, 2.0**-24), bias)}
    tensors = {"image": TensorQ(2.0**-7, 0), "conv": TensorQ(2.0**-20, 0, 16), "activation": TensorQ(2.0**-9, 0)}
    rng = np.random.default_rng(0)
    image = rng.uniform(0.9, 1, (256, 5, 5)).astype(np.float32)
    same(Reference.from_spec(network, QuantSpec(scheme, tensors, convs)), image)


def test_native_saturates_as_its_kernels_do() -> None:
    images = photographs(2)
    reference = quantize(mixed(), images, "native")
    tensors = {
        n: dataclasses.replace(q, scale=float(np.float32(q.scale / 16))) for n, q in reference.spec.tensors.items()
    }
    from hlsgen.quantize.native import native_spec

    same(Reference.from_spec(reference.network, native_spec(reference.network, tensors)), images[0])
