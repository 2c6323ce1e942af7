"""Arrays by name that lie in a file: what a large network makes of one picture needs more room than memory should give."""

import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Spool(MutableMapping[str, Array]):
    """A dictionary of arrays of any shape and type, kept in a file without a name in `folder`, which goes when this goes.

    What is read is a copy, so it costs memory only as long as it is used. The place of what is replaced or deleted stays empty.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (as long as this lives)
        self._places: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        self._end = 0

    def __setitem__(self, name: str, array: Array) -> None:
        self._file.seek(self._end)
        self._file.write(_bytes(np.ascontiguousarray(array)))
        self._places[name] = self._end, array.shape, array.dtype
        self._end += array.nbytes

    def __getitem__(self, name: str) -> Array:
        at, shape, kind = self._places[name]
        array = np.empty(shape, kind)
        self._file.seek(at)
        if self._file.readinto(_bytes(array)) != array.nbytes:
            raise OSError(f"{name} is no longer whole in its file")
        return array

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
