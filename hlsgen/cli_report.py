"""`hlsgen report`: what Vitis HLS and Vivado made of a build, beside what was estimated."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")
def report(folder: Path, as_json: bool) -> int:
    """Reports of Vitis HLS and Vivado in the build FOLDER (here by default), beside the estimate.

    What was missed comes first, and makes the exit code 1: a clock, an initiation interval, an overflow, a failed
    co-simulation. report.html and report.json get the figures too.
    """
    from hlsgen.handoff.reports.compare import compare
    from hlsgen.report.write import add_reports

    facts = compare(folder)
    left = add_reports(folder, facts)
    if left:
        click.echo(f"hlsgen: {left}", err=True)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _print(facts, folder)
    return 1 if facts["problems"] else 0


def _print(facts: dict[str, Any], folder: Path) -> None:
    for problem in facts["problems"]:
        click.secho(f"MISSED    {problem}", fg="red", bold=True)
    if not facts["problems"]:
        click.secho(f"MET       everything that {' and '.join(_tools(facts))} reported so far", fg="green", bold=True)
    cores = facts["cores"]
    table = Table(box=None, pad_edge=False)
    for heading in (
        "",
        "estimate, 1 core",
        "HLS",
        "error",
        f"estimate, {cores} core{'' if cores == 1 else 's'}",
        "Vivado",
    ):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    names = {"clock_mhz": "clock, MHz", "cycles": "cycles (cosim)"}
    for row in facts["rows"]:
        table.add_row(
            names.get(row["name"], row["name"].upper()),
            _number(row["estimate"]),
            _number(row["csynth"]),
            _error(row["csynth_error"]),
            _number(row["estimate_all"]),
            _number(row["vivado"]),
            _error(row["vivado_error"]),
        )
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    click.echo(capture.get(), nl=False)
    for name, said in facts["reports"].items():
        if said is None:
            click.echo(f"{name:<12}not made yet: {facts['missing'][name]}")
        else:
            click.echo(f"{name:<12}{folder / said['file']}{_more(name, said)}")


def _tools(facts: dict[str, Any]) -> list[str]:
    made = facts["reports"]
    hls, vivado = made["csynth"] or made["cosim"], made["utilization"] or made["timing"]
    return (["Vitis HLS"] if hls else []) + (["Vivado"] if vivado else [])


def _more(name: str, said: dict[str, Any]) -> str:
    if name == "csynth":
        return f" (Vitis HLS {said['version']})"
    if name == "cosim":
        calls = f", {said['calls']} of {said['ops']} ops" if said["calls"] else ""
        return f" ({'passed' if said['passed'] else 'failed'}, {said['language']}{calls})"
    if name == "utilization":
        return (
            f" (Vivado {said['version']}, {said['state'] or 'state unknown'}; the whole system, interconnect included)"
        )
    return f" (Vivado {said['version']}, setup slack {said['wns']:.3f} ns, hold slack {said['whs']:.3f} ns)"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}".removesuffix(".0")


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"
