"""What a strategy makes: the quantized network, executable, with what is to be said about it; and its file."""

import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import cast as typed

import numpy as np
import torch
from torch import Tensor, fx, nn

import hlsgen
from hlsgen.errors import HlsgenError
from hlsgen.quantize.executables import Dynamic, Executable, Rounded, Simulated
from hlsgen.quantize.grid import factors
from hlsgen.quantize.minifloat import Minifloat
from hlsgen.quantize.reference import Reference, quantize
from hlsgen.quantize.spec import SCHEMES, ConvQ, QuantSpec, TensorQ
from hlsgen.quantize.strategies.base import Strategy, Task
from hlsgen.quantize.structure import in_memory, module_of

KIND = "hlsgen quantized network"
_PARTS = {"weight": torch.int8, "weight_scale": torch.float64, "bias": torch.int32}


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized network.

    strategy: its label (`fixed:w6`). network: the float network it came from (equalized where that was asked for). shape:
    the image's (C, H, W). executable: what it computes. parameter_bytes: weights at their own width, biases and scales.
    note: what the strategy has to say, or "".
    """

    strategy: str
    network: fx.GraphModule
    shape: tuple[int, int, int]
    executable: Executable
    parameter_bytes: int
    note: str = ""

    @property
    def spec(self) -> QuantSpec | None:
        """The integers, where it computes with integers that the engine has."""
        return self.executable.spec if isinstance(self.executable, Reference) else None


def integer(strategy: Strategy, task: Task) -> Quantized:
    """A strategy of the engine's own schemes: calibrated as its recipe says."""
    scheme = strategy.scheme
    assert scheme is not None
    reference = quantize(
        task.network,
        task.images,
        scheme,
        pre_bits=task.pre_bits,
        progress=task.progress.step,
        relevance=task.relevance,
        recipe=strategy.recipe,
        known=task.known,
    )
    return referenced(strategy, reference)


def referenced(strategy: Strategy, reference: Reference, note: str = "") -> Quantized:
    """A quantized network around the engine's reference."""
    recipe, spec = strategy.recipe, reference.spec
    scale_bytes = 1 if spec.scheme == "fixed" else 4
    size = parameter_bytes(reference.network, recipe.bits_of, bias_bytes=4, channel_bytes=scale_bytes)
    return Quantized(strategy.label, reference.network, reference.shape, reference, size, note)


def cast(label: str, task: Task, form: Minifloat) -> Quantized:
    """Every weight, bias and tensor in memory rounded to `form`, without scales; what is too large becomes infinite.

    Where a channel's weights are numbers of `form` times a factor, that of a batch normalization folded into them, the factor
    stays in float32 and multiplies the sum: then nothing is lost of them.
    """
    rounded = Rounded(form, saturate=False)
    weights, channel_bytes = {}, 0
    for node, conv in convolutions(task.network):
        weight = conv.weight.detach()
        factor = factors(weight.flatten(1), form.mantissa)[:, None, None, None].float()
        channel_bytes = 4 if bool((factor != 1).any()) else channel_bytes
        weights[node.name] = rounded(weight / factor) * factor, rounded(typed(Tensor, conv.bias).detach())
    tensors = dict.fromkeys(sorted(in_memory(task.network)), rounded)
    size = parameter_bytes(task.network, form.bits, bias_bytes=form.bits // 8, channel_bytes=channel_bytes)
    return Quantized(label, task.network, task.shape, Simulated(task.network, weights, tensors), size)


def convolutions(network: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Conv2d]]:
    """Every convolution with its node, in the network's order."""
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d):
            yield node, module


def parameter_bytes(
    network: fx.GraphModule,
    weight_bits: int | Callable[[str], int],
    bias_bytes: int,
    channel_bytes: int = 0,
    tensor_bytes: int = 0,
) -> int:
    """Bytes of the parameters: weights packed at their width (a layer's rounded up to a byte), biases, scales.

    Parameters of anything but convolutions (a LayerNorm's) count as biases.
    """
    held = {p for _, conv in convolutions(network) for p in conv.parameters()}
    total = sum(p.numel() * bias_bytes for p in network.parameters() if p not in held)
    for node, conv in convolutions(network):
        bits = weight_bits if isinstance(weight_bits, int) else weight_bits(node.name)
        total += math.ceil(conv.weight.numel() * bits / 8)
        total += conv.out_channels * (bias_bytes + channel_bytes) + tensor_bytes
    return total


