"""Trains the bundled YOLOv8n from random weights on generated images: ``python -m hlsgen.models.demo.train``.

Nothing pretrained goes in. The architecture and the loss are ultralytics' (AGPL-3.0); the loop, the images and so the
weights are ours. The schedule is counted in steps, not in time, so the same command follows the same road anywhere;
it stops and resumes at any of the checkpoints it leaves in ``--work``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hlsgen.models.demo import WEIGHTS
from hlsgen.models.demo.shapes import CLASSES, HELDOUT_SEED, TRAIN_SEED, render, write_dataset
from hlsgen.models.torchvision_ops import mend_torchvision

MAX_BYTES = 7_000_000
"""The largest file that may be bundled."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. Sizes in pixels, counts in images or optimizer steps.

    ``horizons`` says what happened to the bundled weights: their training was begun for 5300 steps and, the machine
    being slow, cut at step 2000 to 3200 and at step 2250 to 3000. Each entry is (before which step, steps that the
    learning rate's cosine runs over); from the last entry on, the cosine runs over all the steps there are.
    """

    seed: int = TRAIN_SEED
    size: int = 256
    pool: int = 8000
    batch: int = 16
    steps: int = 2700
    large_size: int = 640
    large_pool: int = 400
    large_batch: int = 4
    large_steps: int = 300
    horizons: tuple[tuple[int, int], ...] = ((2000, 5300), (2250, 3200))
    warmup: int = 150
    rate: float = 1.5e-3
    last_rate: float = 0.01
    decay: float = 0.01
    ema: float = 0.998


Pool = list[tuple[NDArray[np.uint8], NDArray[np.float32]]]


def _render(job: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return render(*job)


def make_pool(count: int, size: int, seed: int, workers: int = 2) -> Pool:
    """Renders images 0 to ``count - 1`` of ``seed`` at ``size`` pixels in ``workers`` processes.

    Returns:
        ``count`` pairs as ``shapes.render`` returns them: uint8 [size, size, 3] BGR and float32 [n, 5].

    Raises:
        ValueError: ``shapes.render`` refuses ``size`` or ``seed``.
    """
    with get_context("spawn").Pool(workers) as processes:
        return processes.map(_render, [(index, size, seed) for index in range(count)], chunksize=32)


def augment(
    image: NDArray[np.uint8], labels: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One of the 8 turns and mirrorings, 6 channel orders and 2 polarities, drawn from ``rng``; boxes stay exact.

    Args:
        image: uint8 [s, s, 3].
        labels: float32 [n, 5], class, cx, cy, w, h as shares of s.

    Returns:
        A new image and new labels of the same shapes and types.
    """
    labels = labels.copy()
    if rng.random() < 0.5:
        image, labels = image.transpose(1, 0, 2), labels[:, [0, 2, 1, 4, 3]]
    for axis, column in ((1, 1), (0, 2)):
        if rng.random() < 0.5:
            image = np.flip(image, axis)
            labels[:, column] = 1 - labels[:, column]
    image = image[:, :, rng.permutation(3)]
    return np.ascontiguousarray(255 - image if rng.random() < 0.5 else image), labels


def batches(pool: Pool, batch: int, seed: int, first: int) -> Iterator[dict[str, Any]]:
    """Endless training batches as ultralytics' loss takes them; number ``first`` is the first one given.

    Yields:
        ``img`` float32 [batch, 3, s, s] RGB 0..1 channels-last, ``batch_idx`` float32 [n], ``cls`` float32 [n, 1],
        ``bboxes`` float32 [n, 4] as shares.
    """
    import torch

    number = first
    while True:
        rng = np.random.Generator(np.random.PCG64([seed, number, 1]))
        chosen = [augment(*pool[int(k)], rng) for k in rng.integers(0, len(pool), batch)]
        images = np.stack([image for image, _ in chosen])[..., ::-1].copy()
        labels = torch.from_numpy(np.concatenate([rows for _, rows in chosen]))
        owner = np.repeat(np.arange(batch), [len(rows) for _, rows in chosen])
        yield {
            "img": torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            "batch_idx": torch.from_numpy(owner).float(),
            "cls": labels[:, :1],
            "bboxes": labels[:, 1:],
        }
        number += 1


def new_model() -> Any:
    """ultralytics' YOLOv8n for the demo's classes, random weights from torch's own generator: a ``DetectionModel``.

    Raises:
        ImportError: ultralytics is not installed.
    """
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    model: Any = DetectionModel("yolov8n.yaml", nc=len(CLASSES), verbose=False)  # type: ignore[no-untyped-call]
    model.names = dict(enumerate(CLASSES))
    model.args = get_cfg()
    return model


def train(recipe: Recipe, work: Path, threads: int = 2, every: int = 250) -> Any:
    """Trains by ``recipe`` and returns the averaged model, float32, in evaluation mode.

    Args:
        recipe: what to train on and how.
        work: a folder for ``state.pt``, written every ``every`` steps; one of the same recipe is resumed.
        threads: CPU threads.
        every: steps between checkpoints and printed lines.

    Raises:
        ImportError: ultralytics is not installed.
        RuntimeError: ``work`` holds the state of another recipe, or the loss is not finite.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    model = new_model().to(memory_format=torch.channels_last).train()
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    plain = [p for p in model.parameters() if p.ndim <= 1]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.decay}, {"params": plain, "weight_decay": 0.0}], lr=recipe.rate
    )
    step, state_file = 0, work / "state.pt"
    work.mkdir(parents=True, exist_ok=True)
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state["recipe"] != asdict(recipe):
            raise RuntimeError(f"{state_file} belongs to another recipe: {state['recipe']}; expected {asdict(recipe)}")
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step = int(state["step"])

    total, started, seen = recipe.steps + recipe.large_steps, time.monotonic(), 0
    for phase, (size, count, batch, end) in enumerate(
        (
            (recipe.size, recipe.pool, recipe.batch, recipe.steps),
            (recipe.large_size, recipe.large_pool, recipe.large_batch, total),
        )
    ):
        if step >= end:
            continue
        supply = batches(make_pool(count, size, recipe.seed + phase, threads), batch, recipe.seed + phase, step)
        while step < end:
            ramp = min(1.0, (step + 1) / recipe.warmup)
            along = step / next((horizon for before, horizon in recipe.horizons if step < before), total)
            cosine = recipe.last_rate + (1 - recipe.last_rate) * (1 + math.cos(math.pi * along)) / 2
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * ramp * cosine
            inputs = next(supply)
            with torch.autocast("cpu", torch.bfloat16):
                outputs = model(inputs["img"].contiguous(memory_format=torch.channels_last))
            outputs = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in outputs.items()}
            losses, parts = model.loss(inputs, outputs)
            loss = losses.sum()
            if not torch.isfinite(loss):
                raise RuntimeError(f"the loss is not finite at step {step}: expected a number, got {float(loss)}")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0 * batch)
            optimizer.step()
            _average(averaged, model, min(recipe.ema, (1 + step) / (10 + step)))
            step, seen = step + 1, seen + batch
            if step % every == 0 or step == end:
                spent = time.monotonic() - started
                shown = " ".join(f"{k} {float(v):.3f}" for k, v in parts.items())
                print(f"step {step}/{total} {size}px {shown} {spent:.0f} s {spent / seen:.4f} s/image", flush=True)
                state = {"recipe": asdict(recipe), "step": step, "model": model.state_dict()}
                state |= {"averaged": averaged.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state, work / "state.new")
                (work / "state.new").replace(state_file)
    return averaged


def _average(averaged: Any, model: Any, keep: float) -> None:
    """Moves every floating-point tensor of ``averaged`` by ``1 - keep`` of the way towards ``model``, in place."""
    import torch

    with torch.no_grad():
        current = model.state_dict()
        for name, tensor in averaged.state_dict().items():
            if tensor.dtype.is_floating_point:
                tensor.lerp_(current[name], 1 - keep)


def save(model: Any, path: Path, recipe: Recipe) -> int:
    """Writes ``model`` as ultralytics writes a finished training: float16, without optimizer or loss.

    ``ultralytics.YOLO(path)`` reads the file, and so does ``torch.load(path, weights_only=True)`` once its classes are
    allowed (``torch.serialization.get_unsafe_globals_in_checkpoint(path)`` lists them).

    Args:
        model: a ``DetectionModel``; not changed.
        path: the file to write.
        recipe: recorded in the file.

    Returns:
        The file's size in bytes.

    Raises:
        ValueError: a weight or BatchNorm statistic is out of float16's range, or the file is over ``MAX_BYTES``.
    """
    import torch
    import ultralytics

    model = copy.deepcopy(model).float().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if not tensor.dtype.is_floating_point:
            continue
        if float(tensor.abs().max()) > 6e4 or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} does not fit float16: expected at most 60000, got {float(tensor.abs().max())}")
        if name.endswith("running_var") and float(tensor.min()) < 6.2e-5:
            raise ValueError(f"{name} is too small for float16: expected at least 6.2e-5, got {float(tensor.min())}")
    model.criterion = None
    model.args = {"task": "detect", "mode": "train", "imgsz": recipe.large_size, "data": "shapes"}
    model.task, model.pt_path = "detect", None
    checkpoint = {
        "epoch": -1,
        "model": model.half(),
        "train_args": dict(model.args),
        "recipe": asdict(recipe),
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (architecture and trainer: ultralytics); weights trained by hlsgen, see NOTICE.md",
    }
    torch.save(checkpoint, path)
    written = path.stat().st_size
    if written > MAX_BYTES:
        raise ValueError(f"{path} is too large to bundle: expected at most {MAX_BYTES} bytes, got {written}")
    return written


def measure(weights: Path, work: Path, count: int = 64, size: int = 640, seed: int = HELDOUT_SEED) -> dict[str, float]:
    """ultralytics' own validation of ``weights`` in float32 on ``count`` generated images of ``size`` pixels.

    Args:
        weights: a checkpoint that ``ultralytics.YOLO`` reads.
        work: a folder for the images, kept and reused.
        count, size, seed: which images, as for ``shapes.write_dataset``.

    Returns:
        ``map50_95`` and ``map50``, 0 to 1.

    Raises:
        ImportError: ultralytics is not installed.
        FileNotFoundError: ``weights`` does not exist.
    """
    from ultralytics.models import YOLO
    from ultralytics.utils.nms import TorchNMS

    mend_torchvision(TorchNMS.nms)
    data = write_dataset(work / f"{seed}-{size}-{count}", count, size, seed)
    result = YOLO(str(weights)).val(
        data=str(data),
        imgsz=size,
        batch=4,
        device="cpu",
        workers=0,
        plots=False,
        verbose=False,
        project=str(work.resolve()),
        name=f"val-{size}",
        exist_ok=True,
    )
    return {"map50_95": round(float(result.box.map), 4), "map50": round(float(result.box.map50), 4)}


def main(arguments: list[str] | None = None) -> int:
    """Trains, writes the weights and prints what they measure; returns the exit status, 0."""
    parser = argparse.ArgumentParser(prog="python -m hlsgen.models.demo.train", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/demo_train"), help="folder for checkpoints and images")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the weights file to write")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="steps on small canvases")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--interim", action="store_true", help="train no further: write the last checkpoint's weights")
    options = parser.parse_args(arguments)
    recipe = Recipe(steps=options.steps)
    if options.interim:
        import torch

        torch.set_num_threads(options.threads)
        model = new_model()
        model.load_state_dict(torch.load(options.work / "state.pt", weights_only=True)["averaged"])
    else:
        model = train(recipe, options.work, options.threads)
    written = save(model, options.out, recipe)
    figures = {size: measure(options.out, options.work, size=size) for size in (640, 320)}
    print(json.dumps({"file": str(options.out), "bytes": written, "heldout": figures}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
