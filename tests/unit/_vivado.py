"""Vivado's and co-simulation's text reports as the tools lay them out: our own text, full-size numbers."""

from collections.abc import Sequence

SITES = {
    "7": ("Slice LUTs*", "LUT as Logic", "Slice Registers", "Block RAM Tile", "DSPs", None, "Slice LUTs"),
    "us": ("CLB LUTs*", "LUT as Logic", "CLB Registers", "Block RAM Tile", "DSPs", "URAM", "CLB LUTs"),
    "versal": ("CLB LUTs*", "LUT as Logic", "Registers", "Block RAM Tile", "DSP Slices", "URAM", "CLB LUTs"),
}
DEVICES = {"7": "xc7z020clg400-1", "us": "xck26-sfvc784-2LV-c", "versal": "xcvc1902-vsva2197-2MP-e-S"}
THERE = {
    "7": (53200, 106400, 140, 220, 0),
    "us": (117120, 234240, 144, 1248, 64),
    "versal": (899840, 1799680, 967, 1968, 463),
}
USED = (45218, 58077, 103.5, 216, 0)


def utilization(
    family: str = "7",
    version: str = "2023.2",
    used: Sequence[float] = USED,
    device: str | None = None,
    state: str = "Routed",
) -> str:
    """report_utilization; from 2022.1 on with the column Prohibited."""
    luts, logic, registers, bram, dsps, uram, _ = SITES[family]
    there = THERE[family]
    newer = version >= "2022.1"

    def table(rows: Sequence[tuple[str, float, float]]) -> str:
        heads = ["Site Type", "Used", "Fixed", *(["Prohibited"] if newer else []), "Available", "Util%"]
        cells = [
            [name, f"{n:.10g}", "0", *(["0"] if newer else []), f"{of:.10g}", f"{100 * n / of:.2f}" if of else "0.00"]
            for name, n, of in rows
        ]
        widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
        rule = "+" + "+".join("-" * (w + 2) for w in widths) + "+"
        lines = [
            "| "
            + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            + " |"
            for row in [heads, *cells]
        ]
        return "\n".join([rule, lines[0], rule, *lines[1:], rule])

    lut, ff, tiles, dsp, blocks = used
    memories = [
        (bram, tiles, there[2]),
        ("  RAMB36/FIFO*", int(tiles), there[2]),
        ("  RAMB18", 2 * (tiles % 1), 2 * there[2]),
    ]
    memories += [(uram, blocks, there[4])] if uram else []
    head = _head(version, device or DEVICES[family], "report_utilization -file reports/utilization.rpt", state)
    return f"""{head}
Utilization Design Information

1. {"Slice" if family == "7" else "CLB"} Logic
--------------

{table([(luts, lut, there[0]), (f"  {logic}", lut - 900, there[0]), ("  LUT as Memory", 900, there[0] // 3), (registers, ff, there[1]), ("  Register as Flip Flop", ff, there[1])])}
* Warning! LUT value is adjusted to account for LUT combining.


1.1 Summary of Registers by Type
--------------------------------

+-------+--------------+-------------+--------------+
| Total | Clock Enable | Synchronous | Asynchronous |
+-------+--------------+-------------+--------------+
| 57310 |          Yes |       Reset |            - |
+-------+--------------+-------------+--------------+


3. Memory
---------

{table(memories)}
* Note: Each Block RAM Tile only has one FIFO logic available.


4. DSP
------

{table([(dsps, dsp, there[3]), ("  DSP48E1 only", dsp, there[3])])}
"""


