"""Reading a SAM checkpoint without trusting it, and saying which SAM it is."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hlsgen.errors import HlsgenError
from hlsgen.models.sam.config import VARIANTS, SamConfig

SUFFIX = ".pth"
_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


def expected_shapes(config: SamConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint of these sizes, by segment_anything's names."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(key: str, inputs: int, outputs: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (outputs, inputs), (outputs,)

    def norm(key: str, channels: int) -> None:
        shapes[f"{key}.weight"] = shapes[f"{key}.bias"] = (channels,)

    def conv(key: str, shape: tuple[int, ...], outputs: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = shape, (outputs,)

    e, c, dim = "image_encoder", config.embedding, config.dim
    shapes[f"{e}.pos_embed"] = (1, config.grid, config.grid, dim)
    conv(f"{e}.patch_embed.proj", (dim, 3, config.patch, config.patch), dim)
    for i in range(config.depth):
        b = f"{e}.blocks.{i}"
        side = config.grid if i in config.global_blocks else config.window
        for axis in "hw":
            shapes[f"{b}.attn.rel_pos_{axis}"] = (2 * side - 1, dim // config.heads)
        linear(f"{b}.attn.qkv", dim, 3 * dim)
        linear(f"{b}.attn.proj", dim, dim)
        linear(f"{b}.mlp.lin1", dim, config.mlp_ratio * dim)
        linear(f"{b}.mlp.lin2", config.mlp_ratio * dim, dim)
        norm(f"{b}.norm1", dim)
        norm(f"{b}.norm2", dim)
    shapes[f"{e}.neck.0.weight"], shapes[f"{e}.neck.2.weight"] = (c, dim, 1, 1), (c, c, 3, 3)
    norm(f"{e}.neck.1", c)
    norm(f"{e}.neck.3", c)

    p, m = "prompt_encoder", config.mask_channels
    shapes[f"{p}.pe_layer.positional_encoding_gaussian_matrix"] = (2, c // 2)
    for key in (*(f"point_embeddings.{i}" for i in range(4)), "not_a_point_embed", "no_mask_embed"):
        shapes[f"{p}.{key}.weight"] = (1, c)
    conv(f"{p}.mask_downscaling.0", (m // 4, 1, 2, 2), m // 4)
    norm(f"{p}.mask_downscaling.1", m // 4)
    conv(f"{p}.mask_downscaling.3", (m, m // 4, 2, 2), m)
    norm(f"{p}.mask_downscaling.4", m)
    conv(f"{p}.mask_downscaling.6", (c, m, 1, 1), c)

    d, count = "mask_decoder", config.masks + 1
    shapes[f"{d}.iou_token.weight"], shapes[f"{d}.mask_tokens.weight"] = (1, c), (count, c)

    def attention(key: str, inner: int) -> None:
        for part in ("q_proj", "k_proj", "v_proj"):
            linear(f"{key}.{part}", c, inner)
        linear(f"{key}.out_proj", inner, c)

    for i in range(config.decoder_depth):
        t = f"{d}.transformer.layers.{i}"
        attention(f"{t}.self_attn", c)
        attention(f"{t}.cross_attn_token_to_image", c // 2)
        attention(f"{t}.cross_attn_image_to_token", c // 2)
        linear(f"{t}.mlp.lin1", c, config.decoder_mlp)
        linear(f"{t}.mlp.lin2", config.decoder_mlp, c)
        for n in range(1, 5):
            norm(f"{t}.norm{n}", c)
    attention(f"{d}.transformer.final_attn_token_to_image", c // 2)
    norm(f"{d}.transformer.norm_final_attn", c)
    conv(f"{d}.output_upscaling.0", (c, c // 4, 2, 2), c // 4)
    norm(f"{d}.output_upscaling.1", c // 4)
    conv(f"{d}.output_upscaling.3", (c // 4, c // 8, 2, 2), c // 8)
    for i in range(count):
        for n, (inputs, outputs) in enumerate(((c, c), (c, c), (c, c // 8))):
            linear(f"{d}.output_hypernetworks_mlps.{i}.layers.{n}", inputs, outputs)
    widths = [c, *[config.iou_hidden] * (config.iou_depth - 1), count]
    for n in range(config.iou_depth):
        linear(f"{d}.iou_prediction_head.layers.{n}", widths[n], widths[n + 1])
    return shapes


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A SAM's sizes and its float32 weights by segment_anything's names."""

    config: SamConfig
    state: Mapping[str, Tensor]


