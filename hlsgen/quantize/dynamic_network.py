"""Scheme `dynamic` of a network in hlsgen's vocabulary: its integer weights, and the executable reference.

Which convolutions are linear layers (INT8, as PyTorch's `quantize_dynamic` makes them) the network's author says; a layer
that was cut into several convolutions keeps its one weight scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.models.network import ATTENTION, check, constant_of
from hlsgen.program.dynamic import FLOAT, F, Floats, quantize_conv, quantize_linear
from hlsgen.quantize.dynamic import DynamicLinear
from hlsgen.quantize.spec import ConvQ, QuantSpec, TensorQ
from hlsgen.quantize.store import read_spec, write_spec
from hlsgen.quantize.structure import is_tensor, placeholder, too_many

IMAGE = TensorQ(1 / 255, -128)
"""A picture's 256 levels."""
DISTURBANCE = 2.0**-20
Linears = list[dict[str, float]]
"""For each linear layer: the convolutions that it was cut into, and by what each was multiplied."""


def dynamic_spec(network: fx.GraphModule, linears: Linears) -> QuantSpec:
    """The integers of every convolution; tensors are float32 but for the image.

    Raises:
        HlsgenError: a convolution with too many inputs for 32-bit sums.
    """
    convs: dict[str, ConvQ] = {}
    for parts in linears:
        weights = {name: np.asarray(_weight(network, name) / F(factor)) for name, factor in parts.items()}
        joined, scale = quantize_linear(np.concatenate(list(weights.values())))
        at = 0
        for name, factor in parts.items():
            o = len(weights[name])
            scales = np.full(o, scale * F(factor), np.float32).astype(np.float64)
            convs[name] = ConvQ(joined[at : at + o], scales, _bias(network, name))
            at += o
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d) and node.name not in convs:
            integers, fine = quantize_conv(node.name, _weight(network, node.name).astype(np.float64))
            convs[node.name] = ConvQ(integers, fine.astype(np.float64), _bias(network, node.name))  # type: ignore[arg-type]
    first = placeholder(network)
    tensors = {n.name: IMAGE if n is first else FLOAT for n in network.graph.nodes if is_tensor(n)}
    order = [n.name for n in network.graph.nodes if n.name in convs]
    return QuantSpec("dynamic", tensors, {name: convs[name] for name in order})


def _conv(network: fx.GraphModule, name: str) -> nn.Conv2d:
    node = next(n for n in network.graph.nodes if n.name == name)
    module = network.get_submodule(str(node.target))
    assert isinstance(module, nn.Conv2d)
    return module


def _weight(network: fx.GraphModule, name: str) -> Floats:
    return np.asarray(_conv(network, name).weight.detach().numpy(), np.float32)


def _bias(network: fx.GraphModule, name: str) -> Any:
    bias = _conv(network, name).bias
    assert bias is not None
    return np.asarray(bias.detach().numpy(), np.float32)


