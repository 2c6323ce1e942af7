"""Arrays in a file: what was put in comes out, and nothing is left behind."""

import errno
from pathlib import Path

import numpy as np
import pytest

from hlsgen.spool import Spool


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    held = Spool(tmp_path)
    made = np.random.default_rng(0)
    given = {
        "a": made.integers(-128, 128, (3, 5, 7)).astype(np.int8),
        "b": made.standard_normal((2, 3, 4)).astype(np.float32).transpose(2, 0, 1),
        "c": made.integers(-9000, 9000, (1, 1, 1)).astype(np.int16),
    }
    held.update(given)
    held["a"] += 1  # a copy is changed and put back
    given["a"] = given["a"] + 1
    assert list(held) == ["a", "b", "c"] and len(held) == 3 and "a" in held and "d" not in held
    for _ in range(2):
        for name, array in reversed(given.items()):
            assert held[name].dtype == array.dtype
            np.testing.assert_array_equal(held[name], array)
    del held["b"]
    with pytest.raises(KeyError):
        held["b"]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_by_its_errno() -> None:
    """`hlsgen.workspace.replacing` makes a sentence of it."""
    held = Spool(Path("."))
    held._file = open("/dev/full", "r+b")  # noqa: SIM115
    with pytest.raises(OSError, match="No space left") as error:
        held["a"] = np.zeros(1 << 20, np.int8)
    assert error.value.errno == errno.ENOSPC
