"""Arrays to block memories."""

import pytest

from hlsgen.cost.memory import memory


@pytest.mark.parametrize(
    ("depth", "width", "ramb18"),
    [
        (512, 36, 1),  # a RAMB18 exactly
        (512, 37, 2),
        (513, 36, 2),
        (1024, 18, 1),
        (2048, 128, 15),  # a patch buffer of TM 16: 9 bits a block
        (1024, 26, 2),
        (4096, 8, 2),  # a table of 12 bits
        (16384, 1, 1),
    ],
)
def test_bram_configurations(depth: int, width: int, ramb18: int) -> None:
    assert memory(depth, width) == (ramb18, 0, 0)


def test_shallow_and_small_memories_are_luts() -> None:
    assert memory(64, 64).lut > 0
    assert memory(64, 64).ramb18 == 0
    assert memory(128, 8).lut > 0
    assert memory(65, 64).ramb18 > 0


def test_uram() -> None:
    assert memory(4096, 128, uram=True) == (0, 2, 0)
    assert memory(4097, 72, uram=True) == (0, 2, 0)
