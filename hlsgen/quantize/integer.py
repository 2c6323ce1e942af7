"""The torch reference of `fixed` and `affine`: docs/arithmetic.md in torch operators, exact.

Integers travel as float32 tensors, [1, C, H, W], in the engine's domain: 16 bits are exact there, and so is every
convolution whose accumulators are proved below 2**24 (else it is computed in float64).
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from hlsgen.errors import HlsgenError
from hlsgen.models.attention import (
    WHOLE,
    Window,
    attend,
    attention_scores,
    cropped,
    depth_to_space,
    grown,
    joined,
    tokens,
    windows,
)
from hlsgen.models.network import activation_kind, constant_of, inputs, run_prompts
from hlsgen.models.norm import ChannelNorm
from hlsgen.program.arithmetic import activation_table, addition, conv_requant
from hlsgen.program.attention import CHUNK, FACTOR_BITS, FRACTION, attend_scaling, exponents, factors, scores_scaling
from hlsgen.program.layer_norm import layer_norm, norm_constants
from hlsgen.quantize.spec import QuantSpec, TensorQ
from hlsgen.quantize.structure import is_tensor, module_of, too_many

EXACT32 = 1 << 24
EXACT64 = 1 << 53


Made = Callable[[str, Tensor], object]
"""Told a node's name and its integers."""


class Operation(Protocol):
    """An operator on integers."""

    def __call__(self, *args: Any) -> Any: ...


class Convolution:
    """accumulate, add the bias, requantize."""

    def __init__(self, name: str, conv: nn.Conv2d, spec: QuantSpec, x: TensorQ, out: TensorQ) -> None:
        q = spec.convs[name]
        constants = conv_requant(spec.scheme, x, q.weight_scale, out)
        flat = q.weight.astype(np.int64).reshape(len(q.weight), -1)
        low, high = x.low - x.zero_point, x.high - x.zero_point
        positive, negative = np.maximum(flat, 0).sum(1), -np.minimum(flat, 0).sum(1)
        # every partial sum, in whatever order, lies between these two
        largest = np.maximum(positive * high - negative * low, negative * high - positive * low)
        total = int((largest + np.abs(q.bias.astype(np.int64))).max(initial=0))
        product = total * int(constants.multiplier.max(initial=1))
        if product >= EXACT64:
            raise HlsgenError(
                f"the accumulator of {name} may reach {total}, beyond what can be computed exactly; recalibrate"
            )
        self.accumulate = torch.float32 if int(largest.max(initial=0)) < EXACT32 else torch.float64
        self.finish = torch.float32 if product < EXACT32 else torch.float64
        self.zero_point = x.zero_point
        self.out = out
        self.conv = conv
        self.weight = torch.from_numpy(q.weight.astype(np.float64)).to(self.accumulate)
        self.bias = torch.from_numpy(q.bias.astype(np.float64)).to(self.finish)[:, None, None]
        factor = constants.multiplier * np.exp2(-constants.shift.astype(np.float64))
        self.factor = torch.from_numpy(factor).to(self.finish)[:, None, None]

    def __call__(self, x: Tensor) -> Tensor:
        c = self.conv
        centered = x - self.zero_point if self.zero_point else x
        with torch.backends.nnpack.flags(enabled=False):  # its Winograd transform is not exact on integers
            acc = F.conv2d(centered.to(self.accumulate), self.weight, None, c.stride, c.padding, c.dilation, c.groups)
        y = acc.to(self.finish).add_(self.bias).mul_(self.factor).round_()  # torch.round breaks ties to even
        return y.add_(self.out.zero_point).clamp_(self.out.low, self.out.high).float()


class Table:
    """An activation: one look-up."""

    def __init__(self, kind: str, parameter: float, spec: QuantSpec, x: TensorQ, out: TensorQ) -> None:
        self.low = x.low
        self.table = torch.from_numpy(activation_table(kind, parameter, x, out, spec.scheme).astype(np.float32))

    def __call__(self, x: Tensor) -> Tensor:
        index = (x - self.low).to(torch.int32)
        return self.table.index_select(0, index.reshape(-1)).reshape(x.shape)


