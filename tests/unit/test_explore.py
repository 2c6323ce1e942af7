"""The points of an exploration, the Pareto front, budgets, and the page."""

import csv
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlsgen import targets
from hlsgen.cost.budget import CEILINGS, budget
from hlsgen.cost.coefficients import Coefficients
from hlsgen.cost.schedule import Overrides
from hlsgen.errors import HlsgenError
from hlsgen.explore.network import Network
from hlsgen.explore.objectives import OBJECTIVES, objectives, pareto
from hlsgen.explore.price import hold, price
from hlsgen.explore.run import ExploreOptions, explore
from hlsgen.explore.space import BUDGETS, Budget, Point, code, points
from hlsgen.progress import Quiet
from hlsgen.report.scale import scale

FPS_LUT = objectives(["fps", "lut"])


@pytest.fixture(scope="module")
def network() -> Network:
    found = Network.load("yolo", "demo", (64, 64), "fixed")
    hold(found)
    return found


def point(network: Network, **more: Any) -> Point:
    known = Point(
        network.digest, targets.find("xc7z020"), 150.0, Budget.parse("100%"), Overrides(tm=16, tn=16), "throughput"
    )
    return replace(known, **more)


def test_small_figures_have_digits_enough_to_tell_them_apart() -> None:
    shown = {name: [OBJECTIVES[name].show(v) for v in (0.1271, 7.864, 21.46, 1234.5)] for name in ("fps", "latency_ms")}
    assert shown["fps"] == shown["latency_ms"] == ["0.127", "7.86", "21.5", "1,234.5"]
    assert [OBJECTIVES["gops"].show(v) for v in (0.41, 4.1, 123.6)] == ["0.41", "4.1", "124"]
    assert OBJECTIVES["lut"].show(42_406.0) == "42,406" and OBJECTIVES["fps"].show(None) == "-"


# ---- objectives and the front ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25))
def test_the_front_is_what_nothing_dominates(values: list[tuple[int, int, int]]) -> None:
    weighed = objectives(["fps", "lut", "latency"])
    rows = [{"fps": f, "lut": u, "latency_ms": t} for f, u, t in values]
    front = pareto(rows, weighed)
    signed = np.array([[-f, u, t] for f, u, t in values])  # less is better in all
    for i, mine in enumerate(signed):
        dominated = any((other <= mine).all() and (other < mine).any() for other in signed)
        earlier_equal = any((other == mine).all() for other in signed[:i])
        assert front[i] == (not dominated and not earlier_equal)
    assert any(front)


def test_a_point_without_a_figure_is_behind_all_that_have_it() -> None:
    rows = [{"gops_per_dsp": None, "lut": 10}, {"gops_per_dsp": 0.1, "lut": 10}, {"gops_per_dsp": None, "lut": 9}]
    assert pareto(rows, objectives(["gops_per_dsp", "lut"])) == [False, True, True]


def test_objectives_by_name_and_by_alias_each_once() -> None:
    assert [o.name for o in objectives(["FPS", "latency", "throughput", "bram"])] == ["fps", "latency_ms", "bram36"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fsp", "unknown objective 'fsp': the nearest are fps"),
        ("latncy", "unknown objective 'latncy': the nearest are latency"),
        ("power", "unknown objective 'power': .*known are fps, latency_ms, gops"),
    ],
)
def test_an_unknown_objective_names_the_nearest(name: str, message: str) -> None:
    with pytest.raises(HlsgenError, match=message):
        objectives(["lut", name])


# ---- budgets and points ------------------------------------------------------------------------------------------


def test_budgets() -> None:
    part = targets.find("xc7z020")
    half = Budget.parse("50%")
    assert half == Budget.parse(" .5 ")
    assert half.label == "50%"
    assert half.of(part).resources.lut == 26_600
    assert budget(half.of(part))["dsp"] == 110
    mixed = Budget.parse("lut:60%+dsp:25%")
    assert (mixed.label, mixed.of(part).resources.lut, mixed.of(part).resources.dsp) == ("lut:60%+dsp:25%", 31_920, 55)
    assert mixed.of(part).resources.bram36 == part.resources.bram36
    assert mixed.of(part).memory == part.memory
    assert Budget.parse("1%").of(targets.find("xczu3eg")).resources.uram == 0
    assert Budget.parse("100%").of(part) == part


@pytest.mark.parametrize("text", ["", "0%", "101%", "50", "half", "lutt:50%", "lut:50%+", "nan", "lut:-5%"])
def test_a_bad_budget(text: str) -> None:
    with pytest.raises(HlsgenError, match="a budget expects a share of 1% to 100% such as 50%"):
        Budget.parse(text)


