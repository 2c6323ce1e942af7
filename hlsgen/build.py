"""The road a network takes, as a table of contents: one function a stage, in order, each with its product on disk.

A stage reads what earlier stages made (in memory when they have just run, else from the build folder), leaves its own
product in `stages/`, and returns what it has to say as plain facts. `render` writes the project; `csim` proves it.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hlsgen import __version__, targets
from hlsgen.errors import HlsgenError
from hlsgen.progress import Progress, Quiet
from hlsgen.quantize.spec import DEFAULT_SCHEME
from hlsgen.quantize.strategies import for_engine
from hlsgen.spool import Spool
from hlsgen.workspace import STAMP, read_stamp, replacing

if TYPE_CHECKING:
    from hlsgen.handoff.driver import Host
    from hlsgen.models.sam.prompts import Prompt

Facts = dict[str, Any]
Image = npt.NDArray[np.float32]
"""A letterboxed picture: float32 [3, H, W], RGB, 0..1."""

PROJECT = (
    *("src", "tb", "data", "tcl", "driver"),
    *("hls_config.cfg", "link.cfg", "Makefile", "README.md", "manifest.json"),
)
"""What `render` writes at the top of the build folder: the project a user hands to Vitis HLS."""
FACTS = Path("stages") / "facts.json"
"""What every stage said, by stage; with the times, so it differs from build to build."""

INPUT_PICTURE = Path("pictures") / "input.png"
"""The picture of the build as the network sees it, lossless."""


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for.

    imgsz: height and width in pixels, or None for the model's own (640x640; an ONNX file's). calib: a folder of images,
    or None for the demo's own. image: the picture that is C-simulated, or None for the first one of the calibration
    folder, without one a generated picture that the demo has never seen. images: calibration images, or None for
    `hlsgen.models.calibration.enough`. calibration: schedule with the user's own
    calibration of the cost model, where there is one.
    """

    model: str
    part: str
    out: Path
    weights: str | None = None
    imgsz: tuple[int, int] | None = None
    scheme: str = DEFAULT_SCHEME
    arch: Literal["auto", "engine"] = "auto"
    calib: Path | None = None
    images: int | None = None
    pre_bits: int | None = None
    image: Path | None = None
    strict: bool = False
    clock: float | None = None
    tm: int | None = None
    tn: int | None = None
    tp: int | None = None
    lanes: int | None = None
    cores: int | None = None
    calibration: bool = True
    force: bool = False
    start_from: str | None = None
    stop_after: str | None = None

    def __post_init__(self) -> None:
        if not self.dynamic:
            for_engine(self.scheme)  # says where the engine has no such strategy
        elif self.pre_bits is not None:
            raise HlsgenError("scheme dynamic has float pre-activations; leave out --pre-bits")
        if self.imgsz is not None and (min(self.imgsz) < 1 or max(self.imgsz) > 8192):
            size = f"{self.imgsz[0]}x{self.imgsz[1]}"
            raise HlsgenError(f"an image size is two numbers of 1 to 8192 pixels (height x width), got {size}")
        if self.images is not None and self.images < 1:
            raise HlsgenError(f"calibration needs at least one image, got --images {self.images}")
        if self.pre_bits is not None and not 8 <= self.pre_bits <= 16:
            raise HlsgenError(f"pre-activations have 8 to 16 bits, got --pre-bits {self.pre_bits}")
        for name in (self.start_from, self.stop_after):
            if name is not None and name not in STAGES:
                raise HlsgenError(f"unknown stage {name!r}: expected one of {', '.join(STAGES)}")
        if self.start_from and self.stop_after and _order(self.start_from) > _order(self.stop_after):
            raise HlsgenError(f"--start-from {self.start_from} comes after --stop-after {self.stop_after}")

    @property
    def dynamic(self) -> bool:
        """Whether a SAM is built in scheme `dynamic`, which needs no calibration (docs/arithmetic-dynamic.md)."""
        if self.scheme != "dynamic":
            return False
        from hlsgen.models.sam.load import is_sam

        return is_sam(self.model)


