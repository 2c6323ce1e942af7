"""Trains the bundled tiny SAM from random weights on generated images: ``python -m hlsgen.models.demo.train_sam``.

Nothing pretrained goes in. The architecture is segment_anything's (Apache-2.0); the loop, the losses as the SAM paper
describes them, the images and so the weights are ours. The schedule is counted in steps, not in time, and a stopped run
resumes at the last checkpoint in ``--work``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hlsgen.models.demo import SAM_WEIGHTS
from hlsgen.models.demo.prompting import prompt
from hlsgen.models.demo.shapes import CALIB_SEED, HELDOUT_SEED, TRAIN_SEED, render_masks
from hlsgen.models.sam.config import TINY

if TYPE_CHECKING:
    import torch

MAX_BYTES = 7_000_000
"""The largest file that may be bundled."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. Counts in images, prompts an image or optimizer steps.

    The learning rate falls along a cosine from ``rate`` over ``steps``, then along another from ``again_rate`` over ``again``:
    after the first the masks were not good enough.
    """

    seed: int = TRAIN_SEED
    pool: int = 4000
    batch: int = 12
    prompts: int = 4
    steps: int = 2600
    again: int = 800
    warmup: int = 150
    rate: float = 1e-3
    again_rate: float = 7e-4
    last_rate: float = 0.01
    decay: float = 0.02
    ema: float = 0.998


Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def make_pool(count: int, seed: int) -> list[Scene]:
    """Images 0 to ``count - 1`` of ``seed`` at the demo's size, as ``shapes.render_masks`` returns them."""
    return [render_masks(index, TINY.img_size, seed) for index in range(count)]


def augment(image: NDArray[np.uint8], owner: NDArray[np.uint8], rng: np.random.Generator) -> Scene:
    """One of the 8 turns and mirrorings, 6 channel orders and 2 polarities, drawn from ``rng``.

    Args:
        image: uint8 [s, s, 3].
        owner: uint8 [s, s], which shape each pixel shows.

    Returns:
        A new image and map of the same shapes and types.
    """
    if rng.random() < 0.5:
        image, owner = image.transpose(1, 0, 2), owner.T
    for axis in (0, 1):
        if rng.random() < 0.5:
            image, owner = np.flip(image, axis), np.flip(owner, axis)
    image = image[:, :, rng.permutation(3)]
    return np.ascontiguousarray(255 - image if rng.random() < 0.5 else image), np.ascontiguousarray(owner)


def batches(pool: list[Scene], recipe: Recipe, first: int) -> Iterator[dict[str, Any]]:
    """Endless training batches; number ``first`` is the first one given. B images of P prompts, side s.

    Yields:
        ``images`` float32 [B, 3, s, s] RGB 0..255, ``masks`` float32 [B*P, s, s] 0 or 1, ``boxes`` float32 [B*P, 4],
        ``points`` float32 [B*P, 2], ``use_box`` bool [B*P].
    """
    import torch

    number = first
    while True:
        rng = np.random.Generator(np.random.PCG64([recipe.seed, number, 2]))
        images, prompts = [], []
        for k in rng.integers(0, len(pool), recipe.batch):
            image, owner = augment(*pool[int(k)], rng)
            images.append(image[..., ::-1])
            for shape in rng.integers(1, int(owner.max()) + 1, recipe.prompts):
                prompts.append(prompt(owner, int(shape), rng, 0.02))
        masks, boxes, points = (torch.from_numpy(np.stack(part)) for part in zip(*prompts, strict=True))
        yield {
            "images": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float(),
            "masks": masks.float(),
            "boxes": boxes,
            "points": points,
            "use_box": torch.from_numpy(rng.random(len(prompts)) < 0.5),
        }
        number += 1


def embed_prompts(model: Any, boxes: torch.Tensor, points: torch.Tensor, use_box: torch.Tensor) -> torch.Tensor:
    """The prompt encoder's tokens, float32 [n, 2, c]: a box's two corners, or a point and the padding token."""
    import torch

    encoder = model.prompt_encoder
    box_tokens, _ = encoder(None, boxes, None)
    label = torch.ones(len(points), 1)
    point_tokens, _ = encoder((points[:, None], label), None, None)
    return torch.where(use_box[:, None, None], box_tokens, point_tokens)


