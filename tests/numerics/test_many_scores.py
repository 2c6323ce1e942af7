"""Global attention whose scores are too many to keep: head by head, through memory that the next head uses again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlsgen import csim, targets
from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.cost.estimate import layer_facts
from hlsgen.cost.fit import check_memory
from hlsgen.cost.hardware import Link
from hlsgen.cost.simulate import simulate
from hlsgen.errors import HlsgenError
from hlsgen.frontend.agreement import LIMIT, agreement
from hlsgen.frontend.qdq_write import write_qdq
from hlsgen.models import attention
from hlsgen.models.sam import graph as sam
from hlsgen.models.sam.config import MEAN, STD, SamConfig
from hlsgen.models.sam.network import encoder_network
from hlsgen.program import golden
from hlsgen.program.encode import encode, parameter_memory
from hlsgen.program.lower import lower
from hlsgen.program.memory import placed
from hlsgen.program.ops import EngineConfig, Program
from hlsgen.quantize import quantize
from hlsgen.quantize.reference import Reference
from hlsgen.quantize.spec import Scheme
from hlsgen.quantize.structure import left_out
from hlsgen.render import ProjectFacts, render
from tests.numerics.test_engine import ENGINES
from tests.numerics.test_relative_positions import SMALL, checkpoint
from tests.quantize_nets import photographs

# 36 x 36 tokens, a block of windows of 7 x 7 (padded to 42 x 42) and a global one of 1,296 tokens, one head kept at a time
TOKENS = replace(SMALL, name="tokens", img_size=72, patch=2, dim=16, window=7, embedding=8)


def compiled(
    config: SamConfig, scheme: Scheme, engine: EngineConfig
) -> tuple[Reference, Program, dict[str, np.ndarray], np.ndarray]:
    shape = (3, config.img_size, config.img_size)
    network, images = encoder_network(config, checkpoint(config)), photographs(2, shape)
    reference = quantize(network, images, scheme)
    graph = model_graph(layer_list(network, reference.spec, shape), "encoder", "unused")
    run_passes(graph)
    return reference, lower(graph, engine), dict(reference.tensors(images[0])), images[0]


def test_heads_one_after_another_are_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    state, image = checkpoint(SMALL), torch.rand(1, 3, 20, 20)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    wanted = sam.encoder(SMALL, state)((image * 255 - mean) / std)[0]
    monkeypatch.setattr(attention, "MANY_SCORES", 1)
    network = encoder_network(SMALL, state)
    assert {n.name for n in network.graph.nodes} >= {"block0_scores0", "block0_scores1", "block1_attend1"}
    torch.testing.assert_close(network(image)[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scheme", "engine"), [("fixed", 0), ("affine", 1)])
def test_more_tokens_than_a_block_may_keep_scores_of(
    scheme: Scheme, engine: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MANY_SCORES", 1296**2)
    reference, program, tensors, image = compiled(TOKENS, scheme, ENGINES[engine])
    shape = (3, TOKENS.img_size, TOKENS.img_size)
    unkept = {"block1_scores0", "block1_scores1"}
    assert left_out(reference.network, shape) == unkept and not unkept & set(tensors)
    assert all(t.compared for t in program.tensors.values())
    assert max(t.bytes() for t in program.tensors.values()) < 1296 * 1296  # no map of scores
    write_qdq(reference.network, reference.spec, shape, tmp_path / "q.onnx", "encoder")
    assert agreement(tmp_path / "q.onnx", tensors, image, unkept)["equal_inputs"]["largest"] <= LIMIT
    assert golden.check(program, tensors["image"], tensors) == sum(
        program.tensors[op.out].channels * program.tensors[op.out].height * program.tensors[op.out].width
        for op in program.ops
        if program.tensors[op.out].compared
    )
    render(program, tmp_path, ProjectFacts("random", "xc7z020clg400-1", 150.0, "random"))
    csim.write_data(program, tmp_path / "data", tensors["image"], tensors)
    assert (tmp_path / "data" / "expected.bin").stat().st_size == program.expected_bytes()
    ran = csim.simulate(tmp_path, program, tmp_path / "data", tokens=simulate(program, Link()).op_tokens)
    assert ran.first_difference() is None and ran.streams is not None


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    grid=st.integers(4, 9),
    window=st.integers(2, 5),
    heads=st.sampled_from((1, 2)),
    engine=st.integers(0, len(ENGINES) - 1),
)
def test_any_grid_and_window(
    grid: int, window: int, heads: int, engine: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = replace(SMALL, img_size=4 * grid, window=window, heads=heads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "MANY_SCORES", grid**2 * window**2)
        _, program, tensors, _ = compiled(config, "fixed", ENGINES[engine])
    assert golden.check(program, tensors["image"], tensors) > 0
    folder = tmp_path_factory.mktemp("any")
    render(program, folder, ProjectFacts("random", "xc7z020clg400-1", 150.0, "random"))
    csim.write_data(program, folder / "data", tensors["image"], tensors)
    strict = grid == 4
    assert csim.simulate(folder, program, folder / "data", strict=strict).first_difference() is None


@pytest.mark.parametrize(
    ("engine", "side", "places"),
    [
        (EngineConfig(tm=8, tn=4, tp=3, beat=8, lanes=4, patch_depth=256, acc_depth=200), 16, (2, 2)),
        (EngineConfig(tm=16, tn=16, tp=2, beat=8, lanes=8, patch_depth=512, acc_depth=64, narrow=True), 16, (1, 1)),
        (EngineConfig(tm=8, tn=8, tp=4, beat=8, lanes=8, patch_depth=256, acc_depth=256), 32, (4, 4)),
    ],
)
def test_keys_pass_over_the_rows_and_columns_in_which_they_do_not_lie(
    engine: EngineConfig, side: int, places: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 x 16 tokens, or 32 x 32 in four chunks: blocks of 8 or 16 keys lie in one row. The same integers as with all the products,
    and no map that says where keys lie is read."""
    monkeypatch.setattr(attention, "MANY_SCORES", side**4)
    config = replace(SMALL, img_size=4 * side, patch=4, dim=16, window=5, embedding=8)
    _, program, tensors, _ = compiled(config, "fixed", engine)
    told = {op.name: op.operand.places for op in program.ops if op.values is not None and op.operand is not None}
    assert told["block1_attend0"] == told["block1_attend1"] == places and told["block0_attend"] == (0, 0)
    (head,) = (op for op in program.ops if op.name == "block1_attend0")
    assert not any(name.startswith("block1_keys") for name in (*program.tensors, *head.reads))
    assert head.macs_per_pixel == side**2 * (8 + 2 + 8)  # channels of a head, where the key lies, values
    assert golden.check(program, tensors["image"], tensors) > 0
    render(program, tmp_path, ProjectFacts("random", "xc7z020clg400-1", 150.0, "random"))
    csim.write_data(program, tmp_path / "data", tensors["image"], tensors)
    ran = simulate(program, Link())
    found = csim.simulate(tmp_path, program, tmp_path / "data", tokens=ran.op_tokens)
    assert found.first_difference() is None and found.streams is not None
    for layer, cycles in zip(layer_facts(program, Link()), ran.op_cycles, strict=True):
        if layer["name"] in ("block1_attend0", "block1_attend1"):
            assert layer["cycles"] == pytest.approx(cycles, rel=0.15)


