"""`hlsgen estimate`, by its function and its command."""

import json

import click.testing
import pytest

from hlsgen.cli_estimate import estimate, estimate_model
from hlsgen.errors import HlsgenError


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