DECIDED_BY: dict[str, tuple[str, ...]] = {
    "load": ("model", "weights", "imgsz", "dynamic"),
    "quantize": ("scheme", "calib", "images", "pre_bits"),
    "lower": ("part", "arch", "clock", "tm", "tn", "tp", "lanes", "cores", "calibration", "force"),
    "csim": ("image", "strict"),
}
"""The first stage that each option changes: a build that starts later must agree with the folder's record on it."""


@dataclass
class Build:
    """A build under way in `folder`. Each product is the last stage's own object, or is read back from disk."""

    folder: Path
    options: BuildOptions
    progress: Progress
    target: targets.Target
    facts: dict[str, Facts] = field(default_factory=dict)
    simulated: Any = None
    asked: Any = (
        None  # of a SAM: a prompt and the size (height, width) of the picture that it is in, where not the build's own
    )

    def at(self, stage: str) -> Path:
        """The stage's folder, made where it is missing."""
        path = self.folder / "stages" / f"{_order(stage) + 1}-{stage}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def loaded(self) -> Any:
        from hlsgen.models import Loaded

        return Loaded.read(self.at("load"))

    @cached_property
    def reference(self) -> Any:
        from hlsgen.quantize import load_reference

        return load_reference(self.at("quantize"))

    @cached_property
    def imported(self) -> Any:
        from hlsgen.backend import store

        return store.read(self.at("import"), self.project, self.folder)

    @cached_property
    def graph(self) -> Any:
        from hlsgen.backend import store

        return store.read(self.at("passes"), self.project, self.folder)

    @cached_property
    def program(self) -> Any:
        from hlsgen.program import store

        return store.read(self.at("lower"))

    @cached_property
    def picture(self) -> Image:
        return picture(self)

    @cached_property
    def inputs(self) -> tuple[Image, ...]:
        """What the network takes: the picture, for a SAM its prompt too; float32 [C, H, W] each."""
        if self.loaded.prompting is None:
            return (self.picture,)
        return self.picture, *self.loaded.prompting.inputs(*(self.asked or own_prompt(self)))

    @cached_property
    def tensors(self) -> Mapping[str, npt.NDArray[Any]]:
        """The reference's integers for the inputs: int8 (int16 where wider) [C, H, W] by node name; in a file."""
        held = Spool(self.folder)
        self.reference.run(self.inputs, held.__setitem__)
        return held

    @cached_property
    def expected(self) -> Mapping[str, npt.NDArray[Any]]:
        """What the hardware must compute, by node name: the reference's integers; in scheme dynamic the golden model's floats."""
        if not self.options.dynamic:
            return self.tensors
        from hlsgen.program import golden

        tensors, held = self.program.tensors, Spool(self.folder)
        for name, values in golden.steps(
            self.program, *(self.tensors[tensors[name].reference] for name in self.program.inputs)
        ):
            if tensors[name].compared:
                held[tensors[name].reference] = values
        return held

    @property
    def outputs(self) -> list[str]:
        """The names of the network's outputs, in order."""
        last = next(node for node in self.loaded.network.graph.nodes if node.op == "output")
        return [node.name for node in last.args[0]]

    @property
    def project(self) -> str:
        """The network's name as an identifier: the project's name in hls4ml and in C++."""
        name = re.sub(r"[^A-Za-z0-9_]+", "_", str(self.loaded.name)).strip("_")
        return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) else f"net_{name}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's image, in pixels."""
        _, height, width = self.loaded.shape
        return height, width


