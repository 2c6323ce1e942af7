"""Attention: the torch reference, numpy and C++ against docs/arithmetic-attention.md in plain Python integers."""

import os
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
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
from hlsgen.frontend.onnx_write import shapes, write_fp32
from hlsgen.frontend.qdq_read import read_qdq
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.models.attention import attend, attention_scores
from hlsgen.models.network import check
from hlsgen.program import attention, golden, store
from hlsgen.program.lower import lower
from hlsgen.program.ops import EngineConfig
from hlsgen.quantize import Reference, quantize
from hlsgen.quantize.integer import Attend, Scores
from hlsgen.quantize.spec import QuantSpec, Scheme, TensorQ
from hlsgen.render import ProjectFacts, hls_include, render
from tests.numerics.random_nets import RandomNet
from tests.numerics.test_engine import ENGINES, prove
from tests.quantize_nets import photographs, traced

fx.wrap("attention_scores")
fx.wrap("attend")
INTEGER_SCHEMES: tuple[Scheme, ...] = ("fixed", "affine")


def ties_to_even(x: int, shift: int) -> int:
    return round(Fraction(x, 1 << shift))


def held(x: int) -> int:
    return min(max(x, -128), 127)


def plain_scores(q: list[int], k: list[list[int]], constants: attention.Scaling) -> list[int]:
    """A query's scores, by the specification's words."""
    sums = [sum(a * b for a, b in zip(q, key, strict=True)) for key in k]
    return [held(ties_to_even(s * constants.multiplier, constants.shift) + constants.out.zero_point) for s in sums]


def plain_attention(
    s: list[int], v: list[list[int]], scale: float, zero: int, constants: attention.Scaling
) -> list[int]:
    """A query's result from its scores and the values [keys][channels]."""
    table = [int(np.rint(127 * np.exp(-k * scale))) for k in range(256)]
    factors = [int(np.rint(2**16 * np.exp(-k * scale))) for k in range(256)]
    largest, total, sums = 0, 0, [0]
    for first in range(0, len(s), 256):
        part = s[first : first + 256]
        p = [table[max(part) - x] for x in part]
        columns = zip(*v[first : first + 256], strict=True)
        here = (sum(p) * 256, [sum(w * (x - zero) for w, x in zip(p, column, strict=True)) for column in columns])
        if first == 0:
            largest, (total, sums) = max(part), here
            continue
        above, (more, others) = max(part) - largest, here
        down = [ties_to_even(x * factors[abs(above)], 16) for x in ([total, *sums] if above > 0 else [more, *others])]
        up = [more, *others] if above > 0 else [total, *sums]
        total, *sums = (a + b for a, b in zip(down, up, strict=True))
        largest = max(largest, largest + above)
    n = total.bit_length() - 1
    r = (constants.multiplier << n) // total
    return [held(ties_to_even(x * r, constants.shift + n - 8) + constants.out.zero_point) for x in sums]


@st.composite
def quantizations(draw: st.DrawFn, scheme: Scheme, even: bool = False) -> TensorQ:
    if scheme == "fixed":
        return TensorQ(2.0 ** -draw(st.integers(2, 6)), 0)
    scale = float(np.float32(draw(st.floats(0.005, 0.3))))
    return TensorQ(scale, 0 if even else draw(st.sampled_from([-128, -3, 0, 77, 127])))


