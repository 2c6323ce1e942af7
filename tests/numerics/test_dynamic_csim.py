"""Scheme dynamic in C++: equal to the golden model bit for bit, on engines of all shapes, and through bounded streams."""

from pathlib import Path

import numpy as np
import pytest

from hlsgen import csim
from hlsgen.cost.cycles import one_tile
from hlsgen.cost.hardware import Link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.simulate import simulate
from hlsgen.cost.streams import stream_depths
from hlsgen.models.sam.network import linears
from hlsgen.program import store
from hlsgen.program.ops import EngineConfig, Program
from hlsgen.quantize.dynamic_network import dynamic_spec
from tests.numerics.test_dynamic_engine import lowered
from tests.numerics.test_engine import ENGINES, prove
from tests.numerics.test_relative_positions import SMALL, encoder

WIDE = EngineConfig(tm=64, tn=32, tp=3, beat=64, lanes=16, patch_depth=512, acc_depth=256)
NARROW = EngineConfig(tm=24, tn=8, tp=1, beat=8, lanes=2, patch_depth=64, acc_depth=64)


@pytest.fixture(scope="module")
def programs() -> dict[EngineConfig, Program]:
    network = encoder()
    spec = dynamic_spec(network, linears(network))
    return {engine: lowered(network, spec, SMALL.img_size, engine) for engine in (*ENGINES, WIDE, NARROW)}


@pytest.mark.parametrize("engine", [ENGINES[1], WIDE], ids=["tp4", "wide"])
def test_bit_for_bit(engine: EngineConfig, programs: dict[EngineConfig, Program], tmp_path: Path) -> None:
    prove(programs[engine], tmp_path, 1)


@pytest.mark.full
@pytest.mark.parametrize("engine", [ENGINES[0], *ENGINES[2:], NARROW], ids=str)
def test_every_engine(engine: EngineConfig, programs: dict[EngineConfig, Program], tmp_path: Path) -> None:
    prove(programs[engine], tmp_path, 2)


def test_exact_widths_and_a_program_read_back(programs: dict[EngineConfig, Program], tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    store.save(programs[ENGINES[2]], tmp_path / "program")
    result = prove(store.read(tmp_path / "program"), tmp_path, 3, strict=True)
    assert result.strict


def test_streams_and_cycles(programs: dict[EngineConfig, Program], tmp_path: Path) -> None:
    """All processes at once move what the cycle simulation counts; the formulas are near it."""
    program = programs[ENGINES[3]]
    prove(program, tmp_path, 4)
    ran = simulate(program, Link())
    result = csim.simulate(tmp_path, program, tmp_path / "data", tokens=ran.op_tokens)
    assert result.mismatches == 0 and result.streams is not None
    depths = stream_depths(program.engine)
    shapes = zip(program.ops, op_shapes(program), strict=True)
    total = sum(float(one_tile(program.engine, shape, Link(), depths, op.tile).total[0]) for op, shape in shapes)
    assert 0.85 < total / ran.cycles < 1.15


def test_a_wrong_float_is_found_where_it_is(programs: dict[EngineConfig, Program], tmp_path: Path) -> None:
    program = programs[ENGINES[1]]
    prove(program, tmp_path, 5)
    tensor = program.tensors[program.ops[2].out]
    begin = program.expected()[2]
    assert begin is not None
    data = np.fromfile(tmp_path / "data" / "expected.bin", np.int8)
    values = tensor.unpack(data[begin : begin + tensor.bytes()], program.engine.tm)
    where = tuple(n - 1 for n in values.shape)
    meant = values[where]
    values[where] = np.nextafter(meant, np.float32(np.inf))
    data[begin : begin + tensor.bytes()] = tensor.pack(values, program.engine.tm)
    data.tofile(tmp_path / "data" / "expected.bin")
    result = csim.simulate(tmp_path, program, tmp_path / "data")
    first = result.first_difference()
    assert first is not None and result.mismatches == 1
    assert (first["op"], tuple(first["index"])) == (tensor.name, where)
    assert (first["expected"], first["got"]) == (float(values[where]), float(meant))
