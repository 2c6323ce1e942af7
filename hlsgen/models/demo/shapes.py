"""Seeded images of coloured shapes on textured ground, with exact boxes: the demo model's whole world.

Every image is a function of ``(seed, index, size)`` alone: the random generator is ``PCG64([seed, index])`` and the
drawing is numpy and OpenCV on 8-bit images. Shapes are 20 to 180 pixels across whatever the canvas, so a network
trained on small canvases meets the same objects on large ones. Nothing here needs torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES: tuple[str, ...] = ("circle", "square", "triangle", "star", "ring", "cross")
"""Class names, in label order."""

TRAIN_SEED = 1009
"""Seed of the images the bundled weights were trained on."""
HELDOUT_SEED = 2003
"""Seed of the images that accuracy is measured on; never trained on."""
CALIB_SEED = 3001
"""Seed of the images that quantization is calibrated on; neither trained nor measured on."""

MIN_SIZE = 32
"""Smallest canvas, pixels."""
MIN_DIAMETER, MAX_DIAMETER = 20.0, 180.0
"""Range of a shape's circumscribed circle's diameter, pixels (log-uniform; the canvas may lower the maximum)."""

_SUBPIXEL = 4  # OpenCV's fixed-point fraction bits for polygon corners
_MAX_OVERLAP = 0.08  # share of the smaller box that two boxes may have in common

Image = NDArray[np.uint8]
Labels = NDArray[np.float32]


def _polar(angles: NDArray[np.floating[Any]], radii: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1), np.float64)


def _outlines(kind: str, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """The shape's closed outlines in the unit circle, float64 [corners, 2]: the first filled, any later a hole."""
    turn = float(rng.uniform(0, 2 * np.pi))
    if kind in ("circle", "ring"):
        around = np.arange(72) * (2 * np.pi / 72)
        outlines = [_polar(around, 1.0)]
        if kind == "ring":
            outlines.append(_polar(around, float(rng.uniform(0.45, 0.7))))
        return outlines
    if kind == "square":
        return [_polar(np.arange(4) * (np.pi / 2) + turn, 1.0)]
    if kind == "triangle":
        return [_polar(np.arange(3) * (2 * np.pi / 3) + turn, 1.0)]
    if kind == "star":
        radii = np.where(np.arange(10) % 2 == 0, 1.0, float(rng.uniform(0.38, 0.5)))
        return [_polar(np.arange(10) * (np.pi / 5) + turn, radii)]
    if kind == "cross":
        arm = float(rng.uniform(0.22, 0.36))
        quarter = np.array([[arm, arm], [arm, 1.0], [-arm, 1.0]]) / np.hypot(arm, 1.0)
        corners = []
        for k in range(4):
            c, s = np.cos(turn + k * np.pi / 2), np.sin(turn + k * np.pi / 2)
            corners.append(quarter @ np.array([[c, s], [-s, c]]))
        return [np.concatenate(corners)]
    raise ValueError(f"unknown shape {kind!r}: expected one of {', '.join(CLASSES)}")


def _mask(kind: str, diameter: float, rng: np.random.Generator) -> Image:
    """The anti-aliased coverage of one shape, uint8 [h, w] 0..255, cropped to the pixels at least half covered."""
    side = int(np.ceil(diameter)) + 8
    centre = side / 2 + rng.uniform(-0.5, 0.5, 2)
    mask = np.zeros((side, side), np.uint8)
    for hole, outline in enumerate(_outlines(kind, rng)):
        corners = np.rint((outline * (diameter / 2) + centre - 0.5) * (1 << _SUBPIXEL)).astype(np.int32)
        cv2.fillPoly(mask, [corners], 0 if hole else 255, cv2.LINE_AA, _SUBPIXEL)
    covered = mask >= 128
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    cropped: Image = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cropped


def _smooth_noise(rng: np.random.Generator, size: int, cell: float, channels: int) -> NDArray[np.float32]:
    """Random values in [-1, 1] on a grid of ``cell`` pixels, interpolated: float32 [size, size, channels]."""
    grid = int(np.ceil(size / cell)) + 2
    values = rng.uniform(-1, 1, (grid, grid, channels)).astype(np.float32)
    full = int(np.ceil(grid * cell))
    smooth = cv2.resize(values, (full, full), interpolation=cv2.INTER_LINEAR).reshape(full, full, channels)
    return np.asarray(smooth[:size, :size], np.float32)


