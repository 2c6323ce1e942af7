"""Streaming statistics of the float network on the calibration images: memory for one image's activations, no more."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.quantize.relevance import Relevance, irrelevant, outputs_alike, parameters_held, probe, weights_of
from hlsgen.quantize.structure import module_of, sources

BINS = 4096
KEPT = 16  # images whose positions' relevance is kept
MOST_REMEMBERED = (
    1 << 28
)  # values of an image that wait for their gradients: 2 GB with these; larger networks go without
LARGEST_SAMPLE = 1 << 18  # elements of one tensor of one image that enter its histogram (the extremes see them all)
Progress = Callable[[int, int], None]
Sample = npt.NDArray[np.float32] | tuple[npt.NDArray[np.float32], ...]
"""An image, float32 [C, H, W] or [1, C, H, W]; for a network of several inputs the maps of all, in order."""
Floats = npt.NDArray[np.float64]


@dataclass
class Histogram:
    """Counts over BINS bins whose width is a power of two: growing the range merges pairs of bins exactly."""

    counts: Floats = field(default_factory=lambda: np.zeros(BINS))
    low: float = 0.0
    width: float = 0.0  # 0: nothing but zeros seen yet
    minimum: float = 0.0  # zero always belongs to the range: padding and an integer zero need it
    maximum: float = 0.0

    def update(self, values: Tensor, weights: Tensor) -> None:
        """Count `values` (any shape, finite), each by its weight (same shape, positive)."""
        low, high = (float(v) for v in torch.aminmax(values))
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._cover()
        if self.width:
            sample, weight = _sample(values).reshape(-1), _sample(weights).reshape(-1).double()
            index = torch.clamp(((sample - self.low) / self.width).long(), 0, BINS - 1)
            counted = torch.bincount(index, weight, BINS)
            self.counts += counted.numpy() * (values.numel() / sample.numel())

    @property
    def centers(self) -> Floats:
        """The bins' middles, [BINS]."""
        return np.asarray(self.low + (np.arange(BINS) + 0.5) * self.width, np.float64)

    def merge(self, other: "Histogram") -> None:
        """Add another tensor's counts."""
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self._cover()
        if other.width:
            index = np.floor((other.centers - self.low) / self.width).astype(np.int64)
            np.add.at(self.counts, np.clip(index, 0, BINS - 1), other.counts)

    def _cover(self) -> None:
        """Make the bins cover minimum to maximum."""
        span = self.maximum - self.minimum
        if span == 0:
            return
        width = self.width or 2.0 ** np.ceil(np.log2(span / BINS))
        low = np.floor(self.minimum / width) * width
        while low + BINS * width < self.maximum:
            width *= 2
            low = np.floor(self.minimum / width) * width
        if self.width and (width, low) != (self.width, self.low):
            index = np.floor((self.centers - low) / width).astype(np.int64)
            held = np.zeros(BINS)
            np.add.at(held, np.minimum(index, BINS - 1), self.counts)  # bins past the end are beyond the maximum: empty
            self.counts = held
        self.width, self.low = float(width), float(low)


@dataclass
class Statistics:
    """What the images showed.

    histograms: by node that makes values. shape: the images' (C, H, W). largest: map, in elements. relevant: by
    convolution, for each of the first KEPT images how much each position's output matters, float32 [OH, OW]; empty lists
    where nothing was asked about relevance.
    """

    histograms: dict[str, Histogram]
    shape: tuple[int, int, int]
    largest: int
    relevant: dict[str, list[Tensor]]