def test_points_are_every_combination_once() -> None:
    chosen = [targets.find("xc7z020"), targets.find("kv260")]
    budgets = [Budget.parse(b) for b in BUDGETS]
    found, left_out = points(["a", "b"], chosen, [], budgets, {"tm": (16, 32), "tn": (32, 32)}, ["throughput"])
    assert len(found) == len({p.key for p in found}) == 2 * 2 * 3 * 5  # TM 32 with TN 32 alone is an engine
    assert {p.overrides for p in found} == {Overrides(tm=32, tn=32)}
    assert {(p.target.name, p.clock_mhz) for p in found} == {
        ("xc7z020", 100.0), ("xc7z020", 150.0), ("xc7z020", 200.0),
        ("kv260", 167.0), ("kv260", 250.0), ("kv260", 333.0),
    }  # fmt: skip
    assert {(row["part"], tuple(row["fixed"].items())) for row in left_out} == {
        (part.name, (("tm", 16), ("tn", 32))) for part in chosen
    }
    assert "TN must divide TM" in left_out[0]["why"]


def test_no_legal_combination_is_bad_input() -> None:
    with pytest.raises(HlsgenError, match="--tm expects a multiple of 8"):
        points(["a"], [targets.find("xc7z020")], [], [Budget.parse("50%")], {"tm": (20, 21)}, ["throughput"])
    with pytest.raises(HlsgenError, match="a clock expects 10 to 1000 MHz, got 3"):
        points(["a"], [targets.find("xc7z020")], [100, 3], [Budget.parse("50%")], {}, ["throughput"])


def test_the_key_changes_with_everything_that_determines_the_result(network: Network) -> None:
    base = point(network)
    richer = base.target.model_copy(
        update={"memory": base.target.memory.model_copy(update={"usable_gb_s": base.target.memory.usable_gb_s + 0.1})}
    )
    others = [
        replace(base, network="0" * 32),
        replace(base, target=targets.find("pynq-z2")),
        replace(base, target=richer),
        replace(base, clock_mhz=151.0),
        replace(base, budget=Budget.parse("99%")),
        replace(base, overrides=Overrides(tm=16)),
        replace(base, goal="latency"),
        replace(base, coefficients=Coefficients(error=0.1, family="zynq-7000", tool="2023.2", reports=1)),
    ]
    assert len({p.key for p in [base, *others]}) == len(others) + 1
    assert point(network).key == base.key
    assert re.fullmatch(r"[0-9a-f]{32}", base.key)


def test_the_same_network_has_the_same_digest(network: Network) -> None:
    again = Network.load("yolov8n", "demo", (64, 64), "fixed")
    assert again.digest == network.digest
    assert Network.load("yolov8n", "random", (64, 64), "fixed").digest != network.digest
    assert Network.load("yolov8n", "demo", (64, 96), "fixed").digest != network.digest


# ---- pricing -----------------------------------------------------------------------------------------------------


def test_a_point_costs_what_estimate_says(network: Network) -> None:
    from hlsgen.cli_estimate import estimate_model

    facts = price(point(network), code())
    known = estimate_model("yolo", "xc7z020", 150.0, tm=16, tn=16, imgsz="64", weights="demo", scheme="fixed")
    assert facts["fits"]
    assert facts["engine"] == known["engine"]
    for name in ("fps", "latency_ms", "gops", "gops_per_dsp", "mac_utilization", "ddr_bytes", "cores"):
        assert facts["values"][name] == known[name], name
    for name in CEILINGS:
        assert facts["values"][name] <= known["resources"][name]["used"] <= facts["values"][name] + 0.5
    assert sum(facts["binds"].values()) == pytest.approx(1)


def test_a_design_stays_in_its_budget(network: Network) -> None:
    free = point(network, overrides=Overrides())
    for share in ("40%", "dsp:20%"):
        limits = budget(Budget.parse(share).of(free.target))
        facts = price(replace(free, budget=Budget.parse(share)), code())
        assert facts["fits"]
        assert all(facts["values"][name] <= limit for name, limit in limits.items())
        assert facts["resources"]["dsp"]["available"] == 220  # shares are told of the whole part


def test_what_does_not_fit_says_by_how_much(network: Network) -> None:
    facts = price(point(network, budget=Budget.parse("lut:10%")), code())
    assert not facts["fits"]
    assert re.fullmatch(
        r"nothing fits: the smallest engine, --tm 16 --tn 16 .+, needs [\d,]+ LUT where 4,256 are allowed", facts["why"]
    )


def test_a_worker_of_another_version_says_so(network: Network) -> None:
    with pytest.raises(HlsgenError, match="a worker runs another hlsgen than this machine"):
        price(point(network), "another")


# ---- the whole ---------------------------------------------------------------------------------------------------

SMALL = ExploreOptions(
    models=("yolo",),
    parts=("xc7z020", "kv260"),
    out=Path(),
    clocks=(150.0,),
    budgets=("10%", "50%", "100%"),
    fixed={"tm": (16,), "tn": (16,)},
    weights="demo",
    imgsz=(64, 64),
)


class Recorder(Quiet):
    def __init__(self, stop_at: int = -1) -> None:
        self.steps: list[tuple[int, int]] = []
        self.stop_at = stop_at

    def step(self, done: int, total: int) -> None:
        self.steps.append((done, total))
        if done == self.stop_at:
            raise KeyboardInterrupt


