"""An array's LUTs, shift registers, flip-flops and DSPs, counted by yosys for a DSP48E1 or a DSP48E2 part."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.area.array import Array, verilog


@dataclass(frozen=True)
class Area:
    """lut: LUTs of logic, inverters among them; yosys puts no two functions into one LUT6, as Vivado does, so this is an
    upper bound. srl: LUTs as shift registers."""

    lut: int
    srl: int
    ff: int
    dsp: int

    @property
    def luts(self) -> int:
        return self.lut + self.srl


def count(array: Array) -> Area:
    """Synthesize the array with yosys (xc7 for port 25, xcup for port 27).

    yosys 0.23 puts multiplier, adder and cascade into a DSP48E1 by itself; for DSP48E2 it leaves the adder out, so there
    `multiply_add` is a black box that stands for one DSP.
    """
    family = "xc7" if array.port == 25 else "xcup"
    box = "" if array.port == 25 else "blackbox *multiply_add*; "
    with tempfile.TemporaryDirectory(prefix="hlsgen-area-") as folder:
        (Path(folder) / "array.v").write_text(verilog(array))
        script = (
            f"read_verilog array.v; hierarchy -top mac_array; {box}"
            f"synth_xilinx -family {family} -flatten -noiopad -noclkbuf -top mac_array; tee -o stat.json stat -json"
        )
        subprocess.run(["yosys", "-q", "-p", script], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        cells = json.loads((Path(folder) / "stat.json").read_text())["design"]["num_cells_by_type"]
    total = {kind: sum(n for name, n in cells.items() if name.startswith(kind)) for kind in ("LUT", "INV", "SRL", "FD")}
    dsp = sum(n for name, n in cells.items() if name.startswith("DSP48") or "multiply_add" in name)
    return Area(total["LUT"] + total["INV"], total["SRL"], total["FD"], dsp)
