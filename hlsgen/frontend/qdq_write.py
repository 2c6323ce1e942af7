"""The quantized network as a QDQ ONNX graph that carries exactly the reference's scales.

Around fx node X: its float result is X.f, the QuantizeLinear's X.q, the DequantizeLinear's X (what consumers read). A
convolution's integers are X.weight (int8 [O, I/groups, KH, KW], scale X.weight_scale) and X.bias (int32 [O], scale
X.bias_scale = input scale x weight scale). Tensors are int8, in scheme `native` uint8 (the engine's q + 128, as PyTorch
holds them); a pre-activation of more than 8 bits is int16, held to its bits by a Clip before the QuantizeLinear.
"""

import operator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

import hlsgen
from hlsgen.errors import HlsgenError
from hlsgen.frontend.attention_write import write_attention
from hlsgen.frontend.onnx_write import GraphWriter, input_nodes, output_nodes, save, shapes, split_parts
from hlsgen.models import network as vocabulary
from hlsgen.quantize.spec import ConvQ, QuantSpec, Scheme, TensorQ

SCHEME_KEY = "hlsgen.scheme"
VERSION_KEY = "hlsgen.version"


def stored_type(q: TensorQ, scheme: Scheme) -> tuple[type[np.generic], int]:
    """The file's integer type of a tensor, and what is added to the engine's integers there."""
    if q.bits > 8:
        return np.int16, 0
    return (np.uint8, 128) if scheme == "native" else (np.int8, 0)


def write_qdq(
    network: fx.GraphModule, spec: QuantSpec, shape: tuple[int, int, int], path: str | Path, name: str
) -> None:
    """Write the quantized network for an image of `shape` (C, H, W); the graph's outputs are the dequantized outputs.

    Raises:
        HlsgenError: a node outside the vocabulary or without quantization, a scale that float32 does not hold exactly,
            or the file cannot be written.
    """
    vocabulary.check(network)
    known = shapes(network, shape)
    writer = GraphWriter()
    for node in network.graph.nodes:
        if node.op == "output":
            continue
        x = node.name
        if node.target is torch.split:
            writer.float_node(
                network, node, [n.name for n in input_nodes(node)], x, split_parts(node, lambda n: f"{n.name}.f")
            )
            continue
        if node.op == "get_attr":
            writer.constant(f"{x}.f", vocabulary.constant_of(network, node).numpy())
        elif node.op != "placeholder" and node.target is not operator.getitem:
            inputs = [n.name for n in input_nodes(node)]
            if x in spec.convs:
                inputs += _parameters(writer, x, spec.convs[x], _tensor(spec, inputs[0]).scale)
            elif node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), torch.nn.Conv2d):
                raise HlsgenError(f"convolution {x} has no quantized weights; quantize the network that is written")
            if node.target in vocabulary.ATTENTION:
                write_attention(writer, node, inputs, f"{x}.f", known, weights=True)
            else:
                writer.float_node(network, node, inputs, f"{x}.f", [])
        _quantize(writer, x, _tensor(spec, x), spec.scheme)
    outputs = {n.name: known[n.name] for n in output_nodes(network)}
    metadata = {SCHEME_KEY: spec.scheme, VERSION_KEY: hlsgen.__version__}
    given = {f"{n}.f": of for n, of in vocabulary.input_shapes(network, shape).items()}
    save(writer.model(name, given, outputs, metadata), path)


def _tensor(spec: QuantSpec, x: str) -> TensorQ:
    if x not in spec.tensors:
        raise HlsgenError(f"tensor {x} has no quantization; quantize the network that is written")
    return spec.tensors[x]


def _exact(scale: npt.ArrayLike, x: str) -> npt.NDArray[np.float32]:
    held = np.asarray(scale, np.float64)
    stored = held.astype(np.float32)
    if not np.array_equal(stored.astype(np.float64), held):
        raise HlsgenError(
            f"the scale of {x} is not a float32 value, so ONNX cannot carry it exactly; round scales to float32"
        )
    return stored


def _parameters(writer: GraphWriter, x: str, conv: ConvQ, input_scale: float) -> list[str]:
    """Weight and bias, dequantized: the names of their float tensors."""
    scale = _exact(conv.weight_scale, x)
    weight = [writer.constant(f"{x}.weight", conv.weight), writer.constant(f"{x}.weight_scale", scale)]
    writer.node("DequantizeLinear", weight, [f"{x}.weight.f"], f"{x}.weight.dequantize", axis=0)
    product = (input_scale * conv.weight_scale).astype(np.float32)
    bias = [writer.constant(f"{x}.bias", conv.bias), writer.constant(f"{x}.bias_scale", product)]
    writer.node("DequantizeLinear", bias, [f"{x}.bias.f"], f"{x}.bias.dequantize", axis=0)
    return [f"{x}.weight.f", f"{x}.bias.f"]


def _quantize(writer: GraphWriter, x: str, q: TensorQ, scheme: Scheme) -> None:
    kind, offset = stored_type(q, scheme)
    result = f"{x}.f"
    if 8 < q.bits < 16:
        low, high = (np.float32((edge - q.zero_point) * q.scale) for edge in (q.low, q.high))
        bounds = [writer.constant(f"{x}.low", np.array(low)), writer.constant(f"{x}.high", np.array(high))]
        writer.node("Clip", [result, *bounds], [f"{x}.clip"], f"{x}.clip")
        result = f"{x}.clip"
    constants = [
        writer.constant(f"{x}.scale", _exact(q.scale, x)),
        writer.constant(f"{x}.zero_point", np.array(q.zero_point + offset, kind)),
    ]
    writer.node("QuantizeLinear", [result, *constants], [f"{x}.q"], f"{x}.quantize")
    writer.node("DequantizeLinear", [f"{x}.q", *constants], [x], f"{x}.dequantize")
