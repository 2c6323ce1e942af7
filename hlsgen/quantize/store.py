"""A spec on disk: `spec.json` (scales) and `spec.npz` (integers). No pickles; the same spec gives the same bytes."""

import json
import zipfile
from pathlib import Path

import numpy as np

from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import ENGINE_SCHEMES, ConvQ, QuantSpec, TensorQ

_PARTS: dict[str, tuple[type[np.generic], ...]] = {
    "weight": (np.int8,),
    "weight_scale": (np.float64,),
    "bias": (np.int32,),
}
_DYNAMIC = {**_PARTS, "weight": (np.int8, np.int16), "bias": (np.float32,)}


def write_spec(spec: QuantSpec, folder: Path) -> None:
    """Write `spec` into `folder`, an existing folder.

    Raises:
        HlsgenError: it cannot be written.
    """
    tensors = {n: {"scale": q.scale, "zero_point": q.zero_point, "bits": q.bits} for n, q in spec.tensors.items()}
    text = json.dumps({"scheme": spec.scheme, "convs": list(spec.convs), "tensors": tensors}, indent=1)
    arrays = {f"{name}/{part}": getattr(q, part) for name, q in spec.convs.items() for part in _PARTS}
    try:
        (folder / "spec.json").write_text(text + "\n", encoding="utf-8")
        np.savez(folder / "spec.npz", **arrays)
    except OSError as error:
        raise HlsgenError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another output folder"
        ) from error


def read_spec(folder: Path) -> QuantSpec:
    """Read what `write_spec` wrote.

    Raises:
        HlsgenError: files missing, damaged, or not a spec.
    """
    try:
        held = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        if held["scheme"] not in ENGINE_SCHEMES:
            raise ValueError(f"scheme {held['scheme']!r}")
        tensors = {
            str(name): TensorQ(float(q["scale"]), int(q["zero_point"]), int(q["bits"]))
            for name, q in held["tensors"].items()
        }
        with np.load(folder / "spec.npz", allow_pickle=False) as arrays:
            convs, kinds = {}, _DYNAMIC if held["scheme"] == "dynamic" else _PARTS
            for name in held["convs"]:
                parts = {part: arrays[f"{name}/{part}"] for part in _PARTS}
                wrong = [part for part, kind in kinds.items() if parts[part].dtype not in kind]
                if wrong:
                    raise ValueError(f"{name}/{wrong[0]} is {parts[wrong[0]].dtype}")
                convs[str(name)] = ConvQ(**parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise HlsgenError(f"{folder}: no readable quantized network ({error}); build it again") from error
    return QuantSpec(held["scheme"], tensors, convs)
