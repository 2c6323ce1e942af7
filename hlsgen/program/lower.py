"""Lowering: the fused hls4ml ModelGraph to a Program.

1. Split, Concatenate and Resize become views (`hlsgen.program.views`): addresses, not work.
2. Conv2D becomes a convolution with its table and residual addition; Pooling2D a max pool; a lone Activation or Merge
   an elementwise op.
3. An image that only a strided convolution of few channels reads is folded, pixels into channels, where that takes
   fewer passes of the MAC array (exact: the same products, rearranged).
4. LayerNorm reads its input twice. Scores are convolutions whose weights are another feature map, the heads their groups;
   every head's channels begin a block. Scores that a softmax reads are part of the attention, and no tensor.
5. A view that an op cannot address (channels cut inside a block) or that is a network output is copied by an op.
6. A constant map is a tensor that no op makes. Queries may be several maps side by side, where the keys lie alike.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.backend.layers import scheme_of
from hlsgen.errors import HlsgenError
from hlsgen.macs import idle_channels
from hlsgen.program.arithmetic import Requant, activation_table, addition, conv_requant
from hlsgen.program.attention import CHUNK, MOST_KEYS, Scaling, attend_scaling, scores_scaling, softmax_shift
from hlsgen.program.encode import groups_between
from hlsgen.program.layer_norm import norm_constants
from hlsgen.program.memory import placed
from hlsgen.program.ops import EngineConfig, Op, Operand, Program, Softmax, Tensor, Window, spread_lanes
from hlsgen.program.tiling import choose_tile
from hlsgen.program.views import View, channel_slice, concatenated, cut, headed, padded_lanes, upsampled, whole
from hlsgen.quantize.spec import ConvQ, Scheme, TensorQ


def lower(graph: Any, engine: EngineConfig) -> Program:
    """Lower a ModelGraph that has been through the flow `hlsgen:passes`.

    Raises:
        HlsgenError: where a layer has no machine op, or an op does not fit the engine's buffers.
    """
    from hlsgen.program.lower_dynamic import DynamicBuilder

    builder = (DynamicBuilder if scheme_of(graph) == "dynamic" else Builder)(graph, engine)
    for node in graph.get_layers():
        builder.node(node)
    return builder.finish()


FOLDS = (1, 2, 4, 8, 16)  # pixels, each way, that may become channels of an image
MOST_CHANNELS = 4096  # of a LayerNorm: templates/engine/norm.h's widths


class Builder:
    def __init__(self, graph: Any, engine: EngineConfig) -> None:
        self.graph = graph
        self.engine = engine
        self.scheme: Scheme = scheme_of(graph)
        self.nodes = list(graph.get_layers())
        self.views: dict[str, View] = {}
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.inputs: list[str] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.scores: dict[str, Any] = {}  # nodes, by output, of which an attention makes a part
        self.image = (0, 0, 0)
        self.cuts = self._cuts()

    def _cuts(self) -> dict[str, set[int]]:
        """Where the channels of a tensor are cut by splits: its blocks begin there."""
        cuts: dict[str, set[int]] = {}
        for node in self.nodes:
            if class_of(node) == "HlsgenSplit":
                sizes = [int(size) for size in node.get_attr("sizes")]
                cuts.setdefault(node.inputs[0], set()).update(int(v) for v in np.cumsum(sizes)[:-1])
            elif class_of(node) in ("HlsgenScores", "HlsgenAttend"):
                for name in node.inputs[:2] if class_of(node) == "HlsgenScores" else node.inputs[1:]:
                    channels = int(self.graph.output_vars[name].shape[0])
                    step = channels // int(node.get_attr("heads"))
                    cuts.setdefault(name, set()).update(range(step, channels, step))
        return cuts

    def tensor(self, name: str, lanes: tuple[int, ...], size: tuple[int, int], quant: TensorQ, **more: Any) -> Tensor:
        channels = max(lanes) + 1
        made = Tensor(name, channels, *size, quant, lanes, 0, more.pop("reference", name), **more)
        self.tensors[name] = made
        self.views[made.reference] = whole(made, self.engine.tm)
        return made

    # ---- one method a layer class ------------------------------------------------------------------------------

    def node(self, node: Any) -> None:
        kind = class_of(node)
        methods: dict[str, Callable[[Any], None]] = {
            "Input": self._input,
            "HlsgenConstant": self._constant,
            "Conv2D": self._conv2d,
            "MaxPooling2D": self._max_pool,
            "Activation": self._activation,
            "Merge": self._add,
            "HlsgenNorm": self._norm,
            "HlsgenGrow": self._grow,
            "HlsgenCrop": self._crop,
            "HlsgenDepthToSpace": self._depth_to_space,
            "HlsgenScores": self._scores,
            "HlsgenAttend": self._attend,
            "HlsgenConcatenate": self._concatenate,
            "UpSampling2D": self._resize,
            "HlsgenSplit": self._split,
        }
        if kind not in methods:
            raise HlsgenError(
                f"layer {node.name} of class {kind} has no machine op; supported are {', '.join(methods)}"
            )
        methods[kind](node)

    def _input(self, node: Any) -> None:
        c, h, w = (int(v) for v in node.get_output_variable().shape)
        name, quant = node.outputs[0], node.get_attr("quant")[node.outputs[0]]
        fold = 1
        if not self.inputs:  # the image
            self.image = (c, h, w)
            fold = self._fold_of(name, (c, h, w))
        lanes = padded_lanes(c * fold * fold, frozenset(self.cuts.get(name, ())), self.engine.tm)
        self.tensor(name, lanes, (h // fold, w // fold), quant, fold=fold)
        self.inputs.append(name)

    def _constant(self, node: Any) -> None:
        """A tensor that is in memory before the first op (rule 6)."""
        name, integers = node.outputs[0], np.asarray(node.get_attr("integers"), np.int8)
        channels, h, w = integers.shape
        lanes = padded_lanes(channels, frozenset(self.cuts.get(name, ())), self.engine.tm)
        self.tensor(name, lanes, (h, w), node.get_attr("quant")[name])
        self.constants[name] = integers

    def _fold_of(self, name: str, shape: tuple[int, int, int]) -> int:
        """n where folding n x n pixels into channels takes the fewest passes of the MAC array (rule 3); of equals the largest."""
        users = [n for n in self.nodes if name in n.inputs]
        if len(users) != 1 or class_of(users[0]) != "Conv2D" or users[0].get_attr("residual") == name:
            return 1
        window, groups = window_of(users[0]), int(users[0].get_attr("groups") or 1)
        c, h, w = shape
        if groups != 1 or name in self.graph_outputs():
            return 1

        def passes(fold: int) -> int:
            folded = fold_window(window, fold)
            return folded.kernel[0] * folded.kernel[1] * -(-fold * fold * c // self.engine.tn)

        best = min(FOLDS, key=lambda n: (passes(n) if not any(v % n for v in (*window.stride, h, w)) else math.inf, -n))
        return best if passes(best) < passes(1) else 1

    def graph_outputs(self) -> list[str]:
        return [str(name) for name in self.graph.outputs]

    def _conv2d(self, node: Any) -> None:
        x = self.views[node.inputs[0]]
        conv, window, groups = conv_of(node), window_of(node), int(node.get_attr("groups") or 1)
        out_name = node.outputs[0]
        out_quant: TensorQ = node.get_attr("quant")[out_name]
        size = output_size(node)
        weights = conv.weight
        spread = int(node.get_attr("depth_to_space") or 1)
        source = self.tensors[x.sources[0].tensor]
        if source.fold > 1:
            weights, window = fold_weights(weights, window, source.fold), fold_window(window, source.fold)
        kind = node.get_attr("activation")
        residual_name = node.get_attr("residual")
        made: TensorQ = node.get_attr("residual_quant") if residual_name else out_quant
        pre: TensorQ = node.get_attr("pre") if kind else made
        table = None
        if kind:
            table = activation_table(
                str(kind), float(node.get_attr("activation_parameter") or 0.0), pre, made, self.scheme
            )
        residual, lanes, sum_of = (
            None,
            padded_lanes(len(weights) // spread**2, frozenset(self.cuts.get(out_name, ())), self.engine.tm),
            None,
        )
        if residual_name:
            other = self.addressable(residual_name)
            residual, lanes = other.sources[0], other.lanes
            sum_of = addition(self.scheme, made, other.quant, out_quant)
        self.emit(
            Op(
                out_name,
                "convolution",
                x.sources,
                x.lanes,
                (x.height, x.width),
                x.quant,
                out_name,
                window,
                groups,
                conv_requant(self.scheme, x.quant, conv.weight_scale, pre),
                self.no_tile,
                weights,
                folded_bias(conv, x.quant),
                table,
                residual,
                sum_of,
                spread=spread,
                idle=weights.size - conv.weight.size,
            ),
            lanes,
            size,
            out_quant,
        )

    def _max_pool(self, node: Any) -> None:
        window = Window(
            (int(node.get_attr("pool_height")), int(node.get_attr("pool_width"))),
            (int(node.get_attr("stride_height")), int(node.get_attr("stride_width"))),
            (int(node.get_attr("pad_top") or 0), int(node.get_attr("pad_left") or 0)),
        )
        self.windowed(node.outputs[0], self.views[node.inputs[0]], window, output_size(node), "max_pool")

    def _activation(self, node: Any) -> None:
        x = self.views[node.inputs[0]]
        quant: TensorQ = node.get_attr("quant")[node.outputs[0]]
        kind, parameter = str(node.get_attr("activation")), float(node.get_attr("activation_parameter") or 0.0)
        table = activation_table(kind, parameter, x.quant, quant, self.scheme)
        self.windowed(node.outputs[0], x, Window(), (x.height, x.width), "elementwise", quant=quant, table=table)

    def _add(self, node: Any) -> None:
        a, quant = self.views[node.inputs[0]], node.get_attr("quant")[node.outputs[0]]
        b = self.addressable(node.inputs[1], lanes=a.lanes)
        sum_of = addition(self.scheme, a.quant, b.quant, quant)
        self.windowed(
            node.outputs[0],
            a,
            Window(),
            (a.height, a.width),
            "elementwise",
            quant=quant,
            residual=b.sources[0],
            addition=sum_of,
        )

    def _norm(self, node: Any) -> None:
        x, quant = self.by_head(node.inputs[0], 1), node.get_attr("quant")[node.outputs[0]]
        gamma, beta = (np.asarray(node.get_attr(key), np.float64) for key in ("gamma", "beta"))
        check_channels(node.name, x)
        constants = norm_constants(gamma, beta, float(node.get_attr("epsilon")), x.quant, quant)
        if constants.epsilon >= 1 << 31:
            raise HlsgenError(
                f"LayerNorm at {node.name} has an epsilon of {node.get_attr('epsilon'):g}, too large for its input"
            )
        name, size = node.outputs[0], (x.height, x.width)
        unused = pass_through(self.scheme, x.quant, x.channels)
        op = Op(
            name, "norm", x.sources * 2, x.lanes, size, x.quant, name, Window(), 1, unused, self.no_tile, norm=constants
        )
        self.emit(op, x.lanes, size, quant)

    def _scores(self, node: Any) -> None:
        name, heads = node.outputs[0], int(node.get_attr("heads"))
        readers = [n for n in self.nodes if name in n.inputs]
        if any(class_of(n) == "HlsgenAttend" for n in readers):
            self.scores[name] = node  # part of the attention that reads it
            return
        q, k = self.queries_and_keys(node.inputs[0], node.inputs[1], heads)
        constants = scores_scaling(self.scheme, q.quant, k.quant, node.get_attr("quant")[name])
        operand = self.operand(node, k, heads)
        lanes = tuple(
            head * operand.keys + j if j >= 0 else -1
            for head in range(heads)
            for j in padded_lanes(operand.keys, frozenset(), self.engine.tm)
        )
        self.product(node, "scores", q, constants, lanes, operand)

    def _attend(self, node: Any) -> None:
        scores, heads = self.scores[node.inputs[0]], int(node.get_attr("heads"))
        window = tuple(int(n) for n in node.get_attr("window"))
        queries, keys_of_heads, places, unit = scores.inputs[0], scores.inputs[1], (0, 0), 0
        placed_keys = self.places(*scores.inputs[:2]) if heads == 1 and window == (0, 0) else None
        if placed_keys is not None:
            q, (k, places, unit) = self.views[queries], placed_keys
        else:
            q, k = self.queries_and_keys(queries, keys_of_heads, heads)
        v = self.by_head(node.inputs[1], heads)
        between: TensorQ = scores.get_attr("quant")[scores.outputs[0]]
        softmax = Softmax(between, softmax_shift(q.quant, k.quant, between))
        constants = attend_scaling(self.scheme, v.quant, node.get_attr("quant")[node.outputs[0]])
        keys, values = self.operand(scores, k, heads), self.operand(node, v, heads)
        # A tile's queries meet the same keys and the same values.
        alike = (keys.alike[0] and values.alike[0], keys.alike[1] and values.alike[1])
        keys, values = replace(keys, alike=alike, places=places, unit=unit), replace(values, alike=alike)
        self.product(node, "attend", q, constants, v.lanes, keys, scores, values=values, softmax=softmax)

    def operand(self, node: Any, y: View, heads: int) -> Operand:
        """A feature map in the place of weights.

        Raises:
            HlsgenError: more than MOST_KEYS tokens.
        """
        rows, columns = (int(n) for n in node.get_attr("window"))
        keys = rows * columns or y.height * y.width
        if keys > MOST_KEYS:
            raise HlsgenError(
                f"attention at {node.name} has {keys} keys, at most {MOST_KEYS} are supported; give a smaller image"
            )
        alike = self.alike(y, rows, columns)
        return Operand(y.sources[0], y.lanes, heads, keys, y.quant.zero_point, (rows, columns), alike=alike)

    def queries_and_keys(self, queries: str, keys: str, heads: int) -> tuple[View, View]:
        """Two views whose lanes are the same and by head; the keys are one source."""
        q, k = self.views[queries], self.views[keys]
        plain = not any(source.upsample for source in (*q.sources, *k.sources))
        if plain and len(q.sources) > 1 and q.lanes == k.lanes and headed(q, heads, self.engine.tm):
            return q, self.addressable(keys)
        return self.by_head(queries, heads), self.by_head(keys, heads)

    def by_head(self, name: str, heads: int) -> View:
        """The view as one source whose blocks begin with every head, copied where it is not."""
        per_head = self.views[name].channels // heads
        cuts = frozenset(range(per_head, self.views[name].channels, per_head))
        return self.addressable(name, padded_lanes(self.views[name].channels, cuts, self.engine.tm))

    def product(
        self,
        node: Any,
        kind: Any,
        x: View,
        constants: Scaling,
        lanes: tuple[int, ...],
        operand: Operand,
        scores: Any = None,
        **more: Any,
    ) -> None:
        """A convolution of x whose weights are `operand`, or an attention of these `scores`, whose queries are x."""
        name, size = node.outputs[0], (x.height, x.width)
        requant = Requant(
            self.scheme, constants.out, np.array([constants.multiplier], float), np.array([constants.shift], np.int64)
        )
        op = Op(
            name,
            kind,
            x.sources,
            x.lanes,
            size,
            x.quant,
            name,
            Window(),
            1,
            requant,
            self.no_tile,
            operand=operand,
            idle=operand.keys * self.idle_channels(scores or node),
            **more,
        )
        self.emit(op, lanes, size, constants.out)

    def places(self, queries: str, keys: str) -> tuple[View, tuple[int, int], int] | None:
        """Keys of one head whose first channels are two constants, of which each key has but one that is not zero, its row's and
        its column's: the other channels as a view of one source, `Operand.places` and `unit`. None of any others.
        """
        q, k, tm = self.views[queries], self.views[keys], self.engine.tm
        if len(k.sources) != 3 or k.width % tm or k.height % tm or CHUNK % k.width:  # a chunk is whole rows of keys
            return None
        rest = k.sources[2]
        tensor, places = self.tensors[rest.tensor], (k.height // tm, k.width // tm)
        plain = not any(source.upsample for source in (*q.sources, *k.sources)) and not (rest.top or rest.left)
        if not plain or q.lanes != k.lanes or (tensor.height, tensor.width) != (k.height, k.width):
            return None
        held = [self.constants.get(source.tensor) for source in k.sources[:2]]
        rows, columns = np.eye(k.height)[:, :, None], np.eye(k.width)[:, None, :]
        unit = int(np.max(held[0])) if held[0] is not None else 0
        for constant, one in zip(held, (rows, columns), strict=True):
            wanted = np.broadcast_to(one * unit, (len(one), k.height, k.width))
            if constant is None or not np.array_equal(constant, wanted):
                return None
        channels = k.height + k.width
        if k.lanes[:channels] != tuple(range(channels)):
            return None
        lanes = tuple(lane - channels if lane >= 0 else -1 for lane in k.lanes[channels:])
        return replace(k, sources=(rest,), lanes=lanes, channels=k.channels - channels), places, unit

    def alike(self, y: View, rows: int, columns: int) -> tuple[bool, bool]:
        """Whether a constant map is the same in windows below each other, and in those beside each other."""
        held = self.constants.get(y.sources[0].tensor)
        if held is None or not rows:
            return False, False
        c, h, w = held.shape
        below, beside = held.reshape(c, h // rows, rows, w), held.reshape(c, h, w // columns, columns)
        return bool((below == below[:, :1]).all()), bool((beside == beside[:, :, :1]).all())

    def idle_channels(self, node: Any) -> int:
        """Channels of the keys, over all heads, that are a constant's zeros (`hlsgen.macs`)."""
        joined = [n.inputs for n in self.nodes if node.inputs[1] in n.outputs and class_of(n) == "HlsgenConcatenate"]
        constants = [name for names in joined for name in names if name in self.constants]
        return sum(idle_channels(self.constants[name], self.tensors[name].quant.zero_point) for name in constants)

    def _grow(self, node: Any) -> None:
        """Zeros below and on the right: where convolutions read them they are their padding, else they are copied in."""
        name, x = node.outputs[0], self.views[node.inputs[0]]
        self.views[name] = x
        readers = [n for n in self.nodes if name in n.inputs]
        if name in self.graph_outputs() or any(
            class_of(n) != "Conv2D" or n.get_attr("residual") == name for n in readers
        ):
            self.repack(
                name, padded_lanes(x.channels, frozenset(self.cuts.get(name, ())), self.engine.tm), output_size(node)
            )

    def _crop(self, node: Any) -> None:
        name, part = node.inputs[0], (int(node.get_attr("top", 0)), int(node.get_attr("left", 0)), *output_size(node))
        view = cut(self.views[name], *part)
        if view is None:
            view = cut(self.addressable(name), *part)
            assert view is not None
        self.views[node.outputs[0]] = view

    def _depth_to_space(self, node: Any) -> None:
        """Channels to pixels where no convolution does it: a copy."""
        name, channels = node.outputs[0], int(node.get_output_variable().shape[0])
        self.views[name] = self.views[node.inputs[0]]
        lanes = padded_lanes(channels, frozenset(self.cuts.get(name, ())), self.engine.tm)
        self.repack(name, lanes, output_size(node), int(node.get_attr("factor")))

    def _concatenate(self, node: Any) -> None:
        self.views[node.outputs[0]] = concatenated([self.views[name] for name in node.inputs])

    def _resize(self, node: Any) -> None:
        x = self.views[node.inputs[0]]
        height, width = output_size(node)
        factor = height // x.height
        if factor & (factor - 1) or (height, width) != (x.height * factor, x.width * factor):
            raise HlsgenError(
                f"upsampling at {node.name} expects a factor of 2, 4, 8 ... in both directions, "
                f"got {x.height}x{x.width} to {height}x{width}"
            )
        self.views[node.outputs[0]] = upsampled(x, factor.bit_length() - 1)

    def _split(self, node: Any) -> None:
        start = 0
        for name in node.outputs:
            stop = start + int(node.get_output_variable(name).shape[0])
            view = channel_slice(self.views[node.inputs[0]], start, stop, self.engine.tm)
            if view is None:
                aligned = padded_lanes(
                    self.views[node.inputs[0]].channels, frozenset(self.cuts[node.inputs[0]]), self.engine.tm
                )
                self.repack(node.inputs[0], aligned)
                view = channel_slice(self.views[node.inputs[0]], start, stop, self.engine.tm)
                assert view is not None
            self.views[name] = view
            start = stop

    # ---- ops ---------------------------------------------------------------------------------------------------

    @property
    def no_tile(self) -> Any:
        return None

    def emit(
        self, op: Op, lanes: tuple[int, ...], size: tuple[int, int], quant: TensorQ, reference: str | None = None
    ) -> None:
        """Give the op its tile and its output tensor, of these lanes and this size."""
        made, grid = spread_lanes(lanes, op.spread, self.engine.tm), (size[0] // op.spread, size[1] // op.spread)
        groups = groups_between(op, made, self.engine.tm)
        more: dict[str, Any] = {} if op.operand is None else keys_of(op)
        tile = choose_tile(
            self.engine, op.window, grid, groups, op.multiplies, op.name, special=op.special, spread=op.spread, **more
        )
        self.ops.append(replace(op, tile=tile))
        self.tensor(op.out, lanes, size, quant, reference=reference or op.out, **self.more_of(op, lanes, size))

    def more_of(self, op: Op, lanes: tuple[int, ...], size: tuple[int, int]) -> dict[str, Any]:
        """What is said of an op's output besides."""
        return {}

    def windowed(
        self,
        name: str,
        x: View,
        window: Window,
        size: tuple[int, int],
        kind: Any,
        quant: TensorQ | None = None,
        reference: str | None = None,
        **more: Any,
    ) -> None:
        """An op without weights: the maximum over its window, every block by itself."""
        requant = pass_through(self.scheme, x.quant, x.channels)
        op = Op(
            name, kind, x.sources, x.lanes, (x.height, x.width), x.quant, name, window, 1, requant, self.no_tile, **more
        )
        self.emit(op, x.lanes, size, quant or x.quant, reference)

    def repack(self, name: str, lanes: tuple[int, ...], size: tuple[int, int] | None = None, spread: int = 1) -> None:
        """Copy a view into a tensor of its own with the given lanes: a convolution with the identity (rule 5)."""
        x = self.views[name]
        eye = np.eye(x.channels, dtype=np.int8)[:, :, None, None]
        conv = ConvQ(eye, np.ones(x.channels), np.zeros(x.channels, np.int32))
        made = self.fresh(name)
        op = Op(
            made,
            "convolution",
            x.sources,
            x.lanes,
            (x.height, x.width),
            x.quant,
            made,
            Window(),
            1,
            conv_requant(self.scheme, x.quant, conv.weight_scale, x.quant),
            self.no_tile,
            eye,
            folded_bias(conv, x.quant),
            spread=spread,
        )
        self.emit(op, lanes, size or (x.height, x.width), x.quant, reference=name)

    def fresh(self, name: str) -> str:
        made = f"{name}_copy"
        while made in self.tensors:
            made += "_"
        return made

    def addressable(self, name: str, lanes: tuple[int, ...] | None = None) -> View:
        """The view as one source without upsampling (with the given lanes), copied where it is not."""
        view = self.views[name]
        scattered = len(view.sources) != 1 or view.sources[0].upsample or self.cropped(view)
        if lanes is not None and (view.lanes != lanes or scattered):
            self.repack(name, lanes)
        elif scattered:
            self.windowed(self.fresh(name), view, Window(), (view.height, view.width), "elementwise", reference=name)
        return self.views[name]

    def cropped(self, view: View) -> bool:
        """Whether a view shows less than its (first) tensor's pixels."""
        tensor = self.tensors[view.sources[0].tensor]
        return (view.height, view.width) != (tensor.height, tensor.width)

    def finish(self) -> Program:
        outputs = []
        for name in self.graph_outputs():
            view = self.views[name]
            tensor = self.tensors[view.sources[0].tensor]
            if (
                view.sources != whole(tensor, self.engine.tm).sources
                or view.lanes != tensor.lanes
                or self.cropped(view)
                or tensor.name in (*self.inputs, *self.constants)
            ):
                self.windowed(
                    self.fresh(name), view, Window(), (view.height, view.width), "elementwise", reference=name
                )
                tensor = self.tensors[self.views[name].sources[0].tensor]
            outputs.append(tensor.name)
        program = Program(
            str(self.graph.config.get_project_name()),
            self.scheme,
            self.engine,
            self.tensors,
            tuple(self.ops),
            tuple(self.inputs),
            tuple(outputs),
            self.image,
            constants=self.constants,
        )
        return placed(program)


def check_channels(name: str, x: View) -> None:
    """Raises HlsgenError where a LayerNorm has too many channels."""
    if x.channels > MOST_CHANNELS:
        raise HlsgenError(f"LayerNorm at {name} has {x.channels} channels, at most {MOST_CHANNELS} are supported")


def keys_of(op: Op) -> dict[str, Any]:
    """What an `OpShape` says of the keys of scores or of an attention."""
    assert op.operand is not None
    keys = op.operand.keys if op.values is not None else 0
    return {"window_of_keys": op.operand.window, "within": op.operand.within, "places": op.operand.places, "keys": keys}


def class_of(node: Any) -> str:
    """The layer's class as `hlsgen.backend.layers` lists it."""
    return str(node.get_attr("class_name"))


def output_size(node: Any) -> tuple[int, int]:
    shape = node.get_output_variable().shape
    return int(shape[1]), int(shape[2])


def window_of(node: Any) -> Window:
    """A Conv2D's window."""
    return Window(
        (int(node.get_attr("filt_height")), int(node.get_attr("filt_width"))),
        (int(node.get_attr("stride_height")), int(node.get_attr("stride_width"))),
        (int(node.get_attr("pad_top")), int(node.get_attr("pad_left"))),
    )


def conv_of(node: Any) -> ConvQ:
    """A Conv2D's integers, from hls4ml's layout [KH, KW, I, O]."""
    weight = np.asarray(node.get_attr("weight_data"), np.int8).transpose(3, 2, 0, 1)
    scale = np.asarray(node.get_attr("weight_scale"), np.float64)
    return ConvQ(np.ascontiguousarray(weight), scale, np.asarray(node.get_attr("bias_data"), np.int32))


def folded_bias(conv: ConvQ, x: TensorQ) -> npt.NDArray[np.int32]:
    """bias - zero point * sum of weights: sums may then run over the raw integers."""
    total = conv.bias.astype(np.int64) - x.zero_point * conv.weight.astype(np.int64).sum(axis=(1, 2, 3))
    return np.asarray(total, np.int32)


def pass_through(scheme: Scheme, quant: TensorQ, channels: int) -> Requant:
    """Constants with which requantization returns its 8-bit input."""
    out = TensorQ(quant.scale, 0, 8)
    return conv_requant(scheme, out, np.ones(channels), out)


def fold_window(window: Window, fold: int = 2) -> Window:
    """The window of a convolution after folding fold x fold pixels into channels.

    Tap k of row y reads row s*y + k - p; in folded rows that is (s/fold)*y + floor((k - p) / fold).
    """
    (kh, kw), (sh, sw), (top, left) = window.kernel, window.stride, window.pad
    pad = (-(-top // fold), -(-left // fold))
    kernel = ((kh - 1 - top) // fold + pad[0] + 1, (kw - 1 - left) // fold + pad[1] + 1)
    return Window(kernel, (sh // fold, sw // fold), pad)


def fold_weights(weights: npt.NDArray[np.int8], window: Window, fold: int = 2) -> npt.NDArray[np.int8]:
    """int8 [O, C, KH, KW] to [O, C * fold**2, KH', KW'] for `fold_window`; channel order (c, dy, dx)."""
    folded = fold_window(window, fold)
    o, c = weights.shape[:2]
    out = np.zeros((o, c, fold, fold, *folded.kernel), weights.dtype)
    for ky in range(window.kernel[0]):
        row, dy = divmod(ky - window.pad[0], fold)
        for kx in range(window.kernel[1]):
            col, dx = divmod(kx - window.pad[1], fold)
            out[:, :, dy, dx, row + folded.pad[0], col + folded.pad[1]] = weights[:, :, ky, kx]
    return out.reshape(o, c * fold * fold, *folded.kernel)


def reference_names(program: Program) -> Iterable[tuple[str, str]]:
    """(tensor, node of the quantized network) of every op's output."""
    return ((op.out, program.tensors[op.out].reference) for op in program.ops)