def read(path: str | Path) -> Checkpoint:
    """A checkpoint file, its tensors only (nothing in it is executed), and which SAM of ``VARIANTS`` it holds.

    Raises:
        HlsgenError: the file is missing, unreadable, damaged or no SAM checkpoint; a SAM of unknown sizes; weights that
            are missing, misshapen or not finite.
    """
    source = f"checkpoint {path}"
    if not Path(path).is_file():
        raise HlsgenError(f"{source}: expected a file, there is none; give --weights FILE")
    held = _load(path, source)
    for key in ("model", "state_dict"):  # training scripts wrap the weights
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict):
        raise HlsgenError(f"{source}: expected a SAM's weights by name, it holds a {type(held).__name__}")
    state = {
        str(name).removeprefix("module."): tensor
        for name, tensor in held.items()
        if isinstance(tensor, Tensor) and str(name).removeprefix("module.").startswith(_PARTS)
    }
    config = identify(state, source)
    for name, tensor in state.items():
        if not tensor.dtype.is_floating_point or not bool(torch.isfinite(tensor).all()):
            raise HlsgenError(f"{source}: {name} is not finite; the file is damaged or its training failed")
    return Checkpoint(config, {name: tensor.float() for name, tensor in state.items()})


def _load(path: str | Path, source: str) -> object:
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise HlsgenError(
                    f"{source}: expected a torch.save file (a zip archive), this one is truncated or something else"
                )
            file.seek(0)
            names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        if names:
            hint = ""
            if any(name.startswith("ultralytics.") for name in names):
                hint = "; an ultralytics checkpoint is a YOLO's, say hlsgen build yolo"
            raise HlsgenError(
                f"{source}: refused, it names {min(names)!r} where only tensors are expected; nothing in it was executed{hint}"
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise HlsgenError(f"{source}: cannot be read ({error.strerror or error})") from error
    except (RuntimeError, ValueError, KeyError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise HlsgenError(f"{source}: damaged or truncated; torch.load says: {first}") from error


def identify(state: Mapping[str, Tensor], source: str) -> SamConfig:
    """Which SAM of ``VARIANTS`` has exactly these weights; ``source`` is what error messages call it.

    Raises:
        HlsgenError: none has, saying what is known and the first weight that differs from the nearest.
    """
    position = state.get("image_encoder.pos_embed")
    if position is None or position.ndim != 4:
        raise HlsgenError(f"{source}: expected a SAM checkpoint, it has no image_encoder.pos_embed of four dimensions")
    grid, dim = int(position.shape[1]), int(position.shape[3])
    blocks = [int(name.split(".")[2]) for name in state if name.startswith("image_encoder.blocks.")]
    depth = max(blocks, default=-1) + 1
    near = next((c for c in VARIANTS.values() if (c.dim, c.depth) == (dim, depth)), None)
    if near is None:
        known = ", ".join(f"{c.name} ({c.dim} channels, {c.depth} blocks)" for c in VARIANTS.values())
        raise HlsgenError(
            f"{source}: a SAM encoder of {dim} channels and {depth} blocks on {grid}x{grid} tokens is unknown; known are {known}"
        )
    for name, shape in expected_shapes(near).items():
        if name not in state:
            raise HlsgenError(f"{source}: it looks like {near.name}, but lacks {name}")
        got = tuple(state[name].shape)
        if got != shape:
            raise HlsgenError(
                f"{source}: it looks like {near.name}, but {name} is {_size(got)}, expected {_size(shape)}"
            )
    unknown = sorted(set(state) - set(expected_shapes(near)))
    if unknown:
        raise HlsgenError(f"{source}: it looks like {near.name}, but also holds {unknown[0]}; is it another model's?")
    return near


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
