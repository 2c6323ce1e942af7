"""What the driver computes on the host's side equals hlsgen's own, bit for bit."""

import ast
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hlsgen.models import boxes, images
from hlsgen.program.ops import Tensor as ProgramTensor
from hlsgen.quantize.integer import quantize_image
from hlsgen.quantize.spec import TensorQ

ROOT = Path(__file__).resolve().parents[2]
side = st.integers(1, 300)


def test_the_driver_runs_on_the_oldest_python_of_pynq() -> None:
    found = sorted((ROOT / "templates" / "driver").rglob("*.py"))
    assert len(found) > 10
    for path in found:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
        names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level}
        assert not names & {"cv2", "torch", "hlsgen", "scipy"}, path
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "strict"], path


@settings(max_examples=150, deadline=None)
@given(side, side, side, side, st.integers(0, 2**32 - 1))
@example(480, 640, 320, 240, 0)
@example(60, 80, 30, 40, 1)  # half the size
@example(1, 1, 7, 5, 2)
@example(300, 1, 1, 300, 3)
def test_resize_is_opencv_s(h: int, w: int, new_h: int, new_w: int, seed: int) -> None:
    from hlsgen_driver.images import resize

    picture = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
    theirs = cv2.resize(picture, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(picture, new_h, new_w), theirs)


def network(size: tuple[int, int], levels: Any, tensors: list[dict[str, Any]], tm: int, **more: Any) -> Any:
    from hlsgen_driver.network import Network

    found: dict[str, Any] = {
        "format": 2,
        "model": "net",
        "target": "pynq-z2",
        "clock_mhz": 150.0,
        "cores": 1,
        "top": "hlsgen_engine",
        "identity": "0x00000001",
        "program_sha256": "",
        "parameters": {"bytes": 0, "sha256": ""},
        "feature_map_bytes": 0,
        "expected_bytes": 0,
        "image": {"size": [3, *size], "levels": levels},
        "outputs": [],
        "head": None,
        "tm": tm,
        "tensors": tensors,
    }
    return Network(found | more)


def row(name: str, channels: int, height: int, width: int, lanes: list[int], fold: int, q: TensorQ) -> dict[str, Any]:
    sizes = {
        "name": name,
        "address": 0,
        "expected": None,
        "channels": channels,
        "height": height,
        "width": width,
        "fold": fold,
    }
    return {**sizes, "lanes": lanes, "scale": q.scale, "zero_point": q.zero_point}


@settings(max_examples=60, deadline=None)
@given(
    side, side, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2]), st.sampled_from([4, 8, 16]), st.data()
)
def test_packing_is_letterbox_quantize_and_pack(
    h: int, w: int, rows: int, cols: int, fold: int, tm: int, data: st.DataObject
) -> None:
    from hlsgen_driver.images import Packer

    seed = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    q = data.draw(st.sampled_from([TensorQ(2.0**-7, 0, 8), TensorQ(1 / 255, -128, 8), TensorQ(0.0051, 3, 8)]))
    channels = 3 * fold * fold
    order = random.permutation(channels) if data.draw(st.booleans()) else np.arange(channels)
    lanes = [int(v) for v in order] + [-1] * (-channels % tm)
    picture = random.integers(0, 256, (h, w, 3)).astype(np.uint8)
    size = (rows * fold, cols * fold)
    integers = quantize_image(torch.from_numpy(images.letterbox(picture, size)), q).numpy().astype(np.int8)
    theirs = ProgramTensor("x", channels, rows, cols, q, tuple(lanes), 0, "x", fold).pack(integers, tm)
    ramp = torch.arange(256, dtype=torch.float32) / 255
    levels = [int(v) for v in quantize_image(ramp, q)]
    described = network(size, levels, [row("x", channels, rows, cols, lanes, fold, q)], tm)
    packed, at = Packer(described).pack(np.ascontiguousarray(picture[:, :, ::-1]))
    np.testing.assert_array_equal(packed, theirs)
    host = images.place((h, w), size)
    assert tuple(at) == (host.height, host.width, host.new_height, host.new_width, host.left, host.top)
    box = random.uniform(-20, 60, (9, 4)).astype(np.float32)
    assert at.restore(box).tobytes() == host.restore(box).tobytes()
    np.testing.assert_array_equal(described.image.pack(integers), theirs)
    np.testing.assert_array_equal(
        described.image.unpack(theirs),
        ProgramTensor("x", channels, rows, cols, q, tuple(lanes), 0, "x", fold).unpack(theirs, tm),
    )


@pytest.mark.parametrize("confidence", [0.0, 0.001, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("tm", [4, 8, 16])
@pytest.mark.parametrize("classes", [1, 5, 80])
def test_boxes_are_the_host_s(confidence: float, tm: int, classes: int) -> None:
    from hlsgen_driver.boxes import Decoder

    random = np.random.default_rng([int(confidence * 1000), tm, classes])
    strides, reg_max, sizes = (8, 16), 16, [(12, 9), (6, 5)]
    scales = [TensorQ(0.11, 4, 8), TensorQ(2.0**-3, 0, 8), TensorQ(0.07, -9, 8), TensorQ(2.0**-2, 0, 8)]
    tensors, packed, maps = [], [], []
    for i, (height, width) in enumerate(sizes):
        for j, channels in enumerate((4 * reg_max, classes)):
            q = scales[2 * i + j]
            order = [int(v) for v in random.permutation(channels)]
            lanes = order + [-1] * (-channels % tm)
            values = random.integers(-128, 128, (channels, height, width)).astype(np.int8)
            if j:
                values = np.maximum(values.astype(int) - 90, -128).astype(np.int8)  # few cells pass, some often tie
            tensor = ProgramTensor(f"t{i}{j}", channels, height, width, q, tuple(lanes), 0, "x")
            data = tensor.pack(values, tm).reshape(-1, tm)
            pad = np.array(lanes).reshape(-1, tm) < 0
            blocks = data.reshape(-1, height * width, tm)
            blocks[np.repeat(pad[:, None], height * width, axis=1)] = 127  # what lies in unused lanes must not matter
            tensors.append(row(tensor.name, channels, height, width, lanes, 1, q))
            packed.append(data.reshape(-1))
            maps.append((q.scale * (values.astype(np.float64) - q.zero_point)).astype(np.float32))
    head = {"strides": list(strides), "reg_max": reg_max, "classes": [str(i) for i in range(classes)]}
    described = network((96, 96), [], tensors, tm, outputs=[t["name"] for t in tensors], head=head)
    found = Decoder(described, described.head, confidence, 0.6).detect(packed)
    wanted = boxes.detect(maps, strides, reg_max, classes, confidence, 0.6)
    assert (len(wanted) > 0) == (confidence < 1)
    assert found.boxes.tobytes() == wanted.boxes.tobytes()
    assert found.scores.tobytes() == wanted.scores.tobytes()
    np.testing.assert_array_equal(found.classes, wanted.classes)
