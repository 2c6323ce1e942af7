"""Pass `check_shapes`: what the lowering may rely on.

1. Order: every tensor that a layer reads is computed by an earlier layer; tensors have one producer.
2. Shapes: every output's (C, H, W) follows from the layer's attributes and its inputs' shapes.
3. Tensors in memory have 8 bits; a convolution's `pre` has 8 to 16, and stands where it has an activation, and nowhere
   else. In `fixed` a convolution's sums and what is added have scales that are powers of two times the result's.
4. Concatenation, split, maximum pooling and upsampling move integers: their outputs have their inputs' quantization.
5. Weights are int8 [KH, KW, I/groups, O], biases int32 [O], weight scales positive float64 [O].
6. Queries and keys have zero points of 0; an attention reads HlsgenScores of as many heads, which nothing else reads;
   there is no attention and no LayerNorm in `native`.
7. In `dynamic` the image has 8 bits and all other tensors are float32; weights are int8 or int16, biases float32.
"""

from typing import Any

import numpy as np
from hls4ml.model.optimizer import ModelOptimizerPass

from hlsgen.backend.layer_list import window_size
from hlsgen.backend.layers import WITHOUT_INPUTS, quant_of, scheme_of
from hlsgen.backend.rewrite import producer, uses
from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import shift_of
from hlsgen.program.dynamic import FLOAT
from hlsgen.quantize.spec import TensorQ

MOVERS = (
    "HlsgenConcatenate",
    "HlsgenSplit",
    "MaxPooling2D",
    "UpSampling2D",
    "HlsgenGrow",
    "HlsgenCrop",
    "HlsgenDepthToSpace",
)


class CheckShapes(ModelOptimizerPass):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("check_shapes", self._check)

    def _check(self, model: Any) -> bool:
        shapes: dict[str, tuple[int, ...]] = {}
        quants: dict[str, TensorQ] = {}
        for node in model.get_layers():
            kind = node.get_attr("class_name")
            inputs = [] if kind in WITHOUT_INPUTS else list(node.inputs)
            for tensor in inputs:
                if tensor not in shapes:
                    raise HlsgenError(f"layer {node.name} reads {tensor} before it is computed")
            expected = output_shapes(node, [shapes[tensor] for tensor in inputs])
            for tensor, shape in zip(node.outputs, expected, strict=True):
                got = tuple(node.get_output_variable(tensor).shape)
                if tensor in shapes:
                    raise HlsgenError(f"tensor {tensor} is computed twice, the second time by layer {node.name}")
                if got != shape:
                    raise HlsgenError(f"layer {node.name}: expected output {tensor} to be {shape} (C, H, W), got {got}")
                shapes[tensor], quants[tensor] = got, quant_of(node)[tensor]
            self._quantization(node, kind, [quants[tensor] for tensor in inputs], scheme_of(model))
        return True

    @staticmethod
    def _quantization(node: Any, kind: str, inputs: list[TensorQ], scheme: str) -> None:
        quant, pre, residual = quant_of(node), node.get_attr("pre"), node.get_attr("residual_quant")
        if scheme == "dynamic":
            _floats(node, kind, {**quant, "pre-activation": pre, "result before the addition": residual})
            pre = residual = None
        for tensor, q in quant.items():
            _bits(node, tensor, q, quant[tensor].bits if scheme == "dynamic" else 8)
        if kind in MOVERS and any(q != inputs[0] for q in (*inputs, *quant.values())):
            raise HlsgenError(
                f"layer {node.name} ({node.class_name}) moves integers, but its tensors' scales differ: "
                f"{inputs} {quant}"
            )
        if kind == "HlsgenScores" and any(q.zero_point for q in inputs):
            raise HlsgenError(f"layer {node.name}: queries and keys expect zero points of 0, got {inputs}")
        if kind == "HlsgenNorm" and scheme == "native":
            raise HlsgenError(f"layer {node.name}: scheme native cannot run LayerNorm; use fixed or affine")
        if kind == "HlsgenAttend":
            scores = producer(node.model, node.inputs[0])
            alone = uses(node.model, node.inputs[0]) == 1 and scores.get_attr("heads") == node.get_attr("heads")
            if scores.get_attr("class_name") != "HlsgenScores" or not alone:
                raise HlsgenError(f"layer {node.name} expects HlsgenScores of as many heads, which nothing else reads")
        if kind in ("HlsgenScores", "HlsgenAttend") and scheme == "native":
            raise HlsgenError(
                f"layer {node.name}: scheme native cannot run attention, for which PyTorch has no INT8 kernels; use fixed or affine"
            )
        if kind == "Conv2D":
            _integers(node, scheme)
        if kind == "Conv2D" and scheme != "dynamic":
            fused = node.get_attr("activation") is not None
            if fused != (pre is not None):
                raise HlsgenError(f"layer {node.name}: a pre-activation's quantization and an activation come together")
            if pre is not None:
                _bits(node, "its pre-activation", pre, 16)
            if residual is not None:
                _bits(node, "its result before the addition", residual, 8)
            if (residual is not None) != (len(node.inputs) == 2):
                raise HlsgenError(f"layer {node.name}: a residual's quantization and a second input come together")
        if scheme == "fixed":
            _shifts(node, inputs)


