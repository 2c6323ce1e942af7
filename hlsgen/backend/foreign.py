"""Reading the nodes of hls4ml's own front ends: their layouts, weights and precisions."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hls4ml.model.layers import BatchNormalization, Conv2D, Dense, Input, Pooling2D, Resize, Transpose
from hls4ml.model.types import (
    FixedPrecisionType,
    IntegerPrecisionType,
    RoundingMode,
    SaturationMode,
    UnspecifiedPrecisionType,
    WeightVariable,
)

from hlsgen.backend.layers import Pads, Shape
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import ConvQ, TensorQ

FIRST, LAST = "channels_first", "channels_last"
_CHANGES: dict[tuple[int, ...], tuple[str, str]] = {(1, 2, 0): (FIRST, LAST), (2, 0, 1): (LAST, FIRST)}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Foreign:
    """A tensor of the hls4ml graph: our tensor of the same values, its (C, H, W), and how hls4ml lays it out.

    flat: reshaped to one dimension from that layout.
    """

    name: str
    shape: Shape
    q: TensorQ
    layout: str
    flat: bool

    @property
    def spatial(self) -> bool:
        return self.shape[1] * self.shape[2] > 1

    def transposed(self, perm: tuple[int, ...]) -> "Foreign | None":
        """The same values in the other layout, where `perm` is that change."""
        change = _CHANGES.get(perm)
        if change is None or self.flat or change[0] != self.layout:
            return None
        return replace(self, layout=change[1])


def identifier(name: str, taken: set[str]) -> str:
    """A C++ identifier for an hls4ml tensor's name, new among `taken`, to which it is added."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)[:96]
    if not safe or safe[0].isdigit() or safe == "input":
        safe = f"t_{safe}"
    while safe in taken:
        safe += "_"
    taken.add(safe)
    return safe


def input_layout(nodes: list[Any]) -> str:
    """The layout of the graph's input: that of its layers, or the one a transposition at the input starts from."""
    formats = {n.get_attr("data_format") for n in nodes if isinstance(n, Conv2D | Pooling2D | Resize)} - {None}
    if len(formats) > 1:
        raise HlsgenError("expected layers of one data format, got both channels_first and channels_last; use one")
    layout = str(formats.pop()) if formats else LAST
    inputs = {tensor for n in nodes if isinstance(n, Input) for tensor in n.outputs}
    if any(isinstance(n, Transpose) and n.inputs[0] in inputs for n in nodes):
        return FIRST if layout == LAST else LAST
    return layout


def chw(shape: list[int], layout: str) -> Shape | None:
    """(C, H, W) of an hls4ml shape of one dimension or three; None for any other."""
    if len(shape) == 1:
        return shape[0], 1, 1
    if len(shape) != 3:
        return None
    return (shape[0], shape[1], shape[2]) if layout == FIRST else (shape[2], shape[0], shape[1])


def unspecified(node: Any) -> bool:
    """Whether the configuration leaves the precision of the node's result to be chosen (`auto`)."""
    return isinstance(node.get_output_variable().type.precision, UnspecifiedPrecisionType)


def pads(node: Any) -> Pads:
    top, bottom, left, right = (int(node.get_attr(f"pad_{side}")) for side in ("top", "bottom", "left", "right"))
    return top, bottom, left, right


def kernel(node: Any, x: Foreign, torch_layout: bool) -> Floats:
    """Float weights [O, I/groups, KH, KW] of a Conv2D, DepthwiseConv2D or Dense that reads `x`.

    A Dense layer is a convolution whose window is the whole map. torch_layout: the graph comes from hls4ml's PyTorch
    front end without its conversion to channels_last, so weights are PyTorch's [O, I, ...].
    """
    w = _floats(node, "weight")
    if isinstance(node, Dense):
        c, h, width = x.shape
        outputs = int(node.get_attr("n_out"))
        if w.shape != ((outputs, c * h * width) if torch_layout else (c * h * width, outputs)):
            raise HlsgenError(f"layer {node.name}: weights of {w.shape} do not fit an input of {c * h * width} values")
        w = w if torch_layout else w.T
        if x.layout == FIRST:
            return w.reshape(outputs, c, h, width)
        return w.reshape(outputs, h, width, c).transpose(0, 3, 1, 2)
    sizes = (int(node.get_attr("n_filt")), int(node.get_attr("filt_height")), int(node.get_attr("filt_width")))
    if torch_layout:
        return _fits(node, w, sizes)
    if node.class_name == "DepthwiseConv2D":  # [KH, KW, C, multiplier], or ONNX's [KH, KW, 1, C * multiplier]
        w = w.reshape(*w.shape[:2], 1, -1)
    return _fits(node, w.transpose(3, 2, 0, 1), sizes)


def _fits(node: Any, w: Floats, sizes: tuple[int, int, int]) -> Floats:
    if (w.shape[0], *w.shape[2:]) != sizes:
        raise HlsgenError(f"layer {node.name}: weights {w.shape} [O, I, KH, KW] do not fit its {sizes} (O, KH, KW)")
    return w


