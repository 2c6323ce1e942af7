"""Pass `adopt`: a graph of hls4ml's own front ends becomes a quantized one, scheme `fixed`.

1. Results: a layer's precision, ap_fixed<8,I,RND_CONV,SAT>, is its tensor's quantization, scale 2**-(8-I). A layer with
   weights that only an activation reads may have 8 to 16 bits: the pre-activation. Anything else raises HlsgenError.
2. `auto` results: a layer that moves values has its input's; any other before a linear activation (a QONNX Quant) has
   that activation's, and one with weights before a ReLU has the ReLU's (exact: round and clip, then clip at 0). A
   linear activation that changes nothing disappears.
3. Conv2D, DepthwiseConv2D and Dense become Conv2D with integer weights of the configured precision; a Dense layer after
   a Flatten has a window of the whole map.
4. A BatchNormalization (or constant scale and shift) that alone reads a layer with float weights is folded into it; the
   result has the precision of the normalization.
5. Layouts: every tensor becomes (C, H, W). Transpositions between channels_first and channels_last, and flattening, are
   only remembered: they change what a Dense layer's weights mean and how predictions are laid out.
6. Tensor names become identifiers.
7. Any other layer raises HlsgenError naming it, its class and what is supported.
"""

from typing import Any

from hls4ml.model import layers as hls4ml
from hls4ml.model.optimizer import ModelOptimizerPass

from hlsgen.backend.foreign import (
    FIRST,
    Foreign,
    chw,
    float_bias,
    fold_batch_norm,
    has_weights,
    identifier,
    input_layout,
    is_quantized,
    kernel,
    pads,
    quantized,
    unspecified,
)
from hlsgen.backend.layer_list import LayerList
from hlsgen.backend.layers import quant_of
from hlsgen.backend.passes.supported import unsupported
from hlsgen.backend.quantized_types import precision, tensor_q
from hlsgen.backend.rewrite import replace_layers, uses
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import TensorQ

ACTIVATIONS = {
    "relu": "relu",
    "leakyrelu": "leaky_relu",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "linear": "identity",
}
PRE_ACTIVATION_BITS = 16


def activation_kind(node: Any) -> str | None:
    """Our name of an hls4ml activation; None where it is not supported."""
    return ACTIVATIONS.get(str(node.get_attr("activation")).lower())


class Adopt(ModelOptimizerPass):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("adopt", self._adopt)

    @staticmethod
    def _adopt(model: Any) -> bool:
        nodes = list(model.get_layers())
        if all(quant_of(node) for node in nodes):
            return True  # made by hlsgen's own front end
        adoption = _Adoption(model, nodes)
        for node in nodes:
            adoption.node(node)
        replace_layers(model, adoption.finish())
        return True