def integers(draw: st.DrawFn, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """Random, constant or extreme int8."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["random", "random", "small", "extreme", "constant"]))
    if kind == "constant":
        return np.full(shape, draw(st.sampled_from([-128, 0, 127])), np.int8)
    low, high = {"random": (-128, 128), "small": (-3, 4), "extreme": (0, 2)}[kind]
    values = random.integers(low, high, shape)
    return (np.where(values > 0, 127, -128) if kind == "extreme" else values).astype(np.int8)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_torch_and_numpy_are_the_specification(data: st.DataObject) -> None:
    draw = data.draw
    scheme = draw(st.sampled_from(INTEGER_SCHEMES))
    heads, d, e = draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 9))
    size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    keys = draw(st.sampled_from([(1, 1), (9, 7), (3, 5), (16, 16), (1, 257), (23, 31), (2, 600)]))
    q, k, v = (integers(draw, (heads * n, *hw)) for n, hw in ((d, size), (d, keys), (e, keys)))
    qq, kq = draw(quantizations(scheme, even=True)), draw(quantizations(scheme, even=True))
    vq, sq, oq = draw(quantizations(scheme)), draw(quantizations(scheme)), draw(quantizations(scheme))
    if scheme == "fixed":
        sq = TensorQ(max(sq.scale, qq.scale * kq.scale), 0)
    spec = QuantSpec(scheme, {}, {})
    first, second = attention.scores_scaling(scheme, qq, kq, sq), attention.attend_scaling(scheme, vq, oq)

    s = attention.scores(q, k, heads, first).astype(np.int8)
    o = attention.attend(s, v, heads, sq, vq.zero_point, second)
    n = keys[0] * keys[1]
    for h in range(heads):
        mine = [
            x[h * len(x) // heads : (h + 1) * len(x) // heads].reshape(len(x) // heads, -1).T.tolist()
            for x in (q, k, v)
        ]
        for i in range(size[0] * size[1]):
            row = s.reshape(heads, n, -1)[h, :, i].tolist()
            assert row == plain_scores(mine[0][i], mine[1], first)
            expected = plain_attention(row, mine[2], sq.scale, vq.zero_point, second)
            assert o.reshape(heads, e, -1)[h, :, i].tolist() == expected

    as_floats = [torch.from_numpy(x.astype(np.float32))[None] for x in (q, k, s, v)]
    np.testing.assert_array_equal(Scores(spec, qq, kq, sq)(as_floats[0], as_floats[1], heads)[0].numpy(), s)
    np.testing.assert_array_equal(Attend(spec, sq, vq, oq)(as_floats[2], as_floats[3], heads)[0].numpy(), o)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_error_against_exact_softmax_is_bounded(data: st.DataObject) -> None:
    """At most N / (2 * sum) of the values' range, and half a step of the output."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, scale = data.draw(st.integers(1, 300)), data.draw(st.floats(0.005, 0.3))
    s = random.integers(-128, 128, (n, 1, 1)).astype(np.int8)
    v = random.integers(-128, 128, (4, n, 1)).astype(np.int8)
    sq, vq = TensorQ(scale, 0), TensorQ(0.05, 0)
    constants = attention.attend_scaling("affine", vq, vq)
    got = attention.attend(s, v, 1, sq, 0, constants).reshape(-1)
    weights = np.exp((s.astype(float) - s.max()).reshape(-1) * scale)
    exact = (v.reshape(4, n) * (weights / weights.sum())).sum(1)
    total = attention.exponents(sq).astype(int)[s.max() - s.astype(int)].sum()
    bound = n / (2 * total) * 255 + 0.5 + 0.01  # the reciprocal's 16 bits
    assert np.abs(got - exact).max() <= bound


def test_extreme_rows() -> None:
    """One key; equal scores; a score so far above the rest that they vanish; 4096 keys at their extremes."""
    sq, vq = TensorQ(0.25, 0), TensorQ(0.5, 7)
    constants = attention.attend_scaling("affine", vq, vq)
    table = attention.exponents(sq)
    assert table[0] == 127 and table[40] == 0 and (np.diff(table) <= 0).all()

    def row(s: list[int], v: list[int]) -> int:
        columns = [np.array(x, np.int8).reshape(*shape) for x, shape in ((s, (-1, 1, 1)), (v, (1, -1, 1)))]
        return int(attention.attend(columns[0], columns[1], 1, sq, 7, constants)[0, 0, 0])

    assert row([-128], [99]) == 99
    assert row([5] * 4, [10, 20, 30, 40]) == 25
    assert row([127, -128, -128], [-50, 127, 127]) == -50
    assert row([-128] * 4096, [127] * 4096) == 127
    assert row([127] * 4096, [-128] * 4096) == -128


class SelfAttention(nn.Module):
    """What stands in YOLO11's C2PSA, small: queries, keys, values, attention, positional convolution, shortcut, two outputs."""

    def __init__(self, heads: int, d: int, e: int) -> None:
        super().__init__()
        c = heads * e
        self.heads = heads
        self.stem, self.act = nn.Conv2d(3, c, 3, stride=2, padding=1), nn.SiLU()
        self.q, self.k, self.v = nn.Conv2d(c, heads * d, 1), nn.Conv2d(c, heads * d, 1), nn.Conv2d(c, c, 1)
        self.pe, self.proj = nn.Conv2d(c, c, 3, padding=1, groups=c), nn.Conv2d(c, c, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.act(self.stem(image))
        v = self.v(x)
        mixed = attend(attention_scores(self.q(x), self.k(x), self.heads), v, self.heads)
        return torch.add(x, self.proj(torch.add(mixed, self.pe(v)))), mixed


def small(seed: int = 0, heads: int = 2, d: int = 5, e: int = 12) -> fx.GraphModule:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = traced(SelfAttention(heads, d, e))
    with torch.no_grad():
        for part in (network.q, network.k):  # scores that tell keys apart
            part.weight.mul_(4)  # type: ignore[union-attr, operator]
    check(network)
    return network


def lowered(reference: Reference, shape: tuple[int, int, int], engine: EngineConfig) -> Any:
    graph = model_graph(layer_list(reference.network, reference.spec, shape), "small", "unused")
    run_passes(graph)
    return lower(graph, engine)


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES)
def test_from_float_to_hardware(scheme: Scheme, tmp_path: Path) -> None:
    """Calibrated, exported, lowered, simulated, with fast and with exact-width types: one set of integers."""
    network, shape = small(), (3, 12, 10)
    images = photographs(3, shape)
    reference = quantize(network, images, scheme)
    tensors = reference.tensors(images[0])
    assert np.unique(tensors["attention_scores"]).size > 50 and np.unique(tensors["attend"]).size > 50
    program = lowered(reference, shape, ENGINES[0])
    assert [op.kind for op in program.ops if op.operand] == ["attend"]
    assert golden.check(program, tensors["image"], tensors) > 0
    (tmp_path / "program").mkdir()
    store.save(program, tmp_path / "program")
    again = store.read(tmp_path / "program")
    assert golden.check(again, tensors["image"], tensors) > 0
    fast = prove(program, tmp_path, 0)
    strict = prove(again, tmp_path, 0, strict=True)
    assert np.array_equal(fast.maps, strict.maps)
    got, wanted = reference(torch.from_numpy(images[0])[None]), network(torch.from_numpy(images[0])[None])
    for a, b in zip(got, wanted, strict=True):  # 20 dB: it computes the network, not only itself
        assert ((a - b) ** 2).sum() < 0.01 * (b**2).sum()


@pytest.mark.parametrize("size", [(12, 10), (36, 40)])  # one chunk of keys, two
@pytest.mark.parametrize("engine", [0, 1, 3])  # pairs of pixels; scores beat by beat; one pixel
def test_it_compiles_without_a_warning(size: tuple[int, int], engine: int, tmp_path: Path) -> None:
    shape = (3, *size)
    reference = quantize(small(), photographs(2, shape), "affine")
    render(
        lowered(reference, shape, ENGINES[engine]), tmp_path, ProjectFacts("small", "xc7z020clg400-1", 150.0, "small")
    )
    flags = ["-std=c++14", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-isystem", str(hls_include())]
    command = [os.environ.get("CXX", "g++"), *flags, "-Isrc", "-c", "src/engine.cpp", "-o", "engine.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("engine", [1, 4])  # scores beat by beat; four pairs of pixels, of which one is there
def test_fewer_pixels_than_the_array_has_stay_within_their_memories(
    engine: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token: what is held of a group is held of all its pixels."""
    shape = (3, 2, 2)
    images = photographs(2, shape)
    reference = quantize(small(), images, "affine")
    program = lowered(reference, shape, replace(ENGINES[engine], narrow=engine == 1))
    render(program, tmp_path, ProjectFacts("small", "xc7z020clg400-1", 150.0, "small"))
    tensors = reference.tensors(images[0])
    csim.write_data(program, tmp_path / "data", tensors["image"], tensors)
    compiler = os.environ.get("CXX", "g++")
    monkeypatch.setenv("CXX", f"{compiler} -fsanitize=bounds -fno-sanitize-recover=bounds")
    assert csim.simulate(tmp_path, program, tmp_path / "data").first_difference() is None


def test_hls4ml_predicts_what_pytorch_computes(tmp_path: Path) -> None:
    network, shape = small(), (3, 12, 10)
    images = photographs(2, shape)
    reference = quantize(network, images, "affine")
    graph = model_graph(layer_list(network, reference.spec, shape), "small", tmp_path)
    run_passes(graph)
    graph.write()
    graph.compile()
    wanted = reference(torch.from_numpy(images[0])[None])
    for got, expected in zip(graph.predict(images[0][None]), wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(got).reshape(-1), expected.numpy().reshape(-1))


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_with_attention(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 24)), int(random.integers(1, 24)))
    net = RandomNet(seed, INTEGER_SCHEMES[seed % 2], 6, size, attention=True)
    graph = model_graph(net.layers, "random_net", "unused")
    run_passes(graph)
    program = lower(graph, ENGINES[(seed + 1) % len(ENGINES)])
    assert any(op.kind == "attend" for op in program.ops)
    prove(program, tmp_path, seed)
    data = tmp_path / "data"
    through = csim.simulate(tmp_path, program, data, tokens=simulate(program, Link()).op_tokens)
    assert through.streams is not None and through.mismatches == 0


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2000, 2040))
def test_many_random_networks_with_attention(seed: int, tmp_path: Path) -> None:
    test_random_networks_with_attention(seed, tmp_path)


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES)
def test_onnx_says_the_same(scheme: Scheme, tmp_path: Path) -> None:
    network, shape = small(1), (3, 16, 20)
    images = photographs(2, shape)
    write_fp32(network, shape, tmp_path / "float.onnx", "small")
    read, size = read_fp32(tmp_path / "float.onnx")
    image = torch.from_numpy(images[0])[None]
    assert size == shape and [n.name for n in read.graph.nodes] == [n.name for n in network.graph.nodes]
    for a, b in zip(read(image), network(image), strict=True):
        assert torch.equal(a, b)
    reference = quantize(network, images, scheme)
    write_qdq(network, reference.spec, shape, tmp_path / "q.onnx", "small")
    again, spec, _ = read_qdq(tmp_path / "q.onnx")
    assert dict(spec.tensors) == dict(reference.spec.tensors)
    assert [n.name for n in again.graph.nodes] == [n.name for n in network.graph.nodes]
    found = agreement(tmp_path / "q.onnx", reference.tensors(images[0]), images[0])
    assert found["equal_inputs"]["largest"] <= LIMIT
    kinds = {n.op_type for n in onnx.load(tmp_path / "q.onnx").graph.node}
    assert {"MatMul", "Exp", "ReduceMax", "ReduceSum", "Div"} <= kinds


class Joint(nn.Module):
    """Queries, keys and values of all heads from one convolution, scaled, as PyTorch code writes it."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.turned = nn.Conv2d(3, 2 * (4 + 4 + 6), 1), nn.Conv2d(12, 4, 1), turned

    def forward(self, image: Tensor) -> Tensor:
        _, _, h, w = image.shape
        q, k, v = self.qkv(image).view(1, 2, 14, h * w).split([4, 4, 6], dim=2)
        if self.turned:  # keys along the rows
            weights = ((k.transpose(-2, -1) @ q) * 0.5).softmax(dim=-2)
            mixed = v @ weights
        else:
            weights = ((q.transpose(-2, -1) @ k) * 0.5).softmax(dim=-1)
            mixed = v @ weights.transpose(-2, -1)
        return self.out(mixed.reshape(1, 12, h, w) + v.reshape(1, 12, h, w))  # type: ignore[no-any-return]


@pytest.mark.parametrize("turned", [False, True])
def test_attention_of_another_exporter(turned: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, image = Joint(turned).eval().requires_grad_(False), torch.rand(1, 3, 6, 5)
    torch.onnx.export(module, (image,), tmp_path / "joint.onnx", dynamo=False)
    network, shape = read_fp32(tmp_path / "joint.onnx")
    assert shape == (3, 6, 5)
    torch.testing.assert_close(network(image)[0], module(image))
    assert sum(n.target is attend for n in network.graph.nodes) == 1
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(m.out_channels for m in convs) == [4, 8, 8, 12]  # the joint one is gone


def test_bad_attention_is_told_in_a_sentence() -> None:
    network = small()
    images = photographs(1, (3, 10, 10))
    with pytest.raises(HlsgenError, match=r"scheme native cannot run the attention at attend: .*use --scheme fixed or"):
        quantize(network, images, "native")
    with pytest.raises(HlsgenError, match=r"in 2 heads expects maps that fit each other, got \[\(25, 5, 5\)"):
        shapes(on_itself(attention_scores, 2), (3, 5, 5))
    with pytest.raises(HlsgenError, match="queries and keys with zero points of 0, got 3 and 0; quantize them sym"):
        attention.scores_scaling("affine", TensorQ(0.1, 3), TensorQ(0.1, 0), TensorQ(0.1, 0))
    with pytest.raises(HlsgenError, match=r"attention at .* expects scores of as many heads that nothing else reads"):
        check(on_itself(attend, 1))


def on_itself(function: Any, heads: int) -> fx.GraphModule:
    """A convolution's 25 channels, twice, as an attention's operands."""
    graph = fx.Graph()
    conv = graph.call_module("conv", (graph.placeholder("image"),))
    graph.output((graph.call_function(function, (conv, conv, heads)),))
    return fx.GraphModule({"conv": nn.Conv2d(3, 25, 1)}, graph)


def test_a_network_without_attention_pays_nothing(tmp_path: Path) -> None:
    """Its project has no such file, and no such word after the preprocessor."""
    import subprocess

    from hlsgen.render import ProjectFacts, hls_include, render
    from tests.numerics.test_engine import random_program

    render(random_program(1, "fixed", ENGINES[0]), tmp_path, ProjectFacts("plain", "xc7z020clg400-1", 150.0, "plain"))
    assert not (tmp_path / "src" / "attention.h").exists()
    command = ["g++", "-std=c++14", "-E", "-P", "-isystem", str(hls_include()), str(tmp_path / "src" / "engine.cpp")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "load_residual" in text
    assert not [word for word in ("row_sum", "operand;", "OP_ATTEND", "exponents", "turner") if word in text]
