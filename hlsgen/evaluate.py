"""Detection accuracy by ultralytics' own validator: its data loading, decoding, NMS and metrics around our raw heads."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from hlsgen.errors import HlsgenError

Heads = Callable[[Tensor], Sequence[Tensor]]
"""float32 [1, 3, H, W], 0..1 -> the box map and the class map of every level, [1, 4*reg_max or classes, H/s, W/s]."""
LABEL_FOLDERS = ("labels", "boxes")


class Detector(Protocol):
    """What raw outputs mean (`hlsgen.models.Loaded`)."""

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def strides(self) -> Sequence[int]: ...
    @property
    def reg_max(self) -> int: ...


def accuracy(
    heads: Heads,
    meta: Detector,
    data: Path,
    imgsz: int = 640,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """mAP of `heads` on labelled images, as `yolo val` measures it (rectangular images, batch 1, conf 0.001, IoU 0.7).

    data: a folder with `images/` and `labels/` or `boxes/` (YOLO text), or an ultralytics dataset's `.yaml`; nothing is
    written there. limit: only so many images, in the order of their names.

    Returns:
        map50_95, map50 (0..1) and images.

    Raises:
        HlsgenError: ultralytics is not installed, or `data` is not such a data set.
    """
    validator_class, detect_class = _ultralytics()
    with tempfile.TemporaryDirectory(prefix="hlsgen-evaluate-") as scratch, _quiet(), torch.inference_mode():
        described = _described(data, list(meta.classes), Path(scratch), limit)
        options = {
            "imgsz": imgsz,
            "batch": 1,
            "rect": True,
            "plots": False,
            "workers": 0,
            "task": "detect",
            "conf": 0.001,
        }
        validator = validator_class(args=options, save_dir=Path(scratch) / "runs")
        validator.data, validator.stride, validator.device = described, max(meta.strides), torch.device("cpu")
        validator.names, validator.training = dict(enumerate(meta.classes)), False
        try:
            loader = validator.get_dataloader(described["val"], 1)
        except (FileNotFoundError, AssertionError, ValueError) as error:
            raise HlsgenError(f"{data}: no images that ultralytics can read ({str(error).splitlines()[0]})") from error
        validator.dataloader = loader
        decode = _decoder(detect_class, meta)
        validator.init_metrics(_Names(validator.names))
        for index, batch in enumerate(loader):
            batch = validator.preprocess(batch)
            validator.update_metrics(validator.postprocess(decode(heads(batch["img"]))), batch)
            if progress is not None:
                progress(index + 1, len(loader))
        found: Mapping[str, float] = validator.get_stats()
        return {
            "map50_95": float(found["metrics/mAP50-95(B)"]),
            "map50": float(found["metrics/mAP50(B)"]),
            "images": int(validator.seen),
        }


class _Names:
    """What the validator asks of a model."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names


def _ultralytics() -> tuple[Any, Any]:
    try:
        from ultralytics.models.yolo.detect.val import DetectionValidator
        from ultralytics.nn.modules.head import Detect
    except ImportError as error:
        raise HlsgenError("measuring accuracy needs ultralytics: pip install 'hlsgen[yolo]'") from error
    from ultralytics.utils.nms import TorchNMS

    from hlsgen.models.torchvision_ops import mend_torchvision

    mend_torchvision(TorchNMS.nms)
    return DetectionValidator, Detect


def _decoder(detect_class: Any, meta: Detector) -> Callable[[Sequence[Tensor]], Tensor]:
    """ultralytics' own decoding of raw heads: its Detect module without its convolutions."""
    levels, classes = len(meta.strides), len(meta.classes)
    head = detect_class(nc=classes, reg_max=meta.reg_max, ch=(16,) * levels).eval()
    head.stride = torch.tensor([float(s) for s in meta.strides])

    def decode(raw: Sequence[Tensor]) -> Tensor:
        if len(raw) != 2 * levels:
            raise HlsgenError(
                f"a detector's heads are a box and a class map a level, {2 * levels} tensors; got {len(raw)}"
            )
        boxes, scores = list(raw[0::2]), list(raw[1::2])
        joined = {
            "boxes": torch.cat([b.flatten(2) for b in boxes], 2),
            "scores": torch.cat([s.flatten(2) for s in scores], 2),
            "feats": boxes,
        }
        decoded: Tensor = head._inference(joined)
        return decoded

    return decode


def _described(data: Path, classes: list[str], scratch: Path, limit: int | None) -> dict[str, Any]:
    """An ultralytics data set's description, its images linked into `scratch` so that label caches land there."""
    if data.is_dir():
        images = data / "images"
        labels = next((data / name for name in LABEL_FOLDERS if (data / name).is_dir()), None)
        if not images.is_dir() or labels is None:
            raise HlsgenError(f"{data}: expected a folder with images/ and labels/ (or boxes/) in YOLO text format")
        names = dict(enumerate(classes))
    elif data.suffix in (".yaml", ".yml") and data.is_file():
        images, labels, names = _from_yaml(data)
        if len(names) != len(classes):
            raise HlsgenError(
                f"{data}: the network has {len(classes)} classes, the data set {len(names)}; give matching data"
            )
    else:
        raise HlsgenError(f"{data}: expected a folder with images/ and labels/, or a data set's .yaml file")
    for link, target in (("images", images), ("labels", labels)):
        folder = scratch / "data" / link
        folder.mkdir(parents=True)
        for path in sorted(p for p in target.rglob("*") if p.is_file())[: limit if link == "images" else None]:
            linked = folder / path.relative_to(target)
            linked.parent.mkdir(parents=True, exist_ok=True)
            linked.symlink_to(path.resolve())
    return {"val": str(scratch / "data" / "images"), "names": names, "nc": len(names), "channels": 3, "path": scratch}


def _from_yaml(path: Path) -> tuple[Path, Path, dict[int, str]]:
    """images folder, labels folder, names."""
    import yaml

    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HlsgenError(f"{path}: not a readable YAML file ({str(error).splitlines()[0]})") from error
    if (
        not isinstance(held, dict)
        or not isinstance(held.get("val"), str)
        or not isinstance(held.get("names"), dict | list)
    ):
        raise HlsgenError(f"{path}: expected a data set's description with `val` (a folder of images) and `names`")
    root = Path(held.get("path") or ".")
    images = (path.parent / root / held["val"]).resolve()
    parts = list(images.parts)
    if not images.is_dir() or "images" not in parts:
        raise HlsgenError(f"{path}: `val` is {images}, expected an existing folder below a folder `images`")
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    labels = Path(*parts)
    if not labels.is_dir():
        raise HlsgenError(f"{path}: no labels at {labels}")
    names = held["names"]
    return images, labels, {int(k): str(v) for k, v in (names.items() if isinstance(names, dict) else enumerate(names))}


@contextmanager
def _quiet() -> Iterator[None]:
    """ultralytics logs to its own logger; its progress bars obey the logger's level."""
    logger = logging.getLogger("ultralytics")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
