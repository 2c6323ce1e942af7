"""Reading an ultralytics checkpoint without trusting it.

A checkpoint is a pickle of whole module objects. An allow-list of the *real* classes is not enough: their constructors
can be called from the pickle with arguments of its choosing. So every class of torch.nn and ultralytics that the file
names is read as an `Inert` stand-in, which runs nothing and only holds the state that the file gives it, and any other
name is refused before the pickle is opened. `hlsgen.models.yolo` builds the network from these stand-ins.
"""

import zipfile
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import torch

from hlsgen.errors import HlsgenError

_INERT_PREFIXES = ("torch.nn.modules.", "ultralytics.", "pathlib.")
_INERT_NAMES = frozenset(
    {"builtins.getattr", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
)


class Inert:
    """A pickled object of class `kind` (its last name: "Conv2d", "C2f") that is never brought to life.

    state: its attributes, as the pickle held them; for a module with `_modules`, `_parameters`, `_buffers`.
    """

    kind = ""
    state: dict[str, Any]

    def __new__(cls, *_args: object, **_keywords: object) -> "Inert":
        made = object.__new__(cls)
        made.state = {}
        return made

    def __init__(self, *_args: object, **_keywords: object) -> None:
        return None

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.state.update(state)


@cache
def _stand_in(path: str) -> type[Inert]:
    return type("Inert", (Inert,), {"kind": path.rpartition(".")[2]})


def read_checkpoint(path: str | Path) -> Inert:
    """The detection model in an ultralytics `.pt` file, as inert objects (the EMA's where the file has one).

    Raises:
        HlsgenError: the file is missing, unreadable, truncated or no checkpoint; it names anything but torch.nn and
            ultralytics classes (nothing in it is executed); it holds no detection model.
    """
    if not Path(path).is_file():
        raise HlsgenError(f"checkpoint {path}: expected a file, there is none; give --weights FILE")
    try:
        with open(path, "rb") as file:
            return parse_checkpoint(file, f"checkpoint {path}")
    except OSError as error:
        raise HlsgenError(f"checkpoint {path}: cannot be read ({error.strerror or error})") from error


def parse_checkpoint(file: BinaryIO, source: str) -> Inert:
    """`read_checkpoint` on an open file; `source` is what error messages call it."""
    try:
        if not zipfile.is_zipfile(file):
            raise HlsgenError(
                f"{source}: expected a torch.save file (a zip archive), this one is truncated or something else"
            )
        file.seek(0)
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        foreign = sorted(n for n in names if not (n.startswith(_INERT_PREFIXES) or n in _INERT_NAMES))
        if foreign:
            raise HlsgenError(
                f"{source}: refused, it names {foreign[0]!r} where only torch.nn and ultralytics classes are expected; "
                "nothing in it was executed"
            )
        file.seek(0)
        with torch.serialization.safe_globals([(_stand_in(n), n) for n in names]):
            held = torch.load(file, map_location="cpu", weights_only=True)
    except (HlsgenError, OSError):
        raise
    except (
        Exception
    ) as error:  # a damaged or hostile pickle can fail in any way; none may reach the user as a traceback
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise HlsgenError(f"{source}: damaged or truncated; torch.load says: {first}") from error
    model = (held.get("ema") or held.get("model")) if isinstance(held, dict) else held
    if not isinstance(model, Inert):
        sam = isinstance(held, dict) and any(str(name).startswith("image_encoder.") for name in held)
        hint = "; it holds a SAM, say hlsgen build sam" if sam else ""
        raise HlsgenError(
            f"{source}: expected an ultralytics checkpoint (a dict with a 'model' object in it), found none{hint}"
        )
    return model