def timing(
    wns: float | str = 0.084,
    whs: float | str = 0.021,
    version: str = "2023.2",
    device: str = "7z020-clg400",
    failing: tuple[int, int] = (0, 0),
) -> str:
    """report_timing_summary."""

    def ns(value: float | str) -> str:
        return value if isinstance(value, str) else f"{value:.3f}"

    met = all(isinstance(v, float) and v >= 0 for v in (wns, whs))
    verdict = "All user specified timing constraints are met." if met else "Timing constraints are not met."
    tns = ns(wns * failing[0] / 2 if isinstance(wns, float) and wns < 0 else 0.0)
    head = _head(
        version, device, "report_timing_summary -max_paths 10 -file reports/timing_summary.rpt", "Routed", "  "
    )
    return f"""{head}
Timing Summary Report

------------------------------------------------------------------------------------------------
| Timer Settings
| --------------
------------------------------------------------------------------------------------------------

  Enable Multi Corner Analysis               :  Yes

------------------------------------------------------------------------------------------------
| Design Timing Summary
| ---------------------
------------------------------------------------------------------------------------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints  TPWS Total Endpoints
    -------      -------  ---------------------  -------------------      -------      -------  ---------------------  -------------------     --------     --------  ----------------------  --------------------
{ns(wns):>11}{tns:>13}{failing[0]:>23}{184213:>21}{ns(whs):>13}{"0.000":>13}{failing[1]:>23}{184213:>21}{"2.083":>13}{"0.000":>13}{0:>24}{61021:>22}


{verdict}


------------------------------------------------------------------------------------------------
| Clock Summary
| -------------
------------------------------------------------------------------------------------------------

Clock       Waveform(ns)       Period(ns)      Frequency(MHz)
-----       ------------       ----------      --------------
clk_fpga_0  {{0.000 3.333}}      6.667           150.000
"""


def _head(version: str, device: str, command: str, state: str, wide: str = "") -> str:
    rule = "-" * 120
    vendor = "Copyright 1986-2020 Xilinx, Inc. All Rights Reserved."
    if version >= "2022.2":
        vendor = "Copyright 1986-2022 Xilinx, Inc. All Rights Reserved. Copyright 2022-2023 Advanced Micro Devices, Inc. All Rights Reserved."
    lines = [
        ("Tool Version", f"Vivado v.{version} (lin64) Build 4029153 Fri Oct 13 20:13:54 MDT 2023"),
        ("Date", "Tue Nov 12 09:41:07 2024"),
        ("Host", "builder running 64-bit Ubuntu 22.04.5 LTS"),
        ("Command", command),
        ("Design", "system_wrapper"),
        ("Device", device),
        ("Speed File", "-1  PRODUCTION 1.12 2019-11-22"),
        ("Design State", state),
    ]
    return "\n".join([vendor, rule, *(f"| {name:<12}{wide} : {value}" for name, value in lines), rule, ""])


def cosim(
    status: str = "Pass",
    language: str = "Verilog",
    latency: tuple[int, int, int] = (18211, 94122, 402118),
    total: bool = True,
) -> str:
    """TOP_cosim.rpt; the first versions have no column for the total."""

    def row(name: str, cells: Sequence[str]) -> str:
        return f"|{name:>10}|" + "|".join(f"{c:>15}" if i else f"{c:>10}" for i, c in enumerate(cells)) + "|"

    none = ["NA"] * (8 if total else 7)
    ran = [status, *map(str, latency), *map(str, latency), *(["6212044"] if total else [])]
    rows = [row(name, ran if name == language else none) for name in ("VHDL", "Verilog")]
    rule = "+----------+----------+-----------------------------------------------+-----------------------------------------------+"
    last = " Total Execution Time |" if total else ""
    return "\n".join(
        [
            "Report time       : Tue Nov 12 09:41:07 2024.",
            "Solution          : solution.",
            "Simulation tool   : xsim.",
            "",
            rule,
            f"|          |          |             Latency(Clock Cycles)             |              Interval(Clock Cycles)           |{last}",
            "+   RTL    +  Status  +-----------------------------------------------+-----------------------------------------------+",
            "|          |          |      min      |      avg      |      max      |      min      |      avg      |      max      |",
            rule,
            *rows,
            rule,
            "",
        ]
    )


def transactions(cycles: Sequence[int]) -> str:
    """result.transaction.rpt."""
    lines = [f"{'':20}{'latency':>16}{'interval':>16}"]
    lines += [f"transaction{i:>8}:{n:>16}{n + 1 if i + 1 < len(cycles) else 'x':>16}" for i, n in enumerate(cycles)]
    return "\n".join(lines) + "\n"
