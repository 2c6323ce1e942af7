"""The study: quantize by every strategy and seed, measure on every image, and gather what came of it."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hlsgen import __version__, targets
from hlsgen.errors import HlsgenError
from hlsgen.progress import Progress
from hlsgen.quantize.strategies import Strategy, Task, find
from hlsgen.study.agreement import Agreement, agreement

Facts = dict[str, Any]
EVERY = (
    "fp32",
    "fp16",
    "bf16",
    "minifloat:e4m3",
    "minifloat:e5m2",
    "dynamic",
    "static",
    "affine",
    "rescaled",
    "fixed",
    "fixed:w6",
    "mixed:0.75",
    "trainable-fixed",
)
FLOAT = "fp32"
WORK = "work"
"""The folder, in the study's, of what lets an interrupted study go on: quantized networks and results image by image."""
DEMO_IMAGES = 64
GALLERY = 4  # pictures shown


@dataclass(frozen=True)
class StudyOptions:
    """What a study is asked for.

    data: labelled images (as `hlsgen.evaluate.accuracy`, or a folder with `val` and `calib` of this kind), None for the
    demo's own. images: how many of them at most. calib: folder of calibration images; calib_images: how many are drawn.
    seeds: how many drawings. strategies: labels; fp32 is always among them.
    """

    model: str
    out: Path
    part: str = "xc7z020"
    weights: str | None = None
    imgsz: tuple[int, int] | None = None
    data: Path | None = None
    images: int | None = None
    calib: Path | None = None
    calib_images: int = 32
    seeds: int = 1
    strategies: tuple[str, ...] = EVERY
    jobs: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("calib-images", self.calib_images), ("seeds", self.seeds)):
            if value is not None and value < 1:
                raise HlsgenError(f"--{name} expects 1 or more, got {value}")
        if self.jobs is not None and self.jobs < 1:
            raise HlsgenError(f"--jobs expects 1 or more processes, got {self.jobs}")

    def chosen(self) -> list[Strategy]:
        """The strategies, fp32 first, none twice."""
        found = {s.label: s for s in (find(text) for text in (FLOAT, *self.strategies))}
        return list(found.values())


