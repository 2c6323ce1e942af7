"""report.json and report.html from given facts: stable keys, everything escaped, no network, same bytes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from hlsgen.frontend.onnx_write import shapes
from hlsgen.quantize.spec import TensorQ
from hlsgen.report.facts import (
    Box,
    CsimFacts,
    Difference,
    LayerFacts,
    QuantizationFacts,
    ReportFacts,
)
from hlsgen.report.layers import layer_facts
from hlsgen.report.plot import sqnr_plot
from hlsgen.report.sqnr import sqnr_by_tensor
from hlsgen.report.write import Picture, write_report
from hlsgen.resources import folder

EVIL = '"><script>alert(1)</script>'
PIXEL = b"\xff\xd8\xff\xdb not much of a picture"


def layer(number: int, **more: Any) -> LayerFacts:
    kinds = ("convolution 3×3", "activation silu", "concatenation")
    base: dict[str, Any] = {
        "name": f"model_{number}_conv",
        "kind": kinds[number % 3],
        "shape": (16, 320, 320),
        "bits": 12 if number % 3 == 0 else 8,
        "scale": 2.0**-5,
        "zero_point": 0,
        "macs": 44_000_000 if number % 3 == 0 else 0,
        "sqnr_db": 38.0 - number / 4,
        "mismatches": 0 if number % 3 == 1 else None,
    }
    return LayerFacts(**base | more)


def facts(**more: Any) -> ReportFacts:
    base: dict[str, Any] = {
        "verdict": "exact",
        "model": "yolov8n",
        "part": "xc7z020",
        "arch": "engine",
        "scheme": "fixed",
        "imgsz": (640, 640),
        "gmacs": 4.3721,
        "params": 3_157_200,
        "weights": "demo",
        "notice": "the demo",
        "classes": ("circle", EVIL),
        "quantization": QuantizationFacts(
            images=32,
            source="photos/",
            pre_bits=12,
            tensors=150,
            convs=63,
            sqnr_db_min=11.2,
            sqnr_db_min_at="model_22",
            sqnr_db_outputs={"box": 21.0},
        ),
        "csim": CsimFacts(
            ops=71,
            tensors=71,
            elements=16_000_000,
            mismatches=0,
            seconds=1.2,
            compile_seconds=4.0,
            gmacs_per_second=3.6,
            types="fast",
        ),
        "onnx": {
            "elements": 16_000_000,
            "equal_inputs": {"differing": 12, "largest": 1, "tensor": "a"},
            "tensors": {"model_3_conv": {"equal_inputs": {"differing": 4321}, "end_to_end": {"differing": 8765}}},
        },
        "engine": {"tm": 16, "tn": 16, "tp": 2},
        "detections": {"fp32": (Box(name="circle", score=0.9, box=(1.0, 2.0, 3.0, 4.0)),)},
        "layers": tuple(layer(i) for i in range(150)),
        "stages": {"load": 1.0, "csim": 9.0},
        "versions": {"hlsgen": "0.1.0", "torch": "2.13.0"},
        "files": {"manifest": "manifest.json"},
    }
    return ReportFacts(**base | more)


PICTURES = (
    Picture("fp32", "FP32", "the float network", 4, PIXEL),
    Picture("int8", "INT8", "the reference", 1, PIXEL),
    Picture("csim", "C-simulation", "the hardware", 1, PIXEL),
)


def test_report_json_has_the_documented_keys(tmp_path: Path) -> None:
    returned = write_report(tmp_path, facts(), PICTURES)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == returned
    documented = set(re.findall(r"^\| `(\w+)` \|", _section("# report.json and report.html"), re.M))
    assert set(written) == documented
    for section, value in (("## csim", written["csim"]), ("## quantization", written["quantization"])):
        lines = re.findall(r"^\| (`.+?) \|", _section(section), re.M)
        named = {key for line in lines for key in re.findall(r"`(\w+)`", line)}
        assert set(value) == named, section
    assert set(written["layers"][0]) == set(re.findall(r"`(\w+)`", _section("## layers"))) - {"null"}


def _section(heading: str) -> str:
    text = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    return text.split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]


def test_the_page_needs_no_network_and_says_the_verdict(tmp_path: Path) -> None:
    write_report(tmp_path, facts(), PICTURES)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Exact: the hardware" in page
    assert "16,000,000 integers" in page
    assert page.count("data:image/jpeg;base64,") == 3
    assert page.count("<circle") == 151
    assert '<td class="num dim">4,321</td><td class="num dim">8,765</td>' in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|https?://|url\(|@import", page)
    assert [p.name for p in sorted((tmp_path / "pictures").iterdir())] == ["csim.jpg", "fp32.jpg", "int8.jpg"]


def test_names_from_model_files_are_escaped(tmp_path: Path) -> None:
    evil = facts(
        model=EVIL,
        weights=EVIL,
        notice=EVIL,
        layers=(layer(0, name=EVIL, kind=EVIL),),
        files={EVIL: EVIL},
        onnx={EVIL: {EVIL: EVIL}, "tensors": {}},
        versions={"hlsgen": EVIL},
    )
    write_report(tmp_path, evil, (Picture("fp32", EVIL, EVIL, 1, PIXEL),))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_mismatch_is_named(tmp_path: Path) -> None:
    wrong = facts().csim
    assert wrong is not None
    first = Difference(op="model_3_conv", index=(1, 2, 3), expected=7, got=-8, ops_affected=5)
    page = _page(tmp_path, facts(verdict="mismatch", csim=wrong.model_copy(update={"mismatches": 9, "first": first})))
    assert "Mismatch: 9 of 16,000,000 integers differ" in page
    assert "model_3_conv</code> (1, 2, 3): expected 7, got -8; 5 of 71 ops differ" in page


def test_a_build_that_stopped_early(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("csim", "quantization", "onnx", "engine", "detections"))
    early = facts(verdict="not run", layers=(), stages={"load": 1.0}, **nothing)
    page = _page(tmp_path, early)
    assert "Not proved" in page
    assert "stopped after load" in page
    assert "<svg" not in page


def _page(folder: Path, found: ReportFacts) -> str:
    write_report(folder, found)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_same_facts_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, facts(), PICTURES)
    for name in ("report.json", "report.html", "pictures/fp32.jpg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("values", [[3.0], [-12.0, 40.0], [95.0, 5.0], [0.0, 0.0]])
def test_points_stay_inside_the_plot(values: list[float]) -> None:
    plot = sqnr_plot([layer(i, sqnr_db=db) for i, db in enumerate(values)])
    assert plot is not None
    assert all(44 <= p.x <= 948 and 14 <= p.y <= 266 for p in plot.points)
    assert [text for _, text in plot.ticks] == sorted([text for _, text in plot.ticks], key=float)
    assert plot.worst == plot.points[int(np.argmin(values))]
    assert sqnr_plot([layer(0, sqnr_db=None)]) is None


def test_what_is_exact_does_not_stretch_the_plot() -> None:
    plot = sqnr_plot([layer(i, sqnr_db=db) for i, db in enumerate([148.7, 33.0, 168.0, 14.0])])
    assert plot is not None and plot.beyond == 2
    assert plot.ticks[-1] == (14.0, "40")
    assert [p.y for p in plot.points][::2] == [14.0, 14.0] and "168.0 dB" in plot.points[2].title
    only = sqnr_plot([layer(0, sqnr_db=200.0)])
    assert only is not None and only.beyond == 1 and only.ticks[-1][1] == "100"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.act = nn.SiLU()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.act(self.conv(image)),)


def test_sqnr_and_the_layer_table_of_a_small_network() -> None:
    torch.manual_seed(0)
    network = fx.symbolic_trace(Net().eval())
    image = np.random.default_rng(0).random((3, 8, 8), np.float32)
    x = torch.from_numpy(image)[None]
    with torch.inference_mode():
        conv = network.get_submodule("conv")(x)
        act = network.get_submodule("act")(conv)
    tensors = {"image": TensorQ(2.0**-7, 0), "conv": TensorQ(2.0**-9, 3, 12), "act": TensorQ(2.0**-6, 0)}
    floats = {"image": x, "conv": conv, "act": act}
    values = {
        name: np.rint(floats[name][0].numpy() / q.scale).astype(np.int64) + q.zero_point for name, q in tensors.items()
    }
    found = sqnr_by_tensor(network, values, tensors, image)
    for name, q in tensors.items():
        signal, noise = floats[name][0].numpy(), floats[name][0].numpy() - q.scale * (values[name] - q.zero_point)
        assert found[name] == pytest.approx(10 * np.log10((signal**2).sum() / (noise**2).sum()), abs=0.006)
    exact = sqnr_by_tensor(network, {"image": np.zeros((3, 8, 8))}, tensors, np.zeros((3, 8, 8), np.float32))
    assert exact == {"image": None}

    rows = layer_facts(network, shapes(network, (3, 8, 8)), tensors, found, {"act": 2})
    assert [(r.name, r.kind, r.shape, r.bits) for r in rows] == [
        ("image", "image", (3, 8, 8), 8),
        ("conv", "convolution 3×3 stride 2", (4, 4, 4), 12),
        ("act", "activation silu", (4, 4, 4), 8),
    ]
    assert rows[1].macs == 4 * 3 * 9 * 16
    assert [r.mismatches for r in rows] == [None, None, 2]


def test_templates_are_where_the_code_looks() -> None:
    assert (folder("templates") / "report" / "report.html.j2").is_file()
