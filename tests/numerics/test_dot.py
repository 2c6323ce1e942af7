"""The products of a cycle: two INT8 products a DSP, LUT products, and any mix of both, exact for every operand."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.area.array import Array, latency, verilog
from hlsgen import resources
from hlsgen.program.ops import EngineConfig
from hlsgen.quantize.spec import SCHEMES
from hlsgen.render import hls_include
from tests.numerics.test_engine import prove, random_program

CPP = Path(__file__).parent / "cpp"
ARRAYS = (
    Array(4, 16, 2, 16),
    Array(4, 16, 2, 13),
    Array(4, 8, 2, 0),
    Array(4, 8, 3, 8),
    Array(4, 8, 3, 5, port=27),
    Array(1, 32, 4, 31),
    Array(2, 16, 2, 16, port=27),
    Array(2, 4, 1, 1),
)


def compile_driver(source: str, folder: Path, array: Array, *flags: str) -> Path:
    """A test driver on dot.h with the exact-width types, for an array's parameters."""
    a = array
    config = {"TM": a.tm, "TN": a.tn, "TP": a.tp, "DSP_TN": a.dsp_tn, "DSP_PORT": a.port, "BEAT": 8}
    config |= {"ACC_BITS": a.sum_bits, "BIASED_BITS": 32, "SCALED_BITS": 48, "PRE_BITS": 12, "ADD_BITS": 32}
    (folder / "config.h").write_text("".join(f"#define {k} {v}\n" for k, v in config.items()))
    program = folder / "driver"
    engine = resources.folder("templates") / "engine"
    command = ["g++", "-std=c++14", "-O1", "-w", "-DHLSGEN_STRICT", f"-I{folder}", f"-I{engine}", "-isystem"]
    subprocess.run([*command, str(hls_include()), *flags, str(CPP / source), "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize(("port", "step"), [(25, 1), (27, 97)])
def test_every_operand_triple_and_extreme_sums(port: int, step: int, tmp_path: Path) -> None:
    driver = compile_driver("every_triple.cpp", tmp_path, Array(8, 8, 2, 4, port))
    done = subprocess.run([str(driver), str(step)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    triples = 1 << 24
    assert int(done.stdout) > 2 * (2 * triples + triples // step)  # high and low: alone, sixteen times, exact width


@pytest.mark.parametrize(
    "change",
    [("HALF > 16384 * TERMS ? HALF : 16384 * TERMS + 1", "HALF"), ("32640LL", "30000LL"), ("row = ~row", "row = -row")],
)
def test_the_proof_notices_a_wrong_kernel(change: tuple[str, str], tmp_path: Path) -> None:
    text = (resources.folder("templates") / "engine" / "dot.h").read_text()
    assert change[0] in text
    (tmp_path / "dot.h").write_text(text.replace(*change))
    driver = compile_driver("every_triple.cpp", tmp_path, Array(8, 8, 2, 4), "-O0")
    assert subprocess.run([str(driver), "999"], capture_output=True).returncode == 1


def vectors(array: Array, folder: Path, count: int) -> Path:
    """Operands and sums that dot() computed, which it has held to plain loops."""
    path = folder / "vectors.hex"
    flags = ("-O0", f"-DVECTORS={count}", f"-DSUM_BITS={array.sum_bits}")
    done = subprocess.run(
        [str(compile_driver("dot_vectors.cpp", folder, array, *flags)), str(path)], capture_output=True
    )
    assert done.returncode == 0, done.stdout
    return path


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_the_array_that_is_counted_computes_the_same(array: Array, tmp_path: Path) -> None:
    count = 12
    path = vectors(array, tmp_path, count)
    a = array
    wb, xb, sb = 8 * a.tn * a.tm, 8 * a.tp * a.tn, a.sum_bits * a.tp * a.tm
    bench = f"""
module bench;
  reg clk = 0; reg [{wb - 1}:0] w; reg [{xb - 1}:0] x; wire [{sb - 1}:0] sum;
  reg [{wb - 1}:0] ws [0:{count - 1}]; reg [{xb - 1}:0] xs [0:{count - 1}]; reg [{sb - 1}:0] expected [0:{count - 1}];
  mac_array dut(clk, w, x, sum);
  integer f, i, equal = 0, read;
  initial begin
    f = $fopen("{path}", "r");
    for (i = 0; i < {count}; i = i + 1) read = $fscanf(f, "%h %h %h\\n", ws[i], xs[i], expected[i]);
    // A vector a cycle: pipelined, nothing may leak from one to the next.
    for (i = 0; i < {count} + {latency(a)}; i = i + 1) begin
      w = ws[i % {count}]; x = xs[i % {count}];
      #1 clk = 1; #1 clk = 0;
      if (i + 1 >= {latency(a)} && i + 1 - {latency(a)} < {count} && sum === expected[i + 1 - {latency(a)}]) equal = equal + 1;
    end
    $display("%0d", equal);
  end
endmodule
"""
    (tmp_path / "array.v").write_text(verilog(a) + bench)
    subprocess.run(["iverilog", "-g2005", "-o", "sim", "array.v"], cwd=tmp_path, check=True)
    done = subprocess.run(["vvp", "sim"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[-1]) == count


@pytest.mark.parametrize(
    ("engine", "dsp_tn"),
    [(0, 13), (2, 3), *(pytest.param(e, n, marks=pytest.mark.full) for e, n in ((0, 16), (1, 8), (2, 8)))],
)
def test_the_engine_computes_the_same_with_any_mix(engine: int, dsp_tn: int, tmp_path: Path) -> None:
    engines = (
        EngineConfig(),
        EngineConfig(tm=16, tn=8, tp=4, beat=8, lanes=4, patch_depth=256, acc_depth=64),
        EngineConfig(tm=8, tn=8, tp=3, beat=8, lanes=8, patch_depth=300, acc_depth=40),
    )
    program = random_program(40 + engine, SCHEMES[engine], replace(engines[engine], dsp_tn=dsp_tn), steps=4)
    fast = prove(program, tmp_path, 7)
    strict = prove(program, tmp_path, 7, strict=True)
    assert strict.strict and np.array_equal(fast.maps, strict.maps)