class Add:
    """A residual addition."""

    def __init__(self, spec: QuantSpec, a: TensorQ, b: TensorQ, out: TensorQ) -> None:
        self.constants = addition(spec.scheme, a, b, out)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        k = self.constants
        total = a.double() * k.a_multiplier + b.double() * k.b_multiplier + k.offset
        y = total.mul_(2.0**-k.shift).round_().add_(k.out.zero_point)
        return y.clamp_(k.out.low, k.out.high).float()


class Norm:
    """LayerNorm over the channels."""

    def __init__(self, module: ChannelNorm, x: TensorQ, out: TensorQ) -> None:
        gamma, beta = (p.detach().double().numpy() for p in (module.weight, module.bias))
        self.constants = norm_constants(gamma, beta, module.eps, x, out)

    def __call__(self, x: Tensor) -> Tensor:
        y = layer_norm(x.long().movedim(1, -1).numpy(), self.constants)
        return torch.from_numpy(y).movedim(-1, 1).float()


class Grown:
    """Zeros below and on the right: the zero point."""

    def __init__(self, x: TensorQ) -> None:
        self.zero_point = x.zero_point

    def __call__(self, x: Tensor, bottom: int, right: int) -> Tensor:
        return F.pad(x, (0, right, 0, bottom), value=self.zero_point)


class Scores:
    """Products of queries and keys."""

    def __init__(self, spec: QuantSpec, q: TensorQ, k: TensorQ, out: TensorQ) -> None:
        self.scaling = scores_scaling(spec.scheme, q, k, out)

    def __call__(self, q: Tensor, k: Tensor, heads: int, window: Window = WHOLE) -> Tensor:
        largest = q.shape[1] // heads << 14  # of a sum, 8 bits by 8 bits
        product = torch.float32 if largest < EXACT32 else torch.float64
        finish = torch.float32 if largest * self.scaling.multiplier < EXACT32 else torch.float64
        acc = attention_scores(q.to(product), k.to(product), heads, window).to(finish)
        y = acc.mul_(self.scaling.multiplier * 2.0**-self.scaling.shift).round_()  # ties to even
        return y.add_(self.scaling.out.zero_point).clamp_(self.scaling.out.low, self.scaling.out.high).float()


