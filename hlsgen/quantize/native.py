"""PyTorch's own static INT8: `torch.ao.quantization` in FX mode, engine qnnpack, full 8-bit range.

The executable is PyTorch's converted module with its own kernels. Calibration and scales are ours (the converted module
is built with them fixed), so that a saved reference is rebuilt exactly from its scales and the float weights.
"""

import copy
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.models.network import activation_kind
from hlsgen.quantize.calibrate import Floats
from hlsgen.quantize.spec import ConvQ, QuantSpec, TensorQ
from hlsgen.quantize.structure import module_of, outputs, placeholder

UNSIGNED = 128  # PyTorch's quint8 is the engine's int8 plus this
LARGEST_BIAS = 2.0**30


def fused_relus(network: fx.GraphModule) -> dict[str, str]:
    """By node: the ReLU that FX mode fuses into it (a convolution or addition that feeds nothing else)."""
    found = {}
    for node in network.graph.nodes:
        fusable = isinstance(module_of(network, node), nn.Conv2d) or node.target is torch.add
        if fusable and len(node.users) == 1:
            user = next(iter(node.users))
            if isinstance(module_of(network, user), nn.ReLU):
                found[node.name] = user.name
    return found


def native_spec(network: fx.GraphModule, tensors: Mapping[str, TensorQ]) -> QuantSpec:
    """The spec of PyTorch's INT8 with these activation scales: weights and bias are what PyTorch makes of them."""
    convs = {}
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d):
            x = tensors[node.all_input_nodes[0].name]
            convs[node.name] = _conv(module, x)
    return QuantSpec("native", dict(tensors), convs)


def _conv(conv: nn.Conv2d, x: TensorQ) -> ConvQ:
    """As nnq.Conv2d and qconv.cpp's QuantizeBias compute them."""
    weight = conv.weight.detach()
    bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
    largest = weight.abs().flatten(1).amax(1)
    scales = torch.clamp(largest / 127.5, min=torch.finfo(torch.float32).eps)  # PerChannelMinMaxObserver's
    scales = torch.maximum(
        scales, (bias.abs() / (LARGEST_BIAS * x.scale)).float()
    ).double()  # the int32 bias must hold it
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantized tensors are deprecated
        q = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        qb = torch.quantize_per_channel(bias, q.q_per_channel_scales() * x.scale, zeros, 0, torch.qint32)
    return ConvQ(q.int_repr().numpy(), scales.numpy(), qb.int_repr().numpy())


class Native:
    """PyTorch's converted module for `spec`, and its values by the float network's node names."""

    def __init__(self, network: fx.GraphModule, spec: QuantSpec) -> None:
        self.network = network
        self.spec = spec
        with _qnnpack():
            self.converted = _convert(network, spec)
        self.values = _values(network, self.converted)
        _check(network, spec, self.converted, self.values)

    def quantize(self, image: Tensor) -> Tensor:
        """float [1, C, H, W] -> integers (float32) in the engine's domain."""
        q = self.spec.tensors[placeholder(self.network).name]
        return self._integers(image, q)

    def run(self, given: Sequence[Tensor], made: Callable[[str, Tensor], object]) -> None:
        """The image, float [1, C, H, W]; `made` is told every node's integers (float32), in the engine's domain."""
        with _qnnpack():
            (image,) = given
            captured = _Capture(self.converted)
            captured.run(image)
        made(placeholder(self.network).name, self.quantize(image))
        for name, value in self.values.items():
            made(name, self._integers(captured.kept[value], self.spec.tensors[name]))

    def outputs(self, image: Tensor) -> tuple[Tensor, ...]:
        """float [1, C, H, W] -> the network's outputs' integers (float32)."""
        with _qnnpack():
            results = self.converted(image)
        names = [n.name for n in outputs(self.network)]
        return tuple(self._integers(r, self.spec.tensors[n]) for r, n in zip(results, names, strict=True))

    @staticmethod
    def _integers(value: Tensor, q: TensorQ) -> Tensor:
        """A quantized value's; a float one's (FX mode keeps a table's output in float up to its reader) as read."""
        if not value.is_quantized:
            value = torch.quantize_per_tensor(value, q.scale, q.zero_point + UNSIGNED, torch.quint8)
        return value.int_repr().float() - UNSIGNED


