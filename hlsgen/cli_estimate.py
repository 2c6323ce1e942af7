"""`hlsgen estimate`: how fast and how big, before anything is built."""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from hlsgen.figures import duration, figure
from hlsgen.quantize.spec import DEFAULT_SCHEME, ENGINE_SCHEMES, Scheme


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--part", "--board", "part", required=True, help="FPGA part or board (hlsgen targets lists them).")
@click.option("--clock", type=float, help="Clock in MHz  [default: the part's]")
@click.option("--tm", type=int, help="Output channels a cycle.")
@click.option("--tn", type=int, help="Input channels a cycle; divides TM.")
@click.option("--tp", type=int, help="Pixels a cycle.")
@click.option("--lanes", type=int, help="Elements the epilogue makes in a cycle.")
@click.option("--cores", type=int, help="Engines, each on its own image.")
@click.option(
    "--objective",
    type=click.Choice(["throughput", "latency"]),
    default="throughput",
    show_default=True,
    help="What to make best.",
)
@click.option("--imgsz", help="Image size, 640 or 416x640 (HxW)  [default: the model's own]")
@click.option("--weights", help="Checkpoint file, 'demo' or 'random' (cost needs no trained weights).")
@click.option(
    "--scheme", type=click.Choice(ENGINE_SCHEMES), default=DEFAULT_SCHEME, show_default=True, help="Quantization."
)
@click.option("--no-calibration", "calibration", flag_value=False, default=True, help="Ignore hlsgen calibrate's fit.")
@click.option("--simulate", "simulated", is_flag=True, help="Run the cycle simulation too, beside the formulas.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")
def estimate(model: str, as_json: bool, **options: Any) -> int:
    """Estimate MODEL on a part: frames a second, resources, and what binds each layer. Builds nothing."""
    facts = estimate_model(model, **options)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return 0
    _print(facts)
    return 0


def estimate_model(
    model: str,
    part: str,
    clock: float | None = None,
    tm: int | None = None,
    tn: int | None = None,
    tp: int | None = None,
    lanes: int | None = None,
    cores: int | None = None,
    objective: Any = "throughput",
    imgsz: str | None = None,
    weights: str | None = None,
    scheme: Scheme = DEFAULT_SCHEME,
    simulated: bool = False,
    calibration: bool = True,
) -> dict[str, Any]:
    """Facts of `hlsgen estimate`: those of `hlsgen.cost.estimate.estimate` and model, part, weights, verdict, seconds.

    Raises:
        HlsgenError: an unknown model or part, an illegal override, clock or size.
    """
    from hlsgen import calibrations, targets
    from hlsgen.cli import ImageSize
    from hlsgen.cost.assumed import assumed_model
    from hlsgen.cost.coefficients import MODEL
    from hlsgen.cost.fit import check_fit, check_memory
    from hlsgen.cost.schedule import Overrides, schedule
    from hlsgen.cost.simulate import simulate
    from hlsgen.errors import HlsgenError

    began = time.perf_counter()
    target, overrides = targets.find(part), Overrides(tm, tn, tp, lanes, cores)
    size = None if imgsz is None else ImageSize().convert(imgsz, None, None)
    loaded, graph = assumed_model(model, weights or weights_at_hand(model), size, scheme)
    about = {"model": loaded.name, "weights": loaded.weights, "imgsz": list(loaded.shape[1:])}
    del loaded  # the float weights of a large network, in whose room the scheduler's programs fit;
    gc.collect()  # nodes and graph hold each other
    coefficients = calibrations.coefficients(target.family) if calibration else MODEL
    design = schedule(graph, target, clock, overrides, objective, coefficients)
    try:
        check_fit(design, graph, overrides)
        check_memory(design.program, target, design.cores)
        verdict = f"fits {target.name}"
    except HlsgenError as error:
        verdict = str(error)
    facts: dict[str, Any] = {
        **about,
        "part": target.name,
        "vivado": target.vivado,
        "scheme": scheme,
        **design.estimate,
        "verdict": verdict,
    }
    if simulated:
        ran = simulate(design.program, design.way, design.cores, design.depths)
        facts["simulation"] = {"cycles": ran.cycles, "formula_over_simulation": facts["cycles"] / ran.cycles}
    return facts | {"seconds": time.perf_counter() - began}


