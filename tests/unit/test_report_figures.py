"""The estimate's figures: what they draw is what the facts say."""

import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hlsgen import targets
from hlsgen.cost.assumed import assumed_graph
from hlsgen.cost.schedule import Overrides, schedule
from hlsgen.cost.simulate import simulate
from hlsgen.cost.trace import MOST, TILES, trace
from hlsgen.models import load
from hlsgen.report.activity import activity
from hlsgen.report.gantt import gantt
from hlsgen.report.layer_bars import PROCESSES, layer_bars
from hlsgen.report.resource_bars import resource_bars
from hlsgen.report.roofline import roofline
from hlsgen.report.write import write_report
from tests.unit._backend_nets import graph_of, yolov8n_like
from tests.unit.test_report import facts as report_facts


@cache
def design() -> Any:
    return schedule(graph_of(yolov8n_like(), (3, 160, 160)), targets.find("xc7z020"), 150.0, Overrides(tm=16, tn=16))


@cache
def facts() -> dict[str, Any]:
    d = design()
    return {**d.estimate, "unfit": None, "trace": trace(d.program, d.way, d.depths)}


def test_no_dot_is_above_the_roof() -> None:
    found = roofline(facts())
    assert found is not None
    (x0, y0), (xr, yr) = (tuple(map(float, pair.split())) for pair in re.match(r"M(.+)L(.+)H", found.roof).groups())  # type: ignore[union-attr]
    assert (xr, yr) == found.ridge
    for dot in found.dots:
        roof = yr if dot.x >= xr else y0 + (yr - y0) * (dot.x - x0) / (xr - x0)
        assert dot.y >= roof - 0.2, dot.title  # y grows downwards
        assert 64 <= dot.x <= 940
        assert 18 <= dot.y <= 374
    assert len(found.dots) == 1 + sum(1 for layer in facts()["layers"] if layer["macs"])
    assert found.dots[-1].process == "network"


def test_bars_are_as_long_as_their_cycles_and_one_of_a_layer_binds() -> None:
    layers = facts()["layers"]
    found = layer_bars(layers)
    assert found is not None
    assert [row.title for row in found.rows] == [layer["name"] for layer in layers]
    units = (found.rows[0].total - found.left) / layers[0]["cycles"]
    for row, layer in zip(found.rows, layers, strict=True):
        assert [b.process for b in row.bars if b.binds] == [layer["binds"]]
        assert [b.process for b in row.bars] == [p for p in PROCESSES if layer[f"{p}_cycles"]]
        for b in row.bars:
            assert b.width == pytest.approx(layer[f"{b.process}_cycles"] * units, rel=0.01, abs=0.2)
    tops = [b.y for row in found.rows for b in row.bars]
    assert tops == sorted(set(tops))
    assert tops[-1] + found.bar < found.height


def test_resources_over_the_part_still_fit_the_picture() -> None:
    e = facts()["resources"]
    found = resource_bars(e)
    assert [row.name for row in found.rows] == ["LUT", "FF", "DSP", "BRAM36"]  # the part has no URAM
    assert not any(row.over for row in found.rows)
    assert all(row.used == pytest.approx(e[row.name.lower()]["share"] * row.available, abs=0.1) for row in found.rows)
    over = resource_bars({"lut": {"used": 3, "available": 2, "share": 1.5, "limit": 0.8}})
    assert over.rows[0].over
    assert found.left + over.rows[0].used <= over.text_at
    assert over.rows[0].available < over.rows[0].used
    assert over.rows[0].text == "3 of 2: 150%, ceiling 80%"


def test_the_whole_inference_lies_side_by_side() -> None:
    e = facts()
    found = activity(e["layers"], e["clock_mhz"])
    assert found is not None
    computing = [b for b in found.boxes if b.process == "compute"]
    assert len(computing) == sum(1 for layer in e["layers"] if layer["compute_cycles"])
    for a, b in pairwise(computing):
        assert a.x + a.width <= b.x + 0.11
    assert all(
        0 < b.height <= found.lane and found.left <= b.x <= b.x + b.width <= found.right + 0.1 for b in found.boxes
    )
    assert sum(b.binds for b in found.boxes) == sum(1 for layer in e["layers"] if layer["binds"] != "memory")


