"""`hlsgen calibrate`: a synthesis report of one's own sharpens the estimates."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("reports", nargs=-1, type=click.Path(path_type=Path), metavar="[CSYNTH.XML]...")
@click.option(
    "--build",
    type=click.Path(path_type=Path),
    help="Build folder of reports that lie outside  [default: the one around]",
)
@click.option("--show", is_flag=True, help="Show what is calibrated, and how.")
@click.option("--reset", is_flag=True, help="Forget every report.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")
def calibrate(reports: tuple[Path, ...], build: Path | None, show: bool, reset: bool, as_json: bool) -> int:
    """Fit the cost model to real reports of Vitis HLS (csynth.xml).

    estimate and build use the fit from then on for parts of the same family; it is kept for this user alone.
    """
    if (len(reports) > 0) + show + reset != 1:
        raise click.UsageError("give reports (csynth.xml), or --show, or --reset")
    from hlsgen import calibrations

    if reset:
        known = calibrations.reset()
        if as_json:
            click.echo(json.dumps({"forgotten": known}))
        else:
            click.echo(f"forgotten {known} report{'' if known == 1 else 's'}; estimates are the model's own")
        return 0
    facts = shown() if show else calibrated(reports, build)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _print(facts)
    return 0


def calibrated(reports: Sequence[Path], build: Path | None = None) -> dict[str, Any]:
    """Take the reports in, beside those already known; facts as `shown`, of what they changed.

    Raises:
        HlsgenError: a report that is not whole, not of this tool, or not of its build; then nothing is kept.
    """
    from hlsgen import calibrations

    known = calibrations.samples()
    new, notes = [], []
    for path in reports:
        one, missed = _observed(path, build)
        new.append(one)
        notes += [
            f"{path}: {place} reached an initiation interval of {ii} where the engine is built for 1; "
            f"its depths are not taken, and the network will be slower than estimated"
            for place, ii in missed.items()
        ]
    merged = calibrations.merged(known, new)
    calibrations.keep(merged)
    changed = {(s.family, s.tool) for s in new}
    return {"groups": [_facts(held) for key, held in calibrations.groups(merged).items() if key in changed]} | {
        "notes": notes,
        "file": str(calibrations.place()),
    }


def shown() -> dict[str, Any]:
    """groups: one a family and tool version, with reports, error, loops and terms; notes; file."""
    from hlsgen import calibrations

    held = calibrations.groups(calibrations.samples())
    return {"groups": [_facts(of) for of in held.values()], "notes": [], "file": str(calibrations.place())}


def _observed(path: Path, build: Path | None) -> tuple[Any, dict[str, int]]:
    """The sample of a report and the intervals that it missed."""
    from hlsgen.build import opened
    from hlsgen.cost.array import PORTS
    from hlsgen.cost.resources import widths
    from hlsgen.cost.streams import stream_depths
    from hlsgen.handoff.reports import csynth
    from hlsgen.handoff.reports.observe import missed_intervals, sample
    from hlsgen.render import TOP

    report = csynth.read(path)
    b = opened(build or _around(path), "lower")
    clock = float(b.facts["lower"]["clock_mhz"])
    report.expect(TOP, b.target.vivado, 1000 / clock)
    known = widths(b.program, PORTS[b.target.resources.dsp_kind])
    one = sample(report, b.target.family, clock, b.program.engine, known, stream_depths(b.program.engine))
    return one, missed_intervals(report)


def _around(path: Path) -> Path:
    """The build folder that a report lies in.

    Raises:
        HlsgenError: where it lies in none.
    """
    from hlsgen.errors import HlsgenError
    from hlsgen.workspace import STAMP

    for folder in path.absolute().parents:
        if (folder / STAMP).is_file():
            return folder
    raise HlsgenError(f"{path} lies in no build folder; give the build it was made from with --build")


def _facts(held: Sequence[Any]) -> dict[str, Any]:
    from hlsgen.cost.calibrate import RESOURCES, deviations, errors, fit, predicted
    from hlsgen.cost.coefficients import MODEL

    fitted, known = fit(held), deviations(held)
    factors = {(term, resource): factor for term, resource, factor in fitted.factors.of}
    terms: dict[str, dict[str, Any]] = {}
    for (term, resource), deviation in known.items():
        factor = factors.get((term, resource), 1.0)
        terms.setdefault(term, {})[resource] = {"factor": factor, "deviation": round(deviation, 3)}
    return fitted.facts() | {
        "error": fitted.error,
        "terms": terms,
        "samples": [
            {
                "report": one.source,
                "part": one.part,
                "clock_mhz": one.clock_mhz,
                "engine": dict(vars(one.engine)),
                "loops": one.loops,
                "resources": {
                    name: {
                        "reported": getattr(one.used, name),
                        "model": getattr(predicted(one, MODEL), name),
                        "calibrated": getattr(predicted(one, fitted), name),
                    }
                    for name in RESOURCES
                },
                "error": {"model": errors(one, MODEL), "calibrated": errors(one, fitted)},
            }
            for one in held
        ],
    }


def _print(facts: dict[str, Any]) -> None:
    from hlsgen.cost.hardware import LOOPS

    for note in facts["notes"]:
        click.secho(note, fg="yellow")
    if not facts["groups"]:
        click.echo("nothing is calibrated; hlsgen calibrate CSYNTH.XML takes a report in")
    for group in facts["groups"]:
        count = group["reports"]
        click.secho(
            f"{group['family']}, Vitis HLS {group['tool']}: {count} report{'' if count == 1 else 's'}", bold=True
        )
        for one in group["samples"]:
            e = one["engine"]
            click.echo(f"{one['report']}: {one['part']}, TM {e['tm']} x TN {e['tn']} x TP {e['tp']}")
            _table(
                ("resource", "reported", "model", "calibrated"),
                [
                    (name.upper(), *(f"{value[k]:,.10g}" for k in ("reported", "model", "calibrated")))
                    for name, value in one["resources"].items()
                    if any(value.values())
                ],
            )
        depths = [
            f"{name.replace('_', ' ')} {value} (model {vars(LOOPS)[name]})" for name, value in group["loops"].items()
        ]
        click.echo(f"depths    {', '.join(depths)} cycles")
        _table(
            ("factor of", *(r.upper() for r in ("lut", "ff", "dsp", "bram36", "uram"))),
            [
                (term, *(_factor(by.get(r)) for r in ("lut", "ff", "dsp", "bram36", "uram")))
                for term, by in group["terms"].items()
            ],
        )
        how = "each report predicted from the others" if count > 1 else "a second engine's report would test it"
        click.echo(f"error     resources to {group['error']:.0%} ({how})")
    click.echo(f"kept in   {facts['file']}")


def _factor(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['factor']:.2f} ± {found['deviation']:.2f}"


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    click.echo(capture.get(), nl=False)
