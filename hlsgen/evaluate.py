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
    with Labelled.opened(meta, data, imgsz, limit) as labelled:
        found = []
        for index in range(len(labelled)):
            found.append(labelled.predict(heads, index))
            if progress is not None:
                progress(index + 1, len(labelled))
        return labelled.score(found)


class Labelled:
    """Labelled images behind ultralytics' validator: image by image the network's input and the boxes found, then mAP."""

    def __init__(self, validator: Any, detect_class: Any, meta: Detector) -> None:
        self._validator = validator
        self._decode = _decoder(detect_class, meta)
        self._dataset = validator.dataloader.dataset

    @classmethod
    @contextmanager
    def opened(cls, meta: Detector, data: Path, imgsz: int = 640, limit: int | None = None) -> Iterator["Labelled"]:
        """The data set, for the block's length; parameters and errors as `accuracy`."""
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
                validator.dataloader = validator.get_dataloader(described["val"], 1)
            except (FileNotFoundError, AssertionError, ValueError) as error:
                raise HlsgenError(
                    f"{data}: no images that ultralytics can read ({str(error).splitlines()[0]})"
                ) from error
            validator.init_metrics(_Names(validator.names))
            yield cls(validator, detect_class, meta)

    def __len__(self) -> int:
        return len(self._dataset)

    def name(self, index: int) -> str:
        """The image's file name without its suffix."""
        return Path(self._dataset.im_files[index]).stem

    def image(self, index: int) -> Tensor:
        """The network's input: float32 [1, 3, H, W], 0..1, H and W multiples of the stride."""
        return self._batch(index)["img"]  # type: ignore[no-any-return]

    def predict(self, heads: Heads, index: int) -> Tensor:
        """The boxes after non-maximum suppression, in the input's pixels: float32 [N, 6], x1 y1 x2 y2 score class."""
        return self.boxes(heads(self.image(index)))

    def boxes(self, raw: Sequence[Tensor]) -> Tensor:
        """Of raw head maps, the boxes that mAP is measured on (conf 0.001, IoU 0.7): float32 [N, 6]."""
        found = self._validator.postprocess(self._decode(raw))[0]
        return torch.cat([found["bboxes"], found["conf"][:, None], found["cls"][:, None].float()], 1)

    def score(self, found: Sequence[Tensor]) -> dict[str, float]:
        """mAP of one prediction an image, in order: map50_95, map50 (0..1), images."""
        v = self._validator
        v.init_metrics(_Names(v.names))
        for index, boxes in enumerate(found):
            prediction = {"bboxes": boxes[:, :4], "conf": boxes[:, 4], "cls": boxes[:, 5], "extra": boxes[:, 6:]}
            v.update_metrics([prediction], self._batch(index))
        stats: Mapping[str, float] = v.get_stats()
        return {
            "map50_95": float(stats["metrics/mAP50-95(B)"]),
            "map50": float(stats["metrics/mAP50(B)"]),
            "images": int(v.seen),
        }

    def _batch(self, index: int) -> Any:
        return self._validator.preprocess(self._dataset.collate_fn([self._dataset[index]]))


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
    held: dict[str, list[Path]] = {}
    for link, target in (("images", images), ("labels", labels)):
        folder = scratch / "data" / link
        folder.mkdir(parents=True)
        found = sorted(p for p in target.rglob("*") if p.is_file())
        if link == "images":
            held[link] = found[:limit]
        else:
            wanted = {p.relative_to(images).with_suffix("") for p in held["images"]}
            held[link] = [p for p in found if p.relative_to(target).with_suffix("") in wanted]
            _check_labels(data, held[link], len(held["images"]), len(classes))
        for path in held[link]:
            linked = folder / path.relative_to(target)
            linked.parent.mkdir(parents=True, exist_ok=True)
            linked.symlink_to(path.resolve())
    return {"val": str(scratch / "data" / "images"), "names": names, "nc": len(names), "channels": 3, "path": scratch}


def _check_labels(data: Path, files: Sequence[Path], images: int, classes: int) -> None:
    """Hold the labels to the images and the network: ultralytics leaves out what it cannot read, and says so to nobody.

    Raises:
        HlsgenError: no image has a box; a line is no class and box, or its class is none of the network's.
    """
    boxes = 0
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise HlsgenError(f"labels {path}: cannot be read ({str(error).splitlines()[0]})") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                values = [float(word) for word in line.split()]
            except ValueError:
                values = []
            box = values[1:]
            whole = len(box) == 4 or (len(box) >= 6 and len(box) % 2 == 0)  # a polygon's box is its bounds
            if not whole or values[0] != int(values[0]) or min(box) < 0 or max(box) > 1:
                raise HlsgenError(
                    f"labels {path}, line {number}: expected a class and a box (centre x, y, width, height as shares of the "
                    f"image), got {line.strip()[:60]!r}"
                )
            if not 0 <= values[0] < classes:
                raise HlsgenError(
                    f"labels {path}, line {number}: class {values[0]:g}, the network has {classes} classes (0 to {classes - 1})"
                )
            boxes += 1
    if images and not boxes:
        raise HlsgenError(
            f"{data}: none of its {images} images has a box; labels are named as their images, a.txt for a.jpg"
        )


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
