"""What the cycle simulation skips because it repeats itself: the result is that of simulating all of it, to the bit."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hlsgen import targets
from hlsgen.cost.assumed import assumed_graph
from hlsgen.cost.events import Simulator, Worker
from hlsgen.cost.hardware import Link, link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.schedule import schedule
from hlsgen.cost.shape import OpShape
from hlsgen.cost.simulate import simulate_ops
from hlsgen.cost.streams import stream_depths
from hlsgen.models import load
from hlsgen.program.groups import BlockGroups
from hlsgen.program.ops import EngineConfig, Tile, Window
from hlsgen.program.tiling import best_tile
from hlsgen.quantize.spec import Scheme
from tests.numerics.test_cost_cycles import attention_shapes, engines, shapes


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.data())
def test_random_ops_on_one_core_and_several(data: st.DataObject) -> None:
    """Ops that come again among others, where memory binds and where it does not."""
    engine = data.draw(engines())
    kinds = data.draw(st.lists(st.one_of(shapes(engine), attention_shapes(engine)), min_size=1, max_size=2))
    ops = tuple(data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)))
    way = Link(bytes_a_cycle=data.draw(st.sampled_from([1.7, 5.3, 16.0, 64.0])))
    depths, cores = stream_depths(engine), data.draw(st.integers(1, 3))
    tiles = tuple(best_tile(engine, shape, way, depths, "an op")[0] for shape in ops)
    ran = simulate_ops(engine, ops, tiles, way, depths, cores)
    assert ran == simulate_ops(engine, ops, tiles, way, depths, cores, whole=True)


@pytest.mark.parametrize(
    ("model", "part", "scheme"),
    [
        ("yolov8n", "kv260", "fixed"),
        ("sam_tiny", "xc7z020", "dynamic"),
        ("sam_tiny", "xczu9eg", "affine"),
    ],
)
def test_a_network(model: str, part: str, scheme: Scheme) -> None:
    loaded = load(model, "demo", apart=scheme == "dynamic")
    design = schedule(assumed_graph(loaded.network, loaded.shape, scheme), targets.find(part))
    program, tiles = design.program, tuple(op.tile for op in design.program.ops)
    given_ = (program.engine, op_shapes(program), tiles, design.way, design.depths, design.cores)
    ran = simulate_ops(*given_)
    assert ran == simulate_ops(*given_, whole=True)
    if scheme != "dynamic":  # whose formulas are coarser
        assert design.cycles == pytest.approx(ran.cycles, rel=0.05)


def test_a_transformers_layers_are_skipped_on_three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight equal layers, and of each one's steps, few are simulated where the memory does not bind."""
    steps = 0
    one = Simulator._step

    def counted(self: Simulator, worker: Worker) -> None:
        nonlocal steps
        steps += 1
        one(self, worker)

    monkeypatch.setattr(Simulator, "_step", counted)
    engine = EngineConfig(tm=32, tn=16, tp=4, beat=16, lanes=16, patch_depth=1024, acc_depth=512)
    linear = OpShape(Window(), (32, 32), (32, 32), BlockGroups(1, 24, 24), True, ((24, 0),), 32, 768)
    wide = OpShape(Window(), (32, 32), (32, 32), BlockGroups(1, 24, 96), True, ((24, 0),), 32, 3072)
    way = replace(link(targets.find("xczu9eg"), engine, 300.0, 3), bytes_a_cycle=32.0)
    ops, tiles = (linear, wide) * 8, (Tile(8, 32, 8), Tile(8, 32, 8)) * 8
    ran = simulate_ops(engine, ops, tiles, way, stream_depths(engine), 3)
    assert ran.events > 12 * steps
    assert len(ran.op_cycles) == len(ops)
