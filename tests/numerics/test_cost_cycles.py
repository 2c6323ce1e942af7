"""The closed formulas against the cycle simulation, on random ops and on whole networks."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hlsgen import targets
from hlsgen.cost.cycles import one_tile
from hlsgen.cost.hardware import Link, link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.shape import OpShape
from hlsgen.cost.simulate import simulate, simulate_ops
from hlsgen.cost.streams import stream_depths
from hlsgen.program.groups import BlockGroups
from hlsgen.program.ops import EngineConfig, Program, Tile, Window
from hlsgen.program.tiling import best_tile, candidates
from tests.unit._backend_nets import graph_of, yolov8n_like


@st.composite
def engines(draw: st.DrawFn) -> EngineConfig:
    tm = draw(st.sampled_from([8, 16, 32]))
    tn = draw(st.sampled_from([n for n in (8, 16, 32) if tm % n == 0]))
    beat = draw(st.sampled_from([b for b in (8, 16) if tm % b == 0]))
    return EngineConfig(
        tm=tm,
        tn=tn,
        tp=draw(st.sampled_from([1, 2, 3, 4])),
        beat=beat,
        lanes=draw(st.sampled_from([beat, beat // 2])),
        patch_depth=draw(st.sampled_from([512, 1024, 2048])),
        acc_depth=draw(st.sampled_from([256, 512, 1024])),
        narrow=draw(st.booleans()),
    )


@st.composite
def shapes(draw: st.DrawFn, engine: EngineConfig) -> OpShape:
    kernel, stride = draw(st.sampled_from([(1, 1), (3, 1), (3, 2), (2, 1), (5, 1)]))
    height, width = draw(st.integers(4, 60)), draw(st.integers(4, 60))
    convolves = draw(st.booleans()) or kernel == 2
    inputs, outputs = (draw(st.integers(1, 6)), draw(st.integers(1, 6))) if convolves else (1, 1)
    count = 1 if convolves else draw(st.integers(1, 6))
    upsample = draw(st.sampled_from([0, 0, 0, 1])) if convolves and stride == 1 else 0
    scale = 1 << upsample
    size_in = (-(-height * stride // scale) * scale, -(-width * stride // scale) * scale)
    size_out = (size_in[0] // stride, size_in[1] // stride)
    pad = (kernel - 1) // 2
    return OpShape(
        Window((kernel, kernel), (stride, stride), (pad, pad)),
        size_in,
        size_out,
        BlockGroups(count, inputs, outputs),
        convolves,
        ((count * inputs, upsample),),
        draw(st.integers(1, engine.tm)) if convolves else engine.tm,
        count * outputs * engine.tm,
        draw(st.booleans()),
        draw(st.sampled_from([0, 4096])),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_a_random_op_agrees(data: st.DataObject) -> None:
    """Every op alone, with its best tile: small ones are mostly start and drain, so they get more room than networks do."""
    engine = data.draw(engines())
    shape = data.draw(shapes(engine))
    way = Link(bytes_a_cycle=data.draw(st.sampled_from([8.0, 21.3, 64.0])))
    depths = stream_depths(engine)
    tile, cycles = best_tile(engine, shape, way, depths, "an op")
    ran = simulate_ops(engine, (shape,), (tile,), way, depths)
    assert abs(cycles - ran.cycles) <= 0.25 * ran.cycles + 400


@st.composite
def attention_shapes(draw: st.DrawFn, engine: EngineConfig) -> OpShape:
    kind = draw(st.sampled_from(["scores", "attend", "attend", "norm"]))
    size = (draw(st.integers(2, 32)), draw(st.integers(2, 32)))
    heads, channels, keys = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 40))
    if kind == "norm":
        heads, inputs, outputs = 1, 2 * channels, channels
    else:
        inputs, outputs = channels, keys if kind == "scores" else draw(st.integers(1, 5))
    return OpShape(
        Window(),
        size,
        size,
        BlockGroups(heads, inputs, outputs),
        kind != "norm",
        ((heads * inputs, 0),),
        draw(st.integers(1, engine.tm)) if kind != "norm" else engine.tm,
        heads * outputs * engine.tm,
        special=kind,
        keys=draw(st.integers(1, 1024)) if kind == "attend" else 0,
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_random_attention_agrees(data: st.DataObject) -> None:
    engine = data.draw(engines())
    shape = data.draw(attention_shapes(engine))
    way = Link(bytes_a_cycle=data.draw(st.sampled_from([8.0, 21.3, 64.0])))
    depths = stream_depths(engine)
    tile, cycles = best_tile(engine, shape, way, depths, "an op")
    ran = simulate_ops(engine, (shape,), (tile,), way, depths)
    assert abs(cycles - ran.cycles) <= 0.25 * ran.cycles + 400


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_every_candidate_tile_is_legal(data: st.DataObject) -> None:
    engine = data.draw(engines())
    shape = data.draw(shapes(engine))
    rows, cols, blocks = candidates(engine, shape)
    (kh, kw), (sh, sw) = shape.window.kernel, shape.window.stride
    assert len(rows)
    assert (((rows - 1) * sh + kh) * ((cols - 1) * sw + kw) <= engine.patch_depth).all()
    assert (-(-rows * cols // engine.tp) * blocks <= engine.acc_depth).all()
    assert (rows <= shape.size_out[0]).all()
    assert (cols <= shape.size_out[1]).all()
    assert (shape.groups.outputs % blocks == 0).all() or shape.groups.count == 1


@pytest.fixture(scope="module")
def program() -> Program:
    from hlsgen.backend.graph import run_passes
    from hlsgen.program.lower import lower

    graph = graph_of(yolov8n_like(), (3, 320, 320))
    run_passes(graph)
    return lower(graph, EngineConfig())


@pytest.mark.parametrize(
    ("part", "clock", "cores", "change"),
    [
        ("xc7z020", 150.0, 1, {}),
        ("pynq-z2", 100.0, 1, {"acc_depth": 512}),
        ("kv260", 300.0, 2, {"beat": 16, "lanes": 16, "tp": 4, "acc_depth": 512}),
        ("kv260", 300.0, 4, {"tp": 4}),
        ("xc7z020", 150.0, 1, {"tn": 8, "tp": 4, "lanes": 4, "patch_depth": 1024}),
    ],
)
def test_a_network_agrees_within_5_percent(
    program: Program, part: str, clock: float, cores: int, change: dict[str, int]
) -> None:
    engine = replace(program.engine, **change)
    way, depths = link(targets.find(part), engine, clock, cores), stream_depths(engine)
    shapes = op_shapes(program)
    tiles = tuple(best_tile(engine, s, way, depths, "an op")[0] for s in shapes)
    formula = sum(float(one_tile(engine, s, way, depths, t).total[0]) for s, t in zip(shapes, tiles, strict=True))
    ran = simulate_ops(engine, shapes, tiles, way, depths, cores)
    assert formula == pytest.approx(ran.cycles, rel=0.05)
    assert ran.memory_use <= 1.0


def test_the_simulation_moves_exactly_the_tokens_of_the_templates(program: Program) -> None:
    """What goes through the streams, counted from the Program by the loops of templates/engine."""
    engine = program.engine
    ran = simulate(program, Link())
    sums = out = parameters = weights = residual = 0
    for op, shape in zip(program.ops, op_shapes(program), strict=True):
        height, width = shape.size_out
        blocks = shape.channels // engine.tm
        for y in range(0, height, op.tile.rows):
            for x in range(0, width, op.tile.cols):
                pixels = min(op.tile.rows, height - y) * min(op.tile.cols, width - x)
                sums += -(-pixels // engine.tp) * blocks
        out += height * width * blocks * engine.tm // engine.beat
        residual += height * width * blocks * engine.tm // engine.beat * shape.residual
        parameters += (shape.table_bytes + shape.channels * 8) // engine.beat
        if op.weights is not None:
            halves = (shape.groups.inputs - 1) * (engine.tm // engine.tn) + -(-shape.last_lanes // engine.tn)
            tiles = -(-height // op.tile.rows) * -(-width // op.tile.cols)
            weights += tiles * blocks * halves * shape.taps * engine.tn * engine.tm // engine.beat
    assert ran.tokens | {"input": 0} == {
        "input": 0,
        "weights": weights,
        "parameters": parameters,
        "sums": sums,
        "residual": residual,
        "output": out,
    }


def test_shallower_streams_never_help(program: Program) -> None:
    way, deep = Link(), stream_depths(program.engine)
    shallow = replace(deep, sums=64, input=64, parameters=16)
    assert simulate(program, way, depths=shallow).cycles > simulate(program, way, depths=deep).cycles


def test_a_narrow_memory_binds() -> None:
    """At a tenth of a byte a cycle nothing but the memory counts."""
    engine = EngineConfig()
    shape = OpShape(Window(), (20, 20), (20, 20), BlockGroups(1, 2, 2), True, ((2, 0),), 16, 32)
    slow = Link(bytes_a_cycle=0.1)
    cost = one_tile(engine, shape, slow, stream_depths(engine), Tile(20, 20, 2))
    assert cost.binding() == "memory"
    assert float(cost.total[0]) >= float(cost.ddr_bytes[0]) / 0.1
    ran = simulate_ops(engine, (shape,), (Tile(20, 20, 2),), slow, stream_depths(engine))
    assert float(cost.total[0]) == pytest.approx(ran.cycles, rel=0.2)  # one tile: all start and drain
    assert ran.memory_use > 0.9