def load(b: Build) -> Facts:
    """Checkpoint or ONNX file to a float network (`hlsgen.models.network`)."""
    from hlsgen import models

    o = b.options
    b.loaded = models.load(o.model, o.weights, o.imgsz, apart=o.dynamic)
    b.loaded.save(b.at("load"))
    if b.loaded.shape[0] != 3:
        raise HlsgenError(f"{o.model} expects images of {b.loaded.shape[0]} channels; pictures have 3")
    if b.loaded.notice:
        b.progress.note(b.loaded.notice)
    return {
        "name": b.loaded.name,
        "weights": b.loaded.weights,
        "notice": b.loaded.notice or "",
        "classes": list(b.loaded.classes),
        "params": b.loaded.params,
        "gmacs": b.loaded.gmacs(),
    }


def quantize(b: Build) -> Facts:
    """Float network and calibration images to the INT8 reference: every scale and every integer weight."""
    from hlsgen.models.calibration import calibration_images, calibration_prompts, enough
    from hlsgen.quantize import Reference
    from hlsgen.quantize.strategies import Task

    o, given = b.options, b.loaded.quantization
    images: list[Any] = []
    if o.dynamic:
        from hlsgen.models.sam.network import linears
        from hlsgen.quantize.dynamic_network import DynamicReference

        network, source = b.loaded.network, "ranges are found while it runs"
        b.reference = DynamicReference.of(network, linears(network), b.loaded.shape)
    elif given is not None:
        b.reference, source = Reference.from_spec(b.loaded.network, given), "the file's own scales"
    else:
        gather = calibration_images if b.loaded.prompting is None else calibration_prompts
        images, source = gather(b.loaded, o.calib, o.images or enough(b.loaded))
        task = Task(b.loaded.network, b.loaded.shape, images, b.loaded.reg_max, b.progress, o.pre_bits)
        b.reference = for_engine(o.scheme).quantize(task).executable
    b.reference.save(b.at("quantize"))
    spec = b.reference.spec
    return {
        "images": len(images),
        "source": source,
        "pre_bits": max(q.bits for q in spec.tensors.values()),
        "tensors": len(spec.tensors),
        "convs": len(spec.convs),
    }


def export(b: Build) -> Facts:
    """The reference's scales and weights as a QDQ ONNX file, and how far ONNX Runtime agrees with the reference."""
    if b.options.dynamic:
        from hlsgen.frontend.dynamic_export import export_dynamic
        from hlsgen.models.sam.load import load as load_sam

        held, name = load_sam(b.options.model, b.options.weights), b.outputs[0]
        return export_dynamic(held, b.picture, b.tensors[name], b.at("export"))
    from hlsgen.frontend.agreement import agreement
    from hlsgen.frontend.qdq_write import write_qdq
    from hlsgen.quantize.structure import left_out

    path = b.at("export") / "model.qdq.onnx"
    write_qdq(b.loaded.network, b.reference.spec, b.loaded.shape, path, b.loaded.name)
    return agreement(path, b.tensors, b.inputs, left_out(b.loaded.network, b.loaded.shape))


def import_(b: Build) -> Facts:
    """The QDQ network as an hls4ml ModelGraph, layer by layer."""
    from hlsgen.backend import store
    from hlsgen.backend.frontend_layers import layer_list
    from hlsgen.backend.graph import model_graph

    layers = layer_list(b.loaded.network, b.reference.spec, b.loaded.shape)
    b.imported = model_graph(layers, b.project, b.folder, b.target.part)
    store.save(b.imported, b.at("import"))
    return {"layers": len(layers.layers)}


def passes(b: Build) -> Facts:
    """The ModelGraph after hlsgen's hls4ml flow: what one machine op computes is one layer."""
    from hlsgen.backend import store
    from hlsgen.backend.graph import run_passes

    b.graph = b.imported
    run_passes(b.graph)
    store.save(b.graph, b.at("passes"))
    return {"layers": len(list(b.graph.get_layers()))}


