"""Pictures and prompts to masks through an accelerator: the image encoder once a picture, the mask decoder once a prompt."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Callable, Iterator, NamedTuple

import numpy as np

from .accelerator import Accelerator
from .errors import DriverError
from .prompts import Prompt, Prompting


class Segmented(NamedTuple):
    """masks: bool [1 + k, H, W] of the picture, the first for a clear prompt, the others for one that may mean several things.
    quality: predicted IoU of each. seconds: by step (prompt, device, masks)."""

    masks: np.ndarray
    quality: np.ndarray
    seconds: dict[str, float]


class Segmenter:
    """A SAM on an accelerator."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Raises DriverError where the network takes no prompts."""
        network = accelerator.network
        if network.prompting is None or network.levels is None:
            raise DriverError(f"{network.model} takes no prompts; use detect.py or Accelerator.infer")
        self.prompting: Prompting = network.prompting
        self._accelerator, self._network, self._levels = accelerator, network, network.levels

    @contextmanager
    def picture(self, picture: np.ndarray) -> Iterator[Callable[[Prompt], Segmented]]:
        """uint8 [H, W, 3] RGB: encoded once, on a core that is kept meanwhile; gives a function of prompts to their masks."""
        size = (picture.shape[0], picture.shape[1])
        planes = self._levels[self.prompting.picture(picture)].transpose(2, 0, 1)
        names = [tensor.name for tensor in self._network.outputs]

        def segment(prompt: Prompt) -> Segmented:
            begun = time.perf_counter()
            inputs = self.prompting.inputs(prompt, size)
            integers = [t.integers(x) for t, x in zip(self._network.inputs[1:], inputs)]
            prepared = time.perf_counter()
            outputs = infer(*integers)
            computed = time.perf_counter()
            logits, quality = (self._real(outputs, name) for name in names[1:])
            found = self.prompting.masks(logits, size)
            ended = time.perf_counter()
            steps = {"prompt": prepared - begun, "device": computed - prepared, "masks": ended - computed}
            return Segmented(found, quality.reshape(-1), steps)

        with self._accelerator.held(self._network.image.pack(planes)) as infer:
            yield segment

    def _real(self, outputs: dict[str, np.ndarray], name: str) -> np.ndarray:
        (tensor,) = (tensor for tensor in self._network.outputs if tensor.name == name)
        return tensor.real(outputs[name])
