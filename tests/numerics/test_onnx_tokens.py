"""SAM as ONNX: standard operators, accepted by the checker, run by ONNX Runtime, equal to what it was written from."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_tokens import sam_session, token_model, write_sam
from hlsgen.models.sam import graph
from hlsgen.models.sam import vocabulary as v
from hlsgen.models.sam.model import Sam, dynamic_sam, float_sam
from hlsgen.models.sam.prompts import Prompt
from hlsgen.quantize.dynamic import DynamicLinear, dynamic
from tests.sam_nets import micro

SIZE = (32, 32)
PROMPTS = (Prompt((3, 4, 25, 22)), Prompt((3, 4, 25, 22), ((9, 9),), ((1, 1),)))


def sqnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(a.square().sum() / (a - b).square().sum().clamp(min=1e-30)))


def in_onnx(sam: Sam, folder: Path) -> Sam:
    return Sam(sam.config, sam.state, *sam_session(*write_sam(sam, folder)))


def test_the_float_model_agrees(tmp_path: Path) -> None:
    plain = float_sam(micro())
    other = in_onnx(plain, tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    a = plain.embed(picture)
    assert sqnr(a, other.embed(picture)) > 100
    for prompt in PROMPTS:  # of two lengths: the decoder takes any number of prompt tokens
        for wanted, got in zip(plain.logits(a, prompt, SIZE), other.logits(a, prompt, SIZE), strict=True):
            assert wanted.shape == got.shape
            assert sqnr(wanted, got) > 90


def test_the_dynamic_model_agrees(tmp_path: Path) -> None:
    quantized = dynamic_sam(micro())
    other = in_onnx(quantized, tmp_path)
    picture = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    a = quantized.embed(picture)
    assert sqnr(a, other.embed(picture)) > 40
    for prompt in PROMPTS:
        assert sqnr(quantized.logits(a, prompt, SIZE)[0], other.logits(a, prompt, SIZE)[0]) > 25


def test_operators_are_standard_and_every_linear_layer_is_quantized(tmp_path: Path) -> None:
    quantized = dynamic_sam(micro())
    for network, path in zip((quantized.encoder, quantized.decoder), write_sam(quantized, tmp_path), strict=True):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        kinds = [node.op_type for node in model.graph.node]
        assert {node.domain for node in model.graph.node} == {""}
        assert [o.domain for o in model.opset_import] == [""]
        layers = sum(isinstance(m, DynamicLinear) for m in network.modules())  # type: ignore[attr-defined]
        assert kinds.count("DynamicQuantizeLinear") == kinds.count("MatMulInteger") == layers > 0


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sam(dynamic_sam(micro()), tmp_path / name)
    for file in ("encoder.onnx", "decoder.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 40))
def test_a_linear_layers_sums_are_exact_in_onnx_runtime(seed: int, inputs: int, outputs: int) -> None:
    """Inputs that either way of quantizing maps to the same integers: the results differ by float rounding only."""
    rng = np.random.default_rng(seed)
    b = graph.Builder({}, "")
    layer = nn.Linear(inputs, outputs)
    layer.weight.data = torch.from_numpy(rng.normal(0, 1, (outputs, inputs)).astype(np.float32))
    network = dynamic(b.finish(b.module("layer", layer, b.input("x"))))
    low = int(rng.integers(0, 256))
    u = rng.integers(0, 256, (1, 3, inputs))
    u.flat[0], u.flat[-1] = 0, 255
    x = ((u - low) * 0.125).astype(np.float32)
    model = token_model(network, "layer", {"x": (1, 3, inputs)}, {"y": (1, 3, outputs)})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,), (got,) = network(torch.from_numpy(x)), session.run(None, {"x": x})
    layer_of: DynamicLinear = network.get_submodule("layer")  # type: ignore[assignment]
    step = 0.125 * layer_of.weight_scale  # one unit of a sum
    assert np.abs(wanted.numpy() - got).max() < 0.1 * step + 1e-5 * np.abs(got).max()


@pytest.mark.parametrize(("side", "window"), [(4, 3), (4, 2), (5, 7)])
def test_windows(side: int, window: int) -> None:
    b = graph.Builder({}, "")
    x = b.call("windows", v.partition, b.input("x"), side, window)
    network = b.finish(x, b.call("joined", v.unpartition, x, side, window))
    value = torch.randn(1, side * side, 3)
    wanted = network(value)
    shapes = {"w": tuple(wanted[0].shape), "j": tuple(wanted[1].shape)}
    model = token_model(network, "windows", {"x": (1, side * side, 3)}, shapes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for a, c in zip(wanted, session.run(None, {"x": value.numpy()}), strict=True):
        assert np.array_equal(a.numpy(), c)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    b = graph.Builder({}, "")
    network = b.finish(b.call("root", torch.sqrt, b.input("x")))
    with pytest.raises(HlsgenError, match="at root cannot be written as ONNX"):
        token_model(network, "n", {"x": (1,)}, {"y": (1,)})
    (tmp_path / "file").write_text("")
    with pytest.raises(HlsgenError, match="cannot be made"):
        write_sam(float_sam(micro()), tmp_path / "file" / "folder")
    (tmp_path / "no.onnx").write_text("nothing")
    with pytest.raises(HlsgenError, match="ONNX Runtime refuses it"):
        sam_session(tmp_path / "no.onnx", tmp_path / "no.onnx")
