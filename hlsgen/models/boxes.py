"""Raw head maps to boxes on the host: decoding, non-maximum suppression, drawing. numpy and OpenCV only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.models.images import Picture, Placement

Floats = npt.NDArray[np.float32]

CONFIDENCE = 0.25
IOU = 0.7
MAX_DETECTIONS = 300
MAX_CANDIDATES = 30_000


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes by falling score. boxes: float32 [N, 4], x1 y1 x2 y2 in pixels; scores: float32 [N]; classes: int64 [N]."""

    boxes: Floats
    scores: Floats
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def restored(self, at: Placement) -> "Detections":
        """The same in pixels of the picture before letterboxing."""
        return Detections(at.restore(self.boxes), self.scores, self.classes)

    def rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Each as plain values: class (name), score, box."""
        for box, score, kind in zip(self.boxes.tolist(), self.scores.tolist(), self.classes.tolist(), strict=True):
            yield {"class": names[kind], "score": score, "box": box}


def decode(
    maps: Sequence[npt.NDArray[Any]], strides: Sequence[int], reg_max: int, classes: int
) -> tuple[Floats, Floats]:
    """Every cell's box and scores, level by level: float32 [N, 4] (x1, y1, x2, y2 in input pixels) and [N, classes].

    maps: a level its box map [4*reg_max, H, W] (or with a leading 1) and its class map [classes, H, W]. The distance of
    a side from the cell's centre, in cells, is the mean of reg_max bins under a softmax (Li et al. 2020, Generalized
    Focal Loss, eq. 6); a score is a sigmoid.

    Raises:
        HlsgenError: maps that do not fit these numbers.
    """
    if len(maps) != 2 * len(strides):
        raise HlsgenError(f"expected a box and a class map for each of {len(strides)} levels, got {len(maps)} maps")
    boxes, scores = [], []
    for level, stride in enumerate(strides):
        box, score = (np.asarray(m, np.float32) for m in maps[2 * level : 2 * level + 2])
        box, score = (m[0] if m.ndim == 4 else m for m in (box, score))
        if box.shape[0] != 4 * reg_max or score.shape[0] != classes or box.shape[1:] != score.shape[1:]:
            raise HlsgenError(
                f"expected maps of {4 * reg_max} and {classes} channels at stride {stride}, got {box.shape} and "
                f"{score.shape}"
            )
        height, width = box.shape[1:]
        bins = box.reshape(4, reg_max, height * width)
        left, top, right, bottom = _expectation(bins)
        y, x = (np.indices((height, width), np.float32) + np.float32(0.5)).reshape(2, -1)
        boxes.append(np.stack([x - left, y - top, x + right, y + bottom], axis=1) * np.float32(stride))
        scores.append(np.float32(1) / (np.float32(1) + _exp(-score.reshape(classes, -1).T)))
    return np.concatenate(boxes).astype(np.float32), np.concatenate(scores).astype(np.float32)


def _exp(x: Floats) -> Floats:
    """The exponential, taken in float64 and rounded: the same float32 on every processor, so the board's boxes are ours."""
    with np.errstate(over="ignore"):  # exp(-score) is infinite for scores below -88: a sigmoid of zero
        return np.exp(x.astype(np.float64)).astype(np.float32)


def _expectation(bins: Floats) -> Floats:
    """The mean of reg_max bins under a softmax, [4, reg_max, N] to [4, N]; summed bin by bin, so that N does not matter."""
    powers = _exp(bins - bins.max(axis=1, keepdims=True))
    total = powers[:, 0].copy()
    for r in range(1, bins.shape[1]):
        total += powers[:, r]
    mean = np.zeros_like(total)
    for r in range(1, bins.shape[1]):
        mean += powers[:, r] / total * np.float32(r)
    return mean


def suppress(
    boxes: Floats,
    scores: Floats,
    confidence: float = CONFIDENCE,
    iou: float = IOU,
    limit: int = MAX_DETECTIONS,
) -> Detections:
    """Greedy non-maximum suppression within each class; a cell counts for its best class only.

    boxes [N, 4], scores [N, classes]. Equal scores keep the cells' order, so the result is a function of the arguments.
    """
    best = scores.argmax(axis=1) if scores.size else np.zeros(len(scores), np.int64)
    top = scores[np.arange(len(scores)), best]
    order = np.flatnonzero(top > np.float32(confidence))
    order = order[np.argsort(-top[order], kind="stable")][:MAX_CANDIDATES]
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float32)
    while order.size and len(kept) < limit:
        first, rest = int(order[0]), order[1:]
        kept.append(first)
        corner = np.maximum(boxes[first, :2], boxes[rest, :2])
        sides = np.maximum(np.minimum(boxes[first, 2:], boxes[rest, 2:]) - corner, 0)
        shared = sides[:, 0] * sides[:, 1]
        union = areas[first] + areas[rest] - shared
        order = rest[(best[rest] != best[first]) | ~(shared > np.float32(iou) * union)]
    return Detections(boxes[kept].reshape(-1, 4), top[kept], best[kept].astype(np.int64))


def detect(
    maps: Sequence[npt.NDArray[Any]],
    strides: Sequence[int],
    reg_max: int,
    classes: int,
    confidence: float = CONFIDENCE,
    iou: float = IOU,
) -> Detections:
    """`decode`, then `suppress`: the boxes in pixels of the network's input."""
    return suppress(*decode(maps, strides, reg_max, classes), confidence, iou)


def color(index: int) -> tuple[int, int, int]:
    """A class's colour (BGR): hues a golden angle apart, so that neighbours differ."""
    pixel = np.array([[[(index * 111 + 4) % 180, 200, 235]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def draw(picture: Picture, detections: Detections, names: Sequence[str], title: str = "") -> Picture:
    """A copy of `picture` (uint8 [H, W, 3] BGR) with boxes, class names and scores, and `title` along its top."""
    canvas: Picture = picture.copy()
    size = max(0.4, min(picture.shape[:2]) / 1200)
    thick = max(1, round(2 * size))
    for row, kind in zip(detections.rows(names), detections.classes.tolist(), strict=True):
        x1, y1, x2, y2 = (round(v) for v in row["box"])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color(kind), thick)
        _label(canvas, f"{row['class']} {row['score']:.2f}", x1, y1, size, color(kind))
    if title:
        _label(canvas, title, 0, 0, 1.4 * size, (40, 40, 40))
    return canvas


def _label(canvas: Picture, text: str, x: int, y: int, size: float, background: tuple[int, int, int]) -> None:
    """`text` on a filled box whose lower left corner is at (x, y), moved inside the picture."""
    plain = text.encode("ascii", "replace").decode("ascii")  # OpenCV's Hershey fonts know ASCII only
    (width, height), below = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x, y = max(0, min(x, canvas.shape[1] - width)), max(height + below, y)
    cv2.rectangle(canvas, (x, y - height - below), (x + width, y), background, cv2.FILLED)
    ink = (0, 0, 0) if sum(background) > 380 else (255, 255, 255)
    cv2.putText(canvas, plain, (x, y - below // 2 - 1), cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)
