"""C-simulation: the generated project compiled and run on this machine, every op's output held to the reference."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.cost.streams import stream_depths
from hlsgen.errors import HlsgenError
from hlsgen.program.encode import in_memory
from hlsgen.program.ops import Program

Map = npt.NDArray[np.int8]
Tokens = Sequence[Mapping[str, int]]
"""By op: how many elements go through each stream (`hlsgen.cost.simulate.Simulated.op_tokens`)."""
DEADLOCK = 3  # tb/streams.cpp's exit status
DEPTH_NAMES = {
    "input": "IN_DEPTH",
    "weights": "WEIGHT_DEPTH",
    "parameters": "PARAMETER_DEPTH",
    "sums": "SUMS_DEPTH",
    "residual": "RESIDUAL_DEPTH",
    "output": "OUT_DEPTH",
}


@dataclass(frozen=True)
class CsimResult:
    """ops: one row an op (op, elements, mismatches, index, expected, got, seconds). maps: the feature maps in DDR.
    streams: by name, {depth, tokens}, where the run through bounded streams was asked for."""

    ops: list[dict[str, Any]]
    elements: int
    mismatches: int
    seconds: float
    compile_seconds: float
    strict: bool
    maps: npt.NDArray[np.int8]
    streams: dict[str, dict[str, int]] | None = None

    def first_difference(self) -> dict[str, Any] | None:
        """The first op that differs: op, index [channel, row, column], expected, got, and how many ops differ."""
        wrong = [row for row in self.ops if row["mismatches"]]
        if not wrong:
            return None
        keys = ("op", "index", "expected", "got")
        return {**{k: wrong[0][k] for k in keys}, "ops_affected": len(wrong)}


def write_data(program: Program, folder: Path, image: Map, expected: Mapping[str, Map]) -> None:
    """Write image.bin and expected.bin: int8 [C, H, W] arrays by reference name, in the engine's layout; in expected.bin one
    behind the other, in the order of the ops (`Program.expected`).

    image.bin: the image and what `expected` holds of further inputs, one behind the other.

    Raises:
        HlsgenError: where the reference lacks a tensor that an op makes, or gives it another shape.
    """
    tm = program.engine.tm
    inputs = [program.tensors[name] for name in program.inputs]
    given = [image, *(expected[t.reference] for t in inputs[1:])]
    packed = [in_memory(t, values, program.engine) for t, values in zip(inputs, given, strict=True)]
    np.concatenate(packed).tofile(folder / "image.bin")
    with (folder / "expected.bin").open("wb") as file:
        for tensor in (program.tensors[op.out] for op in program.ops):
            if not tensor.compared:
                continue
            values = expected.get(tensor.reference)
            shape = (tensor.channels, tensor.height, tensor.width)
            if values is None or values.shape != shape:
                came = "nothing" if values is None else str(values.shape)
                raise HlsgenError(
                    f"the reference expected to give {tensor.reference} as {shape}, got {came}; quantize again"
                )
            tensor.pack(values, tm).tofile(file)


def compile_project(folder: Path, *programs: str) -> float:
    """Compile test benches of the project ("csim", "csim-strict", "csim-streams") by its own Makefile; seconds.

    Raises:
        HlsgenError: no make or no C++ compiler, or the compiler's first error.
    """
    compiler = os.environ.get("CXX", "g++")
    for tool in ("make", compiler.split()[0]):
        if shutil.which(tool) is None:
            raise HlsgenError(
                f"C-simulation needs {tool}, which is not on the PATH; install it (Debian: apt install g++ make)"
            )
    targets = [f"build/{name}" for name in programs]
    begun = time.perf_counter()
    done = subprocess.run(
        ["make", "--no-print-directory", "-s", "-j2", "-C", str(folder), f"CXX={compiler}", *targets],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = (
            [line for line in done.stderr.splitlines() if "error" in line.lower()]
            or done.stderr.splitlines()
            or ["nothing"]
        )
        raise HlsgenError(f"the generated C++ in {folder} did not compile; {compiler} said: {lines[0].strip()[:300]}")
    return time.perf_counter() - begun


def simulate(
    folder: Path, program: Program, data: Path, strict: bool = False, tokens: Tokens | None = None
) -> CsimResult:
    """Compile and run the project on the files in `data`.

    tokens: what the cycle simulation counted; given, all processes also run at once through streams as deep as
    src/config.h says, and must move exactly that.

    Raises:
        HlsgenError: it did not compile, the test bench did not run to its end, or a stream is too shallow.
    """
    bench = "csim-strict" if strict else "csim"
    compile_seconds = compile_project(folder, bench, *(() if tokens is None else ("csim-streams",)))
    binary = folder / "build" / bench
    with tempfile.TemporaryDirectory(prefix="hlsgen-csim-") as scratch:
        verdict, dump = Path(scratch) / "csim.json", Path(scratch) / "maps.bin"
        done = subprocess.run(
            [str(binary.resolve()), str(data), "--json", str(verdict), "--dump", str(dump)],
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 1) or not dump.is_file():
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            raise HlsgenError(f"the C-simulation in {folder} did not finish: {said[-1][:300]}")
        found = json.loads(verdict.read_text(encoding="utf-8"))
        maps = np.fromfile(dump, np.int8)
    if program.scheme == "dynamic":  # what differs is told by its bits
        for row in found["ops"]:
            row |= {key: float(np.int32(row[key]).view(np.float32)) for key in ("expected", "got")}
    if (found["mismatches"] == 0) != (done.returncode == 0) or len(found["ops"]) != len(program.ops):
        raise HlsgenError(f"the C-simulation in {folder} contradicts itself; remove its build folder and run it again")
    streams = None if tokens is None else _through_streams(folder, program, data, tokens, found["mismatches"] == 0)
    return CsimResult(
        found["ops"], found["elements"], found["mismatches"], found["seconds"], compile_seconds, strict, maps, streams
    )


def _through_streams(
    folder: Path, program: Program, data: Path, tokens: Tokens, exact: bool
) -> dict[str, dict[str, int]]:
    """Run tb/streams.cpp; by stream, its depth and what went through it over all ops."""
    with tempfile.TemporaryDirectory(prefix="hlsgen-csim-") as scratch:
        verdict = Path(scratch) / "streams.json"
        done = subprocess.run(
            [str((folder / "build" / "csim-streams").resolve()), str(data), "--json", str(verdict)],
            capture_output=True,
            text=True,
        )
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        if done.returncode == DEADLOCK:
            raise HlsgenError(
                f"the streams of {folder} are too shallow, hardware would hang: {said[:400]}; give src/config.h the depths "
                "that the build computed (build again)"
            )
        if done.returncode not in (0, 1):
            raise HlsgenError(f"the C-simulation through bounded streams in {folder} did not finish: {said[:300]}")
        rows = json.loads(verdict.read_text(encoding="utf-8"))
    if exact != (done.returncode == 0):
        raise HlsgenError(f"{folder}: run through bounded streams the engine computes something else: {said[:300]}")
    needed = vars(stream_depths(program.engine))
    for name, needs in needed.items():
        has = rows[0][name]["depth"]
        if has < needs:
            raise HlsgenError(
                f"the stream {name} of {folder} is {has} deep where {needs} are computed, so that the engine would be slower "
                f"than estimated; set {DEPTH_NAMES[name]} in src/config.h to {needs} (or build again)"
            )
    for row, expected in zip(rows, tokens, strict=True):
        for name in expected:
            moved, left = row[name]["tokens"], row[name]["left"]
            if moved != expected[name] or left:
                raise HlsgenError(
                    f"op {row['op']} of {folder} moved {moved} elements through {name} and left {left}, where the cycle "
                    f"simulation counts {expected[name]} and none; build again, and report it if it stays"
                )
    return {
        name: {"depth": rows[0][name]["depth"], "tokens": sum(row[name]["tokens"] for row in rows)} for name in needed
    }


def tensor_of(program: Program, maps: npt.NDArray[np.int8], name: str) -> Map:
    """An output of the network out of the simulated DDR, int8 [C, H, W]; of others the memory may have been used again."""
    tensor = program.tensors[name]
    begin = tensor.address * program.engine.beat
    return tensor.unpack(maps[begin : begin + tensor.bytes()], program.engine.tm)
