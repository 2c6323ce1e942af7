"""Letterboxing, decoding and suppression against ultralytics' own."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hlsgen.errors import HlsgenError
from hlsgen.models import boxes, images, load

SIZES = [
    ((480, 640), (640, 640)),
    ((427, 640), (416, 640)),
    ((333, 500), (320, 320)),
    ((17, 900), (96, 64)),
    ((50, 31), (64, 96)),
]


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_letterbox_is_ultralytics(size: tuple[int, int], target: tuple[int, int]) -> None:
    augment = pytest.importorskip("ultralytics.data.augment")
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    ours = images.letterbox(picture, target)
    theirs = augment.LetterBox(target, auto=False, scaleup=True)(image=picture)
    assert ours.dtype == np.float32
    assert ours.shape == (3, *target)
    np.testing.assert_array_equal(ours, theirs[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_boxes_go_back_as_in_ultralytics(size: tuple[int, int], target: tuple[int, int]) -> None:
    ops = pytest.importorskip("ultralytics.utils.ops")
    found = np.random.default_rng(1).uniform(-20, 700, (50, 4)).astype(np.float32)
    theirs = ops.scale_boxes(target, torch.from_numpy(found.copy()), size).numpy()
    np.testing.assert_allclose(images.place(size, target).restore(found), theirs, rtol=1e-5, atol=1e-4)


def test_place_and_restore_are_inverse() -> None:
    at = images.place((100, 200), (320, 320))
    assert (at.new_height, at.new_width, at.left, at.top) == (160, 320, 0, 80)
    inside = np.array([[10, 20, 50, 60]], np.float32)
    there = inside * 1.6 + np.array([0, 80, 0, 80], np.float32)
    np.testing.assert_allclose(at.restore(there), inside, rtol=1e-6)


def test_pictures_are_listed_by_name_and_read(tmp_path: Path) -> None:
    picture = np.full((8, 9, 3), (255, 0, 0), np.uint8)
    for name in ("b.png", "a.PNG", "note.txt"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    listed = images.list_images(tmp_path)
    assert [p.name for p in listed] == ["a.PNG", "b.png"]
    np.testing.assert_array_equal(images.read_image(listed[0]), picture)
    assert images.letterbox(picture, (9, 9))[:, 4, 4].tolist() == [0.0, 0.0, 1.0]  # blue is the last channel
    inner = tmp_path / "set" / "images"
    inner.mkdir(parents=True)
    (inner / "c.png").write_bytes((tmp_path / "b.png").read_bytes())
    assert images.list_images(tmp_path / "set") == [inner / "c.png"]


def ultralytics_boxes(
    maps: list[np.ndarray], strides: tuple[int, ...], reg_max: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(decoded [N, 4 + classes] in xyxy, kept [M, 6]) by ultralytics' Detect and non_max_suppression."""
    head_module = pytest.importorskip("ultralytics.nn.modules.head")
    nms = pytest.importorskip("ultralytics.utils.nms")
    head = head_module.Detect(nc=classes, reg_max=reg_max, ch=(16,) * len(strides)).eval()
    head.stride = torch.tensor([float(s) for s in strides])
    raw = [torch.from_numpy(m)[None] for m in maps]
    joined = {
        "boxes": torch.cat([m.flatten(2) for m in raw[0::2]], 2),
        "scores": torch.cat([m.flatten(2) for m in raw[1::2]], 2),
        "feats": raw[0::2],
    }
    with torch.no_grad():
        decoded = head._inference(joined)
        kept = nms.non_max_suppression(decoded.clone(), boxes.CONFIDENCE, boxes.IOU, max_det=boxes.MAX_DETECTIONS)[0]
    flat = decoded[0].T.numpy().copy()
    flat[:, :4] = np.concatenate([flat[:, :2] - flat[:, 2:4] / 2, flat[:, :2] + flat[:, 2:4] / 2], axis=1)
    return flat, kept.numpy()


