"""The INT8 PyTorch model that the hardware must equal: made by calibration, or from a spec; saved and loaded."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.models.attention import attend, attention_scores
from hlsgen.models.network import ATTENTION, check
from hlsgen.models.norm import ChannelNorm
from hlsgen.quantize.calibrate import Floats, Histogram, Progress, Sample, Statistics, arrays, calibrate
from hlsgen.quantize.equalize import equalized
from hlsgen.quantize.integer import IntegerMachine
from hlsgen.quantize.native import Native, fused_relus, native_spec
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.refine import IMAGES, LARGEST_BATCH, refitted
from hlsgen.quantize.relevance import Relevance, irrelevant, outputs_alike
from hlsgen.quantize.rescale import best_unit, free_groups, rescaled
from hlsgen.quantize.scales import activation_scale, pre_activation_scale, score_scale
from hlsgen.quantize.spec import ALMOST, DEFAULT_PRE_BITS, SCHEMES, QuantSpec, Scheme, TensorQ
from hlsgen.quantize.store import read_spec, write_spec
from hlsgen.quantize.structure import activations_fed, finest_of_constants, module_of, outputs, shared_scales, symmetric
from hlsgen.quantize.weights import largest_weight_scale

PRE_BITS = range(8, 17)
Map = Tensor | npt.NDArray[np.float32]
Image = Map | tuple[Map, ...]
"""The image, float32, [1, C, H, W] or [C, H, W], values 0..1; for a network of several inputs the maps of all, in order."""


class Reference(nn.Module):
    """The quantized network, executable: PyTorch's own module in `native`, docs/arithmetic.md in torch else.

    network: the float network it came from; spec: its scales and integers; shape: the image's (C, H, W) that its ONNX
    file is written for (it runs on others).
    """

    def __init__(self, network: fx.GraphModule, spec: QuantSpec, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.shape = shape
        self._machine = Native(network, spec) if spec.scheme == "native" else IntegerMachine(network, spec)
        self._outputs = [spec.tensors[n.name] for n in outputs(network)]

    @classmethod
    def from_spec(
        cls, network: fx.GraphModule, spec: QuantSpec, shape: tuple[int, int, int] = (3, 640, 640)
    ) -> "Reference":
        """The reference of a network with known scales.

        Raises:
            HlsgenError: the spec does not fit the network or cannot be computed exactly; the sentence names the node.
        """
        check(network)
        _check_attention(network, spec.scheme)
        _check_spec(network, spec)
        return cls(network, spec, shape)

    @torch.inference_mode()
    def forward(self, image: Image) -> tuple[Tensor, ...]:
        """The network's outputs, float32 [1, C, H, W]: scale * (integer - zero point)."""
        results = self._machine.outputs(*_batches(image))
        return tuple((r - q.zero_point) * q.scale for r, q in zip(results, self._outputs, strict=True))

    def prompts(self, image: Map, given: Iterable[tuple[Map, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """`forward` for each of several prompts (the further inputs) of one image, whose own part runs once."""
        assert isinstance(self._machine, IntegerMachine)
        with torch.inference_mode():
            for results in self._machine.prompts(_batch(image), (_batches(one) for one in given)):
                yield tuple((r - q.zero_point) * q.scale for r, q in zip(results, self._outputs, strict=True))

    def tensors(self, image: Image) -> dict[str, npt.NDArray[Any]]:
        """Every tensor's integers by node name, in the network's order, [C, H, W]: int8, or int16 where wider than 8 bits. Scores
        too many to keep (`hlsgen.models.attention.MANY_SCORES`) are left out."""
        held: dict[str, npt.NDArray[Any]] = {}
        self.run(image, held.__setitem__)
        return {node.name: held[node.name] for node in self.network.graph.nodes if node.name in held}

    @torch.inference_mode()
    def run(self, image: Image, made: Callable[[str, npt.NDArray[Any]], object]) -> None:
        """`made` is told of every tensor that `tensors` holds as soon as it is there."""

        def keep(name: str, value: Tensor) -> None:
            made(name, value[0].numpy().astype(np.int8 if self.spec.tensors[name].bits <= 8 else np.int16))

        self._machine.run(_batches(image), keep)

    @torch.inference_mode()
    def values(self, image: Image) -> dict[str, Tensor]:
        """By node name, the real numbers that every tensor's integers stand for, float32 [1, C, H, W]."""
        held: dict[str, Tensor] = {}
        self._machine.run(_batches(image), held.__setitem__)
        tensors = self.spec.tensors
        return {name: (value - tensors[name].zero_point) * tensors[name].scale for name, value in held.items()}

    @torch.inference_mode()
    def quantize_input(self, image: Image) -> npt.NDArray[np.int8]:
        """The engine's input, int8 [C, H, W]."""
        return self._machine.quantize(_batches(image)[0])[0].numpy().astype(np.int8)

    def save(self, folder: str | Path) -> None:
        """Write network.onnx (float), spec.json and spec.npz into `folder`, made where it is missing.

        Raises:
            HlsgenError: the folder cannot be written.
        """
        from hlsgen.frontend.onnx_write import write_fp32

        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HlsgenError(
                f"{folder}: cannot be made ({error.strerror or error}); choose another output folder"
            ) from error
        write_fp32(self.network, self.shape, folder / "network.onnx", "network")
        write_spec(self.spec, folder)


def load_reference(folder: str | Path) -> Any:
    """Read what `Reference.save` (or `DynamicReference.save`) wrote; it computes the same.

    Raises:
        HlsgenError: files missing or damaged.
    """
    from hlsgen.frontend.onnx_read import read_fp32

    folder = Path(folder)
    spec = read_spec(folder)
    if spec.scheme == "dynamic":
        from hlsgen.quantize.dynamic_network import load_dynamic

        return load_dynamic(folder)
    network, shape = read_fp32(folder / "network.onnx")
    return Reference.from_spec(network, spec, shape)


def quantize(
    network: fx.GraphModule,
    images: Iterable[Sample],
    scheme: Scheme,
    *,
    pre_bits: int | None = None,
    progress: Progress | None = None,
    relevance: Relevance = outputs_alike,
    recipe: Recipe | None = None,
    known: dict[object, Statistics] | None = None,
) -> Reference:
    """Quantize a float network by its activations on `images` ([C, H, W], float32, 0..1, one size; of a network of several
    inputs tuples of all of them), read once.

    pre_bits: the width of pre-activations in `fixed` and `affine` (None: 14 and 12).
    progress: told (pieces of work done, how many there are): images, then convolutions; 0 where it is not known.
    relevance: what the outputs are read for (`hlsgen.quantize.relevance`).
    recipe: the calibration tools (`native` takes their ranges only: PyTorch's own static quantization has no others).
    known: statistics of earlier calls for this network and these images, taken from there and added to.

    Raises:
        HlsgenError: no images, not all of one shape, values or weights that are not finite, an unknown scheme, or a
            network that the scheme cannot express.
    """
    check(network)
    if scheme not in SCHEMES:
        raise HlsgenError(f"unknown scheme {scheme!r}: expected one of {', '.join(SCHEMES)}")
    _check_attention(network, scheme)
    pre_bits = DEFAULT_PRE_BITS[scheme] if pre_bits is None else pre_bits
    if pre_bits not in PRE_BITS:
        raise HlsgenError(f"pre-activations have {PRE_BITS[0]} to {PRE_BITS[-1]} bits, got {pre_bits}")
    recipe = recipe or Recipe()
    if recipe.equalize:
        network, _ = equalized(network)
    first: list[Sample] = []
    length = len(images) if isinstance(images, Sized) else 0
    count = sum(isinstance(module_of(network, n), nn.Conv2d) for n in network.graph.nodes) if scheme != "native" else 0
    done = 0

    def step(*_: int) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, length + count if length else 0)

    if recipe.ranges != "mse":
        relevance = irrelevant
    key = (recipe.ranges == "mse", recipe.equalize, recipe.seed)
    statistics = known.get(key) if known is not None else None
    if statistics is None:
        statistics = calibrate(network, _keeping(images, first, IMAGES), step, relevance, length, recipe.seed)
        if known is not None:
            known[key] = statistics
    else:
        first.extend(itertools.islice(images, IMAGES))
        done = length
    tensors = choose_scales(network, statistics, scheme, pre_bits, recipe)
    if scheme == "native":
        return Reference(network, native_spec(network, tensors), statistics.shape)
    used = first[: max(LARGEST_BATCH // (statistics.largest + 1), 1)]
    fitting = [arrays(sample) for sample in used]
    # with scales so coarse as powers of two, what happens far from any object reaches it: all positions count alike
    relevant = None if scheme == "fixed" and not recipe.rescale else statistics.relevant
    spec = refitted(network, scheme, tensors, fitting, recipe, step, relevant)
    return Reference(network, spec, statistics.shape)


def _keeping(images: Iterable[Sample], kept: list[Sample], count: int) -> Iterator[Sample]:
    """The images, the first `count` of them kept in `kept` as they go by."""
    for image in images:
        if len(kept) < count:
            kept.append(image)
        yield image


def _batches(image: Image) -> tuple[Tensor, ...]:
    return tuple(_batch(x) for x in (image if isinstance(image, tuple) else (image,)))


def _batch(image: Map) -> Tensor:
    found = torch.as_tensor(image)
    found = found[None] if found.ndim == 3 else found
    if found.ndim != 4 or found.shape[0] != 1 or found.dtype != torch.float32:
        raise HlsgenError(f"expected one float32 image [1, C, H, W], got {found.dtype} {list(found.shape)}")
    if not bool(torch.isfinite(found).all()):
        raise HlsgenError("expected an image of finite values, got NaN or infinity")
    return found


def _check_attention(network: fx.GraphModule, scheme: Scheme) -> None:
    found = [node for node in network.graph.nodes if node.target in ATTENTION]
    norms = [node for node in network.graph.nodes if isinstance(module_of(network, node), ChannelNorm)]
    constants = [node for node in network.graph.nodes if node.op == "get_attr"]
    if constants and scheme == "native":
        raise HlsgenError(
            f"scheme native cannot run the constant map {constants[0].name}; use --scheme fixed or --scheme affine"
        )
    if norms and scheme == "native":
        raise HlsgenError(
            f"scheme native cannot run the LayerNorm at {norms[0].name}; use --scheme fixed or --scheme affine"
        )
    if found and scheme == "native":
        raise HlsgenError(
            f"scheme native cannot run the attention at {found[-1].name}: PyTorch has no INT8 kernels for products of "
            "activations or softmax; use --scheme fixed or --scheme affine"
        )


def _check_spec(network: fx.GraphModule, spec: QuantSpec) -> None:
    """Every node has its quantization, moved tensors have their input's, every convolution has integers of its shape."""
    share = shared_scales(network)
    for name, root in share.items():
        for wanted in (name, root):
            if wanted not in spec.tensors:
                raise HlsgenError(
                    f"the quantized network has no scale for {wanted}; quantize the float network instead"
                )
        if spec.tensors[name] != spec.tensors[root]:
            raise HlsgenError(
                f"{name} and {root} meet in one tensor and need one scale, got {_text(spec.tensors[name])} and "
                f"{_text(spec.tensors[root])}; quantize the float network instead"
            )
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d):
            q = spec.convs.get(node.name)
            shape = tuple(module.weight.shape)
            if q is None or q.weight.shape != shape or q.bias.shape != shape[:1] or q.weight_scale.shape != shape[:1]:
                raise HlsgenError(f"the quantized network has no integers of shape {list(shape)} for {node.name}")


def _text(q: TensorQ) -> str:
    return f"{q.scale:g} (zero point {q.zero_point}, {q.bits} bits)"


def choose_scales(
    network: fx.GraphModule, statistics: Statistics, scheme: Scheme, pre_bits: int, recipe: Recipe
) -> dict[str, TensorQ]:
    """Every node's quantization, from the statistics."""
    share = shared_scales(network)
    fed = activations_fed(network) if scheme != "native" else {}
    fused = fused_relus(network) if scheme == "native" else {}
    groups: dict[str, Histogram] = {}
    for name, histogram in statistics.histograms.items():
        if name not in fused:
            groups.setdefault(share[name], Histogram()).merge(histogram)
    even = symmetric(network)
    held = finest_of_constants(network, share)
    free = free_groups(network, share) if scheme == "fixed" and recipe.rescale else {}
    chosen = rescaled({n: h for n, h in groups.items() if n in free and n not in fed}, free)
    chosen |= {
        name: activation_scale(groups[name], scheme, recipe, name in even, held.get(name, 0.0))
        for name in groups
        if name not in fed and name not in free
    }

    def input_scale(node: fx.Node) -> float:
        return chosen[share[node.all_input_nodes[0].name]].scale

    def sums(node: fx.Node, unit: float = 1.0) -> float:
        """The coarsest scale of a convolution's sums; unit: of its weights' scales, which are powers of two times it."""
        conv = module_of(network, node)
        return input_scale(node) * largest_weight_scale(conv, scheme, recipe.bits_of(node.name), unit)

    for node in network.graph.nodes:
        if scheme == "fixed" and isinstance(module_of(network, node), nn.Conv2d) and node.name not in fed:
            root = share[node.name]
            coarsest = sums(node, chosen[root].scale / input_scale(node))
            if chosen[root].scale < coarsest * ALMOST:
                chosen[root] = TensorQ(float(np.float32(coarsest)), 0)  # requantization only shifts right
    for node in network.graph.nodes:
        if node.target is attention_scores and list(share.values()).count(share[node.name]) == 1:
            a, b = (chosen[share[x.name]].scale for x in node.args[:2])
            seen = groups[node.name]
            if any(user.target is attend for user in node.users):
                chosen[node.name] = score_scale(seen, scheme, recipe, a * b)
            else:
                chosen[node.name] = activation_scale(seen, scheme, recipe, finest=a * b)
        elif node.name in fed:
            function = _function(network, fed[node.name])
            unit = best_unit(module_of(network, node), recipe.bits_of(node.name)) if free else 1.0
            finest, step = sums(node, unit) * ALMOST, input_scale(node) * unit if free else 1.0
            chosen[node.name] = pre_activation_scale(
                groups[node.name], pre_bits, function, scheme, recipe, finest, step
            )
    return {name: chosen[share[fused.get(name, name)]] for name in share}


def _function(network: fx.GraphModule, node: fx.Node) -> Callable[[Floats], Floats]:
    """An activation in float64."""
    module = module_of(network, node)
    assert module is not None
    return lambda x: np.asarray(module(torch.from_numpy(x)))
