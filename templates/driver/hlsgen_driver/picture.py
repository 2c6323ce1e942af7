"""Pictures in and out of files. Pillow reads and writes where it is installed; PPM in and PNG out need numpy alone."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .errors import PictureError

HEADER = re.compile(rb"P6(?:\s+|\s*#[^\n]*\n)+(\d+)(?:\s+|\s*#[^\n]*\n)+(\d+)(?:\s+|\s*#[^\n]*\n)+255\s")


def read_picture(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB, upright by its EXIF orientation.

    Raises:
        PictureError: it is missing, unreadable or no picture, or Pillow is needed and not installed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"picture {path} cannot be read ({error.strerror or error})") from error
    if data.startswith(b"P6"):
        return _read_ppm(path, data)
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise PictureError(
            f"picture {path} needs Pillow (pip install pillow); without it only binary PPM files can be read"
        ) from error
    try:
        with Image.open(path) as opened:
            return np.array(ImageOps.exif_transpose(opened).convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"picture {path}: expected a picture (png, jpg, bmp, ...), it is damaged or something else"
        ) from error


def _read_ppm(path: Path, data: bytes) -> np.ndarray:
    header = HEADER.match(data)
    width, height = (int(v) for v in header.groups()) if header else (0, 0)
    pixels = data[header.end() :] if header else b""
    if not header or not width * height or len(pixels) < width * height * 3:
        raise PictureError(
            f"picture {path}: expected a binary PPM with 8 bits a channel, it is damaged or something else"
        )
    return np.frombuffer(pixels, np.uint8, width * height * 3).reshape(height, width, 3)


def write_png(path: Path, picture: np.ndarray) -> None:
    """uint8 [H, W, 3] RGB to a PNG file.

    Raises:
        PictureError: it cannot be written.
    """
    height, width, _ = picture.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # filter 0 before each row
    rows[:, 1:] = picture.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    text = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    text += chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")
    try:
        path.write_bytes(text)
    except OSError as error:
        raise PictureError(f"{path} cannot be written ({error.strerror}); give --out another folder") from error


def color(index: int) -> tuple[int, int, int]:
    """A class's colour: hues a golden angle apart, so that neighbours differ."""
    hue = index * 222 % 360 / 60
    rise = int(70 + 165 * (hue % 1))
    fall = int(235 - 165 * (hue % 1))
    low, high = 70, 235
    sextants = [
        (high, rise, low),
        (fall, high, low),
        (low, high, rise),
        (low, fall, high),
        (rise, low, high),
        (high, low, fall),
    ]
    return sextants[int(hue)]


def draw_masks(picture: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """A copy of `picture`, uint8 [H, W, 3] RGB, with each mask, bool [H, W], tinted."""
    canvas = picture.astype(np.float32)
    for index, mask in enumerate(masks):
        canvas[mask] = 0.45 * canvas[mask] + 0.55 * np.array(color(index), np.float32)
    return np.rint(canvas).astype(np.uint8)


def draw(picture: np.ndarray, rows: list[dict[str, Any]], classes: list[int]) -> np.ndarray:
    """A copy of `picture` with boxes; with class names and scores where Pillow is installed."""
    canvas = picture.copy()
    height, width = canvas.shape[:2]
    thick = max(1, round(min(height, width) / 300))
    corners = []
    for row, kind in zip(rows, classes):
        x1, y1, x2, y2 = (round(v) for v in row["box"])
        x1, x2 = max(0, min(x1, width - thick)), max(0, min(x2, width - thick))
        y1, y2 = max(0, min(y1, height - thick)), max(0, min(y2, height - thick))
        for line in (
            (slice(y1, y1 + thick), slice(x1, x2 + thick)),
            (slice(y2, y2 + thick), slice(x1, x2 + thick)),
            (slice(y1, y2 + thick), slice(x1, x1 + thick)),
            (slice(y1, y2 + thick), slice(x2, x2 + thick)),
        ):
            canvas[line] = color(kind)
        corners.append((x1, y1))
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        return canvas
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    for row, kind, (x, y) in zip(rows, classes, corners):
        text = "{} {:.2f}".format(row["class"], row["score"]).encode("latin-1", "replace").decode("latin-1")
        _left, _top, right, bottom = (
            pen.textbbox((0, 0), text) if hasattr(pen, "textbbox") else (0, 0, 6 * len(text), 11)
        )
        x, y = max(0, min(x, width - right - 4)), max(0, y - bottom - 4)
        pen.rectangle((x, y, x + right + 4, y + bottom + 4), fill=color(kind))
        pen.text((x + 2, y + 2), text, fill=(0, 0, 0))
    return np.array(image, np.uint8)