def decode(model: Any, embeddings: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``MaskDecoder.predict_masks`` for prompts of several images at once (its own takes one image).

    Args:
        model: a ``Sam``.
        embeddings: float32 [n, c, g, g], for each prompt its image's embedding.
        tokens: float32 [n, t, c], the prompts'.

    Returns:
        Mask logits float32 [n, 4, 4g, 4g] and predicted IoU float32 [n, 4].
    """
    import torch

    decoder, n = model.mask_decoder, len(tokens)
    _, channels, grid, _ = embeddings.shape
    learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([learned.expand(n, -1, -1), tokens], 1)
    dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    position = model.prompt_encoder.get_dense_pe().expand(n, -1, -1, -1)
    out, source = decoder.transformer(embeddings + dense, position, tokens)
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(n, channels, grid, grid))
    each = enumerate(decoder.output_hypernetworks_mlps, 1)
    kernels = torch.stack([mlp(out[:, k]) for k, mlp in each], 1)
    return torch.einsum("nkc,nchw->nkhw", kernels, upscaled), decoder.iou_prediction_head(out[:, 0])


def losses(logits: torch.Tensor, iou: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """20 focal + 1 dice + 1 squared error of the predicted IoU, for each of the masks: float32 [n, 4].

    Args:
        logits: float32 [n, 4, s, s], at the masks' size.
        iou: float32 [n, 4], predicted.
        masks: float32 [n, s, s], 0 to 1: what share of the cell the mask covers.
    """
    import torch
    from torch.nn import functional

    truth = masks[:, None].expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    likely = torch.sigmoid(logits)
    missed = likely + truth - 2 * likely * truth
    weight = 0.25 * truth + 0.75 * (1 - truth)
    focal = (weight * missed**2 * entropy).mean((2, 3))
    dice = 1 - (2 * (likely * truth).sum((2, 3)) + 1) / (likely.sum((2, 3)) + truth.sum((2, 3)) + 1)
    found, covered = logits.detach() > 0, truth >= 0.5
    both, either = (found & covered).sum((2, 3)), (found | covered).sum((2, 3))
    return 20 * focal + dice + (iou - both / either.clamp(min=1)) ** 2


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of step number ``step``, from 0."""
    if step < recipe.steps:
        highest, along = recipe.rate * min(1.0, (step + 1) / recipe.warmup), step / recipe.steps
    else:
        highest, along = recipe.again_rate, (step - recipe.steps) / recipe.again
    return highest * (recipe.last_rate + (1 - recipe.last_rate) * (1 + math.cos(math.pi * along)) / 2)


def train(recipe: Recipe, work: Path, threads: int = 1, every: int = 100) -> Any:
    """Trains by ``recipe`` and returns the averaged ``Sam``, float32, in evaluation mode.

    Args:
        recipe: what to train on and how.
        work: a folder for ``state.pt``, written every ``every`` steps; one of the same recipe is resumed.
        threads: CPU threads.
        every: steps between checkpoints and printed lines.

    Raises:
        HlsgenError: segment_anything is not installed.
        RuntimeError: ``work`` holds the state of another recipe, or the loss is not finite.
    """
    import torch
    from torch.nn import functional

    from hlsgen.models.sam.original import original

    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    model = original(TINY).train()
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or name.endswith("pos_embed"):
            torch.nn.init.trunc_normal_(parameter, std=0.02)
        if name.startswith("prompt_encoder.mask_downscaling"):
            parameter.requires_grad_(False)  # no mask prompts are trained
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.rate,
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

    supply = batches(make_pool(recipe.pool, recipe.seed), recipe, step)
    started, first, shown = time.monotonic(), step, 0.0
    total = recipe.steps + recipe.again
    while step < total:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        inputs = next(supply)
        embeddings = model.image_encoder(model.preprocess(inputs["images"]))
        tokens = embed_prompts(model, inputs["boxes"], inputs["points"], inputs["use_box"])
        logits, iou = decode(model, embeddings.repeat_interleave(recipe.prompts, 0), tokens)
        each = losses(logits, iou, functional.adaptive_avg_pool2d(inputs["masks"], logits.shape[-1]))
        ambiguous = each[:, 1:].amin(1)  # of the three masks for an ambiguous prompt the best one learns
        loss = (each[:, 0] + ambiguous).mean()
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is not finite at step {step}: expected a number, got {float(loss)}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        _average(averaged, model, min(recipe.ema, (1 + step) / (10 + step)))
        step, shown = step + 1, shown + float(loss.detach())
        if step % every == 0 or step == total:
            spent = (time.monotonic() - started) / (step - first)
            print(f"step {step}/{total} loss {shown / every:.4f} {spent:.3f} s/step", flush=True)
            shown = 0.0
            state = {"recipe": asdict(recipe), "step": step, "model": model.state_dict()}
            state |= {"averaged": averaged.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, work / "state.new")
            (work / "state.new").replace(state_file)
    return averaged


def _average(averaged: Any, model: Any, keep: float) -> None:
    """Moves every parameter of ``averaged`` by ``1 - keep`` of the way towards ``model``, in place."""
    import torch

    with torch.no_grad():
        for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
            old.lerp_(new, 1 - keep)


def save(model: Any, path: Path) -> int:
    """Writes ``model``'s weights as segment_anything's checkpoints hold them, a plain state dict, but in float16.

    Args:
        model: a ``Sam``.
        path: the file to write.

    Returns:
        The file's size in bytes.

    Raises:
        ValueError: a weight is out of float16's range, or the file is over ``MAX_BYTES``.
    """
    import torch

    state = {}
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()) or float(tensor.abs().max()) > 6e4:
            raise ValueError(f"{name} does not fit float16: expected at most 60000, got {float(tensor.abs().max())}")
        state[name] = tensor.half().contiguous().clone()
    torch.save(state, path)
    written = path.stat().st_size
    if written > MAX_BYTES:
        raise ValueError(f"{path} is too large to bundle: expected at most {MAX_BYTES} bytes, got {written}")
    return written