def test_interrupted_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        explore(replace(SMALL, out=out), Recorder(stop_at=2))
    kept = sorted((out / "points").iterdir())
    assert len(kept) == 2
    assert not (out / "explore.json").exists()
    kept[0].write_text(kept[0].read_text()[:-40])  # cut in half by somebody else: priced anew
    found, came = explore(replace(SMALL, out=out), recorder := Recorder())
    assert came == {"points": 6, "taken_over": 1, "priced": 5}
    assert recorder.steps[-1] == (5, 5)
    assert len(list((out / "points").iterdir())) == 6
    whole, _ = explore(replace(SMALL, out=tmp_path / "whole"))
    assert found == whole
    for name in ("explore.json", "explore.csv", "explore.html"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert json.loads((out / "explore.json").read_text()) == found


def test_the_files(tmp_path: Path) -> None:
    found, _ = explore(replace(SMALL, out=tmp_path, objectives=("fps", "latency", "lut")))
    rows = list(csv.DictReader((tmp_path / "explore.csv").open()))
    assert len(rows) == len(found["points"]) == 2 * 3 * 2  # for throughput, and for latency
    assert {row["goal"] for row in rows} == {"throughput", "latency"}
    fitting = [p for p in found["points"] if p["fits"]]
    assert [float(r["fps"]) for r in rows if r["fits"] == "True"] == [p["values"]["fps"] for p in fitting]
    header = (tmp_path / "explore.csv").read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    engines = {(r["narrow"], r["table_uram"], r["patch_uram"]) for r in rows if r["fits"] == "True"}
    assert engines == {tuple(str(p["engine"][n]) for n in ("narrow", "table_uram", "uram")) for p in fitting}
    weighed = [OBJECTIVES[o["name"]] for o in found["objectives"]]
    on = pareto([p["values"] for p in fitting], weighed)
    assert [p["front"] == "all" for p in fitting] == on
    for part in ("xc7z020", "kv260"):
        own = [p for p in fitting if p["part"] == part]
        assert [p["front"] is not None for p in own] == pareto([p["values"] for p in own], weighed)
    page = (tmp_path / "explore.html").read_text()
    assert page.count('<svg class="plot scatter"') == 2
    assert page.count("<title>") == 1 + 2 * len(fitting)
    best = next(p for p in fitting if p["front"] == "all" and p["goal"] == "throughput")
    e = best["engine"]
    assert (
        f"hlsgen build yolov8n --weights demo --part {best['part']} --clock 150 --imgsz 64x64 --tm 16 --tn 16 "
        f"--tp {e['tp']} --lanes {e['lanes']} --cores {best['cores']}"
    ) in page
    assert "needs" in page.split("What does not fit")[1]
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|https?://|url\(|@import|<script", page)


def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(HlsgenError, match="holds files that hlsgen did not write"):
        explore(replace(SMALL, out=tmp_path))
    with pytest.raises(HlsgenError, match="exists and is no folder"):
        explore(replace(SMALL, out=tmp_path / "thesis.tex"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"parts": ("xc7z02",)}, "unknown part or board 'xc7z02': the nearest names are xc7z020"),
        ({"models": ("resnet",)}, "model 'resnet' is unknown"),
        ({"jobs": 0}, "--jobs expects at least 1 process, got 0"),
        ({"executor": "spark://a:1"}, "--executor expects dask://HOST:PORT, got 'spark://a:1'"),
        ({"executor": "dask://a"}, "--executor expects dask://HOST:PORT, got 'dask://a'"),
        ({"executor": "dask://a:99999"}, "--executor expects dask://HOST:PORT"),
        ({"executor": "ray://a:10001"}, "--executor ray:// is not supported"),
    ],
)
def test_bad_input_is_one_sentence(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(HlsgenError, match=message):
        explore(replace(SMALL, out=tmp_path / "out", **more))


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=20))
def test_every_value_and_tick_lies_on_the_axis(values: list[float]) -> None:
    axis = scale(values, 60.0, 940.0)
    assert all(60 <= axis.at(v) <= 940 for v in values)
    assert all(60 <= t.at <= 940 for t in axis.ticks)
    assert [t.at for t in axis.ticks] == sorted(t.at for t in axis.ticks)
    assert axis.log == (max(values) / min(values) > 30)
    assert len({t.text for t in axis.ticks}) == len(axis.ticks) <= 12


class Killer(Quiet):
    """Kills a worker process of this machine, as a system short of memory does, when the first point has come back."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.killed = False

    def step(self, done: int, total: int) -> None:
        if done == 1 and not self.killed:
            from joblib.externals.loky import reusable_executor  # asked for an executor it might make another

            self.killed = True
            os.kill(next(iter(reusable_executor._executor._processes)), signal.SIGKILL)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_killed_process_costs_no_point(tmp_path: Path) -> None:
    killer = Killer()
    options = replace(SMALL, clocks=(100.0, 150.0, 200.0), budgets=("100%",))
    found, came = explore(replace(options, out=tmp_path / "parallel", jobs=2), killer)
    assert killer.killed
    assert len(killer.notes) == 1
    assert re.fullmatch(r"a process was killed; \d+ points are priced again", killer.notes[0])
    assert came == {"points": 6, "taken_over": 0, "priced": 6}
    assert found == explore(replace(options, out=tmp_path / "serial"))[0]