def write(quantized: Quantized, path: Path, model: dict[str, Any]) -> None:
    """Write a quantized network: a `torch.save` file of plain values and tensors, whole or not at all, equal bytes for equals.

    model: what `hlsgen.models.Loaded` knows of the network beside its graph (name, task, classes, strides, reg_max, weights,
    notice).

    Raises:
        HlsgenError: it cannot be written.
    """
    from hlsgen.frontend.onnx_write import write_fp32

    with tempfile.TemporaryDirectory(prefix="hlsgen-quantized-") as scratch:
        onnx = Path(scratch) / "network.onnx"
        write_fp32(quantized.network, quantized.shape, onnx, str(model["name"]))
        graph = torch.frombuffer(bytearray(onnx.read_bytes()), dtype=torch.uint8)
    facts, tensors = _state(quantized.executable)
    facts |= {
        "hlsgen": hlsgen.__version__,
        "strategy": quantized.strategy,
        "parameter_bytes": quantized.parameter_bytes,
        "note": quantized.note,
        "model": {**model, "shape": list(quantized.shape)},
    }
    held = {"kind": KIND, "facts": json.dumps(facts), "tensors": {"network": graph, **tensors}}
    buffer = io.BytesIO()  # into a buffer: a file's own name would be in its bytes
    torch.save(held, buffer)
    aside: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
        aside = None
    except OSError as error:
        raise HlsgenError(f"{path}: cannot be written ({error.strerror or error}); choose another --out") from error
    finally:
        if aside is not None:
            with suppress(OSError):
                os.unlink(aside)


def is_quantized(path: Path) -> bool:
    """Whether the file is one that `write` wrote (a look at its beginning; nothing in it is executed)."""
    try:
        if torch.serialization.get_unsafe_globals_in_checkpoint(path):
            return False
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # any damage: whoever reads it as something else will say so
        return False
    return isinstance(held, dict) and held.get("kind") == KIND


def read(path: Path) -> tuple[Quantized, dict[str, Any]]:
    """What `write` wrote: the quantized network and the model's facts.

    Raises:
        HlsgenError: the file is missing, no such file, or damaged.
    """
    from hlsgen.frontend.onnx_read import read_fp32

    if not path.is_file():
        raise HlsgenError(f"quantized network {path}: expected a file, there is none; run hlsgen quantize first")
    if not is_quantized(path):
        raise HlsgenError(f"quantized network {path}: expected a file of hlsgen quantize, this is something else")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        facts, tensors = json.loads(held["facts"]), held["tensors"]
        with tempfile.TemporaryDirectory(prefix="hlsgen-quantized-") as scratch:
            onnx = Path(scratch) / "network.onnx"
            onnx.write_bytes(tensors["network"].numpy().tobytes())
            network, shape = read_fp32(onnx)
        executable = _executable(facts, tensors, network, shape)
        model = dict(facts["model"])
        size, strategy, note = int(facts["parameter_bytes"]), str(facts["strategy"]), str(facts["note"])
    except HlsgenError as error:
        raise HlsgenError(f"quantized network {path}: damaged ({error}); quantize again") from error
    except Exception as error:  # a damaged file can fail in any way; none may reach the user as a traceback
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise HlsgenError(f"quantized network {path}: damaged ({first}); quantize again") from error
    return Quantized(strategy, network, shape, executable, size, note), model


def _state(executable: Executable) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts (JSON) and tensors by name."""
    if isinstance(executable, Reference):
        spec = executable.spec
        scales = {n: [q.scale, q.zero_point, q.bits] for n, q in spec.tensors.items()}
        integers = {
            f"{n}/{part}": torch.from_numpy(np.ascontiguousarray(getattr(q, part)))
            for n, q in spec.convs.items()
            for part in _PARTS
        }
        return {"executable": "integer", "scheme": spec.scheme, "scales": scales, "convs": list(spec.convs)}, integers
    if isinstance(executable, Simulated):
        rounded = {
            n: [r.format.exponent, r.format.mantissa, r.scale, r.saturate] for n, r in executable.rounded.items()
        }
        weights = {f"{n}/weight": pair[0] for n, pair in executable.weights.items()}
        weights |= {f"{n}/bias": pair[1] for n, pair in executable.weights.items()}
        return {"executable": "simulated", "rounded": rounded, "convs": list(executable.weights)}, weights
    assert isinstance(executable, Dynamic)
    return {"executable": "dynamic"}, {}


def _executable(
    facts: dict[str, Any], tensors: dict[str, Tensor], network: fx.GraphModule, shape: tuple[int, int, int]
) -> Executable:
    if facts["executable"] == "integer":
        if facts["scheme"] not in SCHEMES:
            raise ValueError(f"scheme {facts['scheme']!r}")
        scales = {str(n): TensorQ(float(s), int(z), int(b)) for n, (s, z, b) in facts["scales"].items()}
        convs = {}
        for name in facts["convs"]:
            parts = {part: tensors[f"{name}/{part}"] for part in _PARTS}
            wrong = [part for part, kind in _PARTS.items() if parts[part].dtype != kind]
            if wrong:
                raise ValueError(f"{name}/{wrong[0]} is {parts[wrong[0]].dtype}")
            convs[str(name)] = ConvQ(**{part: parts[part].numpy() for part in _PARTS})
        return Reference.from_spec(network, QuantSpec(facts["scheme"], scales, convs), shape)
    if facts["executable"] == "simulated":
        rounded = {
            str(n): Rounded(Minifloat(int(e), int(m)), float(scale), bool(saturate))
            for n, (e, m, scale, saturate) in facts["rounded"].items()
        }
        weights = {str(n): (tensors[f"{n}/weight"], tensors[f"{n}/bias"]) for n in facts["convs"]}
        return Simulated(network, weights, rounded)
    if facts["executable"] != "dynamic":
        raise ValueError(f"executable {facts['executable']!r}")
    return Dynamic(network)