def _shifts(node: Any, inputs: list[TensorQ]) -> None:
    """The ratios of scales that shifts must take, rule 3."""
    result = quant_of(node)[node.outputs[0]]
    pre, residual = node.get_attr("pre"), node.get_attr("residual_quant")
    ratios: list[float] = []
    if node.get_attr("class_name") == "Conv2D":
        ratios += [
            inputs[0].scale * float(w) / (pre or residual or result).scale for w in node.get_attr("weight_scale")
        ]
    if residual is not None or node.get_attr("class_name") == "Merge":
        ratios += [q.scale / result.scale for q in (residual or inputs[0], inputs[1])]
    for ratio in ratios:
        try:
            shift_of(ratio)
        except HlsgenError as error:
            raise HlsgenError(f"layer {node.name}: {error}") from error


def output_shapes(node: Any, inputs: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """(C, H, W) of a layer's outputs, from its attributes and its inputs' shapes.

    Raises:
        HlsgenError: inputs that do not fit the attributes.
    """
    get, kind = node.get_attr, node.get_attr("class_name")
    if kind == "Input":
        return [tuple(get("input_shape"))]
    if kind == "HlsgenConstant":
        return [tuple(get("integers").shape)]
    c, h, w = inputs[0]
    if kind in ("Conv2D", "MaxPooling2D", "UpSampling2D"):
        channels = get("n_filt") if kind == "MaxPooling2D" else get("n_chan")
        _expect(node, (c, h, w) == (channels, get("in_height"), get("in_width")), inputs)
    if kind in ("Conv2D", "MaxPooling2D"):
        kernel = "filt" if kind == "Conv2D" else "pool"
        oh = window_size(h, get(f"{kernel}_height"), get("stride_height"), get("pad_top"), get("pad_bottom"))
        ow = window_size(w, get(f"{kernel}_width"), get("stride_width"), get("pad_left"), get("pad_right"))
        shape = (get("n_filt"), oh, ow)
        if kind == "Conv2D" and get("depth_to_space"):
            return [_spread(node, shape, int(get("depth_to_space")))]
        _expect(node, len(inputs) == 1 or (kind == "Conv2D" and inputs[1:] == [shape]), inputs)
        return [shape]
    if kind == "UpSampling2D":
        oh, ow = get("out_height"), get("out_width")
        _expect(node, oh % h == 0 and ow % w == 0, inputs)
        return [(c, oh, ow)]
    if kind == "HlsgenSplit":
        _expect(node, sum(get("sizes")) == c, inputs)
        return [(size, h, w) for size in get("sizes")]
    if kind == "HlsgenConcatenate":
        _expect(node, all(shape[1:] == (h, w) for shape in inputs), inputs)
        return [(sum(shape[0] for shape in inputs), h, w)]
    if kind in ("HlsgenScores", "HlsgenAttend"):
        heads, (c2, h2, w2), (rows, columns) = int(get("heads")), inputs[1], get("window")
        scores, keys = kind == "HlsgenScores", rows * columns or h2 * w2
        _expect(node, not rows or ((h, w) == (h2, w2) and h % rows == 0 and w % columns == 0), inputs)
        _expect(node, c2 % heads == 0 and (c == c2 if scores else c == heads * keys), inputs)
        return [(heads * keys if scores else c2, h, w)]
    if kind == "HlsgenGrow":
        return [(c, h + get("pad_bottom"), w + get("pad_right"))]
    if kind == "HlsgenCrop":
        top, left = get("top", 0), get("left", 0)
        _expect(node, top + get("out_height") <= h and left + get("out_width") <= w, inputs)
        return [(c, get("out_height"), get("out_width"))]
    if kind == "HlsgenDepthToSpace":
        return [_spread(node, (c, h, w), int(get("factor")))]
    _expect(node, all(shape == inputs[0] for shape in inputs), inputs)  # activation, addition
    return [inputs[0]]


def _spread(node: Any, shape: tuple[int, int, int], factor: int) -> tuple[int, int, int]:
    """(C, H, W) of `shape` with its channels made pixels."""
    c, h, w = shape
    _expect(node, c % factor**2 == 0, [shape])
    return c // factor**2, factor * h, factor * w


def _expect(node: Any, fits: bool, inputs: list[tuple[int, ...]]) -> None:
    if not fits:
        raise HlsgenError(
            f"layer {node.name} ({node.class_name}): inputs of {inputs} (C, H, W) do not fit its attributes"
        )


def _bits(node: Any, what: str, q: TensorQ, most: int) -> None:
    if not 8 <= q.bits <= most:
        wanted = "8" if most == 8 else f"8 to {most}"
        raise HlsgenError(f"layer {node.name}: expected {what} to have {wanted} bits, got {q.bits}")
    if not (np.isfinite(q.scale) and q.scale > 0 and q.low <= q.zero_point <= q.high):
        raise HlsgenError(
            f"layer {node.name}: {what} has scale {q.scale!r} and zero point {q.zero_point}, which is out of range"
        )


def _floats(node: Any, kind: str, quants: dict[str, TensorQ | None]) -> None:
    for what, q in quants.items():
        image = kind == "Input" and q is not None and q.bits == 8
        if q is not None and q != FLOAT and not image:
            wanted = "8-bit integers or float32" if kind == "Input" else "float32"
            raise HlsgenError(f"layer {node.name}: scheme dynamic expects {what} to be {wanted}, got {q}")


def _integers(node: Any, scheme: str) -> None:
    n, get = node.get_attr("n_filt"), node.get_attr
    expected = (get("filt_height"), get("filt_width"), get("n_chan") // get("groups"), n)
    weight, bias, scale = get("weight_data"), get("bias_data"), get("weight_scale")
    dynamic = scheme == "dynamic"
    if weight.dtype not in ((np.int8, np.int16) if dynamic else (np.int8,)) or weight.shape != expected:
        raise HlsgenError(f"layer {node.name}: expected int8 weights {expected}, got {weight.dtype} {weight.shape}")
    if bias.dtype != (np.float32 if dynamic else np.int32) or bias.shape != (n,):
        wanted = "float32" if dynamic else "int32"
        raise HlsgenError(f"layer {node.name}: expected {wanted} biases ({n},), got {bias.dtype} {bias.shape}")
    if scale.dtype != np.float64 or scale.shape != (n,) or not (np.isfinite(scale) & (scale > 0)).all():
        raise HlsgenError(
            f"layer {node.name}: expected {n} positive float64 weight scales, got {scale.dtype} {scale.shape}"
        )
