"""`hlsgen explore`: what a network could be on several parts, clocks and budgets, and the Pareto front."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hlsgen.quantize.spec import DEFAULT_SCHEME, ENGINE_SCHEMES


class Names(click.ParamType[tuple[str, ...]]):
    """`a,b,c` to ("a", "b", "c"), each once."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(dict.fromkeys(item.strip() for item in str(value).split(",") if item.strip()))
        if not found:
            self.fail(f"expected names with commas between, got {value!r}", param, ctx)
        return found


class Numbers(Names):
    """`16,32` to (16, 32), whole numbers; with `of` float, any."""

    def __init__(self, of: type[int] | type[float] = int) -> None:
        self._of = of

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        try:
            return tuple(self._of(item) for item in super().convert(value, param, ctx))
        except ValueError:
            kind = "whole numbers" if self._of is int else "numbers"
            self.fail(f"expected {kind} with commas between, got {value!r}", param, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--parts", "--boards", "parts", type=Names(), required=True, help="Parts and boards: P,P,...")
@click.option(
    "--objective", "objectives", type=Names(), default="fps,lut", show_default=True, help="What to weigh: O,O,..."
)
@click.option("--clock", "clocks", type=Numbers(float), help="Clocks in MHz  [default: 2/3, 1 and 4/3 of each part's]")
@click.option(
    "--budgets", type=Names(), help="Shares of a part: 50%, dsp:25%, lut:60%+dsp:25%  [default: 20%,40%,60%,80%,100%]"
)
@click.option("--tm", type=Numbers(), help="Output channels a cycle, to try  [default: scheduled, as the next four]")
@click.option("--tn", type=Numbers(), help="Input channels a cycle, to try; divide TM.")
@click.option("--tp", type=Numbers(), help="Pixels a cycle, to try.")
@click.option("--lanes", type=Numbers(), help="Elements the epilogue makes in a cycle, to try.")
@click.option("--cores", type=Numbers(), help="Numbers of engines to try.")
@click.option("--imgsz", help="Image size, 640 or 416x640 (HxW)  [default: each model's own]")
@click.option("--weights", help="Checkpoint file, 'demo' or 'random' (cost needs no trained weights).")
@click.option(
    "--scheme",
    type=click.Choice(ENGINE_SCHEMES),
    default=DEFAULT_SCHEME,
    show_default=True,
    help="Quantization scheme.",
)
@click.option("--no-calibration", "calibration", flag_value=False, default=True, help="Ignore hlsgen calibrate's fit.")
@click.option("--jobs", type=int, help="Processes on this machine  [default: one a core]")
@click.option("--executor", help="A cluster that prices the points: dask://HOST:PORT")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/explore"), show_default=True, help="Output folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")
def explore(models: tuple[str, ...], as_json: bool, out: Path, **given: Any) -> int:
    """Explore what MODEL... could be on several parts: a design a clock and budget, and the Pareto front.

    Objectives: fps, latency_ms, gops, gops_per_dsp, mac_utilization, lut, ff, dsp, bram36, uram, share (of the fullest
    resource), ddr_bytes, bandwidth_gb_s, clock_mhz, cores. Finished points stay in the output folder, and the same command
    goes on from them.
    """
    from hlsgen.cli import INTERRUPTED, ImageSize
    from hlsgen.explore.run import ExploreOptions
    from hlsgen.explore.run import explore as run
    from hlsgen.explore.space import BUDGETS
    from hlsgen.progress import Terminal

    size = given.pop("imgsz")
    names = ("tm", "tn", "tp", "lanes", "cores")
    options = ExploreOptions(
        models=tuple(dict.fromkeys(models)),
        out=out,
        imgsz=None if size is None else ImageSize().convert(size, None, None),
        fixed={name: given.pop(name) or () for name in names},
        clocks=given.pop("clocks") or (),
        budgets=given.pop("budgets") or BUDGETS,
        jobs=len(os.sched_getaffinity(0)) if (jobs := given.pop("jobs")) is None else jobs,
        **given,
    )
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr), Terminal(Console(stderr=True)) as terminal:
            found, came = run(options, terminal)
    except KeyboardInterrupt:
        click.echo(f"hlsgen: interrupted; finished points are in {out}, the same command goes on from them", err=True)
        return INTERRUPTED
    came["seconds"] = round(time.perf_counter() - began, 3)
    if as_json:
        click.echo(json.dumps({**found, "run": came}, indent=1))
    else:
        _print(found, came, out)
    return 0


def _print(found: dict[str, Any], came: dict[str, Any], out: Path) -> None:
    from hlsgen.explore.objectives import OBJECTIVES
    from hlsgen.explore.write import binds, engine

    weighed = [OBJECTIVES[o["name"]] for o in found["objectives"]]
    columns = list(dict.fromkeys([*weighed, *(OBJECTIVES[name] for name in ("fps", "latency_ms", "lut", "dsp"))]))
    table = Table(box=None, pad_edge=False)
    for heading in ("", "model", "part"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MHz", "budget", "engine", *(o.name for o in columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("binds", no_wrap=True)
    shown = [row for row in found["points"] if row["front"]]
    models, parts = ([row[key] for row in found["points"]] for key in ("model", "part"))
    first = weighed[0]
    for row in sorted(
        shown,
        key=lambda r: (
            models.index(r["model"]),
            parts.index(r["part"]),
            (r["values"][first.name] or 0) * (-1 if first.more else 1),
        ),
    ):
        table.add_row(
            "*" if row["front"] == "all" else "",
            escape(row["model"]),
            row["part"],
            f"{row['clock_mhz']:g}",
            row["budget"],
            engine(row),
            *(o.show(row["values"][o.name]) for o in columns),
            binds(row),
            style="bold" if row["front"] == "all" else None,
        )
    console = Console(width=None if sys.stdout.isatty() else 132)
    with console.capture() as capture:
        console.print(table)
    click.echo(capture.get(), nl=False)
    by = ", ".join(o.name for o in weighed)
    click.echo(f"front     * best of all parts by {by}; the other rows only of their own part")
    unfit = [row for row in found["points"] if not row["fits"]]
    if unfit:
        row = unfit[0]
        click.secho(
            f"no fit    {len(unfit)} of {came['points']} points; {row['model']} on {row['part']} with {row['budget']}: "
            f"{row['why']}",
            fg="yellow",
        )
    taken = f", {came['taken_over']} taken over from an earlier run" if came["taken_over"] else ""
    click.echo(f"points    {came['priced']} priced{taken}, {came['seconds']:.1f} s in all")
    for name in ("explore.html", "explore.csv", "explore.json"):
        click.echo(f"{name.split('.')[1]:<9} {out / name}")
