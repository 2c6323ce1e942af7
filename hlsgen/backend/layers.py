"""The vocabulary of an hlsgen `ModelGraph`: hls4ml's layer classes, ours where it has none, and their attributes.

A layer is a dictionary, as `ModelGraph.from_layer_list` takes it; `ATTRIBUTES` lists, per hls4ml class, the keys that
define it. Everywhere:

- shapes are (C, H, W), `data_format` is channels_first; `name` is the name of its output tensor (Split: see below)
- `inputs`, `outputs`: tensor names
- `quant`: output tensor name -> TensorQ

Conv2D: `weight_data` int8 [KH, KW, I/groups, O] (hls4ml's layout) and `bias_data` int32 [O] are the integers of ConvQ,
`weight_scale` float64 [O]. The passes add
  - `activation`, `activation_parameter`, `pre` (TensorQ of the convolution's own output), `conv_name` (its name before
    the fusion; the layer has taken the activation's)
  - `depth_to_space` (a factor; the layer has taken HlsgenDepthToSpace's name)
  - `residual` (a tensor's name, also its second input) and `residual_quant` (TensorQ of what is added to it); the layer
    has taken the addition's name and its `quant`
Activation: `activation` is a kind of `hlsgen.program.arithmetic.activation_table`, with `activation_parameter`.
HlsgenConstant: a map that no input changes, `integers` int8 [C, H, W]; it has no inputs.
HlsgenNorm: LayerNorm over the channels; `gamma` and `beta` float64 [C], `epsilon`.
HlsgenScores, HlsgenAttend: the two halves of attention (docs/arithmetic-attention.md), `heads`; inputs are queries and keys,
or scores and values. `window`: [rows, columns] within which queries meet keys, [0, 0] for all.
HlsgenGrow: zeros below and on the right. HlsgenCrop: the part of `out_height` x `out_width` pixels from `top`, `left` on.
HlsgenDepthToSpace: channels (row, column, C) to pixels, `factor` times as many rows and columns.
HlsgenSplit: `sizes` of its outputs along the channels; its outputs have their own names.
"""

from typing import Any

from hls4ml.model import layers as hls4ml_layers

from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import ENGINE_SCHEMES, Scheme

Shape = tuple[int, int, int]  # channels, height, width
Pads = tuple[int, int, int, int]  # top, bottom, left, right

FUSED = ("conv_name", "activation", "activation_parameter", "pre", "residual", "residual_quant", "depth_to_space")
_WINDOW = ("stride_height", "stride_width", "pad_top", "pad_bottom", "pad_left", "pad_right")
_SIZES = ("in_height", "in_width", "out_height", "out_width")
_COMMON = ("class_name", "name", "inputs", "outputs", "quant")
_CONV = ("data_format", "n_chan", "n_filt", *_SIZES, "filt_height", "filt_width", *_WINDOW, "groups")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "Input": (*_COMMON, "input_shape"),
    "Conv2D": (*_COMMON, *_CONV, "weight_data", "bias_data", "weight_scale", *FUSED),
    "Activation": (*_COMMON, "activation", "activation_parameter"),
    "MaxPooling2D": (*_COMMON, "data_format", "n_filt", *_SIZES, "pool_height", "pool_width", *_WINDOW),
    "Merge": (*_COMMON, "op"),
    "HlsgenConcatenate": (*_COMMON, "op", "axis"),
    "HlsgenSplit": (*_COMMON, "axis", "sizes"),
    "HlsgenConstant": (*_COMMON, "integers"),
    "HlsgenNorm": (*_COMMON, "gamma", "beta", "epsilon"),
    "HlsgenScores": (*_COMMON, "heads", "window"),
    "HlsgenAttend": (*_COMMON, "heads", "window"),
    "HlsgenGrow": (*_COMMON, "pad_bottom", "pad_right"),
    "HlsgenCrop": (*_COMMON, "out_height", "out_width", "top", "left"),
    "HlsgenDepthToSpace": (*_COMMON, "factor"),
    "UpSampling2D": (*_COMMON, "data_format", "n_chan", *_SIZES, "algorithm"),
}
ARRAYS = ("weight_data", "bias_data", "weight_scale", "gamma", "beta", "integers")
WITHOUT_INPUTS = ("Input", "HlsgenConstant")
OWN_ATTRIBUTES = tuple(dict.fromkeys(key for keys in ATTRIBUTES.values() for key in keys))
SCHEME_KEY, LAYOUTS_KEY = "HlsgenScheme", "HlsgenLayouts"  # graph-level facts in a ModelGraph's configuration


