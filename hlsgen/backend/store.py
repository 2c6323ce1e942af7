"""A ModelGraph as two files: `layers.json`, for people too, and `weights.npz`. Same graph, same bytes."""

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hlsgen.backend.graph import layers_of, model_graph
from hlsgen.backend.layer_list import LayerList
from hlsgen.backend.layers import ARRAYS, ATTRIBUTES
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import ENGINE_SCHEMES, TensorQ

FORMAT = 1
JSON, NPZ = "layers.json", "weights.npz"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip entry's earliest date; np.savez writes today's


def save(graph: Any, folder: Path) -> None:
    """Write the graph's layers (before or after the passes) into `folder`."""
    layers = layers_of(graph)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    plain = []
    for layer in layers.layers:
        plain.append({key: _plain(value) for key, value in layer.items() if key not in ARRAYS})
        arrays.update({f"{layer['name']}.{key}": layer[key] for key in ARRAYS if key in layer})
    head = {"format": FORMAT, "scheme": layers.scheme, "outputs": layers.outputs, "layouts": layers.layouts}
    lines = ",\n".join(json.dumps(layer) for layer in plain)  # one layer a line
    text = f'{json.dumps(head)[:-1]}, "layers": [\n{lines}\n]}}\n'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NPZ).write_bytes(_npz(arrays))
    (folder / JSON).write_text(text, encoding="utf-8")


def read(folder: Path, project: str, output_dir: Path | str, part: str = "xc7z020") -> Any:
    """The ModelGraph that `save` wrote.

    Raises:
        HlsgenError: the files are missing or are not what `save` writes.
    """
    try:
        stored = json.loads((folder / JSON).read_text(encoding="utf-8"))
        if stored["format"] != FORMAT or stored["scheme"] not in ENGINE_SCHEMES:
            raise ValueError(f"format {stored['format']}, scheme {stored['scheme']}")
        layers = LayerList(stored["scheme"], outputs=stored["outputs"], layouts=stored["layouts"])
        with np.load(folder / NPZ, allow_pickle=False) as arrays:
            for layer in stored["layers"]:
                layers.layers.append(_layer(layer, arrays))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise HlsgenError(
            f"expected {folder}/{JSON} and {NPZ} as this version of hlsgen writes them ({error}); build again"
        ) from error
    return model_graph(layers, project, output_dir, part)


def _layer(stored: dict[str, Any], arrays: Any) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for key in ATTRIBUTES[stored["class_name"]]:
        name = f"{stored['name']}.{key}"
        if key == "quant":
            layer[key] = {tensor: TensorQ(**q) for tensor, q in stored[key].items()}
        elif key in ("pre", "residual_quant") and key in stored:
            layer[key] = TensorQ(**stored[key])
        elif key in ARRAYS and name in arrays:
            layer[key] = arrays[name]
        elif key in stored:
            layer[key] = stored[key]
    return layer


def _plain(value: Any) -> Any:
    if isinstance(value, TensorQ):
        return asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            entry.create_system = 3  # the same bytes on every system
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(entry, data.getvalue())
    return file.getvalue()