def _ground(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """A textured background, float32 [size, size, 3], about 0..255 BGR."""
    ground = np.empty((size, size, 3), np.float32)
    ground[:] = rng.uniform(40, 215, 3)
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
    if rng.random() < 0.6:  # a slope from one colour to another
        angle = rng.uniform(0, 2 * np.pi)
        slope = (xs - size / 2) * np.float32(np.cos(angle)) + (ys - size / 2) * np.float32(np.sin(angle))
        ground += slope[..., None] * (rng.uniform(-90, 90, 3) / size).astype(np.float32)
    for _ in range(int(rng.integers(1, 4))):  # clouds, coarse to fine
        cell, grey = float(np.exp(rng.uniform(np.log(6), np.log(120)))), bool(rng.random() < 0.5)
        ground += np.float32(rng.uniform(6, 34)) * _smooth_noise(rng, size, cell, 1 if grey else 3)
    if rng.random() < 0.4:  # stripes
        angle, period = rng.uniform(0, np.pi), rng.uniform(7, 60)
        phase = (xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle))) * np.float32(2 * np.pi / period)
        wave = np.sin(phase)
        if rng.random() < 0.5:
            wave = np.sign(wave)
        ground += wave[..., None] * rng.uniform(-22, 22, 3).astype(np.float32)
    if rng.random() < 0.25:  # a checkerboard
        cell = float(rng.uniform(9, 50))
        board = (np.floor(xs / np.float32(cell)) + np.floor(ys / np.float32(cell))) % 2 - 0.5
        ground += board[..., None] * rng.uniform(-40, 40, 3).astype(np.float32)
    return ground


def _blobs(rng: np.random.Generator, canvas: Image) -> None:
    """Draws unlabelled bars and long ellipses, no class's shape, on ``canvas`` (uint8 [size, size, 3]) in place."""
    size = canvas.shape[0]
    for _ in range(int(rng.poisson(2.5 * (size / 320) ** 1.5))):
        turn, long = rng.uniform(0, np.pi), float(rng.uniform(10, 50))
        short, bar = long * float(rng.uniform(0.15, 0.45)), bool(rng.random() < 0.5)
        flat = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) if bar else _polar(np.arange(24) * (np.pi / 12), 1.0)
        axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        corners = (flat * np.array([long, short])) @ axes + rng.uniform(0, size, 2)
        colour = tuple(int(v) for v in rng.integers(20, 236, 3))
        cv2.fillPoly(canvas, [np.rint(corners * (1 << _SUBPIXEL)).astype(np.int32)], colour, cv2.LINE_AA, _SUBPIXEL)


def _lines(rng: np.random.Generator, canvas: Image, mean: float, thickest: int) -> None:
    """Draws unlabelled lines, polylines and arcs, about ``mean`` at 320 pixels, on ``canvas`` (uint8) in place."""
    size = canvas.shape[0]
    for _ in range(int(rng.poisson(mean * (size / 320) ** 1.5))):
        what = int(rng.integers(3))
        colour = tuple(int(v) for v in rng.integers(20, 236, 3))
        thick = int(rng.integers(1, thickest + 1))
        start, length = rng.uniform(0, size, 2), float(rng.uniform(15, 140))
        if what == 0:
            angle = rng.uniform(0, 2 * np.pi)
            corners = np.stack([start, start + length * np.array([np.cos(angle), np.sin(angle)])])
        elif what == 1:
            corners = start + np.cumsum(rng.normal(0, length / 4, (int(rng.integers(3, 7)), 2)), axis=0)
        else:
            first, span = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 2.6)
            corners = start + _polar(np.linspace(first, first + span, 16), length / 2)
        cv2.polylines(canvas, [np.rint(corners).astype(np.int32)], False, colour, thick, cv2.LINE_AA)


