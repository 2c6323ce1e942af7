"""A quantized network as hls4ml layer dictionaries, written one layer at a time."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.backend.layers import Pads, Shape
from hlsgen.errors import HlsgenError
from hlsgen.names import identifier
from hlsgen.quantize.spec import ConvQ, Scheme, TensorQ

Pair = tuple[int, int]  # height, width


@dataclass
class LayerList:
    """The layers of a quantized network in topological order (keys: `hlsgen.backend.layers`).

    outputs: tensor names in the network's order. layouts: for inputs and outputs whose *user* holds them otherwise than
    as (C, H, W), `channels_last`: predictions take and give them so; the layers themselves are (C, H, W) always.
    shapes: (C, H, W) by tensor name.

    The methods append a layer, compute its output's shape and raise HlsgenError where the sizes do not fit.
    """

    scheme: Scheme
    layers: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    layouts: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def _append(
        self, kind: str, name: str, inputs: list[str], outputs: dict[str, tuple[Shape, TensorQ]], **more: Any
    ) -> None:
        for tensor in (name, *outputs):
            if identifier(tensor, "a layer") == "input":
                raise HlsgenError("a layer named input is reserved in hls4ml; rename it")
        for tensor, (shape, _) in outputs.items():
            if tensor in self.shapes:
                raise HlsgenError(f"two layers are named {tensor}; give each its own name")
            if min(shape) < 1:
                raise HlsgenError(f"layer {name}: its output would be {shape} (C, H, W); the input is too small for it")
            self.shapes[tensor] = shape
        quant = {tensor: q for tensor, (_, q) in outputs.items()}
        self.layers.append(
            {"class_name": kind, "name": name, "inputs": inputs, "outputs": [*outputs], "quant": quant, **more}
        )

    def image(self, name: str, shape: Shape, q: TensorQ) -> None:
        self._append("Input", name, [], {name: (shape, q)}, input_shape=list(shape))

    def constant(self, name: str, q: TensorQ, integers: npt.NDArray[Any]) -> None:
        """integers: int8 [C, H, W]; in scheme `dynamic` float32."""
        c, h, w = integers.shape
        self._append("HlsgenConstant", name, [], {name: ((c, h, w), q)}, integers=integers)

    def conv2d(self, name: str, x: str, q: TensorQ, integers: ConvQ, stride: Pair, pads: Pads, groups: int) -> None:
        c, h, w = self.shapes[x]
        n, per_group, kh, kw = integers.weight.shape
        if per_group * groups != c or n % groups:
            raise HlsgenError(
                f"layer {name}: weights [{n}, {per_group}, {kh}, {kw}] in {groups} groups do not fit {c} channels"
            )
        if integers.bias.shape != (n,) or integers.weight_scale.shape != (n,):
            raise HlsgenError(
                f"layer {name}: expected {n} biases and weight scales, got "
                f"{integers.bias.shape} and {integers.weight_scale.shape}"
            )
        oh, ow = _window(h, w, (kh, kw), stride, pads)
        self._append(
            "Conv2D",
            name,
            [x],
            {name: ((n, oh, ow), q)},
            data_format="channels_first",
            **_sizes(h, w, oh, ow),
            **_strides(stride, pads),
            n_chan=c,
            n_filt=n,
            filt_height=kh,
            filt_width=kw,
            groups=groups,
            weight_data=np.ascontiguousarray(integers.weight.transpose(2, 3, 1, 0)),
            bias_data=integers.bias,
            weight_scale=integers.weight_scale,
        )

    def activation(self, name: str, x: str, q: TensorQ, kind: str, parameter: float = 0.0) -> None:
        outputs = {name: (self.shapes[x], q)}
        self._append("Activation", name, [x], outputs, activation=kind, activation_parameter=parameter)

    def max_pool(self, name: str, x: str, q: TensorQ, kernel: Pair, stride: Pair, pads: Pads) -> None:
        c, h, w = self.shapes[x]
        oh, ow = _window(h, w, kernel, stride, pads)
        self._append(
            "MaxPooling2D",
            name,
            [x],
            {name: ((c, oh, ow), q)},
            data_format="channels_first",
            **_sizes(h, w, oh, ow),
            **_strides(stride, pads),
            n_filt=c,
            pool_height=kernel[0],
            pool_width=kernel[1],
        )

    def add(self, name: str, a: str, b: str, q: TensorQ) -> None:
        if self.shapes[a] != self.shapes[b]:
            raise HlsgenError(
                f"layer {name}: cannot add {a} {self.shapes[a]} and {b} {self.shapes[b]}; shapes must be equal"
            )
        self._append("Merge", name, [a, b], {name: (self.shapes[a], q)}, op="add")

    def concat(self, name: str, xs: list[str], q: TensorQ) -> None:
        shapes = [self.shapes[x] for x in xs]
        if len({s[1:] for s in shapes}) != 1:
            raise HlsgenError(
                f"layer {name}: cannot concatenate {shapes} along the channels; heights and widths differ"
            )
        shape = (sum(s[0] for s in shapes), *shapes[0][1:])
        self._append("HlsgenConcatenate", name, xs, {name: (shape, q)}, op="concatenate3d", axis=1)

    def split(self, name: str, x: str, sizes: list[int], outputs: dict[str, TensorQ]) -> None:
        """sizes: channels of each output; outputs: their names, in order, and quantizations."""
        c, h, w = self.shapes[x]
        if sum(sizes) != c or len(sizes) != len(outputs):
            raise HlsgenError(f"layer {name}: cannot split {c} channels of {x} into {sizes} for {len(outputs)} outputs")
        parts = {out: ((size, h, w), q) for (out, q), size in zip(outputs.items(), sizes, strict=True)}
        self._append("HlsgenSplit", name, [x], parts, axis=1, sizes=sizes)

    def norm(
        self, name: str, x: str, q: TensorQ, gamma: npt.NDArray[Any], beta: npt.NDArray[Any], epsilon: float
    ) -> None:
        channels = self.shapes[x][0]
        if gamma.shape != (channels,) or beta.shape != (channels,):
            raise HlsgenError(f"layer {name}: weights {gamma.shape} and {beta.shape} do not fit {channels} channels")
        given = {"gamma": gamma.astype(np.float64), "beta": beta.astype(np.float64), "epsilon": float(epsilon)}
        self._append("HlsgenNorm", name, [x], {name: (self.shapes[x], q)}, **given)

    def scores(self, name: str, q: str, k: str, quant: TensorQ, heads: int, window: Pair = (0, 0)) -> None:
        (c, h, w), (c2, h2, w2) = self.shapes[q], self.shapes[k]
        if c != c2 or c % heads:
            raise HlsgenError(f"layer {name}: queries {(c, h, w)} and keys {(c2, h2, w2)} do not fit {heads} heads")
        keys = self._keys(name, (h, w), (h2, w2), window)
        outputs = {name: ((heads * keys, h, w), quant)}
        self._append("HlsgenScores", name, [q, k], outputs, heads=heads, window=list(window))

    def attend(self, name: str, scores: str, v: str, quant: TensorQ, heads: int, window: Pair = (0, 0)) -> None:
        (c, h, w), (c2, h2, w2) = self.shapes[scores], self.shapes[v]
        if c != heads * self._keys(name, (h, w), (h2, w2), window) or c2 % heads:
            raise HlsgenError(f"layer {name}: scores {(c, h, w)} and values {(c2, h2, w2)} do not fit {heads} heads")
        outputs = {name: ((c2, h, w), quant)}
        self._append("HlsgenAttend", name, [scores, v], outputs, heads=heads, window=list(window))

    @staticmethod
    def _keys(name: str, queries: Pair, keys: Pair, window: Pair) -> int:
        """Keys that a query meets."""
        if window == (0, 0):
            return keys[0] * keys[1]
        if queries != keys or keys[0] % window[0] or keys[1] % window[1]:
            raise HlsgenError(
                f"layer {name}: maps of {queries} and {keys} pixels do not fall into windows of {window}; pad them"
            )
        return window[0] * window[1]

    def grow(self, name: str, x: str, q: TensorQ, bottom: int, right: int) -> None:
        c, h, w = self.shapes[x]
        outputs = {name: ((c, h + bottom, w + right), q)}
        self._append("HlsgenGrow", name, [x], outputs, pad_bottom=bottom, pad_right=right)

    def crop(self, name: str, x: str, q: TensorQ, size: Pair, at: Pair = (0, 0)) -> None:
        c, h, w = self.shapes[x]
        if at[0] + size[0] > h or at[1] + size[1] > w:
            raise HlsgenError(f"layer {name}: {size} pixels from {at} on cannot be cut out of {(h, w)}")
        given = {"out_height": size[0], "out_width": size[1], "top": at[0], "left": at[1]}
        self._append("HlsgenCrop", name, [x], {name: ((c, *size), q)}, **given)

    def depth_to_space(self, name: str, x: str, q: TensorQ, factor: int) -> None:
        c, h, w = self.shapes[x]
        if factor < 1 or c % factor**2:
            raise HlsgenError(
                f"layer {name}: {c} channels are no multiple of {factor} x {factor}, as pixels of them need"
            )
        self._append(
            "HlsgenDepthToSpace", name, [x], {name: ((c // factor**2, factor * h, factor * w), q)}, factor=factor
        )

    def upsample(self, name: str, x: str, q: TensorQ, factor: Pair) -> None:
        c, h, w = self.shapes[x]
        oh, ow = h * factor[0], w * factor[1]
        sizes = _sizes(h, w, oh, ow)
        self._append(
            "UpSampling2D",
            name,
            [x],
            {name: ((c, oh, ow), q)},
            data_format="channels_first",
            **sizes,
            n_chan=c,
            algorithm="nearest",
        )


def window_size(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Outputs of a convolution or pooling along one axis (floor mode, dilation 1)."""
    return (size + before + after - kernel) // stride + 1


def _window(h: int, w: int, kernel: Pair, stride: Pair, pads: Pads) -> Pair:
    top, bottom, left, right = pads
    return window_size(h, kernel[0], stride[0], top, bottom), window_size(w, kernel[1], stride[1], left, right)


def _sizes(h: int, w: int, oh: int, ow: int) -> dict[str, int]:
    return {"in_height": h, "in_width": w, "out_height": oh, "out_width": ow}


def _strides(stride: Pair, pads: Pads) -> dict[str, int]:
    names = ("stride_height", "stride_width", "pad_top", "pad_bottom", "pad_left", "pad_right")
    return dict(zip(names, (*stride, *pads), strict=True))
