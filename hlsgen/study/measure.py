"""One image through every strategy: boxes, and the noise in every tensor.

Results lie on disk, so that work goes on where it stopped.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hlsgen.evaluate import Labelled
from hlsgen.quantize.executables import Simulated
from hlsgen.quantize.quantized import Quantized, read
from hlsgen.quantize.structure import outputs

NOISE_IMAGES = 4  # of which every tensor's noise is measured


@dataclass(frozen=True)
class Job:
    """What a worker needs: files and plain values only.

    networks: by key (`fixed/0`, a strategy and a seed), the quantized network's file. results: the folder of results, one file
    a key and image.
    """

    networks: Mapping[str, Path]
    results: Path
    data: Path
    imgsz: int
    limit: int | None


@dataclass(frozen=True)
class Meta:
    """As `hlsgen.evaluate.Detector` has it."""

    classes: tuple[str, ...]
    strides: tuple[int, ...]
    reg_max: int


def result_file(results: Path, key: str, index: int) -> Path:
    """Where the result of an image is kept."""
    return results / key.replace(":", "-") / f"{index:06d}.npz"


def measure(job: Job, indices: Sequence[int]) -> int:
    """Measure those of the images `indices` that have no result yet; how many results were made.

    A result: boxes float32 [N, 6] (x1 y1 x2 y2 score class); for the first NOISE_IMAGES images also names, signal and
    noise: sums of squares of the float network's tensors and of their differences, float64.
    """
    missing = {key: [i for i in indices if not result_file(job.results, key, i).is_file()] for key in job.networks}
    if not any(missing.values()):
        return 0
    torch.set_num_threads(1)
    held = {key: read(path) for key, path in job.networks.items() if missing[key]}
    facts = next(iter(held.values()))[1]
    meta = Meta(tuple(facts["classes"]), tuple(facts["strides"]), int(facts["reg_max"]))
    made = 0
    with Labelled.opened(meta, job.data, job.imgsz, job.limit) as labelled:
        for index in indices:
            image: Tensor | None = None
            for key, (network, _) in held.items():
                if index not in missing[key]:
                    continue
                image = labelled.image(index) if image is None else image
                found: dict[str, Any] = {"heads": network.executable(image)}
                if index < NOISE_IMAGES:
                    found = dict(_noise(network, image))
                boxes = labelled.boxes(found.pop("heads")).numpy().astype(np.float32)
                _write(result_file(job.results, key, index), {"boxes": boxes, **found})
                made += 1
    return made


def _noise(network: Quantized, image: Tensor) -> Iterator[tuple[str, Any]]:
    """The heads, and by tensor the signal's and the noise's energy."""
    wanted, got = Simulated(network.network).values(image), network.executable.values(image)
    names = [name for name in wanted if name in got]
    yield "heads", tuple(got[node.name] for node in outputs(network.network))
    yield "names", np.array(names)
    yield "signal", np.array([float((wanted[n].double() ** 2).sum()) for n in names])
    yield "noise", np.array([float(((wanted[n].double() - got[n].double()) ** 2).sum()) for n in names])


def _write(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Whole or not at all: an interrupted run leaves no damaged result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def load_boxes(results: Path, key: str, count: int) -> list[npt.NDArray[np.float32]]:
    """Every image's boxes."""
    found = []
    for index in range(count):
        with np.load(result_file(results, key, index), allow_pickle=False) as held:
            found.append(held["boxes"])
    return found


def load_noise(results: Path, key: str, count: int) -> dict[str, float | None]:
    """SQNR by tensor in dB, over the images of which noise was measured; None where there is no noise or no signal."""
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for index in range(min(count, NOISE_IMAGES)):
        with np.load(result_file(results, key, index), allow_pickle=False) as held:
            for name, s, n in zip(held["names"].tolist(), held["signal"].tolist(), held["noise"].tolist(), strict=True):
                signal[name] = signal.get(name, 0.0) + s
                noise[name] = noise.get(name, 0.0) + n
    return {
        name: round(10 * float(np.log10(signal[name] / noise[name])), 2)
        if signal[name] > 0 and noise[name] > 0
        else None
        for name in signal
    }
