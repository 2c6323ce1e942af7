"""Learning a `fixed` network: binary points, weights and biases, by gradients straight through the rounding.

Every tensor's scale is s0 2^round(t), t learned, s0 as calibrated; in a rescaled network (`hlsgen.quantize.rescale`) s0 2^t with
one t for all that additions join, and a pre-activation's scale follows its convolution's input. A weight is
clamp(round(v s0 / s)) s, v learned from the integer itself on: only weights on whose direction the images agree get as far as
the next. The gradient passes a rounding as if it were not there, and a clamp only inside; so that of t is
(round(x / s) - x / s) s ln 2 inside, and the bound times s ln 2 outside (Jain et al., "Trained quantization thresholds for
accurate and efficient fixed-point inference", MLSys 2020, eq. 6 to 8). The loss is the distance of the outputs from the float
network's on crops of the calibration images, mirrored half of the time and often shrunk: no labels. The result is a `fixed` spec
like any other. Some images are held out: where training does not bring their outputs nearer by more than chance would, the network
stays as it was.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from hlsgen.errors import HlsgenError
from hlsgen.models.attention import attention_scores
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.reference import Reference
from hlsgen.quantize.rescale import moving_together
from hlsgen.quantize.spec import ALMOST, ConvQ, QuantSpec
from hlsgen.quantize.structure import module_of, shared_scales, sources

Images = Sequence[npt.NDArray[np.float32]]
SURE = 2.0  # standard errors by which images held out must be nearer, for training to be kept
HELD_OUT = 4  # of so many images one is held out
BIAS_RATE = 0.1  # of the scales' learning rate
FARTHEST = 3.0  # binary places that a point may move
SIZES = (1.0, 1.0, 0.9, 0.8, 0.7, 0.6)  # of a crop, each as often
GRID = 32  # pixels of the image to one of the coarsest map


def held_out(images: Images, seed: int) -> tuple[Images, Images]:
    """The images to calibrate on and learn from, and those held out. A single image is both."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(len(images) // HELD_OUT, 1)
    return [images[i] for i in order[count:] or order], [images[i] for i in order[:count]]


@dataclass(frozen=True)
class Training:
    """steps of `batch` crops of size x size pixels (or of the whole image, where it is smaller); rate: Adam's, of weights in
    units of their scale; scales: that of log2 of scales; recipe: of the network at the start, with the widths of its weights."""

    steps: int
    batch: int
    size: int
    rate: float
    scales: float
    recipe: Recipe


def trained(
    begun: Reference,
    used: Images,
    held: Images,
    reg_max: int,
    settings: Training,
    progress: Callable[[int, int], None],
) -> tuple[Reference, str]:
    """The trained network, and how far its outputs are from the float network's before and after, on images held out.

    used, held: float32 [C, H, W], to be learned from, and to be held out; `begun` should have been calibrated without these too.
    reg_max: of the detection heads, 0 where the outputs are something else.
    """
    generator = torch.Generator().manual_seed(settings.recipe.seed)
    student = _Student(begun, settings.recipe)
    groups = student.parameter_groups(settings.rate, settings.scales)
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    )
    for step in range(settings.steps):
        crops = _crops(used, settings, generator)
        with torch.no_grad():
            wanted = begun.network(crops)
        with torch.enable_grad():
            loss = distance(student(crops), _flat(wanted), reg_max)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        student.bounded()
        schedule.step()
        progress(step + 1, settings.steps)
    try:
        result = Reference.from_spec(begun.network, student.spec(), begun.shape)
    except HlsgenError as error:  # what was learned is out of the arithmetic's range
        return begun, f"left as it was: {error}"
    before, after = (_log_distances(r, held, reg_max) for r in (begun, result))
    said = (
        f"distance from the float network on {len(held)} images held out: {_typical(before):.3g} before training, "
        f"{_typical(after):.3g} after"
    )
    return (result, said) if surely_less(after, before) else (begun, f"{said}; left as it was")


def distance(got: Sequence[Tensor], wanted: Sequence[Tensor], reg_max: int) -> Tensor:
    """How far outputs are from the float network's, an image.

    Detection heads: the Kullback-Leibler divergence of every class score and, where a class speaks, of the boxes' sides; else
    the squared error in units of each output's own variance.
    """
    total = torch.zeros(())
    if not reg_max:
        for y, t in zip(got, wanted, strict=True):
            total = total + ((y - t) ** 2).mean() / t.var().clamp(min=1e-12)
        return total
    images = got[0].shape[0]
    for box, score, box_t, score_t in zip(got[0::2], got[1::2], wanted[0::2], wanted[1::2], strict=True):
        p = torch.sigmoid(score_t)
        # element by element: sums over all anchors and classes are far larger than their differences
        apart = F.softplus(score) - F.softplus(score_t) - p * (score - score_t)
        total = total + apart.sum() / images
        shape = (box.shape[0], 4, reg_max, *box.shape[2:])
        log, log_t = (v.reshape(shape).log_softmax(2) for v in (box, box_t))
        sides = (log_t.exp() * (log_t - log)).sum(2)
        total = total + (sides * p.amax(1, keepdim=True)).sum() / images
    return total


