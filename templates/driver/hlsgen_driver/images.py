"""From a picture to the bytes that the engine reads: letterboxed, quantized, folded, in blocks of channels.

The same integers as hlsgen computes on the host, with numpy alone. Bilinear scaling is OpenCV's for 8-bit pictures
(INTER_LINEAR, which hlsgen and ultralytics letterbox with), written down as integers:

- along a row, pixel i of `new` samples at (i + 0.5) * old / new - 0.5, in float32: its floor and its fraction; beyond the
  first and the last pixel it takes that pixel. The fraction becomes a weight of 11 bits, ties to even, and so does its
  complement; a row's sums have 11 more bits than a pixel.
- down a column the same, where a sum loses its 4 lowest bits before it is multiplied and each product its 16 lowest; the
  two are added and rounded by (sum + 2) >> 2.
- exactly half the size in both directions is the mean of four pixels, (sum + 2) >> 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .errors import PictureError
from .network import Network

PADDING = 114
"""The grey beside a letterboxed picture."""
WEIGHT = np.float32(2048)
"""One, as a weight of the bilinear scaling."""
ROWS = 16
"""Rows scaled at a time, so that they stay in the cache."""


class Placement(NamedTuple):
    """Where a picture of height x width lies in a letterboxed one: new_height x new_width pixels at (left, top)."""

    height: int
    width: int
    new_height: int
    new_width: int
    left: int
    top: int

    def restore(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] (x1, y1, x2, y2) in letterboxed pixels -> in the picture's own, clipped to it; float32."""
        gain_x, gain_y = np.float32(self.new_width / self.width), np.float32(self.new_height / self.height)
        offset = np.array([self.left, self.top] * 2, np.float32)
        moved = (boxes.astype(np.float32) - offset) / np.array([gain_x, gain_y] * 2, np.float32)
        limits = np.array([self.width, self.height] * 2, np.float32)
        return np.clip(moved, 0, limits).astype(np.float32)


def place(size: tuple[int, int], into: tuple[int, int]) -> Placement:
    """A picture of `size` (H, W) centred in `into` (H, W), its proportions kept (each side at least a pixel)."""
    (height, width), (target_height, target_width) = size, into
    ratio = min(target_height / height, target_width / width)
    new_height, new_width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    return Placement(
        height, width, new_height, new_width, (target_width - new_width) // 2, (target_height - new_height) // 2
    )


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By output pixel: the first of the two it lies between (from -1), and their weights; int64, int32, int32."""
    at = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(at)
    fraction = at - first
    second_weight = np.rint(fraction * WEIGHT).astype(np.int32)
    first_weight = np.rint((np.float32(1) - fraction) * WEIGHT).astype(np.int32)
    return first.astype(np.int64), first_weight, second_weight


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, C] to uint8 [height, width, C], bilinear."""
    old_height, old_width, channels = picture.shape
    if (old_height, old_width) == (height, width):
        return picture
    if (old_height, old_width) == (2 * height, 2 * width):
        rows = picture[0::2].astype(np.uint16) + picture[1::2]
        return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)
    x, left, right = _taps(old_width, width)
    outside = (x < 0) | (x >= old_width - 1)
    left, right = np.where(outside, np.int32(2048), left), np.where(outside, np.int32(0), right)
    x = np.clip(x, 0, old_width - 1)
    columns = (x[:, None] * channels + np.arange(channels)).reshape(-1)
    following = (np.minimum(x + 1, old_width - 1)[:, None] * channels + np.arange(channels)).reshape(-1)
    left, right = np.repeat(left, channels), np.repeat(right, channels)
    y, upper, lower = _taps(old_height, height)
    above, below = np.clip(y, 0, old_height - 1), np.clip(y + 1, 0, old_height - 1)
    used, where = np.unique(np.concatenate([above, below]), return_inverse=True)
    above, below = where.reshape(2, height)  # from here on, among the rows in use

    rows = picture.reshape(old_height, -1)[used]
    sums = np.empty((len(used), width * channels), np.int32)
    for begin in range(0, len(used), ROWS):
        part, out = rows[begin : begin + ROWS], sums[begin : begin + ROWS]
        np.multiply(part.take(columns, axis=1), left, out=out)
        out += part.take(following, axis=1) * right
        out >>= 4
    result = np.empty((height, width * channels), np.uint8)
    for begin in range(0, height, ROWS):
        some = slice(begin, begin + ROWS)
        first, second = sums[above[some]], sums[below[some]]
        first *= upper[some, None]
        first >>= 16
        second *= lower[some, None]
        second >>= 16
        first += second
        first += 2
        result[some] = first >> 2
    return result.reshape(height, width, channels)


