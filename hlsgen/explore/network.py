"""A network as a worker gets it: a ModelGraph after the passes, as two files' bytes."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hlsgen.backend import store
from hlsgen.quantize.spec import Scheme


@dataclass(frozen=True)
class Network:
    """What the cost of a network depends on, and its labels. layers, weights: the files of `hlsgen.backend.store`."""

    model: str
    origin: str
    imgsz: tuple[int, int]
    scheme: Scheme
    layers: bytes
    weights: bytes

    @classmethod
    def load(cls, model: str, weights: str | None, imgsz: tuple[int, int] | None, scheme: Scheme) -> "Network":
        """MODEL as `hlsgen estimate` takes it, with scales assumed: the cost does not depend on them.

        Raises:
            HlsgenError: as `hlsgen.cost.assumed.assumed_model`.
        """
        from hlsgen.cost.assumed import assumed_model

        loaded, graph = assumed_model(model, weights, imgsz, scheme)
        with tempfile.TemporaryDirectory() as folder:
            store.save(graph, Path(folder))
            layers, arrays = ((Path(folder) / name).read_bytes() for name in (store.JSON, store.NPZ))
        height, width = loaded.shape[1:]
        return cls(loaded.name, loaded.weights, (height, width), scheme, layers, arrays)

    @property
    def digest(self) -> str:
        """Of layers and weights: equal digests, equal costs."""
        return hashlib.sha256(hashlib.sha256(self.layers).digest() + self.weights).hexdigest()[:32]

    def save(self, folder: Path) -> None:
        """Into a folder of `folder` called as the digest."""
        own = folder / self.digest
        own.mkdir()
        (own / store.JSON).write_bytes(self.layers)
        (own / store.NPZ).write_bytes(self.weights)

    def graph(self) -> Any:
        """The ModelGraph."""
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder))
            return graph_in(Path(folder), self.digest)


def graph_in(folder: Path, digest: str) -> Any:
    """The ModelGraph that `Network.save` left in `folder`."""
    return store.read(folder / digest, "explore", folder)
