"""QDQ files: ours come back exactly and ONNX Runtime is within a step of the reference; foreign ones keep their scales."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.frontend.agreement import LIMIT, agreement
from hlsgen.frontend.onnx_write import write_fp32
from hlsgen.frontend.qdq_read import is_qdq, read_qdq
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.models import Loaded, load
from hlsgen.quantize import Reference
from hlsgen.quantize.spec import SCHEMES, QuantSpec, Scheme, TensorQ
from tests.unit._nets import Net, c2f_net, spec_for

SHAPE = (3, 32, 48)


def picture(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


def same(a: QuantSpec, b: QuantSpec) -> bool:
    return (
        a.scheme == b.scheme
        and dict(a.tensors) == dict(b.tensors)
        and a.convs.keys() == b.convs.keys()
        and all(
            np.array_equal(a.convs[k].weight, c.weight)
            and np.array_equal(a.convs[k].weight_scale, c.weight_scale)
            and np.array_equal(a.convs[k].bias, c.bias)
            and (a.convs[k].weight.dtype, a.convs[k].bias.dtype) == (np.int8, np.int32)
            for k, c in b.convs.items()
        )
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_our_files_come_back_exactly(scheme: Scheme, bits: int, tmp_path: Path) -> None:
    network = c2f_net()
    spec = spec_for(network, picture(), scheme, bits)
    path = tmp_path / "q.onnx"
    write_qdq(network, spec, SHAPE, path, "small")
    first = path.read_bytes()
    assert is_qdq(path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    read, again, shape = read_qdq(path)
    assert shape == SHAPE
    assert same(again, spec)
    assert [n.name for n in read.graph.nodes] == [n.name for n in network.graph.nodes]
    for name, conv in spec.convs.items():
        module = read.get_submodule(str(next(n for n in read.graph.nodes if n.name == name).target))
        wanted = conv.weight.astype(np.float64) * conv.weight_scale.reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(module.weight.numpy(), wanted.astype(np.float32))
    write_qdq(read, again, SHAPE, path, "small")
    assert path.read_bytes() == first


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_onnx_runtime_is_within_a_step_at_every_operator(scheme: Scheme, seed: int, tmp_path: Path) -> None:
    network = c2f_net(seed)
    image = picture(seed)
    spec = spec_for(network, image, scheme)
    path = tmp_path / "q.onnx"
    write_qdq(network, spec, SHAPE, path, "small")
    tensors = Reference.from_spec(network, spec).tensors(image)
    report = agreement(path, tensors, image.numpy())
    assert report == agreement(path, tensors, image.numpy()[0])
    assert report["optimizations"] == "disabled"
    assert report["equal_inputs"]["largest"] <= LIMIT
    assert report["equal_inputs"]["differing"] < 2e-3 * report["elements"]
    moving = ("half", "cat", "pool", "up")
    for name, said in report["tensors"].items():
        if name.startswith(moving) or name == "image":
            assert said["equal_inputs"] == {"differing": 0, "largest": 0}, name
    spoiled = dict(tensors)
    spoiled["neck_act"] = np.clip(spoiled["neck_act"].astype(int) + 2, -128, 127).astype(np.int8)
    with pytest.raises(HlsgenError, match="at neck_act, fed with the reference's own integers"):
        agreement(path, spoiled, image.numpy())
    del spoiled["neck_act"]
    with pytest.raises(HlsgenError, match="neck_act is missing"):
        agreement(path, spoiled, image.numpy())


def test_a_wide_pre_activation_saturates_at_its_own_bits(tmp_path: Path) -> None:
    """The Clip in the file holds a 10-bit pre-activation to 10 bits, not to int16's 16."""
    network = c2f_net()
    image = picture()
    spec = spec_for(network, image, "fixed", 10)
    narrow = dict(spec.tensors)
    narrow["stem_conv"] = TensorQ(spec.tensors["stem_conv"].scale / 8, 0, 10)
    spec = QuantSpec("fixed", narrow, spec.convs)
    path = tmp_path / "q.onnx"
    write_qdq(network, spec, SHAPE, path, "small")
    assert same(read_qdq(path)[1], spec)
    tensors = Reference.from_spec(network, spec).tensors(image)
    assert tensors["stem_conv"].max() == 511
    assert agreement(path, tensors, image.numpy())["equal_inputs"]["largest"] <= LIMIT


