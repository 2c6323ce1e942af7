"""LayerNorm: numpy, torch and C++ against docs/arithmetic-attention.md in plain Python integers."""

from fractions import Fraction
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from hlsgen import csim
from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.cost.hardware import Link
from hlsgen.cost.simulate import simulate
from hlsgen.errors import HlsgenError
from hlsgen.frontend.agreement import LIMIT, agreement
from hlsgen.frontend.onnx_read import read_fp32
from hlsgen.frontend.onnx_write import write_fp32
from hlsgen.frontend.qdq_read import read_qdq
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.models.norm import ChannelNorm
from hlsgen.program import golden, store
from hlsgen.program.layer_norm import layer_norm, norm_constants
from hlsgen.program.lower import lower
from hlsgen.quantize import quantize
from hlsgen.quantize.integer import Norm
from hlsgen.quantize.spec import Scheme, TensorQ
from tests.numerics.test_engine import ENGINES, prove
from tests.quantize_nets import photographs

INTEGER_SCHEMES: tuple[Scheme, ...] = ("fixed", "affine")


def plain(x: list[int], gamma: list[float], beta: list[float], eps: float, sx: float, out: TensorQ) -> list[int]:
    """A pixel's channels, by the specification's words."""
    c = len(x)
    s1, s2 = sum(x), sum(v * v for v in x)
    var = c * s2 - s1 * s1 + max(1, round(Fraction(eps) * c**2 / Fraction(sx) ** 2))
    t = 2 * ((var.bit_length() - 1) // 2)
    r = isqrt((1 << (32 + t)) // var)
    n = [round(Fraction((c * v - s1) * r, 1 << (6 + t // 2))) for v in x]
    shift = 30
    while shift and (
        round(max(abs(g) for g in gamma) / (1024 * out.scale) * 2.0**shift) >= 1 << 16
        or max(abs(b) for b in beta) / out.scale * 2.0**shift >= 2.0**31 - 1
    ):
        shift -= 1
    made = []
    for v, g, b in zip(n, gamma, beta, strict=True):
        gain, offset = (int(np.rint(a / out.scale * 2.0**shift)) for a in (g / 1024, b))
        made.append(round(Fraction(v * gain + offset, 1 << shift)) + out.zero_point)
    return [min(max(v, -128), 127) for v in made]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_torch_and_numpy_are_the_specification(data: st.DataObject) -> None:
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    c, eps = draw(st.integers(1, 40)), draw(st.sampled_from([1e-6, 1e-5, 0.5]))
    sx, sy = (2.0 ** -draw(st.integers(0, 7)) for _ in range(2))
    low, high = draw(st.sampled_from([(-128, 128), (-2, 3), (5, 6), (127, 128)]))
    x = random.integers(low, high, (c, 2, 3))
    out = TensorQ(sy, draw(st.sampled_from([0, 0, -128, 50])))
    module = ChannelNorm(c, eps).requires_grad_(False)
    module.weight[:] = torch.from_numpy(random.normal(0, draw(st.sampled_from([0.01, 1.0, 8.0])), c))
    module.bias[:] = torch.from_numpy(random.normal(0, 1, c))
    gamma, beta = module.weight.double().numpy(), module.bias.double().numpy()
    constants = norm_constants(gamma, beta, eps, TensorQ(sx, 0), out)
    got = np.moveaxis(layer_norm(np.moveaxis(x, 0, -1), constants), -1, 0)
    for i, j in np.ndindex(2, 3):
        assert got[:, i, j].tolist() == plain(x[:, i, j].tolist(), gamma.tolist(), beta.tolist(), eps, sx, out)
    made = Norm(module, TensorQ(sx, 0), out)(torch.from_numpy(x.astype(np.float32))[None])
    np.testing.assert_array_equal(made[0].numpy(), got)
    # In the integers epsilon is a whole number of (s_x / C)^2, at least one.
    values, epsilon = x * sx, constants.epsilon * (sx / c) ** 2
    unit = (values - values.mean(0)) / np.sqrt(values.var(0) + epsilon)
    exact = (unit * gamma[:, None, None] + beta[:, None, None]) / sy + out.zero_point
    held = np.clip(exact, -128, 127)
    largest = np.abs(gamma).max() / sy  # steps of the output for one standard deviation
    assert np.abs(got - held).max() <= 0.5 + largest * (2.0**-11 + np.sqrt(c) * 2.0**-15) + 0.02


def test_the_module_is_torchs() -> None:
    x, module = torch.randn(2, 6, 3, 4), ChannelNorm(6, 1e-5)
    theirs = nn.LayerNorm(6, 1e-5)
    with torch.no_grad():
        module.weight.copy_(torch.randn(6))
        theirs.weight.copy_(module.weight)
    torch.testing.assert_close(module(x), theirs(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class Small(nn.Module):
    """A transformer's MLP on maps: norm, expansion, GELU, contraction, shortcut, norm."""

    def __init__(self, channels: int = 21) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, channels, 4, stride=4), ChannelNorm(channels)
        self.lin1, self.gelu, self.lin2 = nn.Conv2d(channels, 50, 1), nn.GELU(), nn.Conv2d(50, channels, 1)
        self.last = ChannelNorm(channels)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        x = torch.add(x, self.lin2(self.gelu(self.lin1(self.norm(x)))))
        return (self.last(x),)


class Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ChannelNorm) or super().is_leaf_module(m, module_qualified_name)


def small() -> fx.GraphModule:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Small().eval().requires_grad_(False)
        for norm in (module.norm, module.last):
            norm.weight[:] = torch.randn(len(norm.weight))
            norm.bias[:] = torch.randn(len(norm.bias))
    return fx.GraphModule(module, Leaves().trace(module))


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES)
def test_from_float_to_hardware(scheme: Scheme, tmp_path: Path) -> None:
    network, shape = small(), (3, 28, 20)
    images = photographs(3, shape)
    write_fp32(network, shape, tmp_path / "float.onnx", "small")
    read, _ = read_fp32(tmp_path / "float.onnx")
    assert [n.name for n in read.graph.nodes] == [n.name for n in network.graph.nodes]
    reference = quantize(network, images, scheme)
    tensors = reference.tensors(images[0])
    write_qdq(network, reference.spec, shape, tmp_path / "q.onnx", "small")
    assert dict(read_qdq(tmp_path / "q.onnx")[1].tensors) == dict(reference.spec.tensors)
    assert agreement(tmp_path / "q.onnx", tensors, images[0])["equal_inputs"]["largest"] <= LIMIT
    graph = model_graph(layer_list(network, reference.spec, shape), "small", "unused")
    run_passes(graph)
    program = lower(graph, ENGINES[0])
    assert [op.kind for op in program.ops].count("norm") == 2
    (tmp_path / "program").mkdir()
    store.save(program, tmp_path / "program")
    program = store.read(tmp_path / "program")
    assert golden.check(program, tensors["image"], tensors) > 0
    fast = prove(program, tmp_path, 0)
    strict = prove(program, tmp_path, 0, strict=True)
    assert np.array_equal(fast.maps, strict.maps)
    through = csim.simulate(tmp_path, program, tmp_path / "data", tokens=simulate(program, Link()).op_tokens)
    assert through.streams is not None and through.mismatches == 0
    got, wanted = reference(torch.from_numpy(images[0])[None]), network(torch.from_numpy(images[0])[None])
    assert ((got[0] - wanted[0]) ** 2).sum() < 0.01 * (wanted[0] ** 2).sum()


def test_bad_norms_are_told_in_a_sentence() -> None:
    with pytest.raises(HlsgenError, match="scheme native cannot run the LayerNorm at norm; use --scheme fixed or"):
        quantize(small(), photographs(1, (3, 8, 8)), "native")
    with pytest.raises(HlsgenError, match=r"a LayerNorm with weights up to 1e\+09 to a scale of 0.25 is out of range"):
        norm_constants(np.array([1e9]), np.array([0.0]), 1e-6, TensorQ(0.5, 0), TensorQ(0.25, 0))