def compare(maps: list[np.ndarray], strides: tuple[int, ...], reg_max: int, classes: int) -> boxes.Detections:
    flat, kept = ultralytics_boxes(maps, strides, reg_max, classes)
    decoded, scores = boxes.decode(maps, strides, reg_max, classes)
    np.testing.assert_allclose(decoded, flat[:, :4], rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(scores, flat[:, 4:], rtol=1e-4, atol=1e-6)
    found = boxes.detect(maps, strides, reg_max, classes)
    assert len(found) == len(kept)
    np.testing.assert_allclose(found.boxes, kept[:, :4], rtol=1e-4, atol=5e-2)
    np.testing.assert_allclose(found.scores, kept[:, 4], rtol=1e-4)
    np.testing.assert_array_equal(found.classes, kept[:, 5])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_random_maps_give_ultralytics_boxes(seed: int) -> None:
    r = np.random.default_rng(seed)
    maps = []
    for stride in (8, 16, 32):
        h, w = 96 // stride, 160 // stride
        maps.append((3 * r.standard_normal((64, h, w))).astype(np.float32))
        maps.append((2 * r.standard_normal((3, h, w)) - 1).astype(np.float32))
    assert len(compare(maps, (8, 16, 32), 16, 3)) > 20


@pytest.mark.shared
def test_a_photograph_gives_ultralytics_boxes(shared: Path) -> None:
    loaded = load("yolov8n", str(shared / "weights" / "yolov8n.pt"), (320, 320))
    picture = images.read_image(images.list_images(shared / "coco" / "val")[0])
    with torch.no_grad():
        maps = [m[0].numpy() for m in loaded.network(torch.from_numpy(images.letterbox(picture, (320, 320)))[None])]
    found = compare(maps, loaded.strides, loaded.reg_max, len(loaded.classes))
    assert len(found) > 0
    restored = found.restored(images.place(picture.shape[:2], (320, 320)))
    assert (restored.boxes >= 0).all()
    assert (restored.boxes[:, 2] <= picture.shape[1]).all()


def test_nothing_found_is_an_empty_result_that_draws() -> None:
    maps = [np.zeros((64, 2, 2), np.float32), np.full((3, 2, 2), -200, np.float32)]
    found = boxes.detect(maps, (32,), 16, 3)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    picture = np.zeros((64, 64, 3), np.uint8)
    np.testing.assert_array_equal(boxes.draw(picture, found, ["a", "b", "c"]), picture)


def test_suppression_keeps_classes_apart_and_is_stable() -> None:
    same = np.array([[0, 0, 10, 10]] * 4, np.float32)
    scores = np.array([[0.9, 0.1], [0.9, 0.2], [0.1, 0.9], [0.2, 0.1]], np.float32)
    found = boxes.suppress(same, scores)
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.9])
    assert [row["class"] for row in found.rows(["cat", "dog"])] == ["cat", "dog"]


def test_drawing_marks_the_boxes_and_leaves_the_picture() -> None:
    picture = np.zeros((100, 120, 3), np.uint8)
    found = boxes.Detections(np.array([[10, 30, 60, 90]], np.float32), np.array([0.5], np.float32), np.array([1]))
    drawn = boxes.draw(picture, found, ["a", "grün"], "INT8")
    assert not picture.any()
    assert drawn.shape == picture.shape
    assert tuple(drawn[60, 10].tolist()) == boxes.color(1)
    np.testing.assert_array_equal(drawn, boxes.draw(picture, found, ["a", "grün"], "INT8"))


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(HlsgenError, match="expected maps of 64 and 3 channels at stride 8"):
        boxes.decode([np.zeros((64, 2, 2)), np.zeros((4, 2, 2))], (8,), 16, 3)
    with pytest.raises(HlsgenError, match="2 levels, got 2 maps"):
        boxes.decode([np.zeros((64, 2, 2)), np.zeros((4, 2, 2))], (8, 16), 16, 3)