class Concatenate(hls4ml_layers.Concatenate):  # type: ignore[misc]
    """Concatenation along the channels of two or more inputs (hls4ml's takes exactly two)."""

    def initialize(self) -> None:
        shapes = [self.get_input_variable(name).shape for name in self.inputs]
        self.add_output_variable([sum(s[0] for s in shapes), *shapes[0][1:]])


class Split(hls4ml_layers.Layer):  # type: ignore[misc]
    """Split along the channels into `sizes`; one output tensor each."""

    def initialize(self) -> None:
        shape = self.get_input_variable().shape
        for i, (name, size) in enumerate(zip(self.outputs, self.get_attr("sizes"), strict=True)):
            self.add_output_variable(
                [size, *shape[1:]], name, var_name=f"layer{{index}}_out{i}", type_name=f"layer{{index}}_{i}_t"
            )


class Constant(hls4ml_layers.Layer):  # type: ignore[misc]
    """A constant map. hls4ml gives a layer without inputs the layer before it, which this one does not read."""

    def initialize(self) -> None:
        self.inputs: list[str] = []
        self.add_output_variable(list(self.get_attr("integers").shape))


class Norm(hls4ml_layers.Layer):  # type: ignore[misc]
    """LayerNorm over the channels of each pixel."""

    def initialize(self) -> None:
        self.add_output_variable(list(self.get_input_variable().shape))


class Scores(hls4ml_layers.Layer):  # type: ignore[misc]
    """Products of queries (heads * d, H, W) and keys (heads * d, H', W'), head by head: (heads * H' * W', H, W)."""

    def initialize(self) -> None:
        q, k = (self.get_input_variable(name).shape for name in self.inputs)
        rows, columns = self.get_attr("window")
        keys = rows * columns or k[1] * k[2]
        self.add_output_variable([self.get_attr("heads") * keys, *q[1:]])


class Attend(hls4ml_layers.Layer):  # type: ignore[misc]
    """Softmax of scores (heads * H' * W', H, W) over the keys, times values (heads * e, H', W'): (heads * e, H, W)."""

    def initialize(self) -> None:
        s, v = (self.get_input_variable(name).shape for name in self.inputs)
        self.add_output_variable([v[0], *s[1:]])


class Grow(hls4ml_layers.Layer):  # type: ignore[misc]
    """Zeros below and on the right."""

    def initialize(self) -> None:
        c, h, w = self.get_input_variable().shape
        self.add_output_variable([c, h + self.get_attr("pad_bottom"), w + self.get_attr("pad_right")])


class Crop(hls4ml_layers.Layer):  # type: ignore[misc]
    """A part of the map."""

    def initialize(self) -> None:
        shape = self.get_input_variable().shape
        self.add_output_variable([shape[0], self.get_attr("out_height"), self.get_attr("out_width")])


class DepthToSpace(hls4ml_layers.Layer):  # type: ignore[misc]
    """Channels (factor * factor * C, H, W) to pixels (C, factor * H, factor * W)."""

    def initialize(self) -> None:
        (c, h, w), factor = self.get_input_variable().shape, self.get_attr("factor")
        self.add_output_variable([c // factor**2, factor * h, factor * w])


def register_layers() -> None:
    """Make our classes known to hls4ml, under names that leave its own `Concatenate` to other backends."""
    hls4ml_layers.register_layer("HlsgenConcatenate", Concatenate)
    hls4ml_layers.register_layer("HlsgenSplit", Split)
    hls4ml_layers.register_layer("HlsgenConstant", Constant)
    hls4ml_layers.register_layer("HlsgenNorm", Norm)
    hls4ml_layers.register_layer("HlsgenGrow", Grow)
    hls4ml_layers.register_layer("HlsgenCrop", Crop)
    hls4ml_layers.register_layer("HlsgenDepthToSpace", DepthToSpace)
    hls4ml_layers.register_layer("HlsgenScores", Scores)
    hls4ml_layers.register_layer("HlsgenAttend", Attend)


def quant_of(node: Any) -> dict[str, Any]:
    """A node's quantization (output tensor name -> TensorQ); empty for a node of hls4ml's own front ends."""
    quant: dict[str, Any] = node.get_attr("quant", {})
    return quant


def scheme_of(graph: Any) -> Scheme:
    """The quantization scheme of a ModelGraph made by `model_graph` (or adopted)."""
    scheme = graph.config.config.get(SCHEME_KEY)
    if scheme not in ENGINE_SCHEMES:
        raise HlsgenError(
            f"expected {SCHEME_KEY} in the graph's configuration to be one of {ENGINE_SCHEMES}, got {scheme!r}"
        )
    return scheme  # type: ignore[no-any-return]


def layouts_of(graph: Any) -> dict[str, str]:
    """The layouts in which the user holds inputs and outputs (`LayerList.layouts`)."""
    return dict(graph.config.config.get(LAYOUTS_KEY, {}))