def lower(b: Build) -> Facts:
    """ModelGraph to Program: machine ops on tiles, scheduled for the part; the golden model proves it."""
    from hlsgen import calibrations
    from hlsgen.cost.coefficients import MODEL
    from hlsgen.cost.fit import check_fit, check_memory
    from hlsgen.cost.schedule import Overrides, schedule
    from hlsgen.cost.simulate import simulate
    from hlsgen.cost.trace import trace
    from hlsgen.program import golden, golden_dynamic, store

    o = b.options
    overrides = Overrides(o.tm, o.tn, o.tp, o.lanes, o.cores)
    coefficients = calibrations.coefficients(b.target.family) if o.calibration else MODEL
    if coefficients.calibrated:
        b.progress.note(f"estimates {coefficients.described()}")
    design = schedule(b.graph, b.target, o.clock, overrides, coefficients=coefficients)
    unfit = check_fit(design, b.graph, overrides, o.force)
    if unfit:
        b.progress.note(f"generated by --force: {unfit}")
    b.program = design.program
    check_memory(b.program, b.target, design.cores)
    store.save(b.program, b.at("lower"))
    ran = simulate(b.program, design.way, depths=design.depths)
    proved: Facts
    if o.dynamic:
        near, itself = golden_dynamic.check(
            b.program, b.expected, b.tensors, lambda: b.reference.disturbed(b.inputs)[0]
        )
        proved = {"golden_sqnr_db": {name: near[name] for name in b.outputs}, "disturbed_sqnr_db": itself}
    else:
        image = b.tensors[b.program.tensors[b.program.inputs[0]].reference]
        proved = {"golden_integers": golden.check(b.program, image, b.tensors)}
    return {
        "ops": len(b.program.ops),
        "arch": "engine",
        "engine": asdict(b.program.engine),
        "clock_mhz": design.clock_mhz,
        "estimate": {**design.estimate, "unfit": unfit, "trace": trace(design.program, design.way, design.depths)},
        "simulation": {
            "cycles": ran.cycles,
            "formula_over_simulation": design.cycles / ran.cycles,
            "tokens": list(ran.op_tokens),
        },
        **proved,
    }


def render(b: Build) -> Facts:
    """Program to the Vitis HLS project."""
    from hlsgen.cost.array import PORTS
    from hlsgen.render import ProjectFacts, render

    height, width = b.size
    lowered, target = b.facts["lower"], b.target
    facts = ProjectFacts(
        str(b.loaded.name),
        target.vivado,
        float(lowered["clock_mhz"]),
        f"{height}x{width}",
        PORTS[target.resources.dsp_kind],
        int(lowered["estimate"]["cores"]),
        target.name,
        host(b),
    )
    render(b.program, b.folder, facts)
    return {"clock_mhz": facts.clock_mhz, "part": facts.part}


def host(b: Build) -> "Host":
    """What the driver does around the accelerator: the input's integers by pixel value, the outputs, the boxes."""
    from hlsgen.handoff.driver import Head, Host

    ramp = np.arange(256, dtype=np.float32).reshape(1, 16, 16).repeat(3, axis=0) / np.float32(255)
    levels = b.reference.quantize_input(ramp)[0].reshape(-1)
    meta = b.loaded
    head = Head(tuple(meta.strides), meta.reg_max, tuple(meta.classes)) if meta.task == "detect" else None
    prompting = None if meta.prompting is None else meta.prompting.facts()
    return Host(tuple(int(v) for v in levels), tuple(b.outputs), head, prompting)


def csim(b: Build) -> Facts:
    """The project compiled and run on the picture, every op's output held to the reference, integer for integer."""
    from hlsgen.csim import simulate, write_data
    from hlsgen.report.collect import csim_facts

    program, data = b.program, b.folder / "data"
    write_data(program, data, b.tensors[program.tensors[program.inputs[0]].reference], b.expected)
    b.simulated = simulate(b.folder, program, data, b.options.strict, b.facts["lower"]["simulation"]["tokens"])
    return csim_facts(program, b.simulated)


