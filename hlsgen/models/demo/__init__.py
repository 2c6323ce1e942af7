"""The bundled demo: a YOLOv8n that hlsgen trained itself, and the generated images it was trained on.

``shapes`` draws the images (numpy and OpenCV only), ``train`` is the training script (needs ultralytics), and
``WEIGHTS`` is the checkpoint. NOTICE.md beside it says where the weights come from and what they measure.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("yolov8n-demo.pt")
"""The bundled weights, a checkpoint that ``ultralytics.YOLO`` reads: YOLOv8n, 6 classes, float16."""

__all__ = ["WEIGHTS"]