def test_the_traced_layers_are_the_longest_that_each_process_binds() -> None:
    e = facts()
    found = e["trace"]
    longest: dict[str, int] = {}
    for layer in e["layers"]:
        longest[layer["binds"]] = max(longest.get(layer["binds"], 0), layer["cycles"])
    by_name = {layer["name"]: layer for layer in e["layers"]}
    assert len(found) == min(MOST, len(longest))
    for op in found:
        assert by_name[op["name"]]["binds"] == op["binds"]
        assert by_name[op["name"]]["cycles"] == longest[op["binds"]]
        assert all(op["begin"] <= start < stop <= op["end"] for _, _, start, stop in op["spans"])
    assert len(json.dumps(found)) < 20_000


def test_the_window_is_what_the_whole_simulation_says() -> None:
    """Simulated in part, a layer's tiles take what they take when all of it is simulated."""
    d = design()
    whole = simulate(d.program, d.way, depths=d.depths, trace=True)
    for op in facts()["trace"]:
        index = next(i for i, o in enumerate(d.program.ops) if o.name == op["name"])
        begun = sum(whole.op_cycles[:index])
        spans = [s for s in whole.spans if s.op == index]
        assert op["tiles"] == 1 + max(s.tile for s in spans if s.process == "epilogue")
        known = {(s.process, s.tile, round(s.start - begun), round(s.stop - begun)) for s in spans}
        names = {"compute": ("mac",), "weights": ("weights", "parameters", "operand")}
        inside = [s for s in op["spans"] if op["begin"] < s[2] and s[3] < op["end"]]
        assert inside
        shift = 24  # OP_START: in the whole, an op's processes start so much later
        for process, tile, start, stop in inside:
            near = {
                (n, tile, start + k, stop + k) for n in names.get(process, (process,)) for k in range(-shift, shift + 1)
            }
            assert near & known, (process, tile, start, stop)


def test_keys_and_values_are_the_weights_of_an_attention() -> None:
    """What binds an op has a lane in its picture."""
    loaded = load("sam_tiny", "demo")
    d = schedule(assumed_graph(loaded.network, loaded.shape), targets.find("xc7z020"))
    found = trace(d.program, d.way, d.depths)
    attention = {op.name for op in d.program.ops if op.operand is not None}
    assert attention & {op["name"] for op in found}
    for op in found:
        lanes = {name for name, *_ in op["spans"]}
        assert op["binds"] == "memory" or op["binds"] in lanes, (op["name"], op["binds"], lanes)


def test_boxes_of_a_lane_do_not_overlap() -> None:
    for op in facts()["trace"]:
        found = gantt(op)
        assert {y for y, _ in found.lanes} == {b.y for b in found.boxes}
        for y, _ in found.lanes:
            lane = sorted((b.x, b.width) for b in found.boxes if b.y == y)
            assert all(x + width <= after + 0.7 for (x, width), (after, _) in pairwise(lane))
            assert lane[0][0] >= found.left
            assert sum(lane[-1]) <= found.right
        assert {span[1] for span in op["spans"] if span[0] == "epilogue"} >= set(
            range(op["first"], min(op["first"] + TILES, op["tiles"]))
        )


def test_the_page_shows_them_all_and_names_are_escaped(tmp_path: Path) -> None:
    e = json.loads(json.dumps(facts()))
    e["layers"][0]["name"] = e["trace"][0]["name"] = "<script>alert(1)</script>"
    write_report(tmp_path, report_facts(estimate=e))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for kind in ("resources", "roofline", "bars", "activity"):
        assert page.count(f'<svg class="plot {kind}"') == 1
    assert page.count('<svg class="plot gantt"') == len(e["trace"])
    assert "<script" not in page
    del e["trace"]  # a build made before there was one
    write_report(tmp_path, report_facts(estimate=e))
    assert '<svg class="plot gantt"' not in (tmp_path / "report.html").read_text(encoding="utf-8")
