"""The generated C++ as a shared library: what hls4ml's `ModelGraph.write`, `compile` and `predict` come down to."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.backend.layers import layouts_of
from hlsgen.cost.array import PORTS
from hlsgen.csim import tensor_of
from hlsgen.errors import HlsgenError
from hlsgen.program.ops import Program
from hlsgen.quantize.spec import TensorQ
from hlsgen.render import ProjectFacts, hls_include, render
from hlsgen.targets import find

# One inference: `memory` is the DDR with the feature maps, `parameters` the project's data/parameters.bin.
BRIDGE = """\
#include "config.h"
#include "engine.h"
#include "program.h"

extern "C" __attribute__((visibility("default"))) void hlsgen_run(void *memory, const void *parameters) {
    beat_t *maps = static_cast<beat_t *>(memory);
    unsigned identity;
    hlsgen_engine(maps, maps, static_cast<const beat_t *>(parameters), maps, 0, OP_COUNT, identity);
}
"""


def write_project(model: Any, lower: Callable[[Any], Program]) -> Program:
    """Lower the graph with `lower` and render the project, and the library's entry, into the graph's output directory.

    Raises:
        HlsgenError: an unknown part, or what does not lower, fit or can be written.
    """
    folder, config = Path(model.config.get_output_dir()), model.config
    target = find(config.get_config_value("Part"))
    period = config.get_config_value("ClockPeriod")
    program = lower(model)
    facts = ProjectFacts(
        config.get_project_name(),
        target.vivado,
        1000 / period if period else target.clock.default_mhz,
        "x".join(str(size) for size in program.image[1:]),
        PORTS[target.resources.dsp_kind],
        target=target.name,
    )
    render(program, folder, facts)
    (folder / "hls4ml").mkdir(exist_ok=True)
    (folder / "hls4ml" / "bridge.cpp").write_text(BRIDGE, encoding="utf-8")
    return program


def build_library(folder: Path) -> Path:
    """Compile the written project into a shared library that exports `hlsgen_run`.

    Raises:
        HlsgenError: no C++ compiler, or its first error.
    """
    compiler, library = os.environ.get("CXX", "g++"), folder / "build" / "hls4ml.so"
    if shutil.which(compiler.split()[0]) is None:
        raise HlsgenError(f"compiling needs {compiler}, which is not on the PATH; install it (Debian: apt install g++)")
    library.parent.mkdir(exist_ok=True)
    library.unlink(missing_ok=True)  # a loaded library keeps its old file
    flags = [
        "-std=c++14",
        "-O2",
        "-march=native",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",  # or the engines of two models in one process share their buffers
        "-Wno-unknown-pragmas",
        f"-isystem{hls_include()}",
    ]
    sources = ["src/engine.cpp", "hls4ml/bridge.cpp"]
    command = [*compiler.split(), *flags, "-Isrc", *sources, "-o", str(library.resolve())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
        raise HlsgenError(f"the generated C++ in {folder} did not compile; {compiler} said: {errors[0].strip()[:300]}")
    return library


def predict(model: Any, program: Program, library: Any, x: npt.NDArray[Any]) -> Any:
    """Predictions of the compiled project, as hls4ml's own `ModelGraph.predict` gives them.

    x: float32 or float64, one sample or many, each in the layout in which the user's model holds its input. It is
    rounded to the input's precision (ties to even, saturating). Returns, for each output of the network, values of x's
    dtype [N, size] in the user's layout, flattened; without the first axis for one sample, without the list for one
    output.

    Raises:
        HlsgenError: an x of another size or type.
    """
    name = image_of(model)
    quants = {out: q for node in model.get_layers() for out, q in node.get_attr("quant").items()}
    image = program.tensors[program.inputs[0]]
    c, h, w = program.image
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64) or x.size == 0 or x.size % (c * h * w):
        raise HlsgenError(f"expected float32 or float64 samples of {c * h * w} values, got {x.dtype} {x.shape}")
    layouts = layouts_of(model)
    last = layouts.get(name) == "channels_last"
    samples = x.reshape(-1, h, w, c).transpose(0, 3, 1, 2) if last else x.reshape(-1, c, h, w)
    parameters = np.fromfile(Path(model.config.get_output_dir()) / "data" / "parameters.bin", np.int8)
    results: list[list[npt.NDArray[Any]]] = [[] for _ in program.outputs]
    for sample in samples:
        maps = np.zeros(program.fmap_beats * program.engine.beat, np.int8)
        for constant, value in program.constants.items():
            place = program.tensors[constant]
            begin = place.address * program.engine.beat
            maps[begin : begin + place.bytes()] = place.pack(value, program.engine.tm)
        packed = image.pack(to_integers(sample, quants[name]), program.engine.tm)
        maps[image.address * program.engine.beat :][: len(packed)] = packed
        library.hlsgen_run(maps.ctypes.data_as(ctypes.c_void_p), parameters.ctypes.data_as(ctypes.c_void_p))
        for result, tensor, out in zip(results, program.outputs, model.outputs, strict=True):
            y = to_floats(tensor_of(program, maps, tensor), quants[out], x.dtype)
            y = y.transpose(1, 2, 0) if layouts.get(out) == "channels_last" else y
            result.append(y.reshape(-1))
    stacked = [np.stack(result) if len(result) > 1 else result[0] for result in results]
    return stacked if len(stacked) > 1 else stacked[0]


def image_of(model: Any) -> str:
    """The one input's name."""
    if len(model.inputs) != 1:
        named = ", ".join(model.inputs)
        raise HlsgenError(f"predict() expected a network with one input, got {len(model.inputs)} ({named})")
    return str(model.inputs[0])


def to_integers(x: npt.NDArray[Any], q: TensorQ) -> npt.NDArray[np.int8]:
    """Floats to the tensor's integers: ties to even, saturating."""
    values: npt.NDArray[np.int8] = np.clip(np.rint(x / q.scale) + q.zero_point, q.low, q.high).astype(np.int8)
    return values


def to_floats(values: npt.NDArray[np.int8], q: TensorQ, dtype: Any) -> npt.NDArray[Any]:
    """The tensor's integers to floats: scale * (q - zero_point)."""
    return (q.scale * (values.astype(np.float64) - q.zero_point)).astype(dtype)
