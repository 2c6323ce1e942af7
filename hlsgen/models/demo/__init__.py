"""The bundled demos: a YOLOv8n and a tiny SAM that hlsgen trained itself, and the generated images they learned from.

``shapes`` draws the images (numpy and OpenCV only); ``train`` (needs ultralytics) and ``train_sam`` (needs
segment_anything) are the training scripts; ``WEIGHTS`` and ``SAM_WEIGHTS`` are the checkpoints. NOTICE.md and
NOTICE-sam.md beside them say where the weights come from and what they measure.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("yolov8n-demo.pt")
"""The bundled weights, a checkpoint that ``ultralytics.YOLO`` reads: YOLOv8n, 6 classes, float16."""

SAM_WEIGHTS = Path(__file__).with_name("sam-demo.pth")
"""The bundled tiny SAM's weights, a state dict as segment_anything's checkpoints are: ``sam.config.TINY``, float16."""

__all__ = ["SAM_WEIGHTS", "WEIGHTS"]