class _Adoption:
    def __init__(self, model: Any, nodes: list[Any]) -> None:
        self.model, self.nodes = model, nodes
        self.layers = LayerList("fixed")
        self.tensors: dict[str, Foreign] = {}  # by hls4ml's tensor name
        self.taken: set[str] = set()
        self.layout = input_layout(nodes)
        config = model.config.config
        conversion = config["HLSConfig"].get("Model", {}).get("ChannelsLastConversion", "off")
        self.torch_layout = "PytorchModel" in config and conversion == "off"
        self.folded: set[Any] = set()

    def node(self, node: Any) -> None:
        if node in self.folded or (isinstance(node, hls4ml.Constant) and not self.model_uses(node)):
            return
        if isinstance(node, hls4ml.Input):
            self._input(node)
        elif isinstance(node, hls4ml.Transpose):
            self._transpose(node)
        elif isinstance(node, hls4ml.Reshape):
            self._flatten(node)
        elif has_weights(node):
            self._weights(node)
        elif type(node).__bases__[0] in (hls4ml.Activation, hls4ml.ParametrizedActivation):
            self._activation(node)
        elif isinstance(node, hls4ml.Pooling2D) and node.get_attr("pool_op") == "Max":
            x = self.moved(node)
            size = (int(node.get_attr("pool_height")), int(node.get_attr("pool_width")))
            stride = (int(node.get_attr("stride_height")), int(node.get_attr("stride_width")))
            self.layers.max_pool(self.name(node), x.name, x.q, size, stride, pads(node))
        elif isinstance(node, hls4ml.Concatenate):
            self._concat(node)
        elif isinstance(node, hls4ml.Resize) and node.get_attr("algorithm") == "nearest":
            self._resize(node)
        elif type(node).__bases__[0] is hls4ml.Merge and node.get_attr("op") == "add":
            a, b = (self.tensors[tensor] for tensor in node.inputs[:2])
            if (a.layout, a.flat, a.shape) != (b.layout, b.flat, b.shape):
                raise HlsgenError(
                    f"layer {node.name}: expected two tensors of one shape, got {a.shape} and {b.shape} (C, H, W)"
                )
            q = tensor_q(node.name, self.precision(node))
            self.layers.add(self.name(node, like=a, q=q), a.name, b.name, q)
        else:
            raise self.unsupported(node)

    def finish(self) -> LayerList:
        for output in self.model.outputs:
            tensor = self.tensors[output]
            self.layers.outputs.append(tensor.name)
            self.layers.layouts[tensor.name] = tensor.layout
        return self.layers

    # ---- one method a layer class ------------------------------------------------------------------------------

    def _input(self, node: Any) -> None:
        shape = chw(node.get_output_variable().shape, self.layout)
        if shape is None:
            raise HlsgenError(
                f"input {node.name}: expected a shape of (C, H, W), (H, W, C) or (N), "
                f"got {node.get_output_variable().shape}"
            )
        q = tensor_q(node.name, self.precision(node))
        flat = len(node.get_output_variable().shape) == 1
        made = Foreign(identifier(node.outputs[0], self.taken), shape, q, self.layout, flat)
        self.tensors[node.outputs[0]] = made
        self.layers.image(made.name, shape, q)
        self.layers.layouts[made.name] = self.layout

    def _transpose(self, node: Any) -> None:
        x = self.tensors[node.inputs[0]]
        moved = x.transposed(tuple(node.get_attr("perm")))
        if moved is None:
            raise self.unsupported(node, "it may only change between channels_first and channels_last")
        self.tensors[node.outputs[0]] = moved

    def _flatten(self, node: Any) -> None:
        x = self.tensors[node.inputs[0]]
        if len(node.get_output_variable().shape) != 1:
            raise self.unsupported(node, "it may only flatten a map to one dimension")
        self.tensors[node.outputs[0]] = Foreign(x.name, x.shape, x.q, x.layout, True)

    def _weights(self, node: Any) -> None:
        x = self.tensors[node.inputs[0]]
        dense = isinstance(node, hls4ml.Dense)
        if dense and not x.flat:
            raise self.unsupported(
                node, f"a Dense layer expects a flat input, got {x.shape} (C, H, W): flatten it first"
            )
        if not dense and (x.flat or node.get_attr("data_format", x.layout) != x.layout):
            raise self.unsupported(node, f"its data format is {node.get_attr('data_format')}, its input {x.layout}")
        if any(int(node.get_attr(key, 1)) != 1 for key in ("dilation", "dilation_height", "dilation_width")):
            raise self.unsupported(node, "dilation is not computed")
        weight, bias = kernel(node, x, self.torch_layout), float_bias(node)
        last, norms = node, []
        while isinstance(norm := self.only_reader(last), hls4ml.BatchNormalization):
            if is_quantized(node):
                raise self.unsupported(
                    norm, f"the weights of {node.name} are quantized before it: fold it while training"
                )
            weight, bias = fold_batch_norm(weight, bias, norm, x.layout)
            self.folded.add(norm)
            norms.append(norm)
            last = norm
        q = self.result(last)
        integers = quantized(node, norms, x, weight, bias)
        if dense:
            stride, sides, groups = (1, 1), (0, 0, 0, 0), 1
        else:
            stride = (int(node.get_attr("stride_height")), int(node.get_attr("stride_width")))
            sides, groups = pads(node), x.shape[0] // weight.shape[1]
        name = identifier(last.outputs[0], self.taken)
        self.layers.conv2d(name, x.name, q, integers, stride, sides, groups)
        shape = self.layers.shapes[name]
        self.tensors[last.outputs[0]] = Foreign(name, shape, q, x.layout, dense)

    def _activation(self, node: Any) -> None:
        x = self.tensors[node.inputs[0]]
        kind = activation_kind(node)
        if kind is None:
            raise self.unsupported(node)
        q = tensor_q(node.name, self.precision(node))
        if kind == "identity" and q == x.q:
            self.tensors[node.outputs[0]] = x
            return
        self.layers.activation(
            self.name(node, like=x, q=q),
            x.name,
            q,
            kind,
            float(node.get_attr("activ_param", 0.0)) if kind == "leaky_relu" else 0.0,
        )

    def _concat(self, node: Any) -> None:
        x, others = self.moved(node), [self.tensors[tensor] for tensor in node.inputs[1:]]
        axis, rank = int(node.get_attr("axis")), len(node.get_output_variable().shape)
        axis = axis - 1 if axis > 0 else axis + rank
        along_channels = axis == (0 if x.flat or x.layout == FIRST else 2)
        if not along_channels or any(
            (t.layout, t.flat) != (x.layout, x.flat) or (t.flat and t.spatial) for t in [x, *others]
        ):
            raise self.unsupported(node, "tensors are joined along the channels only")
        self.layers.concat(self.name(node), [x.name, *(t.name for t in others)], x.q)

    def _resize(self, node: Any) -> None:
        x = self.moved(node)
        _, h, w = x.shape
        oh, ow = int(node.get_attr("out_height")), int(node.get_attr("out_width"))
        if oh % h or ow % w:
            raise self.unsupported(node, f"{h}x{w} to {oh}x{ow} is no whole factor")
        self.layers.upsample(self.name(node), x.name, x.q, (oh // h, ow // w))

    # ---- tensors -----------------------------------------------------------------------------------------------

    def moved(self, node: Any) -> Foreign:
        """The input of a layer that moves values; its result must have the input's precision, or `auto`."""
        x = self.tensors[node.inputs[0]]
        if not unspecified(node):
            for tensor in node.inputs:
                own, given = node.get_output_variable().type.precision, self.tensors[tensor].q
                if tensor_q(node.name, own) != given:
                    raise HlsgenError(
                        f"layer {node.name} ({node.class_name}) moves values: expected the precision of its input "
                        f"{tensor} ({precision(given, 'fixed')}), got {own}"
                    )
        self.tensors[node.outputs[0]] = x
        return x

    def name(self, node: Any, like: Foreign | None = None, q: TensorQ | None = None) -> str:
        """Name the node's result: laid out like `like` (default: what `moved` said), quantized as `q`."""
        x = like or self.tensors[node.outputs[0]]
        name = identifier(node.outputs[0], self.taken)
        shape = chw(node.get_output_variable().shape, x.layout) if not x.flat or not x.spatial else x.shape
        assert shape is not None
        self.tensors[node.outputs[0]] = Foreign(name, shape, q or x.q, x.layout, x.flat)
        return name

    def result(self, node: Any) -> TensorQ:
        """Rule 1 for a layer with weights (or the normalization after it)."""
        before = isinstance(self.next_layer(node), hls4ml.Activation)
        return tensor_q(node.name, self.precision(node, "relu", "identity"), PRE_ACTIVATION_BITS if before else 8)

    def precision(self, node: Any, *kinds: str) -> Any:
        """The hls4ml type of the node's result; rule 2 where it is `auto`, before activations of `kinds`."""
        reader = self.next_layer(node)
        if (
            unspecified(node)
            and isinstance(reader, hls4ml.Activation)
            and activation_kind(reader) in (kinds or ("identity",))
        ):
            return self.precision(reader)
        return node.get_output_variable().type.precision

    def next_layer(self, node: Any) -> Any:
        """The layer that alone reads the node's result, behind transpositions and flattening; or None."""
        reader = self.only_reader(node)
        while isinstance(reader, hls4ml.Transpose | hls4ml.Reshape):
            reader = self.only_reader(reader)
        return reader

    def model_uses(self, node: Any) -> int:
        return sum(uses(self.model, tensor) for tensor in node.outputs)

    def only_reader(self, node: Any) -> Any:
        """The layer that alone reads the node's result, or None."""
        if self.model_uses(node) != 1:
            return None
        return next((n for n in self.nodes if node.outputs[0] in n.inputs), None)

    @staticmethod
    def unsupported(node: Any, advice: str = "") -> HlsgenError:
        what = node.class_name
        for key in ("activation", "op", "pool_op", "algorithm"):
            if node.get_attr(key) is not None:
                what += f" {node.get_attr(key)}"
        if isinstance(node, hls4ml.Softmax):
            advice = "leave the softmax out of the model and compute it from the predictions, on the host"
        return unsupported(node.name, what, advice)