def surely_less(after: npt.NDArray[np.float64], before: npt.NDArray[np.float64]) -> bool:
    """Whether `after` is less than `before`, both [N], by more than chance: on average of the pairs by SURE standard
    errors (of a single pair: whether it is less)."""
    difference = after - before
    error = float(np.std(difference, ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return bool(difference.mean() < -SURE * error)


@torch.no_grad()
def _log_distances(reference: Reference, images: Images, reg_max: int) -> npt.NDArray[np.float64]:
    """Of each image: by logarithms no single one decides."""
    found = []
    for image in images:
        x = torch.from_numpy(image)[None]
        apart = float(distance(reference(x), _flat(reference.network(x)), reg_max))
        found.append(math.log(max(apart, 1e-30)))
    return np.array(found)


def _typical(logs: npt.NDArray[np.float64]) -> float:
    """The geometric mean."""
    return math.exp(float(logs.mean()))


def _crops(images: Images, settings: Training, generator: torch.Generator) -> Tensor:
    found = []
    for index in torch.randint(len(images), (settings.batch,), generator=generator).tolist():
        image = torch.from_numpy(images[index])
        height, width = (min(settings.size, n) for n in image.shape[1:])
        y, x = (
            int(torch.randint(n - inner + 1, (), generator=generator))
            for n, inner in zip(image.shape[1:], (height, width), strict=True)
        )
        crop = image[:, y : y + height, x : x + width]
        found.append(crop.flip(2) if float(torch.rand((), generator=generator)) < 0.5 else crop)
    return _shrunk(torch.stack(found), generator)


def _shrunk(images: Tensor, generator: torch.Generator) -> Tensor:
    """Sometimes smaller, in both directions alike, where sizes are whole multiples of the coarsest map's pixels."""
    factor = SIZES[int(torch.randint(len(SIZES), (), generator=generator))]
    height, width = images.shape[2:]
    if factor == 1 or height % GRID or width % GRID:
        return images
    size = [max(round(n * factor / GRID), 1) * GRID for n in (height, width)]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


class _Fake(torch.autograd.Function):
    """clamp(round(x / s)) s with s = 2^t; straight-through gradients for x and t. low, high: of the integer less its zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, low: int, high: int) -> Tensor:
        scale = torch.exp2(t)
        ctx.save_for_backward(x, scale)
        ctx.low, ctx.high, ctx.learned = low, high, ctx.needs_input_grad[1]
        return torch.round(x / scale).clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, scale = ctx.saved_tensors
        ratio = x / scale
        rounded = torch.round(ratio)
        inside = (rounded >= ctx.low) & (rounded <= ctx.high)
        toward_t = None
        if ctx.learned:
            slope = torch.where(inside, rounded - ratio, rounded.clamp(ctx.low, ctx.high))
            toward_t = (gradient * slope).sum_to_size(scale.shape) * scale * math.log(2)
        return gradient * inside, toward_t, None, None


def _through(t: Tensor) -> Tensor:
    """Rounded, with the gradient of t itself."""
    return t + (torch.round(t) - t).detach()


class _Student(nn.Module):
    """The `fixed` network in float with learned parameters."""

    def __init__(self, begun: Reference, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.begun, self.recipe = begun.network, begun.spec, recipe
        self.root = shared_scales(self.network)
        self.free = moving_together(self.network, self.root) if recipe.rescale else {}
        self.points = nn.ParameterDict()  # log2 of what a scale is multiplied with, by tensors that move together
        self.values, self.biases, self.scales = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for name, q in self.begun.tensors.items():
            key = self.free.get(self.root[name], self.root[name])
            if q.bits == 8 and key not in self.points:
                self.points[key] = nn.Parameter(torch.zeros(()))
        # a wide pre-activation goes with the input of its convolution: then the weights' scales may stay
        self.wide = {
            n.name: self.root[n.all_input_nodes[0].name]
            for n in self.network.graph.nodes
            if self.free and n.name in self.begun.convs and self.begun.tensors[n.name].bits > 8
        }
        for node in self.network.graph.nodes:
            if node.name in self.begun.convs:
                held, x = self.begun.convs[node.name], self.begun.tensors[node.all_input_nodes[0].name]
                integers = torch.from_numpy(held.weight.astype(np.float32))
                self.values[node.name] = nn.Parameter(integers)
                self.scales[node.name] = nn.Parameter(torch.zeros(len(integers), 1, 1, 1))
                self.biases[node.name] = nn.Parameter(torch.from_numpy(held.bias * x.scale * held.weight_scale).float())

    def parameter_groups(self, rate: float, scales: float) -> list[dict[str, Any]]:
        return [
            {"params": list(self.values.parameters()), "lr": rate},
            {"params": [*self.points.parameters(), *self.scales.parameters()], "lr": scales},
            {"params": list(self.biases.parameters()), "lr": BIAS_RATE * scales},
        ]

    @torch.no_grad()
    def bounded(self) -> None:
        """Keep binary points near where calibration put them."""
        for learned in (*self.points.values(), *self.scales.values()):
            learned.clamp_(-FARTHEST, FARTHEST)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return _flat(_Run(self).run(images))

    def weight(self, name: str) -> Tensor:
        """The rounded weights, float."""
        bits = self.recipe.bits_of(name)
        first = torch.from_numpy(self.begun.convs[name].weight_scale).float()[:, None, None, None]
        fake: Tensor = _Fake.apply(
            self.values[name] * first,
            _through(self.scales[name]) + torch.log2(first),
            -(1 << (bits - 1)),
            (1 << (bits - 1)) - 1,
        )  # type: ignore[no-untyped-call]
        return fake

    def tensor(self, name: str, value: Tensor) -> Tensor:
        """The rounded tensor of node `name`."""
        q = self.begun.tensors[name]
        t = math.log2(q.scale) + self.moved(name)
        fake: Tensor = _Fake.apply(value, t, q.low - q.zero_point, q.high - q.zero_point)  # type: ignore[no-untyped-call]
        return fake

    def moved(self, name: str) -> Tensor:
        """log2 of what the scale of node `name` is multiplied with: whole, but where any scale may be."""
        root = self.root[self.wide.get(name, name)]
        if root in self.free:
            point: Tensor = self.points[self.free[root]]
            return point
        return _through(self.points[root]) if root in self.points else torch.zeros(())

    @torch.no_grad()
    def spec(self) -> QuantSpec:
        """The integers. Where a learned scale would need a shift to the left, the output's is raised."""
        tensors = {
            name: replace(q, scale=float(np.float32(q.scale * 2.0 ** float(self.moved(name)))))
            for name, q in self.begun.tensors.items()
        }
        weight_scales = {
            name: self.begun.convs[name].weight_scale * np.exp2(np.rint(t.numpy().astype(np.float64).reshape(-1)))
            for name, t in self.scales.items()
        }
        convolutions = [n for n in self.network.graph.nodes if n.name in self.begun.convs]
        summing = [n for n in self.network.graph.nodes if n in convolutions or n.target is attention_scores]
        raised = True
        while raised:  # raising one may make the sums of the next coarser
            raised = False
            for node in summing:
                x, out = tensors[node.all_input_nodes[0].name], tensors[node.name]
                sums = x.scale
                if node.name in weight_scales:
                    sums *= float(weight_scales[node.name].max())
                else:
                    sums *= tensors[node.all_input_nodes[1].name].scale
                if out.scale < sums * ALMOST:
                    raised = True
                    for name, root in self.root.items():
                        if root == self.root[node.name]:
                            tensors[name] = replace(tensors[name], scale=float(np.float32(sums)))
        convs: dict[str, ConvQ] = {}
        for node in convolutions:
            x, out, scale = tensors[node.all_input_nodes[0].name], tensors[node.name], weight_scales[node.name]
            scale = np.maximum(scale, out.scale / x.scale * 2.0**-31)
            bits = self.recipe.bits_of(node.name)
            real = (
                self.values[node.name].numpy()
                * self.begun.convs[node.name].weight_scale.astype(np.float32)[:, None, None, None]
            )
            integers = np.clip(np.rint(real / scale[:, None, None, None]), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            bias = np.rint(self.biases[node.name].numpy().astype(np.float64) / (x.scale * scale))
            convs[node.name] = ConvQ(integers.astype(np.int8), scale, np.clip(bias, -(2**30), 2**30).astype(np.int32))
        return QuantSpec("fixed", tensors, convs)


class _Run(fx.Interpreter):
    def __init__(self, student: _Student) -> None:
        super().__init__(student.network)
        self.extra_traceback = False
        self.student = student
        self.made = sources(student.network)

    def run_node(self, n: fx.Node) -> Any:
        module = module_of(self.student.network, n)
        if isinstance(module, nn.Conv2d):
            (x,), _ = self.fetch_args_kwargs_from_env(n)
            weight, bias = self.student.weight(n.name), self.student.biases[n.name]
            result = F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)
        else:
            result = super().run_node(n)
        if n.name not in self.made:
            return result  # it only moves values
        return self.student.tensor(n.name, result)


def _flat(result: Any) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)