class _Capture(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.kept: dict[str, Any] = {}

    @torch.no_grad()
    def run(self, *args: Any, **more: Any) -> Any:
        return super().run(*args, **more)

    def run_node(self, n: fx.Node) -> Any:
        self.kept[n.name] = super().run_node(n)
        return self.kept[n.name]


@contextmanager
def _qnnpack() -> Iterator[None]:
    if "qnnpack" not in torch.backends.quantized.supported_engines:
        raise HlsgenError(
            "scheme native expects a PyTorch with the qnnpack engine, this one has none; use --scheme affine"
        )
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated, and says so often
            yield
    finally:
        torch.backends.quantized.engine = before


def _convert(network: fx.GraphModule, spec: QuantSpec) -> fx.GraphModule:
    from torch.ao import quantization as ao
    from torch.ao.quantization import PerChannelMinMaxObserver, PlaceholderObserver, QConfigMapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    make_qconfig: Any = ao.QConfig  # untyped in torch
    make_observer: Any = ao.FixedQParamsObserver

    class Scales(PerChannelMinMaxObserver):
        def __init__(self, scales: Floats) -> None:
            super().__init__(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
            self.scales = torch.from_numpy(scales)

        def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
            return self.scales, torch.zeros(len(self.scales), dtype=torch.int64)

    activation = PlaceholderObserver.with_args(dtype=torch.quint8)
    mapping = QConfigMapping().set_global(make_qconfig(activation, PerChannelMinMaxObserver))
    fused = fused_relus(network)
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d):
            qconfig = make_qconfig(activation, partial(Scales, spec.convs[node.name].weight_scale))
            mapping.set_module_name(str(node.target), qconfig)
            if node.name in fused:
                mapping.set_module_name(str(next(iter(node.users)).target), qconfig)
        elif module is not None and activation_kind(module) is not None and node.name not in fused.values():
            mapping.set_module_name(str(node.target), None)  # in float, and its reader quantizes it
    copied = copy.deepcopy(network).eval()
    prepared = prepare_fx(copied, mapping, (torch.zeros(1, 3, 32, 32),))
    owners = _owners(network, prepared)
    for node in prepared.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("activation_post_process"):
            q = spec.tensors[owners[node.args[0].name]]
            fixed = make_observer(q.scale, q.zero_point + UNSIGNED, dtype=torch.quint8, quant_min=0, quant_max=255)
            prepared.add_submodule(str(node.target), fixed)
    return convert_fx(prepared)


def _owners(network: fx.GraphModule, prepared: fx.GraphModule) -> dict[str, str]:
    """By the prepared graph's node: the float network's whose value it holds."""
    skip = ("activation_post_process",)
    return _matched(network, prepared, [n for n in prepared.graph.nodes if not str(n.target).startswith(skip)])


def _values(network: fx.GraphModule, converted: fx.GraphModule) -> dict[str, str]:
    """By the float network's node (without the placeholder): the converted graph's that holds its value."""
    skip = (torch.quantize_per_tensor, "dequantize")
    matched = _matched(
        network, converted, [n for n in converted.graph.nodes if n.op != "get_attr" and n.target not in skip]
    )
    held = {ours: theirs for theirs, ours in matched.items()}
    for node, relu in fused_relus(network).items():
        held.setdefault(relu, held[node])
        held[node] = held[relu]
    splits = {n.name for n in network.graph.nodes if n.target is torch.split}
    return {name: theirs for name, theirs in held.items() if name not in splits and name != placeholder(network).name}


def _matched(network: fx.GraphModule, other: fx.GraphModule, theirs: list[fx.Node]) -> dict[str, str]:
    """Walk both graphs in step: FX mode keeps the order of the operations, and drops fused ReLUs."""
    added = {torch.ops.quantized.add, torch.ops.quantized.add_relu, operator.add}
    fused = set(fused_relus(network).values())
    matched: dict[str, str] = {}
    remaining = iter(theirs)
    candidate = next(remaining, None)
    for node in network.graph.nodes:
        if node.op == "output":
            break
        same = candidate is not None and (
            (node.op == candidate.op and node.target == candidate.target)
            or (node.target is torch.add and candidate.target in added)
            or (node.op == candidate.op == "placeholder")
        )
        if same and candidate is not None:
            matched[candidate.name] = node.name
            candidate = next(remaining, None)
        elif node.name not in fused:
            raise HlsgenError(f"PyTorch's FX quantization has no counterpart of {node.name}; use --scheme affine")
    return matched


def _check(network: fx.GraphModule, spec: QuantSpec, converted: fx.GraphModule, values: Mapping[str, str]) -> None:
    """The converted module holds what the spec says, and every table reads 8-bit values."""
    nodes = {n.name: n for n in converted.graph.nodes}
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d):
            theirs: Any = converted.get_submodule(str(node.target))
            q, out = spec.convs[node.name], spec.tensors[node.name]
            weight = theirs.weight()
            same = (
                np.array_equal(weight.int_repr().numpy(), q.weight)
                and np.array_equal(weight.q_per_channel_scales().numpy(), q.weight_scale)
                and (float(theirs.scale), int(theirs.zero_point)) == (out.scale, out.zero_point + UNSIGNED)
            )
            if not same:
                raise HlsgenError(f"PyTorch quantized {node.name} with other scales than asked; use --scheme affine")
        elif (
            module is not None
            and activation_kind(module) is not None
            and isinstance(module, type(_called(converted, nodes, values, node)))
        ):
            source = nodes[values[node.name]].args[0]
            while isinstance(source, fx.Node) and source.target in (torch.split, operator.getitem):
                source = source.args[0]
            if not (isinstance(source, fx.Node) and source.target == "dequantize"):
                raise HlsgenError(
                    f"scheme native cannot quantize the input of {node.name}: PyTorch keeps it in float between two "
                    "activations; use --scheme affine"
                )


def _called(
    converted: fx.GraphModule, nodes: Mapping[str, fx.Node], values: Mapping[str, str], node: fx.Node
) -> nn.Module | None:
    return module_of(converted, nodes[values[node.name]])
