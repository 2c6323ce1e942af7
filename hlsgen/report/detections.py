"""What three computations of one picture see in it: the float network, the INT8 reference, the simulated hardware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from hlsgen.models.boxes import Detections, detect, draw
from hlsgen.quantize.spec import TensorQ
from hlsgen.report.facts import Box
from hlsgen.report.write import Picture

if TYPE_CHECKING:
    from hlsgen.build import Build

TITLES = {
    "fp32": ("FP32", "the float network"),
    "int8": ("INT8", "the PyTorch reference"),
    "csim": ("C-simulation", "the generated hardware"),
}
JPEG_QUALITY = 88


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes in pixels of the letterboxed picture, and the class names."""

    detections: Detections
    classes: tuple[str, ...]

    @property
    def facts(self) -> tuple[Box, ...]:
        return tuple(
            Box(name=row["class"], score=round(row["score"], 4), box=tuple(round(v, 2) for v in row["box"]))
            for row in self.detections.rows(self.classes)
        )


def find_all(b: "Build") -> dict[str, Found]:
    """Boxes by source, of every computation that has run; none where the network is no detector."""
    meta = b.loaded
    if meta.task != "detect":
        return {}
    spec = b.reference.spec.tensors
    maps: dict[str, list[npt.NDArray[Any]]] = {
        "fp32": _float_maps(b),
        "int8": [real(b.tensors[name], spec[name]) for name in b.outputs],
    }
    if b.simulated is not None:
        from hlsgen.csim import tensor_of

        tensors = {b.program.tensors[name].reference: b.program.tensors[name] for name in b.program.outputs}
        maps["csim"] = [
            real(tensor_of(b.program, b.simulated.maps, tensors[name].name), tensors[name].quant) for name in b.outputs
        ]
    return {
        source: Found(detect(found, meta.strides, meta.reg_max, len(meta.classes)), tuple(meta.classes))
        for source, found in maps.items()
    }


def real(values: npt.NDArray[Any], q: TensorQ) -> npt.NDArray[np.float32]:
    """Integers to the numbers they stand for."""
    return (q.scale * (values.astype(np.float64) - q.zero_point)).astype(np.float32)


def _float_maps(b: "Build") -> list[npt.NDArray[Any]]:
    import torch

    with torch.inference_mode():
        outputs: Sequence[torch.Tensor] = b.loaded.network(torch.from_numpy(b.picture)[None])
    return [value[0].numpy() for value in outputs]


def draw_all(image: npt.NDArray[np.float32], found: Mapping[str, Found]) -> list[Picture]:
    """The picture (float32 [3, H, W], RGB, 0..1) with each source's boxes, as JPEG files."""
    canvas, drawn = to_bgr(image), []
    for source, boxes in found.items():
        title, text = TITLES[source]
        encoded = cv2.imencode(
            ".jpg", draw(canvas, boxes.detections, boxes.classes), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )[1]
        drawn.append(Picture(source, title, text, len(boxes.detections), encoded.tobytes()))
    return drawn


def to_bgr(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """float32 [3, H, W], RGB, 0..1 to uint8 [H, W, 3], BGR."""
    return np.ascontiguousarray(np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)[:, :, ::-1])


def save_png(image: npt.NDArray[np.float32], path: Path) -> None:
    """Writes the picture losslessly: read and letterboxed again, it is the same array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", to_bgr(image))[1].tobytes())
