"""The table of docs/area.md: arrays counted by yosys beside the formula.

python -m benchmarks.area [TM,TN,TP,DSP_TN[,PORT] ...]      minutes for 512 MACs
"""

import sys

from benchmarks.area.array import Array
from benchmarks.area.count import count
from benchmarks.area.formula import luts, shift_registers

ARRAYS = (
    Array(1, 16, 2, 16),
    Array(2, 16, 2, 16),
    Array(4, 16, 2, 16),
    Array(2, 8, 2, 8),
    Array(2, 8, 3, 8),
    Array(2, 8, 2, 0),
    Array(1, 8, 4, 6),
    Array(2, 16, 2, 13),
    Array(16, 16, 2, 13),
    Array(2, 16, 2, 16, 27),
)


def main(arguments: list[str]) -> None:
    arrays = [Array(*map(int, a.split(","))) for a in arguments] or list(ARRAYS)
    print("| TM x TN x TP | DSP_TN | DSP | port | LUT | formula | SRL | formula | FF | LUT + SRL a MAC |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for a in arrays:
        area = count(a)
        print(
            f"| {a.tm} x {a.tn} x {a.tp} | {a.dsp_tn} | {area.dsp} | {a.port} | {area.lut:,} | {luts(a):,} | {area.srl:,} "
            f"| {shift_registers(a):,} | {area.ff:,} | {area.luts / a.macs:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
