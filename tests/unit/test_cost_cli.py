"""`hlsgen estimate`, by its function and its command."""

import json
from pathlib import Path

import click.testing
import pytest

from hlsgen.cli_estimate import estimate, estimate_model, weights_at_hand
from hlsgen.errors import HlsgenError
from hlsgen.models import download


def test_json_holds_the_documented_keys() -> None:
    ran = click.testing.CliRunner().invoke(
        estimate, ["yolo", "--part", "xc7z020", "--clock", "150", "--imgsz", "160", "--weights", "demo", "--json"]
    )
    assert ran.exit_code == 0, ran.output
    facts = json.loads(ran.stdout)
    for key in (
        "clock_mhz",
        "cycles",
        "latency_ms",
        "fps",
        "gops",
        "gops_per_dsp",
        "mac_utilization",
        "ddr_bytes",
        "fits",
    ):
        assert key in facts
    assert set(facts["resources"]) == {"lut", "ff", "dsp", "bram36", "uram"}
    assert facts["resources"]["dsp"]["available"] == 220
    assert facts["verdict"] == "fits xc7z020"
    assert facts["imgsz"] == [160, 160]


def test_the_table_names_every_layer_and_the_verdict() -> None:
    ran = click.testing.CliRunner().invoke(
        estimate, ["yolov8n", "--board", "pynq-z2", "--imgsz", "96x160", "--weights", "demo", "--simulate"]
    )
    assert ran.exit_code == 0, ran.output
    assert "verdict   fits pynq-z2" in ran.stdout
    assert "formulas / simulation" in ran.stdout
    assert "model_0_act" in ran.stdout


def test_a_slow_design_is_told_in_seconds() -> None:
    ran = click.testing.CliRunner().invoke(
        estimate,
        ["yolo", "--weights", "demo", "--part", "xc7z020", "--clock", "10", "--tm", "8", "--tp", "1", "--cores", "1"],
    )
    assert ran.exit_code == 0, ran.output
    (speed,) = (line for line in ran.stdout.splitlines() if line.startswith("speed"))
    fps, latency = speed.split()[1], speed.split()[3:5]
    assert 0.1 < float(fps) < 1 and len(fps) == 5
    assert latency[1] == "s," and float(latency[0]) == pytest.approx(1 / float(fps), rel=0.01)
    assert "weights demo" in ran.stdout


@pytest.mark.parametrize(
    ("model", "file", "weights"),
    [
        ("sam", "sam_vit_b_01ec64.pth", None),
        ("sam_vit_l", "sam_vit_b_01ec64.pth", "random"),
        ("sam_tiny", "", None),
        ("mine.pth", "", None),
        ("yolov8s", "yolov8s.pt", None),
        ("yolov8s", "", "random"),
        ("yolo", "", "demo"),
    ],
)
def test_weights_that_need_no_download(
    model: str, file: str, weights: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "find_cached", lambda name: Path(name) if name == file else None)
    assert weights_at_hand(model) == weights


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "xc7z02"}, "unknown part or board"),
        ({"part": "xc7z020", "tm": 20}, "--tm expects a multiple of 8"),
        ({"part": "xc7z020", "clock": 1.0}, "a clock expects 10 to 1000 MHz, got 1"),
    ],
)
def test_bad_input_is_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(HlsgenError, match=message):
        estimate_model("yolo", weights="demo", imgsz="160", **options)  # type: ignore[arg-type]
