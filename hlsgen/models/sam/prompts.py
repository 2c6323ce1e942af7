"""The host's side of SAM: the picture made ready, prompts checked and encoded, logits made masks.

Sizes and coordinates are pixels; x to the right, y down; (0, 0) is the centre of the top left pixel, as in
segment_anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from hlsgen.errors import HlsgenError
from hlsgen.models.images import Picture
from hlsgen.models.sam.config import MEAN, STD, SamConfig

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Prompt:
    """What to segment, in the picture's pixels.

    box: x0, y0, x1, y1, or None. points: x, y each, in the object. not_points: x, y each, outside the object.
    """

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    not_points: tuple[tuple[float, float], ...] = field(default=())

    def __post_init__(self) -> None:
        if self.box is None and not self.points:
            raise HlsgenError("a prompt needs a box or a point in the object: give --box x0,y0,x1,y1 or --point x,y")


def parse_prompt(
    box: str | None, points: Sequence[str], size: tuple[int, int], not_points: Sequence[str] = ()
) -> Prompt:
    """``--box`` and ``--point`` as a prompt for a picture of ``size`` (height, width).

    Args:
        box: "x0,y0,x1,y1" or None.
        points: "x,y" each.
        size: the picture's height and width.
        not_points: "x,y" each, outside the object.

    Raises:
        HlsgenError: what is no such list of numbers, a box with no area or its corners the other way round, or
            coordinates outside the picture.
    """
    corners = None
    if box is not None:
        x0, y0, x1, y1 = _numbers("--box", box, ("x0", "y0", "x1", "y1"))
        for x, y in ((x0, y0), (x1, y1)):
            _inside("--box", box, x, y, size)
        if x0 >= x1 or y0 >= y1:
            raise HlsgenError(
                f"--box {box}: expected the top left corner, then the bottom right one (x0 < x1 and y0 < y1)"
            )
        corners = (x0, y0, x1, y1)
    found: list[tuple[tuple[float, float], ...]] = []
    for option, texts in (("--point", points), ("--not-point", not_points)):
        pairs = [(text, _numbers(option, text, ("x", "y"))) for text in texts]
        for text, (x, y) in pairs:
            _inside(option, text, x, y, size)
        found.append(tuple((x, y) for _, (x, y) in pairs))
    return Prompt(corners, *found)


def _numbers(option: str, text: str, names: tuple[str, ...]) -> list[float]:
    parts = text.split(",")
    expected = f"{option} expects {','.join(names)} in pixels"
    if len(parts) != len(names):
        raise HlsgenError(f"{expected}, {len(names)} numbers with commas between them; got {text!r}")
    values = []
    for part in parts:
        try:
            values.append(float(part))
        except ValueError as error:
            raise HlsgenError(f"{expected}; {part.strip()!r} in {text!r} is no number") from error
        if not math.isfinite(values[-1]):
            raise HlsgenError(f"{expected}; {part.strip()!r} in {text!r} is not finite")
    return values


def _inside(option: str, text: str, x: float, y: float, size: tuple[int, int]) -> None:
    height, width = size
    if not (0 <= x <= width and 0 <= y <= height):
        raise HlsgenError(
            f"{option} {text} lies outside the picture: it is {width} wide and {height} high, expected x of 0 to "
            f"{width} and y of 0 to {height}"
        )


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of a picture of ``size`` whose longer side becomes ``side``, rounded as segment_anything does."""
    scale = side / max(size)
    return max(int(size[0] * scale + 0.5), 1), max(int(size[1] * scale + 0.5), 1)


def preprocess(picture: Picture, side: int) -> Tensor:
    """A picture as the image encoder takes it.

    Args:
        picture: uint8 [H, W, 3], BGR.
        side: the encoder's image size.

    Returns:
        float32 [1, 3, side, side]: RGB, the longer side scaled to ``side`` (bilinear with antialiasing, levels rounded),
        normalized, zeros on the right and below.
    """
    levels = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    height, width = scaled_size((picture.shape[0], picture.shape[1]), side)
    if (height, width) != picture.shape[:2]:
        levels = functional.interpolate(levels, (height, width), mode="bilinear", antialias=True).round().clamp(0, 255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return functional.pad((levels - mean) / std, (0, side - width, 0, side - height))


def _encode(config: SamConfig, state: State, places: Tensor) -> Tensor:
    """Random Fourier features of ``places`` [..., 2] (x, y as shares of the image): [..., embedding]."""
    matrix = state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].detach().float()
    turned = 2 * math.pi * ((2 * places - 1) @ matrix)
    return torch.cat([turned.sin(), turned.cos()], -1)


def grid_encoding(config: SamConfig, state: State) -> Tensor:
    """The position of every token of the image embedding: float32 [1, grid*grid, embedding]."""
    centres = (torch.ones(config.grid).cumsum(0) - 0.5) / config.grid
    places = torch.stack([centres.repeat(config.grid), centres.repeat_interleave(config.grid)], -1)
    return _encode(config, state, places)[None]


def tokens(config: SamConfig, state: State, prompt: Prompt, size: tuple[int, int]) -> Tensor:
    """A prompt as the mask decoder takes it: segment_anything's prompt encoder, without mask prompts.

    Args:
        config: the sizes.
        state: the checkpoint's weights.
        prompt: in the picture's pixels.
        size: the picture's height and width.

    Returns:
        float32 [1, T, embedding]: the points in the object, those outside it, then the box's two corners, or, without
        a box, the padding token.
    """
    height, width = scaled_size(size, config.img_size)
    factor = torch.tensor([width / size[1], height / size[0]], dtype=torch.float64)
    learned = [state[f"prompt_encoder.point_embeddings.{i}.weight"].detach().float()[0] for i in range(4)]
    corners = [prompt.box[:2], prompt.box[2:]] if prompt.box else []
    places = [*prompt.points, *prompt.not_points, *corners]
    added = [learned[1]] * len(prompt.points) + [learned[0]] * len(prompt.not_points) + learned[2:] * bool(corners)
    scaled = (torch.tensor(places, dtype=torch.float64) * factor).float() + 0.5
    made = _encode(config, state, scaled / config.img_size) + torch.stack(added)
    if not corners:
        made = torch.cat([made, state["prompt_encoder.not_a_point_embed.weight"].detach().float()])
    return made[None]


def masks(config: SamConfig, logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The decoder's logits as masks of a picture.

    Args:
        config: the sizes.
        logits: float32 [..., k, (4*grid)^2].
        size: the picture's height and width.

    Returns:
        bool [k, H, W].
    """
    side = 4 * config.grid
    maps = logits.reshape(1, -1, side, side)
    large = functional.interpolate(maps, (config.img_size, config.img_size), mode="bilinear", align_corners=False)
    height, width = scaled_size(size, config.img_size)
    back = functional.interpolate(large[..., :height, :width], size, mode="bilinear", align_corners=False)
    return back[0] > 0
