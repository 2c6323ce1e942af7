"""The scheduler's choice, the verdict, and the facts of an estimate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hlsgen import targets
from hlsgen.backend.graph import run_passes
from hlsgen.cost.budget import budget, overflows
from hlsgen.cost.estimate import estimate
from hlsgen.cost.fit import check_fit
from hlsgen.cost.resources import terms, total_usage, usage, widths
from hlsgen.cost.schedule import Overrides, Scheduler, retiled, schedule
from hlsgen.cost.simulate import simulate
from hlsgen.cost.streams import stream_depths
from hlsgen.errors import HlsgenError
from hlsgen.program.chunks import held
from hlsgen.program.encode import encode
from hlsgen.program.lower import lower
from hlsgen.program.ops import EngineConfig
from hlsgen.program.tiling import best_tile
from tests.unit._backend_nets import bottleneck, graph_of, yolov8n_like


@pytest.fixture(scope="module")
def yolo() -> Any:
    graph = graph_of(yolov8n_like(), (3, 640, 640))
    run_passes(graph)
    return graph


@pytest.fixture(scope="module")
def small() -> Any:
    graph = graph_of(bottleneck(), (3, 16, 16))
    run_passes(graph)
    return graph


def test_yolov8n_on_xc7z020_reaches_its_numbers(yolo: Any) -> None:
    """The targets of this part, by the cycle simulation, within every ceiling."""
    target = targets.find("xc7z020")
    design = schedule(yolo, target, 150.0)
    ran = simulate(design.program, design.way, design.cores, design.depths)
    fps = 150e6 / ran.cycles
    gops = 2 * design.program.macs() * fps / 1e9
    e = design.engine
    assert design.fits
    assert design.cycles == pytest.approx(ran.cycles, rel=0.05)
    assert fps >= 14
    assert gops >= 120
    assert gops / target.resources.dsp >= 0.55
    assert design.program.macs() / (e.tm * e.tn * e.tp) / ran.cycles >= 0.80


@pytest.mark.parametrize(
    ("part", "clock", "gops"), [("kv260", 300.0, 700), ("zcu104", 300.0, 1000), ("alveo-u250", 300.0, 3000)]
)
def test_larger_parts(yolo: Any, part: str, clock: float, gops: float) -> None:
    design = schedule(yolo, targets.find(part), clock)
    assert design.fits and design.cores > 1
    assert design.estimate["gops"] >= gops


def test_yolov3_tiny_on_xc7z020() -> None:
    """Against the best published result on this part, 82 GOPS for the same network (by the cycle simulation)."""
    from benchmarks.formula_vs_simulation import graph_of

    design = schedule(graph_of("yolov3-tiny", (416, 416)), targets.find("xc7z020"), 150.0)
    ran = simulate(design.program, design.way, design.cores, design.depths)
    assert design.fits
    assert 2 * design.program.macs() * 150e6 / ran.cycles / 1e9 >= 110


def test_a_detector_s_few_scores_are_narrow_where_that_leaves_room() -> None:
    """YOLO11n on the ZCU104: the array that TP x TM scores a cycle, and what is held of them, leave no room for."""
    from benchmarks.formula_vs_simulation import graph_of

    graph, target = graph_of("yolo11n", (640, 640)), targets.find("zcu104")
    design, scheduler = schedule(graph, target), Scheduler(graph, target, target.clock.default_mhz)
    assert design.fits and design.engine.narrow and design.fps >= 195
    wide = replace(design.engine, narrow=False)
    assert overflows(scheduler.used(wide, design.cores), target)
    assert scheduler.design(wide, design.cores).cycles <= design.cycles
    (attend,) = (op for op in design.program.ops if op.kind == "attend")
    assert attend.tile.rows * attend.tile.cols <= held(design.engine).pixels


@pytest.mark.parametrize("part", ["xc7z020", "alveo-u250"])
def test_no_tile_undercuts_the_search_s_bound(yolo: Any, part: str) -> None:
    """Op by op, for several engines and numbers of cores; and a core more never makes the bound of all cores worse."""
    scheduler = Scheduler(yolo, targets.find(part), 150.0)
    for sizes in ({"tm": 16, "tn": 8, "tp": 5}, {"tm": 32, "tn": 32, "tp": 2, "beat": 16, "lanes": 4}):
        engine = EngineConfig(**sizes)
        network, bounds = scheduler.lowered(engine), []
        for cores in (1, 2, 5, 16):
            way, depths = scheduler.way(engine, cores), stream_depths(engine)
            floors = network.floors(engine, way)
            for op, shape, floor in zip(network.program.ops, network.shapes, floors, strict=True):
                assert 0 < floor <= best_tile(engine, shape, way, depths, op.name)[1], op.name
            bounds.append(cores / floors.sum())
        assert bounds == sorted(bounds)


def test_the_choice_is_deterministic(small: Any) -> None:
    a, b = (schedule(small, targets.find("xc7z020"), 150.0) for _ in range(2))
    assert (a.engine, a.cores, a.cycles) == (b.engine, b.cores, b.cycles)
    assert [op.tile for op in a.program.ops] == [op.tile for op in b.program.ops]


def test_latency_never_loses_to_throughput_at_latency(yolo: Any) -> None:
    target = targets.find("kv260")
    fast, many = (schedule(yolo, target, 300.0, objective=o) for o in ("latency", "throughput"))  # type: ignore[arg-type]
    assert fast.cycles <= many.cycles
    assert fast.fps <= many.fps * 1.02  # both to the search's gap


def test_overrides_are_kept(small: Any) -> None:
    fixed = Overrides(tm=8, tn=8, tp=3, lanes=4, cores=2)
    design = schedule(small, targets.find("zcu104"), 200.0, fixed)
    e = design.engine
    assert (e.tm, e.tn, e.tp, e.lanes, design.cores) == (8, 8, 3, 4, 2)
    assert design.fits


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"tm": 12}, "--tm expects a multiple of 8"),
        ({"tm": 16, "tn": 12}, "no engine has --tm 16 --tn 12: TN must divide TM"),
        ({"lanes": 3}, "no engine has --lanes 3"),
        ({"tp": 0}, "--tp expects 1 to 256, got 0"),
        ({"cores": 1000}, "--cores expects 1 to 256, got 1000"),
    ],
)
def test_illegal_overrides(small: Any, overrides: dict[str, int], message: str) -> None:
    with pytest.raises(HlsgenError, match=message):
        schedule(small, targets.find("xc7z020"), 150.0, Overrides(**overrides))


def test_an_absurd_clock(small: Any) -> None:
    with pytest.raises(HlsgenError, match="a clock expects 10 to 1000 MHz, got 5000"):
        schedule(small, targets.find("xc7z020"), 5000.0)


def test_the_verdict_names_resource_excess_and_the_nearest_design(yolo: Any) -> None:
    fixed = Overrides(tm=32, tn=32, tp=4)
    design = schedule(yolo, targets.find("xc7z020"), 150.0, fixed)
    assert not design.fits
    with pytest.raises(HlsgenError, match=r"LUT where 42,560 are allowed .* too many; .*the nearest that fits is --tm"):
        check_fit(design, yolo, fixed)
    assert "too many" in str(check_fit(design, yolo, fixed, force=True))


def test_a_design_that_fits_has_no_verdict(small: Any) -> None:
    assert check_fit(schedule(small, targets.find("xc7z020")), small) is None


def test_overflow_is_counted_from_the_budget() -> None:
    target = targets.find("xc7z020")
    limits = budget(target)
    assert limits == {"lut": 42560, "ff": 85120, "dsp": 220, "bram36": 119, "uram": 0}
    used = usage(EngineConfig(dsp_tn=16), widths_of_defaults(), stream_depths(EngineConfig()))
    assert overflows(used, target)["dsp"] == used.dsp - 220


def widths_of_defaults() -> Any:
    from hlsgen.cost.resources import Widths

    return Widths("fixed", 24, 24, 4096, 256, 66, True, True)


def test_retiling_is_lowering(small: Any) -> None:
    """Every address, plane and size as lowering for that engine makes them, for another port and other buffers."""
    engine = EngineConfig(tm=16, tn=16, tp=3, beat=16, lanes=16, patch_depth=512, acc_depth=256)
    ours = lower(small, replace(engine, beat=8, lanes=8))
    lowered = lower(small, engine)
    again = retiled(ours, engine, [op.tile for op in lowered.ops])
    a, b = encode(again), encode(lowered)
    assert a.instructions == b.instructions
    assert a.sources == b.sources
    assert np.array_equal(a.weights, b.weights)
    assert again.fmap_beats == lowered.fmap_beats
    with pytest.raises(HlsgenError, match="blocks of 16"):
        retiled(ours, EngineConfig(tm=32), [])


def test_widths_are_the_encoding_s(yolo: Any) -> None:
    program = lower(yolo, EngineConfig())
    bounds, known = encode(program).bounds, widths(program)
    assert (known.acc, known.biased, known.channels) == (bounds.acc_bits, bounds.biased_bits, bounds.channels)
    assert known.table == bounds.table_size


def test_facts_add_up(yolo: Any) -> None:
    target = targets.find("xc7z020")
    program = lower(yolo, EngineConfig(dsp_tn=12))
    facts = estimate(program, target, 150.0)
    assert facts["cycles"] == sum(layer["cycles"] for layer in facts["layers"])
    assert facts["fps"] == pytest.approx(150e6 / facts["cycles"])
    assert facts["gops"] == pytest.approx(2 * program.macs() * facts["fps"] / 1e9)
    assert facts["ddr_bytes"] == sum(layer["ddr_bytes"] for layer in facts["layers"])
    assert len(facts["layers"]) == len(program.ops)
    for name in ("lut", "ff", "dsp"):
        assert facts["resources"][name]["used"] == sum(term[name] for term in facts["terms"].values())
    assert all(layer["cycles"] >= layer["compute_cycles"] for layer in facts["layers"])
    assert facts["fits"] == (not facts["over"])


def test_more_of_anything_costs_more() -> None:
    w, base = widths_of_defaults(), EngineConfig(dsp_tn=8)

    def of(**change: Any) -> Any:
        engine = replace(base, **change)
        return usage(engine, w, stream_depths(engine))

    assert of(tp=4).lut > of().lut
    assert of(dsp_tn=16).dsp > of().dsp
    assert of(dsp_tn=16).lut < of().lut
    assert of(acc_depth=2048).bram36 > of().bram36
    assert of(patch_depth=4096).bram36 > of().bram36
    assert of(uram=True).bram36 < of().bram36
    assert of(uram=True).uram > 0
    assert of(beat=16, lanes=16).lut > of(beat=16, lanes=8).lut
    tables = [terms(e, w, stream_depths(e))["tables"].bram36 for e in (base, replace(base, beat=16, lanes=16))]
    assert tables == [4 * 1, 8 * 2]  # a copy two lanes: 1024 words of four entries, 512 of eight
    one = usage(base, w, stream_depths(base))
    assert total_usage(base, w, stream_depths(base), 1, 4) == one
    assert total_usage(base, w, stream_depths(base), 2, 4).lut > 2 * one.lut  # the interconnect
    assert set(terms(base, w, stream_depths(base))) >= {"products in DSPs", "products in LUTs", "patch buffers"}


@pytest.mark.parametrize("bad", [-1, 17])
def test_dsp_tn_is_checked(bad: int) -> None:
    with pytest.raises(HlsgenError, match="dsp_tn expects 0 to TN = 16"):
        EngineConfig(dsp_tn=bad)


@pytest.mark.parametrize("port", [25, 27])
def test_the_array_is_the_one_that_was_counted(port: int) -> None:
    """The same LUTs as benchmarks/area, which yosys's counts hold to account."""
    from benchmarks.area.array import Array
    from benchmarks.area.formula import luts, shift_registers
    from hlsgen.cost import array

    for tm, tn, tp in ((16, 16, 2), (16, 8, 4), (8, 8, 3), (32, 16, 1), (32, 32, 6)):
        for dsp_tn in range(0, tn + 1):
            engine = EngineConfig(tm=tm, tn=tn, tp=tp, dsp_tn=dsp_tn)
            counted = Array(tm, tn, tp, dsp_tn, port)
            assert array.in_dsps(engine, port) + array.in_luts(engine) == luts(counted) + shift_registers(counted)