def study(options: StudyOptions, progress: Progress) -> tuple[Facts, list[tuple[str, list[Any]]]]:
    """Run it, or go on with it; the facts, and for the gallery (image's name, [picture, boxes by label ...]).

    Raises:
        HlsgenError: an unknown strategy, model or part, no images, labels that do not match, calibration images among those
            that are measured on, a folder that holds another study.
    """
    from hlsgen.evaluate import Labelled
    from hlsgen.models import load
    from hlsgen.models.sam.engine import no_sam
    from hlsgen.quantize.structure import outputs
    from hlsgen.report.versions import versions

    began = time.perf_counter()
    strategies, target = options.chosen(), targets.find(options.part)
    progress.stage("load", "reading the network and the labels")
    loaded = load(options.model, options.weights, options.imgsz)
    no_sam(loaded.name, loaded.task, "hlsgen strategies")
    if loaded.task != "detect":
        raise HlsgenError(
            f"{options.model}: strategies are compared on a detector; this network's outputs are unknown maps"
        )
    if loaded.quantization is not None:
        raise HlsgenError(f"{loaded.weights} is quantized already; give the float network")
    if loaded.notice:
        progress.note(loaded.notice)
    work = options.out / WORK
    data, calib = _places(options, loaded, work)
    size = max(loaded.shape[1:])
    with Labelled.opened(loaded, data, size, options.images) as labelled:
        count = len(labelled)
        names = [labelled.name(i) for i in range(count)]
    _claim(work, options, loaded, data, calib)
    progress.done("load", time.perf_counter() - began, f"{loaded.name}, {count} images of {data}")

    networks, notes = _quantized(options, strategies, loaded, calib, work, progress)
    _measured(options, networks, work / "results", data, size, count, progress)
    begun = time.perf_counter()
    progress.stage("speed", "latency on this CPU, estimates of the engine")
    speeds = {}
    for index, strategy in enumerate(strategies):
        speeds[strategy.label] = _speed(networks[f"{strategy.label}/0"], work, strategy, target, loaded)
        progress.step(index + 1, len(strategies))
    progress.done("speed", time.perf_counter() - begun, f"one thread, one image; {target.name}")

    progress.stage("score", "mAP and agreement")
    begun = time.perf_counter()
    with Labelled.opened(loaded, data, size, options.images) as labelled:
        rows = [
            _row(strategy, networks, work / "results", labelled, options.seeds)
            | speeds[strategy.label]
            | notes[strategy.label]
            for strategy in strategies
        ]
        gallery = _gallery(labelled, strategies, work / "results")
    for row in rows:
        row["drop"] = rows[0]["map50_95"]["mean"] - row["map50_95"]["mean"]
    progress.done("score", time.perf_counter() - begun, f"{len(rows)} strategies")
    facts = {
        "hlsgen": __version__,
        "model": loaded.name,
        "weights": loaded.weights,
        "imgsz": list(loaded.shape[1:]),
        "part": target.name,
        "data": str(data),
        "images": count,
        "image_names": names,
        "calibration": {"folder": str(calib) if calib else "generated shapes", "images": options.calib_images},
        "seeds": options.seeds,
        "classes": list(loaded.classes),
        "outputs": [node.name for node in outputs(loaded.network)],
        "strategies": rows,
        "versions": versions(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    return facts, gallery


def _places(options: StudyOptions, loaded: Any, work: Path) -> tuple[Path, Path | None]:
    """Where the labelled images are, and the calibration images (None: generated)."""
    from hlsgen.models.images import list_images

    data, calib = options.data, options.calib
    if data is None:
        if loaded.weights != "demo":
            raise HlsgenError("accuracy needs labelled images: give --data FOLDER with images/ and labels/ (or boxes/)")
        from hlsgen.models.demo.shapes import HELDOUT_SEED, write_dataset

        many = options.images or DEMO_IMAGES
        folder = work / f"demo-{many}-{max(loaded.shape[1:])}"
        return write_dataset(folder, many, max(loaded.shape[1:]), HELDOUT_SEED).parent, calib
    if not (data / "images").is_dir() and (data / "val" / "images").is_dir():
        if calib is None and (data / "calib").is_dir():
            calib = data / "calib"
        data = data / "val"
    if calib is None:
        if loaded.weights != "demo":
            raise HlsgenError("calibration needs pictures that are not measured on: give --calib FOLDER")
        return data, None
    if data.is_dir() and (data / "images").is_dir():
        same = {p.resolve() for p in list_images(calib)} & {p.resolve() for p in list_images(data / "images")}
        if same:
            raise HlsgenError(
                f"{calib} and {data} have {len(same)} images in common, such as {min(same).name}; calibrate on others than are "
                "measured on"
            )
    return data, calib


def _claim(work: Path, options: StudyOptions, loaded: Any, data: Path, calib: Path | None) -> None:
    """Make `work`, or see to it that what is in it is of this very study."""
    parameters = hashlib.sha256()
    for value in loaded.network.state_dict().values():
        parameters.update(value.numpy().tobytes())
    asked = {
        "hlsgen": __version__,
        "model": loaded.name,
        "parameters": parameters.hexdigest(),
        "imgsz": list(loaded.shape[1:]),
        "data": str(data.resolve()),
        "images": options.images,
        "calib": str(calib.resolve()) if calib else None,
        "calib_images": options.calib_images,
    }
    path = work / "study.json"
    try:
        if options.out.is_dir() and any(p.name != WORK for p in options.out.iterdir()) and not path.is_file():
            raise HlsgenError(
                f"{options.out} holds files that hlsgen did not write; give --out another name or empty it"
            )
        work.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            held = json.loads(path.read_text(encoding="utf-8"))
            other = [name for name, value in asked.items() if held.get(name) != value]
            if other:
                raise HlsgenError(
                    f"{options.out} holds a study with another {other[0].replace('_', '-')} ({held.get(other[0])!r}, now "
                    f"{asked[other[0]]!r}); give --out another folder or delete it"
                )
        else:
            path.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise HlsgenError(
            f"cannot write {options.out}: {error.strerror}; give --out a folder you may write to"
        ) from error
    except ValueError as error:
        raise HlsgenError(f"{path} is damaged ({error}); delete {options.out} and begin again") from error


def _keys(strategies: Sequence[Strategy], seeds: int) -> Iterator[tuple[str, Strategy, int]]:
    """Key, strategy and seed: those that look at no images once, all others once a seed."""
    for seed in range(seeds):
        for strategy in strategies:
            if seed == 0 or strategy.calibrated:
                yield f"{strategy.label}/{seed}", strategy, seed


def _quantized(
    options: StudyOptions,
    strategies: Sequence[Strategy],
    loaded: Any,
    calib: Path | None,
    work: Path,
    progress: Progress,
) -> tuple[dict[str, Path], dict[str, Facts]]:
    """Every network's file by key, and by label what is to be said of it."""
    from hlsgen.models.calibration import calibration_images
    from hlsgen.quantize.quantized import read, write

    files: dict[str, Path] = {}
    tasks: dict[int, Task] = {}
    for key, strategy, seed in _keys(strategies, options.seeds):
        files[key] = work / "quantized" / f"{key.replace(':', '-')}.pt"
        if files[key].is_file():
            continue
        if seed not in tasks:
            pictures, _ = calibration_images(loaded, calib, options.calib_images, seed)
            tasks = {seed: Task(loaded.network, loaded.shape, pictures, loaded.reg_max, progress)}
        begun = time.perf_counter()
        progress.stage("quantize", f"{strategy.label}, seed {seed}")
        seeded = replace(strategy, recipe=replace(strategy.recipe, seed=seed))
        write(seeded.quantize(tasks[seed]), files[key], loaded.facts())
        progress.done("quantize", time.perf_counter() - begun, f"{strategy.label}, seed {seed}")
    notes = {}
    for strategy in strategies:
        network, _ = read(files[f"{strategy.label}/0"])
        notes[strategy.label] = {"note": network.note, "parameter_bytes": network.parameter_bytes}
    return files, notes


def _measured(
    options: StudyOptions,
    networks: Mapping[str, Path],
    results: Path,
    data: Path,
    size: int,
    count: int,
    progress: Progress,
) -> None:
    """Every image's result on disk: images in parallel, a few at a time."""
    from joblib import Parallel, delayed

    from hlsgen.study.measure import Job

    begun = time.perf_counter()
    progress.stage("measure", f"{len(networks)} networks on {count} images")
    jobs = min(options.jobs or len(os.sched_getaffinity(0)), count)
    job = Job(networks, results, data, size, options.images)
    share = max(1, min(8, count // (2 * jobs)))
    chunks = [range(first, min(first + share, count)) for first in range(0, count, share)]
    done = 0
    for made in Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(_chunk)(job, c) for c in chunks):
        done += made
        progress.step(done, count)
    progress.done("measure", time.perf_counter() - begun, f"{count} images, {jobs} at a time")


def _chunk(job: Any, indices: Sequence[int]) -> int:
    from hlsgen.study.measure import measure

    measure(job, indices)
    return len(indices)


def _speed(path: Path, work: Path, strategy: Strategy, target: targets.Target, loaded: Any) -> Facts:
    """Latency and estimate, measured once and kept."""
    kept = work / "speed" / f"{strategy.label.replace(':', '-')}-{target.name}.json"
    if kept.is_file():
        found: Facts = json.loads(kept.read_text(encoding="utf-8"))
        return found
    from hlsgen.quantize.quantized import read
    from hlsgen.study.speed import engine_estimate, onnx_latency, torch_latency

    network, _ = read(path)
    image = np.random.default_rng(0).random(loaded.shape, np.float32)  # latency does not depend on what is seen
    found = {
        "torch": torch_latency(network, image),
        "onnxruntime": onnx_latency(network, image),
        "engine": engine_estimate(network, target),
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_suffix(".part")
    aside.write_text(json.dumps(found, indent=1), encoding="utf-8")
    os.replace(aside, kept)
    return found


def _row(strategy: Strategy, networks: Mapping[str, Path], results: Path, labelled: Any, seeds: int) -> Facts:
    import torch

    from hlsgen.study.measure import load_boxes, load_noise

    count = len(labelled)
    wanted = load_boxes(results, f"{FLOAT}/0", count)
    runs = []
    for seed in range(seeds):
        key = f"{strategy.label}/{seed}"
        if key not in networks:
            continue
        boxes = load_boxes(results, key, count)
        scores = labelled.score([torch.from_numpy(b) for b in boxes])
        total = sum((agreement(a, b) for a, b in zip(wanted, boxes, strict=True)), Agreement())
        runs.append(
            {
                "seed": seed,
                "map50_95": scores["map50_95"],
                "map50": scores["map50"],
                "agreement": total.share,
                "matched_iou": total.mean_iou,
                "flips": total.flips,
                "matched": total.matched,
                "boxes": total.b,
                "float_boxes": total.a,
            }
        )
    noise = load_noise(results, f"{strategy.label}/0", count)
    return {
        "strategy": strategy.label,
        "title": strategy.title,
        "source": strategy.source,
        "scheme": strategy.scheme,
        "missing": strategy.missing,
        "runs": runs,
        **{
            name: _spread([run[name] for run in runs])
            for name in ("map50_95", "map50", "agreement", "matched_iou", "flips")
        },
        "sqnr_db": noise,
    }


def _spread(values: Sequence[Any]) -> dict[str, float]:
    found = [float(v) for v in values]
    return {"mean": sum(found) / len(found), "min": min(found), "max": max(found)}


def _gallery(labelled: Any, strategies: Sequence[Strategy], results: Path) -> list[tuple[str, list[Any]]]:
    """The first images in which the float network is sure of two boxes or more, with everyone's boxes."""
    from hlsgen.study.agreement import confident
    from hlsgen.study.measure import load_boxes

    count = len(labelled)
    everyone = {s.label: load_boxes(results, f"{s.label}/0", count) for s in strategies}
    seen = [i for i in range(count) if len(confident(everyone[FLOAT][i])) >= 2] or list(range(count))
    return [
        (labelled.name(i), [labelled.image(i)[0].numpy(), {label: boxes[i] for label, boxes in everyone.items()}])
        for i in seen[:GALLERY]
    ]