def test_no_two_tensors_share_memory_while_both_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MANY_SCORES", 1)
    _, program, _, _ = compiled(SMALL, "fixed", ENGINES[0])
    kept, beat = (*program.inputs, *program.constants), program.engine.beat
    assert placed(program).fmap_beats == program.fmap_beats
    held: dict[int, str] = {}  # by beat: whose bytes lie there

    def write(name: str) -> None:
        held.update(dict.fromkeys(beats(name), name))

    def check(name: str) -> None:
        assert {held[at] for at in beats(name)} == {name}

    def beats(name: str) -> range:
        tensor = program.tensors[name]
        assert tensor.address + tensor.beats(beat) <= program.fmap_beats
        return range(tensor.address, tensor.address + tensor.beats(beat))

    for name in kept:
        write(name)
    for op in program.ops:
        write(op.out)
        for name in (*op.reads, *kept):
            check(name)
    for name in program.outputs:
        check(name)


def test_what_the_memory_does_not_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MANY_SCORES", 1)
    _, program, _, _ = compiled(SMALL, "fixed", ENGINES[0])
    assert parameter_memory(program) == len(encode(program).weights)
    board = targets.find("pynq-z2")
    check_memory(program, board, 2)
    large = replace(program, fmap_beats=300 * 10**6 // program.engine.beat)
    check_memory(large, board, 1)
    with pytest.raises(HlsgenError) as error:
        check_memory(large, board, 2)
    said = str(error.value)
    assert (
        "needs 600 MB of memory (300 MB for feature maps for each of 2 cores, 0 MB for weights and constants)" in said
    )
    assert said.endswith("pynq-z2 has 537 MB; take fewer cores (--cores), a smaller model or a board with more")
