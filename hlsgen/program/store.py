"""The Program on disk: program.json (readable) and program.npz (arrays), the same bytes for the same Program."""

import io
import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import Addition, Requant
from hlsgen.program.dynamic import FloatOp
from hlsgen.program.layer_norm import Norm
from hlsgen.program.ops import EngineConfig, Op, Operand, Program, Softmax, Source, Tensor, Tile, Window
from hlsgen.quantize.spec import TensorQ

ARRAYS = ("weights", "bias", "table")
EPOCH = (1980, 1, 1, 0, 0, 0)


def save(program: Program, folder: Path) -> None:
    """Write program.json and program.npz into `folder`."""
    arrays: dict[str, Any] = {}
    ops = []
    for i, op in enumerate(program.ops):
        row = {f.name: getattr(op, f.name) for f in fields(op) if f.name not in (*ARRAYS, "requant", "norm", "floats")}
        for name in ("in_quant", "window", "tile", "residual", "addition", "operand", "values", "softmax"):
            row[name] = asdict(row[name]) if row[name] is not None else None
        row["sources"] = [asdict(s) for s in op.sources]
        row["requant"] = {"scheme": op.requant.scheme, "out": asdict(op.requant.out)}
        arrays[f"{i}.multiplier"], arrays[f"{i}.shift"] = op.requant.multiplier, op.requant.shift
        row["norm"] = None
        if op.norm is not None:
            row["norm"] = {"out": asdict(op.norm.out), "epsilon": op.norm.epsilon, "shift": op.norm.shift}
            arrays[f"{i}.gain"], arrays[f"{i}.offset"] = op.norm.gain, op.norm.offset
        if op.floats is not None:
            row["floats"] = {
                "reading": op.floats.reading,
                "activation": op.floats.activation,
                "epsilon": op.floats.epsilon,
            }
            if op.floats.scale is not None:
                arrays[f"{i}.scale"], arrays[f"{i}.offset"] = op.floats.scale, op.floats.bias
        for name in ARRAYS:
            if getattr(op, name) is not None:
                arrays[f"{i}.{name}"] = getattr(op, name)
        ops.append(row)
    text = {f.name: getattr(program, f.name) for f in fields(program)}
    if program.constants:
        text["constants"] = list(program.constants)
        arrays |= {f"constant.{name}": value for name, value in program.constants.items()}
    else:
        del text["constants"]
    text |= {"engine": asdict(program.engine), "tensors": [asdict(t) for t in program.tensors.values()], "ops": ops}
    (folder / "program.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    with zipfile.ZipFile(folder / "program.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), data.getvalue())


def read(folder: Path) -> Program:
    """The Program that `save` wrote; raises HlsgenError where the files are missing or damaged."""
    try:
        text = json.loads((folder / "program.json").read_text(encoding="utf-8"))
        arrays = dict(np.load(folder / "program.npz", allow_pickle=False))
        ops = tuple(_op(row, arrays, i) for i, row in enumerate(text.pop("ops")))
        tensors = [_quantized(Tensor, t) for t in text.pop("tensors")]
        text |= {name: tuple(text[name]) for name in ("inputs", "outputs", "image")}
        text["constants"] = {name: arrays[f"constant.{name}"] for name in text.get("constants", [])}
        return Program(
            **text | {"engine": EngineConfig(**text["engine"]), "tensors": {t.name: t for t in tensors}, "ops": ops}
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise HlsgenError(f"the Program in {folder} is missing or damaged; build from lower") from error


def _quantized(kind: type[Tensor], row: dict[str, Any]) -> Tensor:
    return kind(**row | {"quant": TensorQ(**row["quant"]), "lanes": tuple(row["lanes"])})


def _op(row: dict[str, Any], arrays: dict[str, Any], i: int) -> Op:
    requant = row["requant"]
    addition = row["addition"]
    return Op(
        **row
        | {name: arrays.get(f"{i}.{name}") for name in ARRAYS}
        | {
            "sources": tuple(Source(**s) for s in row["sources"]),
            "lanes": tuple(row["lanes"]),
            "in_size": tuple(row["in_size"]),
            "in_quant": TensorQ(**row["in_quant"]),
            "window": Window(**{k: tuple(v) for k, v in row["window"].items()}),
            "tile": Tile(**row["tile"]),
            "residual": Source(**row["residual"]) if row["residual"] else None,
            "operand": _operand(row["operand"]) if row["operand"] else None,
            "values": _operand(row["values"]) if row["values"] else None,
            "softmax": Softmax(**row["softmax"] | {"scores": TensorQ(**row["softmax"]["scores"])})
            if row["softmax"]
            else None,
            "floats": _floats(row["floats"], arrays.get(f"{i}.scale"), arrays.get(f"{i}.offset"))
            if row.get("floats")
            else None,
            "norm": _norm(row["norm"], arrays[f"{i}.gain"], arrays[f"{i}.offset"]) if row["norm"] else None,
            "addition": Addition(**addition | {"out": TensorQ(**addition["out"])}) if addition else None,
            "requant": Requant(
                requant["scheme"], TensorQ(**requant["out"]), arrays[f"{i}.multiplier"], arrays[f"{i}.shift"]
            ),
        }
    )


def _operand(row: dict[str, Any]) -> Operand:
    return Operand(
        **row
        | {
            "source": Source(**row["source"]),
            "others": tuple(Source(**s) for s in row["others"]),
            "lanes": tuple(row["lanes"]),
            "window": tuple(row["window"]),
            "alike": tuple(row["alike"]),
            "places": tuple(row["places"]),
        }
    )


def _floats(row: dict[str, Any], scale: Any, bias: Any) -> FloatOp:
    return FloatOp(row["reading"], scale, bias, row["activation"], float(row["epsilon"]))


def _norm(row: dict[str, Any], gain: Any, offset: Any) -> Norm:
    return Norm(TensorQ(**row["out"]), int(row["epsilon"]), gain, offset, int(row["shift"]))
