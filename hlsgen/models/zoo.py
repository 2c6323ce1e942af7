"""MODEL and `--weights`: from a name or a file to a loaded network, and that network's own folder on disk."""

import difflib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.frontend.onnx_read import UnsupportedOperator, import_graph, load_model, read_fp32, safe_name
from hlsgen.frontend.onnx_write import attention_macs, output_nodes, shapes, write_fp32
from hlsgen.frontend.qdq_read import is_qdq, read_qdq
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.models import yolo
from hlsgen.models.checkpoint import read_checkpoint
from hlsgen.models.download import Published, Unreachable, cache_folder, download, find_cached
from hlsgen.models.exported import read_exported
from hlsgen.models.network import ATTENTION
from hlsgen.models.sam.config import VARIANTS
from hlsgen.models.sam.engine import ON_THE_HOST
from hlsgen.models.sam.load import is_sam
from hlsgen.models.sam.load import load as load_sam
from hlsgen.models.sam.prompting import Prompting
from hlsgen.quantize.spec import QuantSpec

NAMES = tuple(pattern.format(size) for pattern in yolo.FAMILIES.values() for size in "nsmlx")
ALIASES = {"yolo": "yolov8n"}
DEMO, RANDOM = "demo", "random"
DEMO_MODEL = "yolov8n"
YOLO_SIZE = (640, 640)
_FILES = {"facts": "model.json", "network": "network.onnx", "quantized": "quantized.onnx"}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A float network ready to be quantized.

    name: an identifier ("yolov8n"). network: `hlsgen.models.network`, eval mode, float32. shape: the image's (C, H, W).
    classes, strides, reg_max: what the raw maps mean (task "detect"); empty and 0 for the tasks "segment" (a SAM, name its
    variant, prompting what the host does around it) and "none". weights: where they
    came from ("demo", "random:0", a path). notice: what the user must be told, or None. quantization: a QDQ file's own
    scales and integers, or None.
    """

    name: str
    network: fx.GraphModule
    shape: tuple[int, int, int]
    task: Literal["detect", "segment", "none"]
    classes: tuple[str, ...]
    strides: tuple[int, ...]
    reg_max: int
    weights: str
    notice: str | None = None
    quantization: QuantSpec | None = None
    prompting: Prompting | None = None

    @property
    def params(self) -> int:
        """Weights and biases, batch norm folded."""
        return sum(p.numel() for p in self.network.parameters())

    def gmacs(self, imgsz: tuple[int, int] | None = None) -> float:
        """10^9 multiply-accumulates (`hlsgen.macs`) for one image of `imgsz` (H, W), by default its own."""
        known = shapes(self.network, (self.shape[0], *(imgsz or self.shape[1:])))
        total = 0
        for node in self.network.graph.nodes:
            module = self.network.get_submodule(str(node.target)) if node.op == "call_module" else None
            _, height, width = known.get(node.name, (0, 0, 0))
            if isinstance(module, nn.Conv2d):
                total += module.weight.numel() * height * width
            elif node.target in ATTENTION:
                total += attention_macs(self.network, node, known)
        return total / 1e9

    def facts(self) -> dict[str, Any]:
        """What is known of it beside graph and shape, as plain values."""
        return {
            "name": self.name,
            "task": self.task,
            "classes": list(self.classes),
            "strides": list(self.strides),
            "reg_max": self.reg_max,
            "weights": self.weights,
            "notice": self.notice,
        }

    def save(self, folder: str | Path) -> None:
        """Write model.json and network.onnx (FP32; and quantized.onnx where the model came quantized) into `folder`.

        Raises:
            HlsgenError: the folder cannot be written.
        """
        folder = Path(folder)
        facts = {
            **self.facts(),
            "shape": list(self.shape),
            "params": self.params,
            "gmacs": self.gmacs(),
            "outputs": [node.name for node in output_nodes(self.network)],
            "quantized": self.quantization is not None,
            **({"prompting": self.prompting.facts()} if self.prompting is not None else {}),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _FILES["facts"]).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            what = error.strerror or error
            raise HlsgenError(f"{folder}: cannot be written ({what}); choose another output folder") from error
        write_fp32(self.network, self.shape, folder / _FILES["network"], self.name)
        if self.quantization is not None:
            write_qdq(self.network, self.quantization, self.shape, folder / _FILES["quantized"], self.name)

    @classmethod
    def read(cls, folder: str | Path) -> "Loaded":
        """What `save` wrote.

        Raises:
            HlsgenError: the folder lacks a file or holds a damaged one.
        """
        folder = Path(folder)
        try:
            facts: dict[str, Any] = json.loads((folder / _FILES["facts"]).read_text(encoding="utf-8"))
            network, shape = read_fp32(folder / _FILES["network"])
            quantization = read_qdq(folder / _FILES["quantized"])[1] if facts["quantized"] else None
            return cls(
                name=facts["name"],
                network=network,
                shape=shape,
                task=facts["task"],
                classes=tuple(facts["classes"]),
                strides=tuple(facts["strides"]),
                reg_max=facts["reg_max"],
                weights=facts["weights"],
                notice=facts["notice"],
                quantization=quantization,
                prompting=Prompting.read(facts["prompting"]) if "prompting" in facts else None,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HlsgenError(
                f"{folder}: expected a loaded model, its model.json is damaged or missing ({error})"
            ) from error


def load(
    model: str,
    weights: str | None = None,
    imgsz: tuple[int, int] | None = None,
    outputs: list[str] | None = None,
    apart: bool = False,
) -> Loaded:
    """Load MODEL.

    model: a name of `NAMES` or `ALIASES`, a `.pt` of these families, or an `.onnx` (FP32 or QDQ). weights: a
    checkpoint, "demo" (yolov8n only), "random" or "random:SEED"; None finds or downloads the published ones, and for
    yolov8n falls back to the demo offline. imgsz: (H, W); None is 640x640, for ONNX the file's own. outputs: cut an
    FP32 ONNX file at these tensors. apart: of a SAM, each
    hypernetwork by itself (scheme dynamic).

    Raises:
        HlsgenError: an unknown name (with the nearest), a size that the strides do not divide (with the nearest sizes),
            weights that are missing, damaged, refused, of another network, or not finite; and as the ONNX readers.
    """
    path = Path(model)
    if outputs and path.suffix.lower() != ".onnx":
        raise HlsgenError("output names are for an .onnx model only")
    if path.suffix.lower() == ".onnx":
        if weights is not None:
            raise HlsgenError(f"an .onnx model has its weights in it, got --weights {weights} too; leave it out")
        return _from_onnx(path, imgsz, outputs)
    if path.suffix.lower() == ".pt":
        if weights is not None:
            raise HlsgenError(f"a .pt model has its weights in it, got --weights {weights} too; leave it out")
        if is_quantized(path):
            return _from_quantized(None, path, imgsz)
        return _from_checkpoint(safe_name(path.stem), None, path, str(path), imgsz)
    if is_sam(model):
        return _sam(model, weights, imgsz, apart)
    name = ALIASES.get(model.lower(), model.lower())
    if name not in NAMES:
        near = difflib.get_close_matches(model.lower(), [*NAMES, *ALIASES, *VARIANTS], n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        known = ", ".join([*NAMES, *VARIANTS])
        raise HlsgenError(f"model {model[:60]!r} is unknown{hint}; known are {known}, a .pt, a .pth and an .onnx file")
    if weights is None:
        return _published(name, imgsz)
    if weights == DEMO:
        if name != DEMO_MODEL:
            raise HlsgenError(f"the demo weights are for {DEMO_MODEL}, got {name}; give --weights FILE")
        return _demo(imgsz, "")
    if re.fullmatch(rf"{RANDOM}(:\d+)?", weights):
        seed = int(weights.partition(":")[2] or 0) % (1 << 32)
        made = yolo.build(yolo.random_model(name, seed), f"random {name}")
        notice = f"random weights (seed {seed}): the cost of {name} is real, accuracy means nothing"
        return _detector(name, made, imgsz, f"{RANDOM}:{seed}", notice)
    if is_quantized(Path(weights)):
        return _from_quantized(name, Path(weights), imgsz)
    return _from_checkpoint(name, name, Path(weights), weights, imgsz)


def is_quantized(path: Path) -> bool:
    """Whether a file is one of `hlsgen quantize`."""
    from hlsgen.quantize import quantized

    return path.is_file() and quantized.is_quantized(path)


def _from_quantized(expected: str | None, path: Path, imgsz: tuple[int, int] | None) -> Loaded:
    """A network that `hlsgen quantize` quantized, with its integers."""
    from hlsgen.quantize import quantized
    from hlsgen.quantize.strategies import for_engine

    held, facts = quantized.read(path)
    try:
        name, task, reg_max, notice = safe_name(facts["name"]), facts["task"], int(facts["reg_max"]), facts["notice"]
        classes, strides = tuple(map(str, facts["classes"])), tuple(map(int, facts["strides"]))
        if task not in ("detect", "none") or (task == "detect" and (min(strides) < 1 or reg_max < 1)):
            raise ValueError(f"task {task!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise HlsgenError(f"quantized network {path}: damaged ({error}); quantize again") from error
    if expected is not None and name != expected:
        raise HlsgenError(f"quantized network {path}: expected {expected}, it holds {name}; say hlsgen build {name}")
    if held.spec is None:
        try:
            for_engine(held.strategy)
        except HlsgenError as error:
            raise HlsgenError(f"quantized network {path}: {error}") from error
        raise HlsgenError(f"quantized network {path}: damaged (no integers for {held.strategy}); quantize again")
    shape = (held.shape[0], *(imgsz or held.shape[1:]))
    if task == "detect":
        check_size(shape[1:], max(strides))
    elif imgsz is not None and imgsz != held.shape[1:]:
        raise HlsgenError(
            f"quantized network {path} is for images of {held.shape[1]}x{held.shape[2]}; leave --imgsz out"
        )
    return Loaded(name, held.network, shape, task, classes, strides, reg_max, str(path), notice, held.spec)


def _published(name: str, imgsz: tuple[int, int] | None) -> Loaded:
    """The published weights: on this machine, else downloaded, else (yolov8n, no network) the demo."""
    file = f"{name}.pt"
    cached = find_cached(file)
    if cached is not None:
        return _from_checkpoint(name, name, cached, str(cached), imgsz)
    try:
        path, checksum = download(Published(file), cache_folder())
    except Unreachable as reason:
        if name == DEMO_MODEL:
            return _demo(imgsz, f"no {file} here and {reason}: ")
        raise HlsgenError(
            f"{file} is not on this machine and could not be downloaded ({reason}); give --weights FILE, or --weights "
            "random to measure cost only"
        ) from reason
    try:
        loaded = _from_checkpoint(name, name, path, str(path), imgsz)
    except HlsgenError:
        path.unlink(missing_ok=True)  # what the server sent is no checkpoint; the next run shall ask again
        raise
    if checksum is None:
        return replace(loaded, notice=f"{path} was downloaded; no published checksum was found to check it against")
    return loaded


def _demo(imgsz: tuple[int, int] | None, why: str) -> Loaded:
    from hlsgen.models.demo import WEIGHTS

    made = yolo.build(read_checkpoint(WEIGHTS), "the demo checkpoint")
    shapes_known = ", ".join(made.classes)
    notice = f"{why}DEMO WEIGHTS, trained on generated pictures of {shapes_known}; for photographs give --weights FILE"
    return _detector(DEMO_MODEL, made, imgsz, DEMO, notice)


def _from_checkpoint(
    name: str, expected: str | None, path: Path, weights: str, imgsz: tuple[int, int] | None
) -> Loaded:
    held = read_checkpoint(path)
    made = yolo.build(held, f"checkpoint {path}")
    found = yolo.identify(held)
    if expected is not None and found is not None and found != expected:
        raise HlsgenError(f"checkpoint {path}: expected {expected}, it holds {found}; say hlsgen build {found}")
    return _detector(name, made, imgsz, weights, None)


def _detector(name: str, made: yolo.Yolo, imgsz: tuple[int, int] | None, weights: str, notice: str | None) -> Loaded:
    size = imgsz or YOLO_SIZE
    check_size(size, max(made.strides))
    return Loaded(
        name, made.network, (made.channels, *size), "detect", made.classes, made.strides, made.reg_max, weights, notice
    )


def check_size(size: tuple[int, ...], stride: int) -> None:
    """Hold an image's height and width to multiples of the network's largest stride.

    Raises:
        HlsgenError: with the nearest sizes.
    """
    if any(n < stride or n % stride for n in size):
        below = "x".join(str(max(n // stride, 1) * stride) for n in size)
        above = "x".join(str(max(-(-n // stride), 1) * stride) for n in size)
        near = f"nearest is {above}" if below == above else f"nearest are {below} and {above}"
        raise HlsgenError(f"--imgsz expects multiples of the stride {stride}, got {size[0]}x{size[1]}; the {near}")


def _sam(model: str, weights: str | None, imgsz: tuple[int, int] | None, apart: bool) -> Loaded:
    """A SAM: image encoder and mask decoder."""
    from hlsgen.models.sam.network import sam_network

    held = load_sam(model, weights)
    side = held.config.img_size
    if imgsz is not None and imgsz != (side, side):
        raise HlsgenError(
            f"{held.config.name} is for images of {side}x{side}, got --imgsz {imgsz[0]}x{imgsz[1]}; leave it out"
        )
    source = weights or (DEMO if held.config.name == model.lower() else model)
    network, prompting = sam_network(held.config, held.state, apart), Prompting.of(held.config, held.state)
    shape = (3, side, side)
    return Loaded(held.config.name, network, shape, "segment", (), (), 0, source, ON_THE_HOST, prompting=prompting)


def _from_onnx(path: Path, imgsz: tuple[int, int] | None, outputs: list[str] | None) -> Loaded:
    name, source = safe_name(path.stem), str(path)
    if is_qdq(path):
        if outputs:
            raise HlsgenError(f"{path}: a QDQ file cannot be cut at output names; cut the FP32 file, then quantize it")
        network, quantization, shape = read_qdq(path)
        loaded = Loaded(name, network, shape, "none", (), (), 0, source, None, quantization)
    else:
        model = load_model(path)
        try:
            imported = import_graph(model, source, outputs)
            loaded = Loaded(name, imported.network, imported.shape, "none", (), (), 0, source)
        except UnsupportedOperator as error:
            if outputs:
                raise
            d, shape = read_exported(model, source, error)
            loaded = Loaded(name, d.network, shape, "detect", d.classes, d.strides, d.reg_max, source)
    height, width = loaded.shape[1:]
    if imgsz is not None and imgsz != (height, width):
        raise HlsgenError(
            f"{path} is for images of {height}x{width}, got --imgsz {imgsz[0]}x{imgsz[1]}; give --imgsz "
            f"{height}x{width} or export it anew"
        )
    return loaded