class Attend:
    """Softmax by table, chunk by chunk of the keys, and its product with the values."""

    def __init__(self, spec: QuantSpec, s: TensorQ, v: TensorQ, out: TensorQ) -> None:
        self.table = torch.from_numpy(exponents(s).astype(np.float32))
        self.factors = torch.from_numpy(factors(s))
        self.scaling = attend_scaling(spec.scheme, v, out)
        self.zero_point = v.zero_point

    def __call__(self, s: Tensor, v: Tensor, heads: int, window: Window = WHOLE) -> Tensor:
        if window != WHOLE:
            return joined(self(windows(s, window), windows(v, window), heads), v.shape[2:])
        rows, values = tokens(s, heads), tokens(v, heads)
        largest, total, sums = self._chunk(rows[:, :, :CHUNK], values[..., :CHUNK])
        for j in range(CHUNK, rows.shape[2], CHUNK):
            other, more, others = self._chunk(rows[:, :, j : j + CHUNK], values[..., j : j + CHUNK])
            factor, below = self.factors[(other - largest).abs()], other <= largest
            total = _merged(total, more, below, factor)
            sums = _merged(sums, others, below, factor)
            largest = torch.maximum(largest, other)
        exponent = torch.frexp(total.double()).exponent.long() - 1  # floor(log2(total))
        factor = torch.div(self.scaling.multiplier * 2**exponent, total, rounding_mode="floor")
        y = _shifted(sums * factor, self.scaling.shift + exponent - FRACTION) + self.scaling.out.zero_point
        held = y.clamp(self.scaling.out.low, self.scaling.out.high).float()
        return held.reshape(len(s), -1, *s.shape[2:])

    def _chunk(self, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of scores [N, heads, keys, queries] and values [N, heads, e, keys]: the largest score, the weights' sum times 2**FRACTION
        and the weighted values' sums, int64 [N, heads, 1 (e), queries]."""
        largest = rows.amax(2, keepdim=True)
        below = (largest - rows).int()
        p = self.table.index_select(0, below.reshape(-1)).reshape(below.shape)
        total = p.sum(2, keepdim=True).long()
        sums = (values @ p).long() - self.zero_point * total  # below 2**24 before, so exact
        return largest.long(), total << FRACTION, sums


def _merged(held: Tensor, chunk: Tensor, below: Tensor, factor: Tensor) -> Tensor:
    """The sum of two, of which the chunk's is scaled down where it is `below`, else what was held."""
    scaled = _shifted(torch.where(below, chunk, held) * factor, torch.tensor(FACTOR_BITS))
    return scaled + torch.where(below, held, chunk)


def _shifted(x: Tensor, shift: Tensor) -> Tensor:
    """int64 x / 2**shift, ties to even."""
    half = torch.where(shift > 0, 1 << (shift - 1).clamp(min=0), 0)
    odd = torch.where(shift > 0, (x >> shift) & 1, 1)
    return (x + half - 1 + odd) >> shift


class IntegerMachine:
    """Runs a network on integers."""

    def __init__(self, network: fx.GraphModule, spec: QuantSpec) -> None:
        self.network = network
        computed = ("call_module", "call_function", "get_attr")
        self.operations = {n.name: operation(network, n, spec) for n in network.graph.nodes if n.op in computed}
        self.inputs = [spec.tensors[node.name] for node in inputs(network)]

    def quantize(self, image: Tensor) -> Tensor:
        """float [1, C, H, W] -> integers (float32)."""
        return quantize_image(image, self.inputs[0])

    def outputs(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The inputs, float [1, C, H, W] each -> the network's outputs' integers (float32)."""
        return tuple(_Run(self, lambda _, __: None).run(*self._quantized(given)))

    def run(self, given: Sequence[Tensor], made: Made) -> None:
        """The inputs, float [1, C, H, W] each; `made` is told every tensor's integers (float32) as soon as they are there, but for
        scores too many to keep."""
        _Run(self, made).run(*self._quantized(given))

    def prompts(self, image: Tensor, given: Iterable[Sequence[Tensor]]) -> Iterator[tuple[Tensor, ...]]:
        """For each of several prompts (the further inputs), the network's outputs' integers; the image's part runs once."""
        quantized = ([quantize_image(x, q) for x, q in zip(one, self.inputs[1:], strict=True)] for one in given)
        return run_prompts(_Run(self, lambda _, __: None), self.quantize(image), quantized)

    def _quantized(self, given: Sequence[Tensor]) -> list[Tensor]:
        return [quantize_image(x, q) for x, q in zip(given, self.inputs, strict=True)]


class _Run(fx.Interpreter):
    def __init__(self, machine: IntegerMachine, made: Made) -> None:
        super().__init__(machine.network)
        self.extra_traceback = False
        self.operations = machine.operations
        self.made = made

    def run_node(self, n: fx.Node) -> Any:
        operation = self.operations.get(n.name)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        result = super().run_node(n) if operation is None else operation(*args, **kwargs)
        if is_tensor(n) and not too_many(n, result.numel()):
            self.made(n.name, result)
        return result


def quantize_image(image: Tensor, q: TensorQ) -> Tensor:
    """float [N, C, H, W] -> integers (float32): round_even(x / scale) + zero point in float32, as ONNX's QuantizeLinear."""
    return torch.round(image / q.scale).add_(q.zero_point).clamp_(q.low, q.high)


def operation(network: fx.GraphModule, node: fx.Node, spec: QuantSpec) -> Operation:
    """What `node` computes on integers."""
    module = module_of(network, node)
    given = [spec.tensors[source.name] for source in node.all_input_nodes]
    out = spec.tensors[node.name]
    if node.op == "get_attr":
        held = quantize_image(constant_of(network, node), out)
        return lambda: held
    if isinstance(module, nn.Conv2d):
        return Convolution(node.name, module, spec, given[0], out)
    if isinstance(module, ChannelNorm):
        return Norm(module, given[0], out)
    if module is not None:
        activation = activation_kind(module)
        return Table(*activation, spec, given[0], out) if activation is not None else module
    if node.target is torch.add:
        a, b = (spec.tensors[cast(fx.Node, source).name] for source in node.args)
        return Add(spec, a, b, out)
    if node.target in (attention_scores, attend):
        a, b = (spec.tensors[cast(fx.Node, source).name] for source in node.args[:2])
        return (Scores if node.target is attention_scores else Attend)(spec, a, b, out)
    if node.target is grown:
        return Grown(given[0])
    assert node.target in (cropped, depth_to_space, torch.cat, torch.split, operator.getitem)
    return node.target
