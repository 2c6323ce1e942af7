"""The ``fixed`` scheme on SAM's graphs (``hlsgen.models.sam.vocabulary``): docs/arithmetic-attention.md, executable.

Integers travel as int8 or int16 tensors, sums as int32. A linear layer is a 1x1 convolution of tokens; a transposed
convolution whose kernel is its stride is one too, its kernel's places being output channels that are then laid out as pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from hlsgen.errors import HlsgenError
from hlsgen.models.network import activation_kind
from hlsgen.models.sam import vocabulary as v
from hlsgen.program.arithmetic import (
    activation_table,
    add,
    addition,
    conv_requant,
    fraction_bits,
    requantize,
    round_shift_even,
)
from hlsgen.program.attention import attend_scaling, scale, scores_scaling, weighted
from hlsgen.program.layer_norm import layer_norm, norm_constants
from hlsgen.quantize.integer import EXACT64
from hlsgen.quantize.spec import QuantSpec, TensorQ

MOVES = (v.to_tokens, v.to_map, v.partition, v.unpartition, v.narrow, torch.cat)
QUERIES = 256  # of one window that are attended at a time, so that a map of scores stays small


def as_conv(module: nn.Module) -> nn.Conv2d | None:
    """The convolution that a linear layer or a transposed convolution is (its own for a convolution), or None.

    A transposed convolution I to O with a kernel of h x w and that stride becomes I to O*h*w, channel (o, y, x).
    """
    if isinstance(module, nn.Conv2d):
        return module
    weight: Tensor
    bias: Tensor | None
    if isinstance(module, nn.Linear):
        weight, bias = module.weight, module.bias
    elif isinstance(module, nn.ConvTranspose2d):
        if tuple(module.kernel_size) != tuple(module.stride) or module.padding not in (0, (0, 0)):
            raise HlsgenError(
                f"a transposed convolution is expected to have its kernel as stride, got {module.kernel_size} and {module.stride}"
            )
        weight = module.weight.flatten(1).T
        bias = None if module.bias is None else module.bias.repeat_interleave(module.weight[0, 0].numel())
    else:
        return None
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta").to_empty(device="cpu")
    made.weight.data = weight.detach()[:, :, None, None].clone()
    made.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias.detach().clone())
    made.requires_grad_(False)
    return made


def integers(value: Tensor, q: TensorQ) -> Tensor:
    """float to int64: round-half-even of value / scale, clamped."""
    return torch.round(value.double() / q.scale).clamp(q.low, q.high).long()


class TokenMachine:
    """A graph of SAM on integers.

    Args:
        network: ``graph.encoder`` or ``graph.decoder``, folded.
        spec: scheme ``fixed``; ``tensors`` by node name; ``convs`` by node name, of ``as_conv``'s shape.

    Raises:
        HlsgenError: a scale out of range, or sums that cannot be computed exactly; the sentence names the node.
    """

    def __init__(self, network: fx.GraphModule, spec: QuantSpec) -> None:
        self.network, self.spec = network, spec
        self.operations: dict[str, Callable[..., Tensor]] = {}
        for node in network.graph.nodes:
            if node.op in ("get_attr", "call_module", "call_function"):
                self.operations[node.name] = _operation(network, node, spec)
        self.inputs = [spec.tensors[n.name] for n in network.graph.nodes if n.op == "placeholder"]
        self.outputs = [spec.tensors[n.name] for n in _outputs(network)]

    def __call__(self, *values: Tensor) -> tuple[Tensor, ...]:
        """float inputs to float outputs, scale times integer."""
        results = self._run(values, None)
        return tuple((r.double() * q.scale).float() for r, q in zip(results, self.outputs, strict=True))

    def run(self, *values: Tensor) -> dict[str, Tensor]:
        """float inputs to every tensor's integers by node name: int8, int16 where wider; int32 scores that are still sums."""
        kept: dict[str, Tensor] = {}
        self._run(values, kept)
        return kept

    def _run(self, values: tuple[Tensor, ...], kept: dict[str, Tensor] | None) -> tuple[Tensor, ...]:
        operations, tensors = self.operations, self.spec.tensors

        class Run(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                args, _ = self.fetch_args_kwargs_from_env(n)
                operation = operations.get(n.name)
                result = super().run_node(n) if operation is None else operation(*args)
                if n.op != "output":
                    result = narrowed(result, tensors.get(n.name))
                    if kept is not None:
                        kept[n.name] = result
                return result

        made: tuple[Tensor, ...] = Run(self.network).run(
            *(integers(x, q) for x, q in zip(values, self.inputs, strict=True))
        )
        return made


def narrowed(x: Tensor, q: TensorQ | None) -> Tensor:
    """Integers in as few bytes as their quantization needs; sums, which have none, as int32."""
    return x.to(torch.int32 if q is None else torch.int8 if q.bits <= 8 else torch.int16)


def _outputs(network: fx.GraphModule) -> list[fx.Node]:
    held: Any = network.graph.output_node().args[0]
    return list(held)


def _operation(network: fx.GraphModule, node: fx.Node, spec: QuantSpec) -> Callable[..., Tensor]:
    """What ``node`` computes on integers."""

    def of(argument: Any) -> TensorQ:
        return spec.tensors[argument.name]

    if node.op == "get_attr":
        value = integers(network.get_buffer(str(node.target)), spec.tensors[node.name])
        return lambda: value
    if node.op == "call_module":
        return _module(network.get_submodule(str(node.target)), node, spec, of(node.args[0]), spec.tensors[node.name])
    if node.target in MOVES:
        return node.target
    if node.target is torch.add:
        constants = addition("fixed", of(node.args[0]), of(node.args[1]), spec.tensors[node.name])
        return lambda a, b: _tensor(add(a.long().numpy(), b.long().numpy(), constants))
    if node.target is v.scores:
        if node.args[3] != 1.0:
            raise HlsgenError(f"attention at {node.name} expects its scale folded into the queries, got {node.args[3]}")
        if raw_scores(node):
            return lambda q, k, heads, _: _by_queries(lambda part: _sums(part, k, heads).int(), 1, 2, q)
        out = spec.tensors[node.name]
        scaling = scores_scaling("fixed", of(node.args[0]), of(node.args[1]), out)

        def scored(q: Tensor, k: Tensor, heads: int, _: float) -> Tensor:
            return _by_queries(
                lambda part: narrowed(_tensor(scale(_sums(part, k, heads).numpy(), scaling)), out), 1, 2, q
            )

        return scored
    if node.target is v.relative:
        scaling = scores_scaling("fixed", of(node.args[0]), of(node.args[1]), spec.tensors[node.name])
        return lambda q, table, heads, axis: _tensor(
            scale(v.relative(q.double(), table.double(), heads, axis).long().numpy(), scaling)
        )
    if node.target is v.add_relative:
        return _add_relative(node, spec)
    if node.target is v.attend:
        return _attend(of(node.args[0]), of(node.args[1]), spec.tensors[node.name])
    raise HlsgenError(f"operator {node.target} at {node.name} has no integer arithmetic")


def raw_scores(node: fx.Node) -> bool:
    """Whether scores stay sums until the terms of relative positions are added."""
    return node.target is v.scores and any(user.target is v.add_relative for user in node.users)


def _tensor(x: npt.NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


def _sums(q: Tensor, k: Tensor, heads: int) -> Tensor:
    return v.scores(q.double(), k.double(), heads, 1.0).long()


def _by_queries(function: Callable[..., Tensor], split: int, join: int, *tensors: Tensor) -> Tensor:
    """``function`` of a few queries at a time: tensors split along axis ``split``, results joined along ``join``."""
    parts = zip(*(torch.split(t, QUERIES, split) for t in tensors), strict=True)
    return torch.cat([function(*part) for part in parts], join)


def _module(module: nn.Module, node: fx.Node, spec: QuantSpec, x: TensorQ, out: TensorQ) -> Callable[[Tensor], Tensor]:
    conv = as_conv(module)
    if conv is not None:
        return _convolution(module, conv, node.name, spec, x, out)
    if isinstance(module, nn.LayerNorm):
        gamma, beta = (p.detach().double().numpy() for p in (module.weight, module.bias))
        constants = norm_constants(gamma, beta, module.eps, x, out)
        return lambda t: _tensor(layer_norm(t.long().numpy(), constants))
    kind = activation_kind(module)
    if kind is None:
        raise HlsgenError(f"module {type(module).__name__} at {node.name} has no integer arithmetic")
    table = torch.from_numpy(activation_table(*kind, x, out, "fixed").astype(np.int64))
    return lambda t: table[t.long() - x.low]


def _convolution(
    module: nn.Module, conv: nn.Conv2d, name: str, spec: QuantSpec, x: TensorQ, out: TensorQ
) -> Callable[[Tensor], Tensor]:
    q = spec.convs[name]
    constants = conv_requant("fixed", x, q.weight_scale, out)
    largest = np.abs(q.weight.astype(np.int64)).reshape(len(q.weight), -1).sum(1) * (1 << (x.bits - 1))
    if int((largest + np.abs(q.bias.astype(np.int64))).max(initial=0)) >= EXACT64:
        raise HlsgenError(f"the accumulator of {name} is beyond what can be computed exactly; recalibrate")
    weight, bias = torch.from_numpy(q.weight).double(), torch.from_numpy(q.bias).long()

    def tokens(t: Tensor) -> Tensor:
        acc = (t.double() @ weight[:, :, 0, 0].T).long() + bias
        return _tensor(requantize(acc.numpy(), constants, -1))

    def maps(t: Tensor) -> Tensor:
        acc = functional.conv2d(t.double(), weight, None, conv.stride, conv.padding).long() + bias[:, None, None]
        return _tensor(requantize(acc.numpy(), constants, 1))

    def upscaled(t: Tensor) -> Tensor:
        sides: Any = module.kernel_size
        (kh, kw), (height, width) = sides, t.shape[2:]
        places = tokens(v.to_tokens(t)).view(height, width, -1, kh, kw)  # y, x, channel, and the place within
        return places.permute(2, 0, 3, 1, 4).reshape(1, -1, height * kh, width * kw)

    if isinstance(module, nn.Linear):
        return tokens
    return maps if isinstance(module, nn.Conv2d) else upscaled


def _add_relative(node: fx.Node, spec: QuantSpec) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The scores' sums and the two terms, to one common shift: clamp(rne(acc * m + rows * m_h + columns * m_w, shift))."""
    scored: Any = node.args[0]
    q, k = (spec.tensors[a.name] for a in scored.args[:2])
    terms: Any = node.args[1:]
    rows, columns = (spec.tensors[a.name] for a in terms)
    out = spec.tensors[node.name]
    fractions = [
        fraction_bits(q.scale) + fraction_bits(k.scale),
        fraction_bits(rows.scale),
        fraction_bits(columns.scale),
    ]
    most = max(fractions)
    factors, shift = [1 << (most - f) for f in fractions], most - fraction_bits(out.scale)
    if not 0 <= shift <= 31 or max(factors) >= 1 << 22:
        raise HlsgenError(f"the scores' scales at {node.name} are out of range; recalibrate")

    def some(acc: Tensor, r: Tensor, c: Tensor) -> Tensor:
        total = v.add_relative(acc.long() * factors[0], r.long() * factors[1], c.long() * factors[2])
        return narrowed(_tensor(np.clip(round_shift_even(total.numpy(), shift), out.low, out.high)), out)

    return lambda acc, r, c: _by_queries(some, 2, 2, acc, r, c)


def _attend(s: TensorQ, values: TensorQ, out: TensorQ) -> Callable[[Tensor, Tensor], Tensor]:
    scaling = attend_scaling("fixed", values, out)

    def some(scored: Tensor, held: npt.NDArray[np.float64]) -> Tensor:
        """Scores [B, heads, n, M] and values [B, heads, M, e]: tokens [B, n, heads*e]."""
        y = weighted(scored.numpy().swapaxes(-1, -2), held.swapaxes(-1, -2), s, 0, scaling)
        return _tensor(y.swapaxes(-1, -2)).transpose(1, 2).flatten(2)

    def apply(scored: Tensor, value: Tensor) -> Tensor:
        held = v.split_heads(value, scored.shape[1]).double().numpy()
        return _by_queries(lambda part: some(part, held), 2, 1, scored)

    return apply
