"""A reference's making and keeping: properties of the scales, saving and loading, determinism, close to the float network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

from hlsgen.program.arithmetic import conv_requant, fraction_bits
from hlsgen.quantize import load_reference, quantize
from hlsgen.quantize.spec import SCHEMES, Scheme
from hlsgen.quantize.structure import activations_fed, shared_scales
from tests.quantize_nets import mixed, photographs


@pytest.mark.parametrize("scheme", SCHEMES)
def test_close_to_the_float_network(scheme: Scheme) -> None:
    network, images = mixed(), photographs(3)
    reference = quantize(network, images, scheme)
    for got, wanted in zip(reference(images[0]), network(torch.from_numpy(images[0])[None]), strict=True):
        noise = float(((got - wanted) ** 2).mean() / wanted.var())
        assert noise < (0.02 if scheme == "fixed" else 0.002)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_saved_and_loaded(scheme: Scheme, tmp_path: Path) -> None:
    images = photographs(2)
    reference = quantize(mixed(), images, scheme)
    reference.save(tmp_path / "a" / "b")
    loaded = load_reference(tmp_path / "a" / "b")
    assert loaded.shape == reference.shape == (3, 16, 24)
    assert dict(loaded.spec.tensors) == dict(reference.spec.tensors)
    held, again = reference.tensors(images[1]), loaded.tensors(images[1])
    assert sorted(held) == sorted(again)
    for name in held:
        assert held[name].dtype == again[name].dtype
        np.testing.assert_array_equal(held[name], again[name], err_msg=name)
    np.testing.assert_array_equal(reference.quantize_input(images[1]), held["image"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_inputs_same_bytes(scheme: Scheme, tmp_path: Path) -> None:
    for name in ("first", "second"):
        quantize(mixed(), photographs(2), scheme).save(tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "first").iterdir())
    assert files == ["network.onnx", "spec.json", "spec.npz"]
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_scales_keep_the_contract(scheme: Scheme, bits: int) -> None:
    network = mixed()
    spec = quantize(network, photographs(2), scheme, pre_bits=bits).spec
    wide = activations_fed(network) if scheme != "native" else {}
    for name, root in shared_scales(network).items():
        q = spec.tensors[name]
        assert q == spec.tensors[root]
        assert q.bits == (bits if name in wide else 8)
        assert q.low <= q.zero_point <= q.high
        if scheme == "fixed":
            fraction_bits(q.scale)
        if scheme == "fixed" or name in wide:
            assert q.zero_point == 0
        if scheme == "native":
            assert q.scale == float(np.float32(q.scale))
    for node in network.graph.nodes:
        if node.name in spec.convs:
            x, out = spec.tensors[node.all_input_nodes[0].name], spec.tensors[node.name]
            conv_requant(scheme, x, spec.convs[node.name].weight_scale, out)  # raises where a constant is out of range


def _with_dead_channels() -> fx.GraphModule:
    network = mixed()
    network.get_parameter("c1.weight")[:4] = 0
    network.get_parameter("c2.weight")[:] = 0
    network.get_parameter("c3.bias")[:] = 1e4
    network.get_parameter("c4.weight")[0] = 1e-30
    return network


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_degenerate_weights_and_images(scheme: Scheme, value: float) -> None:
    """Dead channels, a huge bias on them, one image of one colour: valid scales, finite outputs."""
    image = np.full((3, 8, 8), value, np.float32)
    network = _with_dead_channels()
    reference = quantize(network, [image], scheme)
    for got, wanted in zip(reference(image), network(torch.from_numpy(image)[None]), strict=True):
        assert bool(torch.isfinite(got).all())
        assert float((got - wanted).abs().max()) <= 0.05 * max(float(wanted.abs().max()), 1)


def test_one_image_and_any_iterable() -> None:
    images = photographs(2)
    told: list[tuple[int, int]] = []
    quantize(mixed(), iter(images), "fixed", progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told][:2] == [1, 2]
    quantize(mixed(), [images[0][None]], "fixed")