def calibrate(
    network: fx.GraphModule,
    images: Iterable[Sample],
    progress: Progress | None = None,
    relevance: Relevance = outputs_alike,
    total: int = 0,
    seed: int = 0,
) -> Statistics:
    """Run the float network over `images`, one at a time, and gather its statistics.

    total: how many images there are, for `progress` (0: not known).
    relevance: what the outputs are read for; the histograms are weighted with its squared gradients, but for networks that make
    more than MOST_REMEMBERED values of an image.

    Raises:
        HlsgenError: no images, not all of one shape, or a value that is not finite (naming the node).
    """
    observer = _Observer(network, relevance, seed)
    shape: tuple[int, int, int] | None = None
    for done, sample in enumerate(images):
        image, *others = arrays(sample)
        if image.ndim != 3 or image.dtype != np.float32:
            raise HlsgenError(f"calibration expects float32 images [C, H, W], got {image.dtype} {list(image.shape)}")
        if shape is not None and image.shape != shape:
            raise HlsgenError(f"calibration expects images of one shape, got {list(shape)} and {list(image.shape)}")
        if shape is None and _values(network, image.shape) > MOST_REMEMBERED:
            observer.relevance = irrelevant
        shape = (image.shape[0], image.shape[1], image.shape[2])
        observer.observe(*(torch.from_numpy(np.ascontiguousarray(x))[None] for x in (image, *others)))
        if progress is not None:
            progress(done + 1, total)
    if shape is None:
        raise HlsgenError("calibration expects at least one image, got none; give a folder of photographs with --calib")
    return Statistics(observer.histograms, shape, observer.largest, observer.relevant)


def _values(network: fx.GraphModule, shape: tuple[int, ...]) -> int:
    """How many values the observed nodes have for an image of `shape` (C, H, W)."""
    from hlsgen.frontend.onnx_write import shapes

    observed = sources(network)
    c, h, w = shape
    return sum(math.prod(size) for name, size in shapes(network, (c, h, w)).items() if name in observed)


def arrays(sample: Sample) -> tuple[npt.NDArray[np.float32], ...]:
    """The inputs of a sample, [C, H, W] each."""
    given = sample if isinstance(sample, tuple) else (sample,)
    return tuple(x[0] if x.ndim == 4 and len(x) == 1 else x for x in given)


class _Observer(fx.Interpreter):
    def __init__(self, network: fx.GraphModule, relevance: Relevance, seed: int) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.network, self.relevance = network, relevance
        self.values: dict[str, Tensor] = {}  # of the image under way, with their gradients after the backward pass
        self.histograms = {name: Histogram() for name in sources(network)}
        self.largest = 0
        self.relevant: dict[str, list[Tensor]] = {
            n.name: [] for n in network.graph.nodes if isinstance(module_of(network, n), nn.Conv2d)
        }
        self.generator = torch.Generator().manual_seed(seed)

    def observe(self, *given: Tensor) -> None:
        """One sample, each input [1, C, H, W]: forward, backward, and every tensor into its histogram."""
        wanted = self.relevance is not irrelevant
        with torch.set_grad_enabled(wanted), parameters_held(self.network):
            outputs = self.run(*(x.requires_grad_(wanted) for x in given))
            scalar = probe(outputs if isinstance(outputs, tuple) else (outputs,), self.relevance, self.generator)
            if scalar.requires_grad:
                scalar.backward()  # type: ignore[no-untyped-call]
        for name, value in self.values.items():
            self.histograms[name].update(value.detach(), weights_of(value))
            if value.grad is not None and len(self.relevant.get(name, ())) < KEPT and name in self.relevant:
                self.relevant[name].append((value.grad[0] ** 2).sum(0))
        self.values.clear()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.histograms:
            if not all(math.isfinite(end) for end in torch.aminmax(result.detach())):  # of NaN it makes NaN
                raise HlsgenError(
                    f"calibration expects finite activations, got NaN or infinity at {n.name}; check the weights and images"
                )
            self.largest = max(self.largest, result.numel())
            if self.relevance is irrelevant:  # no gradient will come: nothing has to be remembered
                self.histograms[n.name].update(result.detach(), torch.ones(()).expand_as(result))
                return result
            if result.requires_grad and not result.is_leaf:
                result.retain_grad()
            self.values[n.name] = result
        return result


def _sample(values: Tensor) -> Tensor:
    """Every n-th row and column of a large map."""
    step = 1
    while values.numel() > LARGEST_SAMPLE * step * step:
        step += 1
    return values if step == 1 else values[..., ::step, ::step]
