"""`hlsgen strategies`: every quantization strategy on one network, side by side."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Labelled images: images/ and labels/, or val/ and calib/."
)
@click.option("--images", type=int, help="How many of them to measure on  [default: all]")
@click.option("--calib", type=click.Path(path_type=Path), help="Folder of calibration images  [default: DATA/calib]")
@click.option("--calib-images", type=int, default=32, show_default=True, help="How many are drawn of them.")
@click.option(
    "--seeds", type=int, default=1, show_default=True, help="How many drawings; the table shows mean and range."
)
@click.option("--strategies", "names", help="Comma-separated, such as fp32,fixed,fixed:w6  [default: all]")
@click.option(
    "--part", "--board", "part", default="xc7z020", show_default=True, help="FPGA part or board of the estimates."
)
@click.option("--weights", help="Checkpoint file, or 'demo' for the bundled demo model.")
@click.option("--imgsz", help="Image size, 640 or 416x640 (HxW)  [default: the model's own]")
@click.option("--jobs", type=int, help="Processes that images are shared among  [default: one a CPU]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder; an interrupted study goes on  [default: build/strategies-MODEL]",
)
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")
def strategies(
    model: str, out: Path | None, as_json: bool, names: str | None, imgsz: str | None, **options: Any
) -> int:
    """Compare quantization strategies on MODEL: accuracy, agreement with float, noise, size, speed; one table, one page."""
    from hlsgen.cli import ImageSize, _plain_name, _progress
    from hlsgen.study.page import write
    from hlsgen.study.run import EVERY, StudyOptions, study

    chosen = EVERY if names is None else tuple(n for n in re.split(r"[,\s]+", names) if n)
    size = None if imgsz is None else ImageSize().convert(imgsz, None, None)
    folder = out or Path("build") / f"strategies-{_plain_name(Path(model).stem)}"
    asked = StudyOptions(model=model, out=folder, strategies=chosen, imgsz=size, **options)
    with _progress() as progress:
        facts, gallery = study(asked, progress)
        files = write(folder, facts, gallery)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return 0
    _print(facts)
    for kind, path in files.items():
        click.echo(f"{kind:<9} {path}")
    return 0


def _print(facts: dict[str, Any]) -> None:
    from hlsgen.study.page import HEADINGS, cells

    table = Table(box=None, pad_edge=False)
    for index, (heading, _) in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=True)
    for row in cells(facts):
        table.add_row(*(text for text, _ in row))
    console = Console(width=None if sys.stdout.isatty() else 180)
    with console.capture() as capture:
        console.print(table)
    click.echo(capture.get(), nl=False)
