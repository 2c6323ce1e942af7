"""Several images in flight: one thread prepares the next picture while another waits for a core or finds boxes."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator, NamedTuple

import numpy as np

from .accelerator import Accelerator
from .boxes import CONFIDENCE, IOU, Decoder, Detections
from .errors import DriverError
from .images import Packer


class Found(NamedTuple):
    """Boxes in the picture's own pixels, and in the letterboxed picture's; seconds by step (pack, device, boxes)."""

    detections: Detections
    letterboxed: Detections
    seconds: dict[str, float]


class Detector:
    """Pictures to boxes through an accelerator."""

    def __init__(self, accelerator: Accelerator, confidence: float = CONFIDENCE, iou: float = IOU) -> None:
        """Raises DriverError where the network is no detector of pictures."""
        network = accelerator.network
        if network.head is None:
            raise DriverError(
                "{} is no detector: its outputs are {}; use Accelerator.infer".format(
                    network.model, ", ".join(tensor.name for tensor in network.outputs)
                )
            )
        self.classes = network.head.classes
        self._accelerator = accelerator
        self._packer = Packer(network)
        self._decoder = Decoder(network, network.head, confidence, iou)

    def detect(self, picture: np.ndarray) -> Found:
        """uint8 [H, W, 3] RGB to its boxes."""
        begun = time.perf_counter()
        packed, at = self._packer.pack(picture)
        prepared = time.perf_counter()
        outputs = self._accelerator.run(packed)
        computed = time.perf_counter()
        found = self._decoder.detect(outputs)
        own = Detections(at.restore(found.boxes), found.scores, found.classes)
        ended = time.perf_counter()
        return Found(own, found, {"pack": prepared - begun, "device": computed - prepared, "boxes": ended - computed})

    def stream(self, pictures: Iterable[np.ndarray]) -> Iterator[Found]:
        """Every picture's boxes, in order, with as many pictures in flight as keep all cores busy."""
        return in_order(self.detect, pictures, len(self._accelerator.device.cores) + 2)


def in_order(work: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """work(item) for every item, `threads` at a time, results in the items' order; items are taken as they are needed.

    The first exception ends it, after the work under way.
    """
    pending: deque[Future] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def mean_seconds(found: list[Found]) -> dict[str, float]:
    """By step, over several images."""
    return {step: sum(f.seconds[step] for f in found) / len(found) for step in found[0].seconds}