def test_a_model_that_comes_quantized_keeps_its_quantization(tmp_path: Path) -> None:
    network = c2f_net()
    spec = spec_for(network, picture(), "affine")
    path = tmp_path / "mine-q.onnx"
    write_qdq(network, spec, SHAPE, path, "small")
    loaded = load(str(path))
    assert (loaded.name, loaded.task, loaded.shape) == ("mine_q", "none", SHAPE)
    loaded.save(tmp_path / "kept")
    read = Loaded.read(tmp_path / "kept")
    assert loaded.quantization is not None
    assert read.quantization is not None
    assert same(loaded.quantization, spec)
    assert same(read.quantization, spec)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scales_that_float32_cannot_hold_are_refused(scheme: Scheme, tmp_path: Path) -> None:
    network = c2f_net()
    spec = spec_for(network, picture(), scheme)
    tensors = dict(spec.tensors)
    tensors["m1_conv"] = TensorQ(0.1, 0, tensors["m1_conv"].bits)
    with pytest.raises(HlsgenError, match="scale of m1_conv is not a float32 value"):
        write_qdq(network, QuantSpec(scheme, tensors, spec.convs), SHAPE, tmp_path / "q.onnx", "small")
    assert not (tmp_path / "q.onnx").exists()


# Foreign files, made by ONNX Runtime's own quantizer.


def plain_net(act: type[nn.Module]) -> fx.GraphModule:
    """Convolutions, a residual, pooling and upsampling, no concat."""
    net = Net(3, 5)
    a = net.conv("a", net.image, 8, 3, 2, act())
    b = net.conv("b", a, 8, 3, 1, act())
    added = net.add("added", a, b)
    pooled = net.module("pool", nn.MaxPool2d(2, 2), added)
    up = net.module("up", nn.Upsample(scale_factor=2, mode="nearest"), pooled)
    return net.finish([net.conv("out", up, 4, 1)])


