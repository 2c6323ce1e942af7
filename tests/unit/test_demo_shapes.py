"""The demo's image generator: deterministic, exactly labelled, the same objects at every canvas size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hlsgen.models.demo import WEIGHTS, shapes
from hlsgen.models.demo.train import augment


@pytest.mark.parametrize("size", [32, 100, 256, 640])
def test_types_shapes_and_ranges(size: int) -> None:
    image, labels = shapes.render(3, size, seed=7)
    assert image.dtype == np.uint8 and image.shape == (size, size, 3) and image.flags.c_contiguous
    assert labels.dtype == np.float32 and labels.ndim == 2 and labels.shape[1] == 5 and len(labels) >= 1
    assert set(labels[:, 0]) <= set(range(len(shapes.CLASSES)))
    low, high = labels[:, 1:3] - labels[:, 3:] / 2, labels[:, 1:3] + labels[:, 3:] / 2
    assert low.min() > -1e-6 and high.max() < 1 + 1e-6


def test_same_arguments_same_image_and_each_argument_matters() -> None:
    image, labels = shapes.render(5, 128, seed=11)
    again, labels_again = shapes.render(5, 128, seed=11)
    assert np.array_equal(image, again) and np.array_equal(labels, labels_again)
    for other in (shapes.render(6, 128, seed=11), shapes.render(5, 128, seed=12)):
        assert not np.array_equal(image, other[0])


def test_default_is_seed_0_at_640() -> None:
    image, labels = shapes.render(1)
    expected, expected_labels = shapes.render(1, 640, 0)
    assert np.array_equal(image, expected) and np.array_equal(labels, expected_labels)


def test_splits_have_their_own_seeds() -> None:
    seeds = {shapes.TRAIN_SEED, shapes.TRAIN_SEED + 1, shapes.HELDOUT_SEED, shapes.CALIB_SEED}
    assert len(seeds) == 4  # training's second phase uses TRAIN_SEED + 1


def test_every_class_appears_and_no_two_objects_overlap_heavily() -> None:
    seen: set[int] = set()
    for index in range(12):
        _, labels = shapes.render(index, 320, seed=3)
        seen |= {int(c) for c in labels[:, 0]}
        boxes = [(cx - w / 2, cy - h / 2, w, h) for _, cx, cy, w, h in labels.astype(np.float64)]
        for k, (ax, ay, aw, ah) in enumerate(boxes):
            for bx, by, bw, bh in boxes[:k]:
                across = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
                down = max(0.0, min(ay + ah, by + bh) - max(ay, by))
                assert across * down / min(aw * ah, bw * bh) <= 0.081
    assert seen == set(range(len(shapes.CLASSES)))


def test_objects_have_the_same_pixel_sizes_at_any_canvas_that_holds_them() -> None:
    medians = {}
    for size in (320, 640):
        images = 40 if size == 320 else 12
        sides = np.concatenate([shapes.render(k, size, 1)[1][:, 3:].max(1) * size for k in range(images)])
        assert sides.min() >= 12 and sides.max() <= 182
        medians[size] = float(np.median(sides))
    assert medians[320] == pytest.approx(medians[640], rel=0.3)


@pytest.mark.parametrize("kind", shapes.CLASSES)
def test_mask_is_cropped_to_the_pixels_half_covered(kind: str) -> None:
    mask = shapes._mask(kind, 60.0, np.random.default_rng(4))
    covered = mask >= 128
    assert covered[0].any() and covered[-1].any() and covered[:, 0].any() and covered[:, -1].any()
    assert max(mask.shape) <= 62
    centre = covered[mask.shape[0] // 2, mask.shape[1] // 2]
    assert centre == (kind != "ring")


def test_a_painted_shape_changes_the_pixels_of_its_box_and_no_others() -> None:
    rng = np.random.default_rng(8)
    mask = shapes._mask("star", 50.0, rng)
    canvas = np.full((120, 120, 3), 128, np.uint8)
    shapes._paint(rng, canvas, mask, 30, 40)
    rows, columns = np.nonzero((canvas.astype(int) - 128).any(2))
    h, w = mask.shape
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (30, 40, 30 + w, 40 + h)


def test_bad_arguments_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels: got 31"):
        shapes.render(0, 31)
    with pytest.raises(ValueError, match="index -1"):
        shapes.render(-1)
    with pytest.raises(ValueError, match="seed -2"):
        shapes.render(0, 64, -2)


def test_write_dataset(tmp_path: Path) -> None:
    import cv2

    yaml = shapes.write_dataset(tmp_path / "set", 3, 96, seed=9)
    assert yaml == tmp_path / "set" / "data.yaml" and yaml.is_absolute()
    text = yaml.read_text()
    assert "train: images\n" in text and "val: images\n" in text and "  5: cross\n" in text
    for index in range(3):
        image, labels = shapes.render(index, 96, 9)
        assert np.array_equal(cv2.imread(str(tmp_path / "set" / "images" / f"{index:06d}.png")), image)
        written = np.loadtxt(tmp_path / "set" / "labels" / f"{index:06d}.txt", ndmin=2)
        assert np.allclose(written, labels, atol=1e-6)
    assert shapes.write_dataset(tmp_path / "set", 3, 96, seed=9) == yaml  # again: harmless
    with pytest.raises(FileExistsError, match=r"already holds 000002\.png"):
        shapes.write_dataset(tmp_path / "set", 2, 96, seed=9)
    with pytest.raises(ValueError, match="at least 1: got 0"):
        shapes.write_dataset(tmp_path / "none", 0, 96, seed=9)


def test_augmentation_keeps_boxes_exact() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[4:10, 20:36] = 255
    labels = np.array([[2, 28 / 40, 7 / 40, 16 / 40, 6 / 40]], np.float32)
    seen = set()
    for seed in range(60):
        turned, rows = augment(image, labels, np.random.default_rng(seed))
        corner = turned[0, 0, 0]  # ground: no object reaches a corner
        ys, xs = np.nonzero(turned[:, :, 0] != corner)
        box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        kind, cx, cy, w, h = (float(v) for v in rows[0])
        assert kind == 2
        assert np.allclose(box, (np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * 40), atol=1e-4)
        seen.add((*box, int(corner)))
    assert len(seen) == 16  # 8 placements, 2 polarities
    assert labels[0, 1] == np.float32(28 / 40)  # the argument is untouched


def test_generator_needs_neither_torch_nor_ultralytics() -> None:
    code = (
        "import sys; import hlsgen.models.demo.shapes as s; s.render(0, 64); "
        "assert not {'torch', 'ultralytics'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_weights_are_bundled_small_and_load_as_data_only() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("ultralytics")
    from importlib import import_module

    assert WEIGHTS.stat().st_size <= 7_000_000
    names = torch.serialization.get_unsafe_globals_in_checkpoint(WEIGHTS)
    allowed = [getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    assert all(name.startswith(("torch.nn.modules.", "ultralytics.nn.")) for name in names), names
    with torch.serialization.safe_globals(allowed):
        checkpoint = torch.load(WEIGHTS, weights_only=True)
    model = checkpoint["model"]
    assert tuple(model.names.values()) == shapes.CLASSES and model.model[-1].nc == len(shapes.CLASSES)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())
