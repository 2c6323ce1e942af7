"""Any legal schedule computes the same integers: hypothesis picks engine and tiles, the C-simulation proves each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlsgen import csim, targets
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.cost.hardware import Link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.schedule import Overrides, legal_engines
from hlsgen.cost.simulate import simulate
from hlsgen.errors import HlsgenError
from hlsgen.program import golden
from hlsgen.program.lower import lower
from hlsgen.program.ops import EngineConfig, Program, Tile
from hlsgen.program.tiling import candidates
from hlsgen.quantize.spec import SCHEMES
from hlsgen.render import ProjectFacts, render
from tests.numerics.random_nets import RandomNet


def searched() -> list[EngineConfig]:
    """Every engine of the scheduler's own search on a small and on a large part, of an array that compiles in seconds."""
    found = {e for part in ("xc7z020", "zcu104") for e in legal_engines(Overrides(), targets.find(part))}
    return sorted((e for e in found if e.tm * e.tn * e.tp <= 768), key=lambda e: tuple(vars(e).values()))


SEARCHED = searched()


@st.composite
def engines(draw: st.DrawFn) -> EngineConfig:
    engine = draw(st.sampled_from(SEARCHED))
    return replace(
        engine,
        dsp_tn=draw(st.integers(0, engine.tn)),
        patch_depth=draw(st.integers(160, 2048)),
        acc_depth=draw(st.integers(16, 1024)),
        uram=draw(st.booleans()),
        table_uram=draw(st.booleans()),
        narrow=draw(st.booleans()),
    )


@st.composite
def schedules(draw: st.DrawFn) -> Program:
    """A random network on a random engine, every op cut into a random legal tile (not the scheduler's choice)."""
    seed = draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 30)), int(random.integers(1, 30)))
    attention = SCHEMES[seed % 3] != "native" and draw(st.booleans())
    net = RandomNet(seed, SCHEMES[seed % 3], 7, size, int(random.integers(1, 6)), attention)
    graph = model_graph(net.layers, "random_net", "unused")
    run_passes(graph)
    program = lower(graph, draw(engines()))
    ops = []
    for op, shape in zip(program.ops, op_shapes(program), strict=True):
        rows, cols, blocks = candidates(program.engine, shape)
        i = draw(st.integers(0, len(rows) - 1))
        ops.append(replace(op, tile=Tile(int(rows[i]), int(cols[i]), int(blocks[i]))))
    return replace(program, ops=tuple(ops))


def prove(program: Program, folder: Path) -> None:
    """Exact in fast and in exact-width types, and through streams of the depths in config.h, which move what the cycle
    simulation says."""
    image = np.random.default_rng(len(program.ops)).integers(-128, 128, program.image).astype(np.int8)
    expected = {program.tensors[name].reference: values for name, values in golden.run(program, image).items()}
    render(program, folder, ProjectFacts("random", "xc7z020clg400-1", 150.0, "random"))
    csim.write_data(program, folder / "data", image, expected)
    fast = csim.simulate(folder, program, folder / "data", tokens=simulate(program, Link()).op_tokens)
    assert fast.first_difference() is None
    assert fast.streams is not None and fast.streams["output"]["tokens"] > 0
    strict = csim.simulate(folder, program, folder / "data", strict=True)
    assert np.array_equal(fast.maps, strict.maps)


PROVING = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=3, **PROVING)  # type: ignore[arg-type]
@given(program=schedules())
def test_a_random_schedule_is_exact(program: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    prove(program, tmp_path_factory.mktemp("schedule"))


@pytest.mark.full
@pytest.mark.timeout(3600)
@settings(max_examples=80, **PROVING)  # type: ignore[arg-type]
@given(program=schedules())
def test_many_random_schedules_are_exact(program: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    prove(program, tmp_path_factory.mktemp("schedule"))


def shallow(folder: Path, name: str, depth: int) -> None:
    """Give a stream of the project another depth, as a user may."""
    path = folder / "src" / "config.h"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f"#define {name} {depth}" if line.startswith(f"#define {name} ") else line for line in lines]
    assert changed != lines
    path.write_text("\n".join(changed) + "\n", encoding="utf-8")


def test_a_shallow_stream_is_an_error_and_no_hang(tmp_path: Path) -> None:
    graph_seed = 11
    net = RandomNet(graph_seed, "fixed", 3, (9, 12), 3)
    graph = model_graph(net.layers, "random_net", "unused")
    run_passes(graph)
    program = lower(graph, EngineConfig())
    prove(program, tmp_path)
    tokens = simulate(program, Link()).op_tokens

    def run() -> csim.CsimResult:
        return csim.simulate(tmp_path, program, tmp_path / "data", tokens=tokens)

    shallow(tmp_path, "SUMS_DEPTH", 0)
    with pytest.raises(HlsgenError, match=r"would hang: DEADLOCK op 0 .*mac waits for room in sums \(depth 0\)"):
        run()
    shallow(tmp_path, "SUMS_DEPTH", 1)
    with pytest.raises(HlsgenError, match=r"the stream sums of .* is 1 deep where \d+ are computed.*SUMS_DEPTH"):
        run()
    wrong = [{**row, "weights": row["weights"] + 1} for row in tokens]
    shallow(tmp_path, "SUMS_DEPTH", 4096)
    with pytest.raises(HlsgenError, match="through weights and left 0, where the cycle simulation counts"):
        csim.simulate(tmp_path, program, tmp_path / "data", tokens=wrong)
    assert run().mismatches == 0
