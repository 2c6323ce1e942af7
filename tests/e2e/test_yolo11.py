"""YOLO11 from its name to the verdict: C3k2 blocks, attention, depthwise class heads, with random weights."""

from pathlib import Path
from typing import Any

import pytest

from hlsgen import build
from hlsgen.build import BuildOptions
from hlsgen.errors import HlsgenError


def built(folder: Path, size: int, **more: Any) -> dict[str, Any]:
    pytest.importorskip("ultralytics")
    options = {"model": "yolo11n", "weights": "random", "part": "xc7z020", "imgsz": (size, size), "images": 2}
    return build.run(BuildOptions(**options, out=folder / "out", **more))  # type: ignore[arg-type]


def exact(report: dict[str, Any]) -> None:
    assert report["csim"]["mismatches"] == 0 and report["csim"]["elements"] > 100_000
    found = {row["kind"]: row for row in report["layers"] if row["kind"] in ("attention scores", "attention")}
    assert (
        found["attention"]["mismatches"] == 0 and found["attention scores"]["mismatches"] is None
    )  # which stay on chip
    assert all(row["macs"] > 0 for row in found.values())


def test_yolo11n_is_exact(tmp_path: Path) -> None:
    exact(built(tmp_path, 64))


@pytest.mark.full
@pytest.mark.parametrize("scheme", ["fixed", "affine"])
def test_yolo11n_at_320_is_exact(scheme: str, tmp_path: Path) -> None:
    exact(built(tmp_path, 320, scheme=scheme))


def test_native_says_what_to_use(tmp_path: Path) -> None:
    with pytest.raises(
        HlsgenError, match=r"scheme native cannot run the attention at model_10_m_0_attn_attend: .* --scheme fixed"
    ):
        built(tmp_path, 64, scheme="native")
    assert not (tmp_path / "out").exists()
