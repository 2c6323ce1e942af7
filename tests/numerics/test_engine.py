"""The generated C++ against the golden model: random networks, shapes and engines, every integer equal."""

from pathlib import Path

import numpy as np
import pytest

from hlsgen import csim
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.program import golden
from hlsgen.program.lower import lower
from hlsgen.program.ops import EngineConfig, Program
from hlsgen.quantize.spec import SCHEMES, Scheme
from hlsgen.render import ProjectFacts, render
from tests.numerics.random_nets import RandomNet

ENGINES = (
    EngineConfig(),
    EngineConfig(tm=16, tn=8, tp=4, beat=8, lanes=4, patch_depth=256, acc_depth=64, narrow=True),
    EngineConfig(tm=8, tn=8, tp=3, beat=8, lanes=8, patch_depth=300, acc_depth=40),
    EngineConfig(tm=32, tn=16, tp=1, beat=16, lanes=16),
    EngineConfig(tm=16, tn=4, tp=8, beat=16, lanes=2, patch_depth=200, acc_depth=33, narrow=True),
)


def random_program(seed: int, scheme: Scheme, engine: EngineConfig, steps: int = 8, free: bool = False) -> Program:
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 40)), int(random.integers(1, 40)))
    net = RandomNet(seed, scheme, steps, size, int(random.integers(1, 6)), free=free)
    graph = model_graph(net.layers, "random_net", "unused")
    run_passes(graph)
    return lower(graph, engine)


def prove(program: Program, folder: Path, seed: int, strict: bool = False) -> csim.CsimResult:
    """Build and run the project on a random picture; its DDR must hold what the golden model computes."""
    image = np.random.default_rng(seed).integers(-128, 128, program.image).astype(np.int8)
    tensors = golden.run(program, image)
    expected = {program.tensors[name].reference: values for name, values in tensors.items()}
    render(program, folder, ProjectFacts("random", "xc7z020clg400-1", 150.0, "random"))
    csim.write_data(program, folder / "data", image, expected)
    result = csim.simulate(folder, program, folder / "data", strict)
    assert result.first_difference() is None
    assert result.elements == sum(tensors[op.out].size for op in program.ops)
    for name in program.outputs:
        assert np.array_equal(csim.tensor_of(program, result.maps, name), tensors[name])
    return result


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("engine", range(len(ENGINES)))
def test_random_network(scheme: Scheme, engine: int, tmp_path: Path) -> None:
    seed = 100 * engine + SCHEMES.index(scheme)
    prove(random_program(seed, scheme, ENGINES[engine], steps=12), tmp_path, seed)


@pytest.mark.parametrize("engine", [1, 3])
def test_free_scales_in_fixed(engine: int, tmp_path: Path) -> None:
    """Scales that are no powers of two and zero points, where all that the hardware sees is shifts."""
    program = random_program(40 + engine, "fixed", ENGINES[engine], steps=12, free=True)
    quants = [t.quant for t in program.tensors.values()]
    assert any(np.frexp(q.scale)[0] != 0.5 for q in quants) and any(q.zero_point for q in quants)
    assert all((op.requant.multiplier == 1).all() for op in program.ops if op.requant is not None)
    prove(program, tmp_path, engine)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_exact_width_types_equal_the_fast_ones(scheme: Scheme, tmp_path: Path) -> None:
    program = random_program(7, scheme, ENGINES[1])
    fast = prove(program, tmp_path, 7)
    strict = prove(program, tmp_path, 7, strict=True)
    assert strict.strict and np.array_equal(fast.maps, strict.maps)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1000, 1060))
def test_many_random_networks(seed: int, tmp_path: Path) -> None:
    prove(random_program(seed, SCHEMES[seed % 3], ENGINES[seed % len(ENGINES)], steps=15), tmp_path, seed)


def test_a_wrong_integer_is_found_where_it_is(tmp_path: Path) -> None:
    program = random_program(3, "fixed", ENGINES[0])
    prove(program, tmp_path, 3)
    tensor = program.tensors[program.ops[2].out]
    data = np.fromfile(tmp_path / "data" / "expected.bin", np.int8)
    begin = program.expected()[2]
    assert begin is not None
    values = tensor.unpack(data[begin : begin + tensor.bytes()], program.engine.tm)
    where = tuple(n - 1 for n in values.shape)
    values[where] ^= 1
    data[begin : begin + tensor.bytes()] = tensor.pack(values, program.engine.tm)
    data.tofile(tmp_path / "data" / "expected.bin")
    result = csim.simulate(tmp_path, program, tmp_path / "data")
    first = result.first_difference()
    assert result.mismatches == 1 and first is not None
    assert first["op"] == tensor.name and tuple(first["index"]) == where
    assert (
        first["expected"] == int(values[where])
        and first["got"] == int(values[where]) ^ 1
        and first["ops_affected"] == 1
    )