STAGES: dict[str, Callable[[Build], Facts]] = {
    "load": load,
    "quantize": quantize,
    "export": export,
    "import": import_,
    "passes": passes,
    "lower": lower,
    "render": render,
    "csim": csim,
}
WHAT: dict[str, str] = {
    "load": "reading the network",
    "quantize": "calibrating",
    "export": "writing and checking the QDQ ONNX",
    "import": "into hls4ml layers",
    "passes": "fusing and typing",
    "lower": "machine ops and tiles",
    "render": "writing the project",
    "csim": "compiling and simulating",
}


def run(options: BuildOptions, progress: Progress | None = None) -> Facts:
    """The whole road, or the part between `start_from` and `stop_after`. The build folder appears when all is done.

    Returns:
        report.json as a dict.

    Raises:
        HlsgenError: bad input, or a folder that cannot be written; then nothing is left half written.
    """
    from hlsgen.report.collect import collect
    from hlsgen.report.detections import save_png
    from hlsgen.report.write import write_report

    progress = progress or Quiet()
    target = targets.find(options.part)
    names = list(STAGES)
    first = _order(options.start_from) if options.start_from else 0
    last = _order(options.stop_after) if options.stop_after else len(names) - 1
    kept = _kept(options, first) if first else []
    _readable(options)
    with replacing(options.out, kept) as folder:
        b = Build(folder, options, progress, target, facts=_read_facts(folder, names[:first]))
        for name in names[first : last + 1]:
            progress.stage(name, WHAT[name])
            begun = time.perf_counter()
            said = STAGES[name](b)
            seconds = time.perf_counter() - begun
            b.facts[name] = {**said, "stage_seconds": round(seconds, 3)}
            progress.done(name, seconds, _headline(name, said))
        progress.stage("report", "measuring and drawing")
        if last >= _order("quantize"):
            save_png(b.picture, folder / INPUT_PICTURE)
        _write_json(folder / STAMP, {"hlsgen": __version__, "last": names[last], **_recorded(options)})
        _write_json(folder / FACTS, b.facts)
        return write_report(folder, *collect(b))