def _colour(rng: np.random.Generator, beneath: NDArray[np.float64]) -> NDArray[np.float64]:
    """A colour, float64 [3], at least a drawn distance (26 to 140 levels, Euclidean) from the colour ``beneath``."""
    wanted = float(rng.uniform(26, 140))
    best, best_distance = beneath, -1.0
    for candidate in rng.uniform(10, 245, (16, 3)):
        distance = float(np.linalg.norm(candidate - beneath))
        if distance >= wanted:
            return np.asarray(candidate)
        if distance > best_distance:
            best, best_distance = candidate, distance
    return np.asarray(best)


def _paint(rng: np.random.Generator, canvas: Image, mask: Image, x: int, y: int) -> None:
    """Paints ``mask`` (uint8 [h, w]) on ``canvas`` in place, its corner at column ``x``, row ``y``."""
    h, w = mask.shape
    patch = canvas[y : y + h, x : x + w].astype(np.float32)
    colour = _colour(rng, patch.mean((0, 1), dtype=np.float64))
    fill = np.empty((h, w, 3), np.float32)
    fill[:] = colour
    style = int(rng.integers(4))
    if style == 1:  # shading
        ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
        across, down = rng.uniform(-35, 35, 2)
        shade = (xs / w - 0.5) * np.float32(across) + (ys / h - 0.5) * np.float32(down)
        fill += shade[..., None]
    elif style == 2:  # blotches
        noise = _smooth_noise(rng, max(h, w), float(rng.uniform(4, 24)), 1)
        fill += np.float32(rng.uniform(5, 22)) * noise[:h, :w]
    opacity = np.float32(1.0 if style == 0 else rng.uniform(0.65, 1.0))
    alpha = mask[..., None].astype(np.float32) * (opacity / np.float32(255))
    canvas[y : y + h, x : x + w] = np.clip(np.rint(patch + alpha * (fill - patch)), 0, 255).astype(np.uint8)


def render(index: int, size: int = 640, seed: int = 0) -> tuple[Image, Labels]:
    """Draws image ``index`` of the endless sequence that ``seed`` names.

    Args:
        index: the image's number, 0 or more.
        size: the square canvas's side in pixels, at least ``MIN_SIZE`` (32).
        seed: the sequence, 0 or more: ``TRAIN_SEED``, ``HELDOUT_SEED``, ``CALIB_SEED`` or your own.

    Returns:
        The image, uint8 [size, size, 3], BGR; and its labels, float32 [n, 5], n at least 1, rows of class (an index
        into ``CLASSES``), then the box's centre x, centre y, width and height as shares of ``size``. A box bounds
        exactly the pixels that the shape covers by half or more. Equal arguments give equal arrays.

    Raises:
        ValueError: ``index`` or ``seed`` is negative, or ``size`` is under 32.
    """
    _check(index, size, seed)
    canvas, shapes = _scene(index, size, seed, MIN_DIAMETER, max(2.0, 6.0 * (size / 256) ** 1.25))
    rows = []
    for kind, mask, x, y in shapes:
        h, w = mask.shape
        rows.append((kind, (x + w / 2) / size, (y + h / 2) / size, w / size, h / size))
    return canvas, np.array(rows, np.float32).reshape(-1, 5)


def render_masks(index: int, size: int, seed: int, smallest: float = 28.0, most: int = 5) -> tuple[Image, Image]:
    """Draws image ``index`` of the sequence ``seed``, and which shape each of its pixels shows.

    Args:
        index: the image's number, 0 or more.
        size: the square canvas's side in pixels, at least ``MIN_SIZE`` (32).
        seed: the sequence, 0 or more.
        smallest: the smallest shape's diameter, pixels (the canvas may lower it).
        most: the largest number of shapes, at least 1.

    Returns:
        The image, uint8 [size, size, 3], BGR; and uint8 [size, size]: 0 for the ground, k for the k-th shape where it
        covers the pixel by half or more and no later shape does. Every shape of 1 to the map's maximum shows somewhere.

    Raises:
        ValueError: as ``render``; ``most`` is under 1.
    """
    _check(index, size, seed)
    if most < 1:
        raise ValueError(f"most must be at least 1: got {most}")
    canvas, shapes = _scene(index, size, seed, smallest, float(most))
    owner: Image = np.zeros((size, size), np.uint8)
    for number, (_, mask, x, y) in enumerate(shapes, 1):
        h, w = mask.shape
        owner[y : y + h, x : x + w][mask >= 128] = number
    return canvas, owner


