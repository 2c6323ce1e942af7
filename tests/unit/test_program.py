"""The Program's parts: layouts, views, groups, folding, storage."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hlsgen.errors import HlsgenError
from hlsgen.program import golden, store
from hlsgen.program.encode import encode, op_groups
from hlsgen.program.groups import BlockGroups, block_groups
from hlsgen.program.lower import fold_weights, fold_window
from hlsgen.program.ops import EngineConfig, Source, Tensor, Window, fold_pixels
from hlsgen.program.tiling import choose_tile
from hlsgen.program.views import channel_slice, concatenated, padded_lanes, upsampled, whole
from hlsgen.quantize.spec import TensorQ
from tests.numerics.test_engine import ENGINES, random_program

Q = TensorQ(0.5, 0)


def tensor(name: str, channels: int, tm: int = 16, cuts: frozenset[int] = frozenset()) -> Tensor:
    return Tensor(name, channels, 4, 6, Q, padded_lanes(channels, cuts, tm), 0, name)


@given(st.integers(1, 70), st.sampled_from([8, 16, 32]), st.sets(st.integers(1, 69), max_size=4))
def test_pack_and_unpack_are_inverse(channels: int, tm: int, cuts: set[int]) -> None:
    t = tensor("t", channels, tm, frozenset(cuts))
    values = np.random.default_rng(channels).integers(-128, 128, (channels, 4, 6)).astype(np.int8)
    packed = t.pack(values, tm)
    assert packed.size == t.bytes()
    assert np.array_equal(t.unpack(packed, tm), values)


@settings(deadline=None)
@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([(2, 2, 2), (4, 2, 2), (4, 4, 4)]),
)
def test_folding_keeps_every_sum(kh: int, kw: int, top: int, left: int, how: tuple[int, int, int]) -> None:
    *stride, fold = how
    random = np.random.default_rng(kh * 10 + kw)
    x = random.integers(-128, 128, (3, 12, 16)).astype(np.int8)
    w = random.integers(-128, 128, (5, 3, kh, kw)).astype(np.int8)
    window = Window((kh, kw), (stride[0], stride[1]), (top, left))
    folded = fold_window(window, fold)
    size = (3, 4)

    def sums(x: np.ndarray, w: np.ndarray, window: Window) -> torch.Tensor:
        (kh, kw), (sh, sw), (top, left) = window.kernel, window.stride, window.pad
        bottom = max((size[0] - 1) * sh + kh - top - x.shape[1], 0)
        right = max((size[1] - 1) * sw + kw - left - x.shape[2], 0)
        padded = torch.nn.functional.pad(torch.from_numpy(x).double(), (left, right, top, bottom))
        y = torch.nn.functional.conv2d(padded[None], torch.from_numpy(w).double(), stride=window.stride)[0]
        return y[:, : size[0], : size[1]]

    assert torch.equal(sums(x, w, window), sums(fold_pixels(x, fold), fold_weights(w, window, fold), folded))


def test_a_yolo_stem_folds_to_two_by_two() -> None:
    assert fold_window(Window((3, 3), (2, 2), (1, 1))) == Window((2, 2), (1, 1), (1, 1))
    assert fold_window(Window((6, 6), (2, 2), (2, 2))) == Window((3, 3), (1, 1), (1, 1))


def test_a_split_on_block_boundaries_is_an_address() -> None:
    view = whole(tensor("t", 32), 16)
    part = channel_slice(view, 16, 32, 16)
    assert part is not None
    assert part.sources == (Source("t", 1, 1),)
    assert part.lanes == tuple(range(16))


def test_a_split_inside_a_block_is_refused_unless_the_tensor_was_cut_there() -> None:
    assert channel_slice(whole(tensor("t", 20), 16), 0, 10, 16) is None
    part = channel_slice(whole(tensor("t", 20, cuts=frozenset({10})), 16), 10, 20, 16)
    assert part is not None
    assert part.sources == (Source("t", 1, 1),)
    assert part.lanes == (*range(10), *[-1] * 6)


def test_adjoining_sources_of_a_concatenation_become_one() -> None:
    view = whole(tensor("t", 48), 16)
    parts = [channel_slice(view, a, a + 16, 16) for a in (0, 16, 32)]
    joined = concatenated([p for p in parts if p is not None])
    assert joined.sources == (Source("t", 0, 3),)
    assert joined.channels == 48
    again = concatenated([view, upsampled(view, 1)])
    assert [s.upsample for s in again.sources] == [0, 1]


def test_groups_of_blocks() -> None:
    lanes = padded_lanes(64, frozenset(), 16)
    assert block_groups(lanes, lanes, 1, 1, 16) == BlockGroups(4, 1, 1)
    assert block_groups(lanes, lanes, 64, 64, 16) == BlockGroups(1, 4, 4)
    assert block_groups(lanes, lanes, 32, 32, 16) == BlockGroups(2, 2, 2)
    assert block_groups(lanes, lanes, 24, 24, 16) == BlockGroups(1, 4, 4)


@given(
    st.sampled_from(ENGINES),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 9),
)
@settings(deadline=None, max_examples=200)
def test_tiles_fit_their_buffers(engine: EngineConfig, k: int, stride: int, height: int, width: int, outs: int) -> None:
    window = Window((k, k), (stride, stride), (k // 2, k // 2))
    tile = choose_tile(engine, window, (height, width), BlockGroups(1, 3, outs), True, "conv")
    rows, cols = (tile.rows - 1) * stride + k, (tile.cols - 1) * stride + k
    assert rows * cols <= engine.patch_depth
    assert -(-tile.rows * tile.cols // engine.tp) * tile.blocks <= engine.acc_depth
    assert 1 <= tile.blocks <= outs


def test_a_kernel_larger_than_the_buffer_is_refused() -> None:
    with pytest.raises(HlsgenError, match="patch of 20 x 20 pixels"):
        choose_tile(ENGINES[1], Window((20, 20)), (4, 4), BlockGroups(1, 1, 1), True, "conv1")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tm": 12, "tn": 12}, "multiple of 8 that divides TM"),
        ({"tn": 5}, "TN must divide TM"),
        ({"lanes": 3}, "lanes"),
        ({"tp": 0}, "tp"),
    ],
)
def test_illegal_engines_are_refused(more: dict[str, int], said: str) -> None:
    with pytest.raises(HlsgenError, match=said):
        EngineConfig(**more)


def test_a_program_is_read_back_whole(tmp_path: Path) -> None:
    program = random_program(5, "affine", ENGINES[0])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store.save(program, tmp_path / name)
    again = store.read(tmp_path / "a")
    assert again.tensors == program.tensors
    assert encode(again).instructions == encode(program).instructions
    assert np.array_equal(encode(again).weights, encode(program).weights)
    assert again.macs() == program.macs()
    for name in ("program.json", "program.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    (tmp_path / "a" / "program.npz").write_bytes(b"PK")
    with pytest.raises(HlsgenError, match="missing or damaged"):
        store.read(tmp_path / "a")


def test_the_weights_stream_is_as_long_as_the_passes() -> None:
    for seed in range(6):
        program = random_program(seed, "fixed", ENGINES[seed % len(ENGINES)])
        encoded = encode(program)
        engine, expected = program.engine, 0
        for op, fields in zip(program.ops, encoded.instructions, strict=True):
            table = encoded.bounds.table_size if op.table is not None else 0
            expected += table + 8 * fields["channels"]
            if op.weights is not None:
                blocks = (fields["in_blocks"] - 1) * (engine.tm // engine.tn) + fields["halves"]
                passes = fields["channels"] // engine.tm * blocks * fields["kernel_h"] * fields["kernel_w"]
                expected += passes * engine.tm * engine.tn
            assert op_groups(op, program).inputs == fields["in_blocks"]
        assert expected == len(encoded.weights)


def test_the_golden_model_names_the_first_difference() -> None:
    program = random_program(4, "affine", ENGINES[0])
    image = np.random.default_rng(0).integers(-128, 128, program.image).astype(np.int8)
    tensors = golden.run(program, image)
    expected = {program.tensors[name].reference: values.copy() for name, values in tensors.items()}
    assert golden.check(program, image, expected) == sum(tensors[op.out].size for op in program.ops)
    out = program.ops[1].out
    expected[program.tensors[out].reference][-1, -1, -1] ^= 1
    at = [n - 1 for n in tensors[out].shape]
    with pytest.raises(HlsgenError, match=re.escape(f"first at {out}{at}")):
        golden.check(program, image, expected)