def weights_at_hand(model: str) -> str | None:
    """Weights that need no download: the published ones where this machine has them, else the demo's, else random ones."""
    from hlsgen.models.download import find_cached
    from hlsgen.models.sam import load as sam
    from hlsgen.models.sam.config import TINY
    from hlsgen.models.zoo import ALIASES, DEMO, DEMO_MODEL, RANDOM

    if Path(model).suffix.lower() in (".pt", ".pth", ".onnx"):
        return None
    name = model.lower()
    name = {**ALIASES, **sam.ALIASES}.get(name, name)
    file = sam.PUBLISHED[name].file if name in sam.PUBLISHED else f"{name}.pt"
    if name == TINY.name or find_cached(file) is not None:  # the tiny SAM's own are bundled
        return None
    return DEMO if name == DEMO_MODEL else RANDOM


def _print(facts: dict[str, Any]) -> None:
    e, size = facts["engine"], "x".join(map(str, facts["imgsz"]))
    bar = facts["error_bar"]
    click.echo(
        f"{facts['model']} at {size} on {facts['part']} at {facts['clock_mhz']:g} MHz, weights {facts['weights']}"
    )
    click.echo(
        f"engine    {facts['cores']} x (TM {e['tm']} x TN {e['tn']} x TP {e['tp']}), {e['dsp_tn']} of TN in DSPs, port "
        f"{8 * e['beat']} bits, {e['lanes']} lanes, patch {e['patch_depth']}, sums {e['acc_depth']}"
        f"{', narrow scores' if e['narrow'] else ''}"
    )
    click.echo(
        f"speed     {figure(facts['fps'])} images/s, {duration(facts['latency_ms'])}, {figure(facts['gops'], 0)} GOPS, MACs busy "
        f"{facts['mac_utilization']:.1%} (cycles to {bar['cycles']:.0%} of the simulation)"
    )
    if "simulation" in facts:
        ran = facts["simulation"]
        click.echo(f"simulated {ran['cycles']:,.0f} cycles; formulas / simulation {ran['formula_over_simulation']:.4f}")
    roof, band = facts["roofline"], facts["bandwidth_gb_s"]
    click.echo(
        f"memory    {facts['ddr_bytes'] / 1e6:.1f} MB an image, {band['needed']:.2f} of {band['available']:.2f} GB/s; "
        f"{roof['ops_per_byte']:.0f} ops a byte, {'memory' if roof['ops_per_byte'] < roof['ridge_ops_per_byte'] else 'compute'}"
        f"-bound below {roof['peak_gops']:.0f} GOPS (ridge at {roof['ridge_ops_per_byte']:.0f})"
    )
    if "calibration" in facts:
        known = facts["calibration"]
        click.echo(
            f"model     calibrated by {known['reports']} report{'' if known['reports'] == 1 else 's'} of Vitis HLS "
            f"{known['tool']} for {known['family']} (--no-calibration: without)"
        )
    used = Table("resource", "used", "of", "share", "limit", box=None, pad_edge=False)
    for name, r in facts["resources"].items():
        used.add_row(name.upper(), f"{r['used']:,}", f"{r['available']:,}", f"{r['share']:.1%}", f"{r['limit']:.0%}")
    layers = Table(box=None, pad_edge=False)
    for heading in ("layer", "kernel", "channels", "size", "tile"):
        layers.add_column(heading, no_wrap=True)
    for heading in ("cycles", "busy", "MB", "binds"):
        layers.add_column(heading, justify="right", no_wrap=True)
    for row in facts["layers"]:
        layers.add_row(
            row["name"],
            "x".join(map(str, row["kernel"])),
            " > ".join(map(str, row["channels"])),
            "x".join(map(str, row["size"])),
            "x".join(map(str, row["tile"])),
            f"{row['cycles']:,}",
            f"{row['mac_utilization']:.0%}",
            f"{row['ddr_bytes'] / 1e6:.2f}",
            row["binds"],
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    with console.capture() as capture:
        console.print(used)
        console.print(layers)
    click.echo(capture.get(), nl=False)
    click.secho(f"verdict   {facts['verdict']} (resources to {bar['resources']:.0%})", bold=True)