class Packer:
    """Pictures to the engine's input. Keeps what depends on the network alone."""

    def __init__(self, network: Network) -> None:
        """Raises PictureError where the network takes no pictures."""
        if network.levels is None:
            raise PictureError(
                "{} takes no pictures: its input is {} x {} x {}".format(
                    network.model, network.image.channels, *network.size
                )
            )
        self.size, self._image = network.size, network.image
        self._table = network.levels.tobytes()
        self._grey = int(network.levels[PADDING])
        self._pieces = pieces(network.image.lanes, network.image.fold)

    def pack(self, picture: np.ndarray) -> tuple[np.ndarray, Placement]:
        """uint8 [H, W, 3] RGB to the input's bytes in memory (int8, flat), and where the picture lies in it.

        Raises:
            PictureError: it is no such array.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise PictureError(
                f"expected a picture, uint8 [height, width, 3], got {picture.dtype} {list(picture.shape)}"
            )
        at = place(picture.shape[:2], self.size)
        scaled = resize(picture, at.new_height, at.new_width)
        levels = np.frombuffer(scaled.tobytes().translate(self._table), np.int8).reshape(scaled.shape)
        planes = np.empty((3, *self.size), np.int8)
        bottom, right = at.top + at.new_height, at.left + at.new_width
        planes[:, : at.top], planes[:, bottom:] = self._grey, self._grey
        planes[:, at.top : bottom, : at.left], planes[:, at.top : bottom, right:] = self._grey, self._grey
        for channel in range(3):
            planes[channel, at.top : bottom, at.left : right] = levels[:, :, channel]
        return self._blocks(planes), at

    def _blocks(self, planes: np.ndarray) -> np.ndarray:
        """[3, H, W] int8 to [blocks][H / fold][W / fold][TM], flat: what `Tensor.pack` gives, by strided copies."""
        image = self._image
        fold, width = image.fold, image.width
        blocks = np.zeros((len(image.lanes) // image.tm, image.height, width, image.tm), np.int8)
        for piece in self._pieces:
            block, lane = divmod(piece.lane, image.tm)
            source = planes[piece.channel, piece.row :: fold]
            if piece.pair:  # two neighbouring columns are two neighbouring lanes: copied as one 16-bit value
                blocks[block].view(np.uint16)[:, :, lane // 2] = source.view(np.uint16)
            else:
                blocks[block, :, :, lane] = source[:, piece.column :: fold]
        return blocks.reshape(-1)


class Piece(NamedTuple):
    """Physical lane `lane` holds pixels (row, column) of every fold x fold square of a channel; pair: and the next lane the
    pixels to their right."""

    lane: int
    channel: int
    row: int
    column: int
    pair: bool


def pieces(lanes: np.ndarray, fold: int) -> list[Piece]:
    """What each lane in use is copied from."""
    found: list[Piece] = []
    taken = -1
    for lane, held in enumerate(lanes.tolist()):
        if held < 0 or lane == taken:
            continue
        channel, inner = divmod(held, fold * fold)
        row, column = divmod(inner, fold)
        pair = (
            fold == 2 and column == 0 and lane % 2 == 0 and lane + 1 < len(lanes) and int(lanes[lane + 1]) == held + 1
        )
        taken = lane + 1 if pair else -1
        found.append(Piece(lane, channel, row, column, pair))
    return found
