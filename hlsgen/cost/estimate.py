"""The facts of an estimate, as `report.json` and `hlsgen estimate --json` hold them."""

import math
from typing import Any

from hlsgen.cost.array import PORTS
from hlsgen.cost.budget import CEILINGS, overflows
from hlsgen.cost.coefficients import MODEL, Coefficients
from hlsgen.cost.cycles import one_tile
from hlsgen.cost.hardware import Link, link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.resources import terms, total_usage, widths
from hlsgen.cost.streams import stream_depths
from hlsgen.program.ops import EngineConfig, Program
from hlsgen.targets import Target

CYCLES_ERROR = 0.05
"""Against the cycle simulation, checked by test on every network of docs/cost-model.md. The resources' error is the
coefficients'."""

Facts = dict[str, Any]


def estimate(
    program: Program, target: Target, clock_mhz: float, cores: int = 1, coefficients: Coefficients = MODEL
) -> Facts:
    """What `program` takes on `cores` cores of its engine, by the closed formulas.

    Returns the keys clock_mhz, cores, engine, cycles (of one inference on one core), latency_ms, fps (all cores), gops (two a
    multiply-accumulate), gops_per_dsp (of the DSPs used), mac_utilization (products of the network over the array's
    capacity), ddr_bytes (an inference), bandwidth_gb_s {needed, available}, resources {lut, ff, dsp, bram36, uram: {used,
    available, share, limit}}, terms (LUTs and the rest of one core by term), fits, over, error_bar, roofline and layers; of a
    network of several inputs, parts; with a calibration, calibration (`Coefficients.facts`).
    """
    engine, way = program.engine, link(target, program.engine, clock_mhz, cores, coefficients.loops)
    layers = layer_facts(program, way)
    cycles = sum(layer["cycles"] for layer in layers)
    known, depths = widths(program, PORTS[target.resources.dsp_kind]), stream_depths(program.engine)
    used = total_usage(engine, known, depths, cores, target.axi.ports, coefficients.factors)
    by_term = coefficients.factors.applied(terms(engine, known, depths))
    fps = cores * clock_mhz * 1e6 / cycles
    gops = 2 * program.macs() * fps / 1e9
    data = sum(layer["ddr_bytes"] for layer in layers)
    peak = 2 * array(engine) * cores * clock_mhz / 1000
    over = overflows(used, target)
    return {
        "clock_mhz": clock_mhz,
        "cores": cores,
        "engine": dict(vars(engine)),
        "cycles": cycles,
        "latency_ms": cycles / clock_mhz / 1000,
        "fps": fps,
        "gops": gops,
        "gops_per_dsp": gops / used.dsp if used.dsp else None,
        "mac_utilization": program.macs() / array(engine) / cycles,
        "ddr_bytes": data,
        "bandwidth_gb_s": {"needed": data * fps / 1e9, "available": target.bandwidth_gb_s},
        "resources": {
            name: {
                "used": math.ceil(getattr(used, name)),
                "available": getattr(target.resources, name),
                "share": getattr(used, name) / available if (available := getattr(target.resources, name)) else 0.0,
                "limit": limit,
            }
            for name, limit in CEILINGS.items()
        },
        "terms": {name: dict(vars(term)) for name, term in by_term.items()},
        "fits": not over,
        "over": over,
        "error_bar": {"cycles": CYCLES_ERROR, "resources": coefficients.error},
        **({"calibration": coefficients.facts()} if coefficients.calibrated else {}),
        "roofline": {
            "peak_gops": peak,
            "bandwidth_gb_s": target.bandwidth_gb_s,
            "ops_per_byte": 2 * program.macs() / data,
            "ridge_ops_per_byte": peak / target.bandwidth_gb_s,
        },
        **({"parts": parts(program, layers, clock_mhz)} if program.inputs[1:] else {}),
        "layers": layers,
    }


def parts(program: Program, layers: list[Facts], clock_mhz: float) -> Facts:
    """Of a network of several inputs: `once` an image, and `each` time the other inputs change; ops, cycles, latency_ms."""
    cut = program.once
    found = {}
    for name, part in (("once", layers[:cut]), ("each", layers[cut:])):
        cycles = sum(layer["cycles"] for layer in part)
        found[name] = {"ops": len(part), "cycles": cycles, "latency_ms": cycles / clock_mhz / 1000}
    return found


def array(engine: EngineConfig) -> int:
    """Multiply-accumulates a cycle."""
    return engine.tm * engine.tn * engine.tp


def layer_facts(program: Program, way: Link) -> list[Facts]:
    """One mapping an op: cycles in all and of each process by itself, which of them binds, bytes, utilization, tile."""
    engine, depths = program.engine, stream_depths(program.engine)
    facts = []
    for op, shape in zip(program.ops, op_shapes(program), strict=True):
        cost = one_tile(engine, shape, way, depths, op.tile)
        cycles = round(float(cost.total[0]))
        processes = ("compute", "load", "weights", "residual", "epilogue", "store", "memory")
        facts.append(
            {
                "name": op.name,
                "kind": op.kind,
                "kernel": list(op.window.kernel),
                "stride": list(op.window.stride),
                "channels": [max(op.lanes) + 1, program.tensors[op.out].channels],
                "size": list(shape.size_out),
                "tile": [op.tile.rows, op.tile.cols, op.tile.blocks],
                "macs": shape.macs,
                "cycles": cycles,
                **{f"{name}_cycles": round(float(getattr(cost, name)[0])) for name in processes},
                "binds": cost.binding(),
                "ddr_bytes": round(float(cost.ddr_bytes[0])),
                "mac_utilization": shape.macs / array(engine) / cycles,
            }
        )
    return facts