class DynamicConv(nn.Module):
    """A 1 x 1 convolution of maps [1, I, H, W] that is a `DynamicLinear` of their pixels, with a scale an output."""

    def __init__(self, integers: ConvQ) -> None:
        super().__init__()
        o = len(integers.weight)
        self.linear = DynamicLinear(nn.Linear(integers.weight[0].size, o))
        self.linear.weight = torch.from_numpy(integers.weight.reshape(o, -1).copy())
        self.linear.bias = torch.from_numpy(np.asarray(integers.bias, np.float32).copy())
        self.linear.weight_scale = torch.from_numpy(integers.weight_scale.astype(np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.linear(x.movedim(1, -1))).movedim(-1, 1)


class DynamicReference(nn.Module):
    """The network with dynamic INT8 linear layers, PyTorch's own float32 kernels for all else.

    network: the float network; spec: as `dynamic_spec` made it; shape: the image's (C, H, W).
    """

    def __init__(self, network: fx.GraphModule, spec: QuantSpec, shape: tuple[int, int, int]) -> None:
        super().__init__()
        check(network)
        self.network, self.spec, self.shape = network, spec, shape
        self._linears = {n: DynamicConv(q) for n, q in spec.convs.items() if q.weight.dtype == np.int8}

    @classmethod
    def of(cls, network: fx.GraphModule, linears: Linears, shape: tuple[int, int, int]) -> DynamicReference:
        """The reference of a float network whose linear layers are known."""
        return cls(network, dynamic_spec(network, linears), shape)

    @torch.inference_mode()
    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        """The network's outputs, float32 [1, C, H, W], for the image and what other inputs there are."""
        return self._run(inputs, lambda _, __: None)

    def tensors(self, inputs: Any) -> dict[str, npt.NDArray[Any]]:
        """Every tensor by node name, [C, H, W]: the image int8, the others float32. Scores too many to keep are left out.

        inputs: the image, or all inputs in a tuple.
        """
        held: dict[str, npt.NDArray[Any]] = {}
        self.run(inputs, held.__setitem__)
        return held

    @torch.inference_mode()
    def run(self, inputs: Any, made: Callable[[str, npt.NDArray[Any]], object]) -> None:
        """`made` is told of every tensor that `tensors` holds as soon as it is there."""
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        first = placeholder(self.network).name

        def keep(name: str, value: Tensor) -> None:
            made(name, self.quantize_input(given[0]) if name == first else value[0].numpy())

        self._run(given, keep)

    @torch.inference_mode()
    def disturbed(self, inputs: Any) -> tuple[npt.NDArray[np.float32], ...]:
        """The outputs, [C, H, W], where what the float32 operations make moves by about a millionth (`DISTURBANCE`, a normally
        distributed share, always the same), as another order of summation may move it. What that changes of roundings to INT8
        grows from layer to layer; no other implementation of the network can be expected to come nearer."""
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        run = _Disturbed(self.network, self._linears, lambda _, __: None)
        return tuple(y[0].numpy() for y in run.run(*(_batch(x) for x in given)))

    @torch.inference_mode()
    def values(self, inputs: Any) -> dict[str, Tensor]:
        """By node name, every tensor as real numbers, float32 [1, C, H, W]."""
        held: dict[str, Tensor] = {}
        self._run(inputs if isinstance(inputs, tuple) else (inputs,), held.__setitem__)
        return held

    def _run(self, given: tuple[Any, ...], made: Callable[[str, Tensor], object]) -> tuple[Tensor, ...]:
        return tuple(_Run(self.network, self._linears, made).run(*(_batch(x) for x in given)))

    @torch.inference_mode()
    def prompts(self, image: Any, given: Any) -> Iterator[tuple[Tensor, ...]]:
        """The outputs for each of several sets of further inputs with one image."""
        for others in given:
            yield self(image, *others)

    def quantize_input(self, image: Any) -> npt.NDArray[np.int8]:
        """The engine's input: levels 0..255 less 128, int8 [C, H, W]."""
        levels = (_batch(image)[0] * 255).round().clamp(0, 255) - 128
        return levels.numpy().astype(np.int8)

    def save(self, folder: str | Path) -> None:
        """Write network.onnx (float), spec.json and spec.npz into `folder`, made where it is missing."""
        from hlsgen.frontend.onnx_write import write_fp32

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_fp32(self.network, self.shape, folder / "network.onnx", "network")
        write_spec(self.spec, folder)


def load_dynamic(folder: str | Path) -> DynamicReference:
    """Read what `DynamicReference.save` wrote.

    Raises:
        HlsgenError: files missing or damaged.
    """
    from hlsgen.frontend.onnx_read import read_fp32

    spec = read_spec(Path(folder))
    network, shape = read_fp32(Path(folder) / "network.onnx")
    return DynamicReference(network, spec, shape)


class _Run(fx.Interpreter):
    def __init__(
        self, network: fx.GraphModule, linears: Mapping[str, DynamicConv], made: Callable[[str, Tensor], object]
    ) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.linears, self.made = linears, made

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.linears:
            result: Any = self.linears[n.name](self.fetch_args_kwargs_from_env(n)[0][0])
        elif n.op == "get_attr":
            result = constant_of(self.module, n)  # type: ignore[arg-type]
        else:
            result = super().run_node(n)
        if is_tensor(n) and not too_many(n, result.numel()):
            self.made(n.name, result)
        return result


class _Disturbed(_Run):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.generator = torch.Generator().manual_seed(0)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.linears or not (n.op == "call_module" or n.target in ATTENTION):
            return result
        return result * (1 + DISTURBANCE * torch.randn(result.shape, generator=self.generator))


def _batch(image: Any) -> Tensor:
    x = torch.as_tensor(image, dtype=torch.float32)
    return x if x.ndim == 4 else x[None]
