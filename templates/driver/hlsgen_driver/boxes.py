"""From the raw maps in memory to boxes: decoding and non-maximum suppression, the same floats as hlsgen's on the host.

Only cells whose score passes the threshold are decoded. A class map holds 256 different integers at most, so the threshold is
compared as an integer, and a score is looked up. Exponentials are taken in float64 and rounded to float32: the same on
every processor.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

from .network import Head, Network, Tensor

CONFIDENCE = 0.25
IOU = 0.7
MAX_DETECTIONS = 300
MAX_CANDIDATES = 30000


class Detections(NamedTuple):
    """Boxes by falling score. boxes: float32 [N, 4], x1 y1 x2 y2 in pixels; scores: float32 [N]; classes: int64 [N]."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Each as plain values: class (name), score, box."""
        return [
            {"class": names[kind], "score": score, "box": box}
            for box, score, kind in zip(self.boxes.tolist(), self.scores.tolist(), self.classes.tolist())
        ]


def exp(x: np.ndarray) -> np.ndarray:
    """float32 to float32."""
    with np.errstate(over="ignore"):
        return np.exp(x.astype(np.float64)).astype(np.float32)


class _Level:
    """A stride's box and class map."""

    def __init__(self, box: Tensor, score: Tensor, stride: int, confidence: np.float32) -> None:
        self.box, self.score, self.stride = box, score, np.float32(stride)
        self.scores = np.float32(1) / (np.float32(1) + exp(-score.real(np.arange(-128, 128))))
        passing = np.flatnonzero(self.scores > confidence)  # scores rise with the integers
        self.low = int(passing[0]) - 128 if len(passing) else None
        # the threshold at every byte of the map, as the map lies in memory; lanes without a channel never pass
        last = -128 if self.low is None else self.low - 1
        limits = np.where(score.lanes >= 0, last, 127).reshape(-1, 1, score.tm)
        self.limits = np.repeat(limits, score.height * score.width, axis=1).reshape(-1)
        if last >= -128:
            self.limits = self.limits.astype(np.int8)

    def candidates(self, data: np.ndarray) -> np.ndarray:
        """Cells, in order, one of whose scores passes; data: the class map's bytes."""
        if self.low is None:
            return np.zeros(0, np.int64)
        passes = data > self.limits
        words = passes.view(np.uint64) if passes.nbytes % 8 == 0 and self.score.tm % 8 == 0 else passes
        per_cell = self.score.tm // (8 if words is not passes else 1)
        cells = np.flatnonzero(words) // per_cell % (self.score.height * self.score.width)
        return np.unique(cells)

    def pick(self, box_data: np.ndarray, score_data: np.ndarray, reg_max: int) -> tuple[np.ndarray, ...]:
        """Of the N candidates: box bins float32 [4, reg_max, N], centres float32 [2, N] (x, y in cells), strides float32
        [N], best scores float32 [N] and their classes int64 [N].
        """
        cells = self.candidates(score_data)
        scores = self.scores[_cells(self.score, score_data, cells).astype(np.int64) + 128]  # [classes, N]
        best = scores.argmax(axis=0)
        bins = self.box.real(_cells(self.box, box_data, cells)).reshape(4, reg_max, len(cells))
        y, x = divmod(cells, self.box.width)
        centres = np.stack([x, y]).astype(np.float32) + np.float32(0.5)
        return bins, centres, np.full(len(cells), self.stride), scores[best, np.arange(len(cells))], best


def _cells(tensor: Tensor, data: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The channels of some cells, int8 [C, N]."""
    blocks = data.reshape(-1, tensor.height * tensor.width, tensor.tm)[:, cells]
    return blocks.transpose(0, 2, 1).reshape(len(tensor.lanes), len(cells))[tensor.lane_of]


def expectation(bins: np.ndarray) -> np.ndarray:
    """The mean of reg_max bins under a softmax, [4, reg_max, N] float32 to [4, N], summed bin by bin."""
    powers = exp(bins - bins.max(axis=1, keepdims=True))
    total = powers[:, 0].copy()
    for r in range(1, bins.shape[1]):
        total += powers[:, r]
    mean = np.zeros_like(total)
    for r in range(1, bins.shape[1]):
        mean += powers[:, r] / total * np.float32(r)
    return mean


class Decoder:
    """Raw maps to detections, for one network and one pair of thresholds."""

    def __init__(self, network: Network, head: Head, confidence: float = CONFIDENCE, iou: float = IOU) -> None:
        self._reg_max, self._iou = head.reg_max, iou
        pairs = zip(network.outputs[0::2], network.outputs[1::2], head.strides)
        self._levels = [_Level(box, score, stride, np.float32(confidence)) for box, score, stride in pairs]

    def detect(self, outputs: Sequence[np.ndarray]) -> Detections:
        """outputs: the maps' bytes as `Accelerator.run` returns them. Boxes in pixels of the network's input."""
        found = [level.pick(outputs[2 * i], outputs[2 * i + 1], self._reg_max) for i, level in enumerate(self._levels)]
        bins, centres, strides, scores, classes = (np.concatenate(column, axis=-1) for column in zip(*found))
        left, top, right, bottom = expectation(bins)
        x, y = centres
        boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1) * strides[:, None]
        return suppress(boxes, scores, classes, self._iou)


def suppress(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou: float) -> Detections:
    """Greedy non-maximum suppression within each class; equal scores keep the cells' order."""
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float32)
    limit = np.float32(iou)
    while order.size and len(kept) < MAX_DETECTIONS:
        first, rest = int(order[0]), order[1:]
        kept.append(first)
        corner = np.maximum(boxes[first, :2], boxes[rest, :2])
        sides = np.maximum(np.minimum(boxes[first, 2:], boxes[rest, 2:]) - corner, 0)
        shared = sides[:, 0] * sides[:, 1]
        union = areas[first] + areas[rest] - shared
        order = rest[(classes[rest] != classes[first]) | ~(shared > limit * union)]
    return Detections(boxes[kept].reshape(-1, 4), scores[kept], classes[kept].astype(np.int64))