def opened(
    folder: Path, needs: str, image: Path | None = None, strict: bool = False, progress: Progress | None = None
) -> Build:
    """A build that has got to the stage `needs`, to be used again: on `image`, or on the build's own picture.

    Raises:
        HlsgenError: the folder is no build, or the build stopped before that stage.
    """
    stamp = read_stamp(folder)
    last = str(stamp.get("last"))
    if last not in STAGES or _order(last) < _order(needs):
        raise HlsgenError(f"{folder} was built up to {last!r} only; build it up to {needs!r} first")
    try:
        given = stamp["imgsz"]
        size = (int(given[0]), int(given[1])) if isinstance(given, list) else None
        options = BuildOptions(
            model=str(stamp["model"]),
            part=str(stamp["part"]),
            out=folder,
            imgsz=size,
            weights=None if stamp.get("weights") is None else str(stamp["weights"]),
            scheme=str(stamp["scheme"]),
            image=image or folder / INPUT_PICTURE,
            strict=strict,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HlsgenError(f"{folder / STAMP} is damaged ({error}); build again") from error
    facts = _read_facts(folder, list(STAGES)[: _order(needs) + 1])
    return Build(folder, options, progress or Quiet(), targets.find(options.part), facts)


def picture(b: Build) -> Image:
    """The picture that the report shows and csim simulates."""
    from hlsgen.models.demo.shapes import HELDOUT_SEED
    from hlsgen.models.fitted import fitted, own_picture
    from hlsgen.models.images import list_images, read_image

    o = b.options
    if o.image is not None:
        return fitted(b.loaded, read_image(o.image))
    if o.calib is not None:
        return fitted(b.loaded, read_image(list_images(o.calib)[0]))
    return fitted(b.loaded, own_picture(b.loaded, 0, HELDOUT_SEED))


def own_prompt(b: Build) -> tuple["Prompt", tuple[int, int]]:
    """A SAM's prompt for the build's own picture, and the picture's size: a shape's box in the demo's, else the middle."""
    from hlsgen.models.sam.evaluate import shown
    from hlsgen.models.sam.prompts import Prompt

    side, o = b.size[0], b.options
    if o.image is None and o.calib is None:
        return shown(0, side)[1][0].box, (side, side)
    return Prompt(points=((side / 2, side / 2),)), (side, side)


def _readable(options: BuildOptions) -> None:
    """Reads what is only needed late, so that a bad path is told at once."""
    from hlsgen.models.images import list_images, read_image

    if options.calib is not None:
        list_images(options.calib)
    if options.image is not None:
        read_image(options.image)


def _order(stage: str) -> int:
    return list(STAGES).index(stage)


def _recorded(options: BuildOptions) -> dict[str, object]:
    names = [name for group in DECIDED_BY.values() for name in group]
    return {name: _plain(getattr(options, name)) for name in names}


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _kept(options: BuildOptions, first: int) -> list[str]:
    """What a build that starts at stage number `first` takes over from the folder; checks that it may."""
    names = list(STAGES)
    stamp = read_stamp(options.out)
    if stamp.get("last") not in names or _order(str(stamp["last"])) < first - 1:
        raise HlsgenError(
            f"{options.out} was built up to {stamp.get('last')!r}; to start from {names[first]!r} build it up to "
            f"{names[first - 1]!r} first"
        )
    asked = _recorded(options)
    for stage, decided in DECIDED_BY.items():
        for name in decided:
            if _order(stage) < first and asked[name] != stamp.get(name):
                raise HlsgenError(
                    f"{options.out} was built with {name} {stamp.get(name)!r}, now asked for {asked[name]!r}: "
                    f"start from {stage!r} or give the same"
                )
    kept = [str(FACTS)] + [f"stages/{i + 1}-{name}" for i, name in enumerate(names[:first])]
    return kept + (list(PROJECT) if first > _order("render") else [])


def _read_facts(folder: Path, stages: list[str]) -> dict[str, Facts]:
    if not stages:
        return {}
    try:
        found = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return {name: found[name] for name in stages}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HlsgenError(
            f"{FACTS}, the earlier stages' record, is damaged or missing; build from the start"
        ) from error


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _headline(stage: str, said: Facts) -> str:
    if stage == "load":
        return f"{said['name']}: {said['params'] / 1e6:.2f} M parameters, {said['gmacs']:.2f} GMAC an image"
    if stage == "quantize":
        return f"{said['images']} images from {said['source']}" if said["images"] else str(said["source"])
    if stage == "export" and "embedding_sqnr_db" in said:
        return f"ONNX Runtime's embedding is {said['embedding_sqnr_db']:.1f} dB from the reference's"
    if stage == "export":
        found = said["equal_inputs"]
        return (
            f"{found['differing']:,} of {said['elements']:,} elements 1 step off in ONNX Runtime, operator by operator"
        )
    if stage in ("import", "passes"):
        return f"{said['layers']} layers"
    if stage == "lower":
        if "golden_sqnr_db" in said:
            name, near = next(iter(said["golden_sqnr_db"].items()))
            text = f"{said['ops']} machine ops; the golden model's {name} is {near:.1f} dB from PyTorch's dynamic INT8"
            itself = said["disturbed_sqnr_db"]
            return (
                text if itself is None else f"{text}, which is {itself:.1f} dB from itself if its floats move by 2^-20"
            )
        return (
            f"{said['ops']} machine ops; the golden model equals the reference in {said['golden_integers']:,} integers"
        )
    if stage == "csim":
        return f"{said['mismatches']:,} of {said['elements']:,} {said['values']} differ"
    return ""