def quantize_static(folder: Path, network: fx.GraphModule, kind: str, per_channel: bool) -> Path:
    import onnxruntime.quantization as ortq

    class Reader(ortq.CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter([{"image": picture(s).numpy()} for s in range(3)])

        def get_next(self) -> Any:
            return next(self.images, None)

    write_fp32(network, SHAPE, folder / "f.onnx", "f")
    types = {"u8": ortq.QuantType.QUInt8, "s8": ortq.QuantType.QInt8, "s16": ortq.QuantType.QInt16}
    ortq.quantize_static(
        folder / "f.onnx",
        folder / "q.onnx",
        Reader(),
        quant_format=ortq.QuantFormat.QDQ,
        activation_type=types[kind],
        weight_type=ortq.QuantType.QInt8,
        per_channel=per_channel,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    return folder / "q.onnx"


@pytest.mark.parametrize("act", [nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.Sigmoid])
@pytest.mark.parametrize("kind", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_onnx_runtimes_own_files_keep_their_scales(
    act: type[nn.Module], kind: str, per_channel: bool, tmp_path: Path
) -> None:
    path = quantize_static(tmp_path, plain_net(act), kind, per_channel)
    network, spec, shape = read_qdq(path)
    assert shape == SHAPE
    assert spec.scheme == "affine"
    held = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    offset = 128 if kind == "u8" else 0
    assert spec.tensors["image"] == TensorQ(float(held["image_scale"]), int(held["image_zero_point"]) - offset)
    assert spec.tensors["out_conv"].scale == float(held["out_conv_scale"])
    conv = spec.convs["b_act" if act is nn.ReLU else "b_conv"]  # its quantizer drops ReLUs that saturation stands for
    np.testing.assert_array_equal(conv.weight, held["b_conv.weight_quantized"])
    np.testing.assert_array_equal(conv.bias, held["b_conv.bias_quantized"].reshape(-1))
    assert conv.weight_scale.shape == (8,)
    assert len(set(conv.weight_scale)) == (8 if per_channel else 1)
    assert spec.tensors["pool"] == spec.tensors["added"] == spec.tensors["up"]

    image = picture(7)
    results = Reference.from_spec(network, spec)(image)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": image.numpy()})
    steps = np.abs(results[0].numpy() - expected) / spec.tensors["out_conv"].scale
    assert steps.mean() < 0.5  # a step here and there grows; a scale misread would be tens of steps everywhere
    write_qdq(network, spec, SHAPE, tmp_path / "again.onnx", "again")
    tensors = Reference.from_spec(network, spec).tensors(image)
    assert agreement(tmp_path / "again.onnx", tensors, image.numpy())["equal_inputs"]["largest"] <= LIMIT


@pytest.mark.parametrize("scheme", ["fixed", "affine"])
def test_a_relu_lends_its_quantization_to_what_it_reads(scheme: Scheme, tmp_path: Path) -> None:
    """Conv, ReLU, QuantizeLinear, and nothing in between: rounding first and cutting off afterwards is the same."""
    network, image = plain_net(nn.ReLU), picture()
    path = tmp_path / "q.onnx"
    write_qdq(network, spec_for(network, image, scheme), SHAPE, path, "small")
    model = onnx.load(path)
    without(model, "b_conv")
    path.write_bytes(model.SerializeToString())
    read, spec, _ = read_qdq(path)
    assert spec.tensors["b_conv_f"] == spec.tensors["b_act"]
    write_qdq(read, spec, SHAPE, path, "again")
    tensors = Reference.from_spec(read, spec).tensors(image)
    assert agreement(path, tensors, image.numpy())["equal_inputs"]["largest"] <= LIMIT
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model.graph.output.append(onnx.helper.make_tensor_value_info("b_act.q", onnx.TensorProto.INT8, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["b_act.q"], {"image.f": image.numpy()})
    assert np.abs(expected[0].astype(int) - tensors["b_act"]).mean() < 0.05


def test_sixteen_bit_files_are_refused_by_name(tmp_path: Path) -> None:
    path = quantize_static(tmp_path, plain_net(nn.SiLU), "s16", True)
    with pytest.raises(HlsgenError, match="tensor image has 16 bits; expected 8 everywhere"):
        read_qdq(path)


def test_concat_inputs_of_different_scales_are_named(tmp_path: Path) -> None:
    net = Net(3, 1)
    a, b = net.conv("a", net.image, 4, 1), net.conv("b", net.image, 4, 1)
    net.root.a_conv.weight.data *= 9
    path = quantize_static(tmp_path, net.finish([net.cat("joined", [a, b])]), "u8", True)
    with pytest.raises(
        HlsgenError,
        match=r"joined at joined must have one scale, .*a_conv: scale .*b_conv: scale .*quantize them alike",
    ):
        read_qdq(path)


# Our own file, edited into what must be refused or understood.


def edited(folder: Path, change: Any, scheme: Scheme = "affine") -> Path:
    network = c2f_net()
    path = folder / "q.onnx"
    write_qdq(network, spec_for(network, picture(), scheme), SHAPE, path, "small")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def replace(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    for held in model.graph.initializer:
        if held.name == name:
            held.CopyFrom(numpy_helper.from_array(value, name))
            return
    raise AssertionError(name)


def without(model: onnx.ModelProto, name: str) -> None:
    """Take the quantizers of tensor `name` out."""
    for node in [n for n in model.graph.node if n.output[0] in (f"{name}.q", name)]:
        model.graph.node.remove(node)
    for node in model.graph.node:
        node.input[:] = [f"{name}.f" if t == name else t for t in node.input]


REFUSED = {
    "asymmetric weights": (
        lambda m: [
            m.graph.initializer.append(numpy_helper.from_array(np.full(8, 3, np.int8), "zp")),
            next(n for n in m.graph.node if n.output[0] == "cv2_conv.weight.f").input.append("zp"),
        ],
        "convolution cv2_conv has asymmetric weights",
    ),
    "weights per input channel": (
        lambda m: next(n for n in m.graph.node if n.output[0] == "m1_conv.weight.f").attribute[0].__setattr__("i", 1),
        "convolution m1_conv has weight scales along axis 1",
    ),
    "bias in other units": (
        lambda m: replace(m, "cv2_conv.bias_scale", np.ones(8, np.float32)),
        "convolution cv2_conv has a bias whose scale is not input scale x weight scale",
    ),
    "two scales": (
        lambda m: [
            m.graph.initializer.append(numpy_helper.from_array(np.float32(7), "other")),
            next(n for n in m.graph.node if n.name == "m_add.dequantize").input.__setitem__(1, "other"),
        ],
        "m_add.dequantize has another scale or zero point",
    ),
    "a scale of zero": (lambda m: replace(m, "m_add.scale", np.float32(0)), "expects scales above zero"),
    "another clip": (
        lambda m: replace(m, "stem_conv.high", np.array(0.01, np.float32)),
        "Clip at stem_conv.clip holds its map to .* which is not its quantization's range",
    ),
    "an unquantized activation": (lambda m: without(m, "neck_act"), "tensor neck_act.f is not quantized"),
    "an unquantized pre-activation": (lambda m: without(m, "m1_conv"), "tensor m1_conv.* is not quantized"),
    "float weights": (
        lambda m: [
            next(n for n in m.graph.node if n.name == "cv2_conv").input.__setitem__(1, "w"),
            m.graph.initializer.append(numpy_helper.from_array(np.ones((8, 12, 1, 1), np.float32), "w")),
        ],
        "convolution cv2_conv has weights that are not quantized",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_engine_cannot_represent_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    with pytest.raises(HlsgenError, match=message):
        read_qdq(edited(tmp_path, change))


@pytest.mark.parametrize("name", ["half0", "cat1", "pool", "up", "cat2"])
def test_missing_quantizers_of_moving_operators_are_taken_over(name: str, tmp_path: Path) -> None:
    network = c2f_net()
    spec = read_qdq(edited(tmp_path, lambda m: without(m, name)))[1]
    expected = dict(spec_for(network, picture(), "affine").tensors)
    expected[f"{name}_f"] = expected.pop(name)  # without its quantizers, the float tensor's own name is left
    assert dict(spec.tensors) == expected


def test_the_scheme_of_a_foreign_file_is_read_from_its_scales(tmp_path: Path) -> None:
    for scheme in SCHEMES:
        path = edited(tmp_path, lambda m: m.metadata_props.__delitem__(slice(None)), scheme)
        assert read_qdq(path)[1].scheme == ("fixed" if scheme == "fixed" else "affine")
