"""Do two detectors see the same? Boxes matched one to one."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
"""[N, 6]: x1 y1 x2 y2 in pixels, score, class."""
CONFIDENCE = 0.25
LEAST_IOU = 0.5


@dataclass(frozen=True)
class Agreement:
    """Counts over images. a, b: boxes of either side; matched: pairs; flips: of these, those of two classes; iou: their sum."""

    a: int = 0
    b: int = 0
    matched: int = 0
    flips: int = 0
    iou: float = 0.0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.a + other.a,
            self.b + other.b,
            self.matched + other.matched,
            self.flips + other.flips,
            self.iou + other.iou,
        )

    @property
    def share(self) -> float:
        """Boxes that found a partner, of both sides' together (1 where neither sees anything)."""
        return 2 * self.matched / (self.a + self.b) if self.a + self.b else 1.0

    @property
    def mean_iou(self) -> float:
        """Of the pairs; 1 where there is none."""
        return self.iou / self.matched if self.matched else 1.0


def confident(boxes: Boxes) -> Boxes:
    """Those that a user would be shown."""
    return boxes[boxes[:, 4] >= CONFIDENCE]


def ious(a: Boxes, b: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of every pair: [N, M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2]).astype(np.float64)
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4]).astype(np.float64)
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(v[:, 2:4].astype(np.float64) - v[:, :2], axis=1) for v in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def pairs(a: Boxes, b: Boxes) -> list[tuple[int, int, float]]:
    """Boxes matched one to one whatever their class, the best overlap first: (index in a, index in b, IoU)."""
    overlap = ious(a, b)
    same = a[:, None, 5] == b[None, :, 5]
    order = np.lexsort((-overlap.ravel(), ~same.ravel()))  # partners of one class come before all others
    found: list[tuple[int, int, float]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for flat in order.tolist():
        i, j = divmod(flat, max(len(b), 1))
        if overlap[i, j] >= LEAST_IOU and i not in taken[0] and j not in taken[1]:
            found.append((i, j, float(overlap[i, j])))
            taken[0].add(i)
            taken[1].add(j)
    return found


def agreement(a: Boxes, b: Boxes) -> Agreement:
    """Of the confident boxes of one image by two detectors."""
    a, b = confident(a), confident(b)
    matched = pairs(a, b)
    flips = sum(int(a[i, 5] != b[j, 5]) for i, j, _ in matched)
    return Agreement(len(a), len(b), len(matched), flips, sum(iou for _, _, iou in matched))