def measure(model: Any, count: int = 64, seed: int = HELDOUT_SEED) -> dict[str, float]:
    """Mean IoU of the single mask of each shape in ``count`` images of ``seed``, for its box and for a point in it.

    Args:
        model: a ``Sam`` in evaluation mode.
        count: images 0 to ``count - 1``.
        seed: the sequence; also seeds the points.

    Returns:
        ``box`` and ``point``, 0 to 1; ``miou``, their mean; ``shapes``, how many there were.
    """
    import torch

    scores: dict[str, list[float]] = {"box": [], "point": []}
    for index, (image, owner) in enumerate(make_pool(count, seed)):
        rng = np.random.Generator(np.random.PCG64([seed, index, 3]))
        chosen = [prompt(owner, shape, rng) for shape in range(1, int(owner.max()) + 1)]
        masks, boxes, points = (torch.from_numpy(np.stack(part)) for part in zip(*chosen, strict=True))
        record: dict[str, Any] = {
            "image": torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).float(),
            "original_size": image.shape[:2],
        }
        asked = {
            "box": {"boxes": boxes},
            "point": {"point_coords": points[:, None], "point_labels": torch.ones(len(points), 1)},
        }
        for kind, prompts in asked.items():
            found = model([record | prompts], multimask_output=False)[0]["masks"][:, 0]
            both, either = (found & masks).sum((1, 2)), (found | masks).sum((1, 2))
            scores[kind] += (both / either).tolist()
    mean = {kind: float(np.mean(values)) for kind, values in scores.items()}
    mean["miou"] = (mean["box"] + mean["point"]) / 2
    return {kind: round(value, 4) for kind, value in mean.items()} | {"shapes": len(scores["box"])}


def main(arguments: list[str] | None = None) -> int:
    """Trains, writes the weights and prints what they measure; returns the exit status, 0."""
    import torch

    from hlsgen.models.sam.original import original

    parser = argparse.ArgumentParser(prog="python -m hlsgen.models.demo.train_sam", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/demo_train_sam"), help="folder for checkpoints")
    parser.add_argument("--out", type=Path, default=SAM_WEIGHTS, help="the weights file to write")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="steps of the first cosine")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--interim", action="store_true", help="train no further: write the last checkpoint's weights")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.interim:
        model = original(TINY)
        model.load_state_dict(torch.load(options.work / "state.pt", weights_only=True)["averaged"])
    else:
        model = train(Recipe(steps=options.steps), options.work, options.threads)
    written = save(model, options.out)
    kept = original(TINY)
    kept.load_state_dict(torch.load(options.out, weights_only=True))  # what float16 kept of them
    figures = {"heldout": measure(kept), "calibration": measure(kept, seed=CALIB_SEED)}
    print(json.dumps({"file": str(options.out), "bytes": written} | figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