def _check(index: int, size: int, seed: int) -> None:
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be 0 or more: got index {index}, seed {seed}")
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE} pixels: got {size}")


def _scene(
    index: int, size: int, seed: int, smallest: float, most: float
) -> tuple[Image, list[tuple[int, Image, int, int]]]:
    """The image, and its shapes in the order they were painted: class, mask as ``_mask`` gives it, column, row."""
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    canvas: Image = np.clip(np.rint(_ground(rng, size)), 0, 255).astype(np.uint8)
    _blobs(rng, canvas)
    _lines(rng, canvas, 6.0, 3)

    largest = min(MAX_DIAMETER, 0.7 * size)
    wanted = int(rng.integers(max(1, int(most / 3)), int(most) + 1))
    shapes: list[tuple[int, Image, int, int]] = []
    for _ in range(wanted):
        kind = int(rng.integers(len(CLASSES)))
        diameter = float(np.exp(rng.uniform(np.log(min(smallest, largest)), np.log(largest))))
        mask = _mask(CLASSES[kind], diameter, rng)
        h, w = mask.shape
        for x, y in rng.integers(0, [size - w + 1, size - h + 1], (12, 2)).tolist():
            if all(_shared((a, b, *m.shape[::-1]), (x, y, w, h)) <= _MAX_OVERLAP for _, m, a, b in shapes):
                _paint(rng, canvas, mask, x, y)
                shapes.append((kind, mask, x, y))
                break

    _lines(rng, canvas, 2.0, 2)  # these cross the shapes too
    if rng.random() < 0.3:  # out of focus
        canvas = np.asarray(cv2.GaussianBlur(canvas, (5, 5), float(rng.uniform(0.5, 1.2))), np.uint8)
    grain = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(rng.uniform(2, 18))
    canvas = np.clip(np.rint(canvas + grain), 0, 255).astype(np.uint8)
    return canvas, shapes


def _shared(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """The overlap of boxes ``a`` and ``b`` (x, y, w, h) as a share of the smaller one."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, across) * max(0, down) / min(a[2] * a[3], b[2] * b[3])


def write_dataset(folder: Path, count: int, size: int, seed: int) -> Path:
    """Writes images 0 to ``count - 1`` of ``seed`` as a YOLO data set that ultralytics reads.

    ``folder`` gets ``images/000000.png`` and so on, ``labels/000000.txt`` (a line an object: class, cx, cy, w, h) and
    ``data.yaml``, whose ``train`` and ``val`` are both ``images``. Writing the same set again is harmless.

    Args:
        folder: where to write; made if missing.
        count: how many images, at least 1.
        size: the canvas's side in pixels, as for ``render``.
        seed: the sequence, as for ``render``.

    Returns:
        The path of ``data.yaml``, absolute.

    Raises:
        ValueError: ``count`` is under 1, or ``render`` refuses ``size`` or ``seed``.
        FileExistsError: ``folder/images`` or ``folder/labels`` holds files that this set would not write.
        OSError: a file cannot be written.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1: got {count}")
    folder = Path(folder).resolve()
    names = [f"{index:06d}" for index in range(count)]
    for part, ending in (("images", ".png"), ("labels", ".txt")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        foreign = {path.name for path in (folder / part).iterdir()} - {name + ending for name in names}
        if foreign:
            raise FileExistsError(f"{folder / part} already holds {min(foreign)}: choose an empty folder")
    (folder / "labels.cache").unlink(missing_ok=True)  # ultralytics' own, stale now
    for index, name in enumerate(names):
        image, labels = render(index, size, seed)
        encoded, png = cv2.imencode(".png", image)
        if not encoded:
            raise OSError(f"OpenCV could not encode image {name} as PNG")
        (folder / "images" / f"{name}.png").write_bytes(png.tobytes())
        lines = [f"{int(row[0])} " + " ".join(f"{value:.7f}" for value in row[1:]) for row in labels]
        (folder / "labels" / f"{name}.txt").write_text("".join(line + "\n" for line in lines), encoding="ascii")
    yaml = folder / "data.yaml"
    listing = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    yaml.write_text(f"path: {folder}\ntrain: images\nval: images\nnames:\n{listing}", encoding="utf-8")
    return yaml
