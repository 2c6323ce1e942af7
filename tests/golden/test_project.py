"""The generated project: same bytes for the same Program, clean under two compilers' warnings."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hlsgen.errors import HlsgenError
from hlsgen.program.ops import Program
from hlsgen.render import ProjectFacts, hls_include, render
from tests.numerics.test_engine import ENGINES, random_program

FACTS = ProjectFacts("random", "xc7z020clg400-1", 150.0, "random")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_renderings_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        render(random_program(1, "fixed", ENGINES[0]), tmp_path / name, FACTS)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert set(files(tmp_path / "a")) >= {
        "Makefile",
        "README.md",
        "manifest.json",
        "data/parameters.bin",
        "driver/detect.py",
        "driver/hlsgen_driver/accelerator.py",
        "driver/network.json",
        "driver/package.sh",
        "driver/xrt/accelerator.cpp",
        "src/config.h",
        "src/engine.cpp",
        "src/program.h",
        "tb/sim_device.cpp",
        "tb/tb.cpp",
        "tb/tensors.h",
        "tcl/run_hls.tcl",
    }


@pytest.mark.parametrize("scheme", ["fixed", "affine", "native"])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("types", ["fast", "strict"])
def test_the_project_compiles_without_a_warning(scheme: str, compiler: str, types: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    render(random_program(2, scheme, ENGINES[1]), tmp_path, FACTS)  # type: ignore[arg-type]
    done = subprocess.run(
        [compiler, "-std=c++14", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fsyntax-only"]
        + (["-DHLSGEN_STRICT"] if types == "strict" else [])
        + ["-isystem", str(hls_include()), "-Isrc", "-Itb", "src/engine.cpp", "tb/tb.cpp", "tb/sim_device.cpp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_the_bounded_streams_compile_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    render(random_program(2, "fixed", ENGINES[1]), tmp_path, FACTS)
    flags = ["-std=c++14", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fsyntax-only"]
    done = subprocess.run(
        [compiler, *flags, "-Itb/bounded", "-Isrc", "-Itb", "tb/streams.cpp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ['x"; system("true', "../../etc", "a b", "", "x" * 70])
def test_hostile_names_do_not_reach_the_project(name: str) -> None:
    with pytest.raises(HlsgenError, match="expects a plain name"):
        ProjectFacts(name, "xc7z020clg400-1", 150.0, "random")
    with pytest.raises(HlsgenError, match="expects a plain name"):
        ProjectFacts("random", name, 150.0, "random")


def test_the_identity_follows_program_weights_and_engine(tmp_path: Path) -> None:
    """Another picture size, scheme, weight, engine or number of cores is another build; another part or model's name is none."""

    def identity(name: str, program: Program, facts: ProjectFacts = FACTS) -> str:
        render(program, tmp_path / name, facts)
        said = json.loads((tmp_path / name / "manifest.json").read_text())["identity"]
        network = json.loads((tmp_path / name / "driver" / "network.json").read_text())
        assert said == network["identity"] and re.fullmatch("0x[0-9a-f]{8}", said)
        assert f"#define IDENTITY {said}u" in (tmp_path / name / "src" / "config.h").read_text()
        return str(said)

    program = random_program(1, "fixed", ENGINES[0])
    first = identity("a", program)
    assert identity("b", program, replace(FACTS, part="xczu7ev-ffvc1156-2-e", target="zcu104", model="other")) == first
    conv = next(i for i, op in enumerate(program.ops) if op.weights is not None)
    weights = program.ops[conv].weights
    assert weights is not None
    changed = replace(program.ops[conv], weights=weights ^ np.int8(1))
    others = [
        identity("c", random_program(1, "affine", ENGINES[0])),
        identity("d", random_program(1, "fixed", ENGINES[1])),
        identity("e", replace(program, ops=(*program.ops[:conv], changed, *program.ops[conv + 1 :]))),
        identity("f", program, replace(FACTS, cores=2)),
    ]
    assert len({first, *others}) == 5
