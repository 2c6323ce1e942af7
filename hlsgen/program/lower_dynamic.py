"""Lowering in scheme `dynamic` (docs/arithmetic-dynamic.md): float32 tensors, integers only between load and epilogue.

The rules of `hlsgen.program.lower` hold but for the fifth: copies keep channels in their lanes, so what an op cannot address else
is refused. Keys and values may be several maps side by side. A linear layer's input that is one token of several is copied, for
an extent of its own.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from hlsgen.errors import HlsgenError
from hlsgen.models import attention
from hlsgen.program import lower
from hlsgen.program.arithmetic import Requant
from hlsgen.program.attention import MOST_KEYS
from hlsgen.program.dynamic import FLOAT, Activation, F, FloatOp, Floats
from hlsgen.program.ops import EngineConfig, Op, Operand, Window
from hlsgen.program.views import View, headed, padded_lanes
from hlsgen.quantize.spec import TensorQ

NONE = Requant("dynamic", TensorQ(1.0, 0), np.ones(1), np.zeros(1, np.int64))


class DynamicBuilder(lower.Builder):
    """Lowers a ModelGraph of scheme `dynamic`."""

    def __init__(self, graph: Any, engine: EngineConfig) -> None:
        super().__init__(graph, replace(engine, lanes=max(1, engine.beat // 4)))

    def _constant(self, node: Any) -> None:
        name = node.outputs[0]
        values = np.asarray(node.get_attr("integers"), np.float32)
        lanes = padded_lanes(len(values), frozenset(self.cuts.get(name, ())), self.engine.tm)
        self.tensor(name, lanes, values.shape[1:], FLOAT)
        self.constants[name] = values

    def _conv2d(self, node: Any) -> None:
        x, name, window = self.views[node.inputs[0]], node.outputs[0], lower.window_of(node)
        weights = np.ascontiguousarray(np.asarray(node.get_attr("weight_data")).transpose(3, 2, 0, 1))
        scale, bias = (np.asarray(node.get_attr(key), np.float32) for key in ("weight_scale", "bias_data"))
        kind, spread = str(node.get_attr("activation") or ""), int(node.get_attr("depth_to_space") or 1)
        if int(node.get_attr("groups") or 1) != 1:
            raise HlsgenError(f"convolution {node.name} has groups, which scheme dynamic cannot; use --scheme fixed")
        reading: Any = "levels" if weights.dtype == np.int8 else "integers"
        if x.quant.bits == 8:  # an image: its scale and zero point are known, so they are in scale and bias
            reading = "image"
            scale, bias = _of_image(weights, scale, bias, x.quant)
        fold, idle = self.tensors[x.sources[0].tensor].fold, -weights.size
        if fold > 1:
            weights, window = lower.fold_weights(weights, window, fold), lower.fold_window(window, fold)
        if (
            reading == "levels" and (x.height, x.width) == (1, 1) and self.cropped(x)
        ):  # a token has an extent of its own
            self.windowed(self.fresh(node.inputs[0]), x, Window(), (1, 1), "elementwise", reference=node.inputs[0])
            x = self.views[node.inputs[0]]
        residual, lanes = (
            None,
            padded_lanes(len(weights) // spread**2, frozenset(self.cuts.get(name, ())), self.engine.tm),
        )
        if node.get_attr("residual"):
            other = self.addressable(node.get_attr("residual"))
            residual, lanes = other.sources[0], other.lanes
        floats, idle = FloatOp(reading, scale, bias, self.activation(name, kind)), idle + weights.size
        op = self.op(
            name, "convolution", x, window, floats, weights=weights, residual=residual, spread=spread, idle=idle
        )
        self.emit(op, lanes, lower.output_size(node), FLOAT)

    def _norm(self, node: Any) -> None:
        x, name = self.by_head(node.inputs[0], 1), node.outputs[0]
        lower.check_channels(node.name, x)
        gamma, beta = (np.asarray(node.get_attr(key), np.float32) for key in ("gamma", "beta"))
        floats = FloatOp("levels", gamma, beta, epsilon=float(node.get_attr("epsilon")))
        op = self.op(name, "norm", x, Window(), floats, residual=x.sources[0])
        self.emit(op, x.lanes, (x.height, x.width), FLOAT)

    def _scores(self, node: Any) -> None:
        heads = int(node.get_attr("heads"))
        q, k = self.views[node.inputs[0]], self.views[node.inputs[1]]
        plain = not any(source.upsample for source in (*q.sources, *k.sources))
        if not (plain and q.lanes == k.lanes and headed(q, heads, self.engine.tm)):
            q, k = self.by_head(node.inputs[0], heads), self.by_head(node.inputs[1], heads)
        self.multiplication(node, "scores", q, k, score_lanes(heads, self.keys(node, k), self.engine.tm))

    def _attend(self, node: Any) -> None:
        v = self.by_head(node.inputs[1], int(node.get_attr("heads")))
        self.multiplication(node, "attend", self.views[node.inputs[0]], v, v.lanes)

    def more_of(self, op: Op, lanes: tuple[int, ...], size: tuple[int, int]) -> dict[str, Any]:
        if op.kind != "scores" or (max(lanes) + 1) * size[0] * size[1] < attention.MANY_SCORES:
            return {}
        return {"compared": not any(op.out in n.inputs and lower.class_of(n) == "HlsgenAttend" for n in self.nodes)}

    def keys(self, node: Any, k: View) -> int:
        rows, columns = (int(n) for n in node.get_attr("window"))
        keys = rows * columns or k.height * k.width
        if keys > MOST_KEYS:
            raise HlsgenError(
                f"attention at {node.name} has {keys} keys, at most {MOST_KEYS} are supported; give a smaller image"
            )
        return keys

    def multiplication(self, node: Any, kind: Any, x: View, y: View, lanes: tuple[int, ...]) -> None:
        """A convolution of x whose weights are y."""
        rows, columns = (int(n) for n in node.get_attr("window"))
        heads, keys = int(node.get_attr("heads")), self.keys(node, y)
        alike = self.alike(y, rows, columns) if len(y.sources) == 1 else (False, False)
        operand = Operand(y.sources[0], y.lanes, heads, keys, 0, (rows, columns), y.sources[1:], alike)
        idle = keys * self.idle_channels(node)
        op = self.op(node.outputs[0], kind, x, Window(), FloatOp("integers"), operand=operand, idle=idle)
        self.emit(op, lanes, (x.height, x.width), FLOAT)

    def op(self, name: str, kind: Any, x: View, window: Window, floats: FloatOp, **more: Any) -> Op:
        size = (x.height, x.width)
        made = Op(name, kind, x.sources, x.lanes, size, x.quant, name, window, 1, NONE, self.no_tile, **more)
        return replace(made, floats=floats)

    def activation(self, name: str, kind: str) -> Activation:
        if kind not in ("", "gelu", "relu"):
            raise HlsgenError(f"scheme dynamic has no {kind} at {name}; its activations are GELU and ReLU")
        return kind  # type: ignore[return-value]

    def _activation(self, node: Any) -> None:
        x = self.views[node.inputs[0]]
        floats = FloatOp("levels", activation=self.activation(node.name, str(node.get_attr("activation"))))
        self.windowed(node.outputs[0], x, Window(), (x.height, x.width), "elementwise", floats=floats)

    def _add(self, node: Any) -> None:
        a = self.views[node.inputs[0]]
        b = self.addressable(node.inputs[1], lanes=a.lanes)
        self.windowed(node.outputs[0], a, Window(), (a.height, a.width), "elementwise", residual=b.sources[0])

    def windowed(
        self,
        name: str,
        x: View,
        window: Window,
        size: tuple[int, int],
        kind: Any,
        quant: TensorQ | None = None,
        reference: str | None = None,
        floats: FloatOp | None = None,
        **more: Any,
    ) -> None:
        """An op without products: a copy, an activation, an addition."""
        if kind != "elementwise" or any(source.upsample for source in x.sources):
            raise HlsgenError(f"scheme dynamic has no machine op for layer {name} ({kind}); use --scheme fixed")
        op = self.op(name, "elementwise", x, window, floats or FloatOp("levels"), **more)
        self.emit(op, x.lanes, size, FLOAT, reference)

    def repack(self, name: str, lanes: tuple[int, ...], size: tuple[int, int] | None = None, spread: int = 1) -> None:
        """Copy a view into a tensor of its own; channels stay in their lanes."""
        x = self.views[name]
        if lanes != x.lanes or spread != 1 or (size or (x.height, x.width)) != (x.height, x.width):
            raise HlsgenError(
                f"scheme dynamic cannot move the channels of {name}, which an op does not address as they lie; use --scheme fixed"
            )
        self.windowed(self.fresh(name), x, Window(), (x.height, x.width), "elementwise", reference=name)


def score_lanes(heads: int, keys: int, tm: int) -> tuple[int, ...]:
    """Of a map of scores: head by head a block for the rows' largest, then the keys'."""
    rows = padded_lanes(keys, frozenset(), tm)
    lanes: list[int] = []
    for head in range(heads):
        lanes += [-1] * tm + [head * keys + j if j >= 0 else -1 for j in rows]
    return tuple(lanes)


def _of_image(weights: Any, scale: Floats, bias: Floats, image: TensorQ) -> tuple[Floats, Floats]:
    """Scale and bias for an image's integers q, of which (q - zero point) * image.scale is meant."""
    total = weights.astype(np.int64).sum(axis=(1, 2, 3))
    taken = scale.astype(np.float64) * image.scale * image.zero_point * total
    return (scale.astype(np.float64) * image.scale).astype(F), (bias.astype(np.float64) - taken).astype(F)
