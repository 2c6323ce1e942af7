"""``import torchvision`` where its C++ operators are missing: its index wheel beside a CPU-only torch.

ultralytics' validator and segment_anything both import torchvision; of its operators neither needs more than ``nms``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_kept: list[Any] = []  # torch.library definitions last only as long as their Library object


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression, as ``torchvision.ops.nms`` defines it.

    Args:
        boxes: float [n, 4], x0, y0, x1, y1.
        scores: float [n].
        iou_threshold: a box is dropped where its intersection over union with a kept, better one is larger.

    Returns:
        int64 [k]: the kept boxes' indices, best first.
    """
    import torch

    left = scores.argsort(descending=True, stable=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while left.numel():
        best, left = left[0], left[1:]
        kept.append(best)
        shared = torch.minimum(boxes[best, 2:], boxes[left, 2:]) - torch.maximum(boxes[best, :2], boxes[left, :2])
        shared_area = shared.clamp(min=0).prod(1)
        left = left[shared_area / (areas[best] + areas[left] - shared_area) <= iou_threshold]
    return torch.stack(kept) if kept else left


def mend_torchvision(nms: Callable[..., torch.Tensor] = nms) -> bool:
    """Makes ``import torchvision`` work where its C++ operators are missing, with ``nms`` as ``torchvision::nms``.

    A whole torchvision is left alone.

    Returns:
        Whether anything was mended.

    Raises:
        ImportError: torchvision is not installed.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):  # the two that torchvision's own import expects to exist
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.impl(name, nms, "CPU")
        _kept.append(library)
        import torchvision

        torchvision.extension._has_ops = lambda: True
        return True
    return False