def fold_batch_norm(weight: Floats, bias: Floats, norm: Any, layout: str) -> tuple[Floats, Floats]:
    """y = scale * (w x + b) + shift as one convolution: scale * w, scale * b + shift."""
    scale, shift = (_per_channel(norm, key, len(bias), layout) for key in ("scale", "bias"))
    return weight * scale[:, None, None, None], bias * scale + shift


def quantized(node: Any, norms: list[Any], x: Foreign, weight: Floats, bias: Floats) -> ConvQ:
    """Integers of a convolution with the precisions hls4ml's configuration gives its weights and biases.

    Weights ap_fixed<B,I>: scale 2**-(B-I), and all must fit 8 bits.
    Biases take their own precision first (that of the last of `norms`,
    which were folded in, that shifts at all), then the accumulator's scale; `auto` is the accumulator's.

    Raises:
        HlsgenError: another weight precision, a weight outside it that would wrap, or a bias outside 32 bits.
    """
    kind = node.weights["weight"].type.precision
    if not isinstance(kind, FixedPrecisionType | IntegerPrecisionType):
        got = "auto" if isinstance(kind, UnspecifiedPrecisionType) else str(kind)
        raise _weight_precision(node, got)
    w, fraction = _integers(node.name, "weight", kind, weight)
    if (np.abs(w + 0.5) > 128).any():
        raise _weight_precision(node, str(kind))
    unit = x.q.scale * 2.0**-fraction
    shifting = [layer for layer in (node, *norms) if layer.weights["bias"].nonzeros]
    kind = (shifting or [node])[-1].weights["bias"].type.precision
    if isinstance(kind, FixedPrecisionType | IntegerPrecisionType):
        b, bias_fraction = _integers(node.name, "bias", kind, bias)
        units = b * 2.0**-bias_fraction / unit
    elif isinstance(kind, UnspecifiedPrecisionType):
        units = bias / unit
    else:
        raise HlsgenError(f"layer {node.name}: expected a bias of type ap_fixed, got {kind}; set Precision/bias")
    if (np.abs(units) > 2**31 - 1).any():
        raise HlsgenError(
            f"layer {node.name}: a bias of {np.abs(bias).max():g} does not fit 32 bits in units of {unit:g}; "
            "scale the layer's weights or give its input fewer fractional bits"
        )
    return ConvQ(w.astype(np.int8), np.full(len(bias), 2.0**-fraction), np.rint(units).astype(np.int32))


def float_bias(node: Any) -> Floats:
    return _floats(node, "bias").reshape(-1)


def is_quantized(node: Any) -> bool:
    """Whether the front end brought the layer's weights quantized (QKeras, QONNX), rather than as floats."""
    return node.weights["weight"].quantizer is not None


def has_weights(node: Any) -> bool:
    return isinstance(node, Conv2D | Dense) and not isinstance(node, BatchNormalization)


def _floats(node: Any, key: str) -> Floats:
    variable = node.weights[key]
    if type(variable) is not WeightVariable:
        raise HlsgenError(f"layer {node.name}: compressed or exponent {key}s are not supported; use ap_fixed<8,I>")
    data = np.asarray(variable.data, np.float64)
    if not np.isfinite(data).all():
        raise HlsgenError(f"layer {node.name}: its {key}s hold NaN or infinity")
    return data


def _per_channel(norm: Any, key: str, channels: int, layout: str) -> Floats:
    data = _floats(norm, key)
    shape = norm.get_output_variable().shape
    if data.size == 1:
        return np.full(channels, data.item())
    if data.size == channels:
        return data.reshape(channels)
    if data.size == int(np.prod(shape)):  # hls4ml repeats the values over the map
        every = np.moveaxis(data.reshape(shape), 0 if layout == FIRST else -1, 0).reshape(channels, -1)
        if (every == every[:, :1]).all():
            return every[:, 0]
    raise HlsgenError(f"layer {norm.name}: expected one {key} a channel ({channels}), got {data.shape}")


def _integers(layer: str, key: str, kind: Any, values: Floats) -> tuple[Floats, int]:
    """(q, f): `values` in the fixed-point or integer type `kind`, value = q * 2**-f."""
    fraction = int(kind.fractional)
    low, high = -(2 ** (kind.width - 1)) if kind.signed else 0, 2 ** (kind.width - int(kind.signed)) - 1
    if kind.rounding_mode not in (RoundingMode.TRN, RoundingMode.RND_CONV):
        raise HlsgenError(f"layer {layer}: expected {key}s rounded by TRN or RND_CONV, got {kind}; set Precision/{key}")
    scaled = values * 2.0**fraction
    q: Floats = np.floor(scaled) if kind.rounding_mode == RoundingMode.TRN else np.rint(scaled)
    if kind.saturation_mode == SaturationMode.SAT:
        return np.clip(q, low, high), fraction
    if (q < low).any() or (q > high).any():
        raise HlsgenError(
            f"layer {layer}: {key}s up to {np.abs(values).max():g} overflow {kind}; set Precision/{key} to "
            f"more integer bits or to saturate (ap_fixed<8,I,RND_CONV,SAT>)"
        )
    return q, fraction


def _weight_precision(node: Any, got: str) -> HlsgenError:
    return HlsgenError(
        f"layer {node.name}: expected weights that fit 8 bits, got {got}; "
        "set Precision/weight to ap_fixed<8,I,RND_CONV,SAT>"
    )
