"""The command line. Results go to stdout, what is said on the way to stderr; bad input is one sentence and exit code 2."""

import contextlib
import errno
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hlsgen import __version__
from hlsgen.cli_calibrate import calibrate
from hlsgen.cli_estimate import estimate
from hlsgen.cli_explore import explore
from hlsgen.cli_quantize import quantize
from hlsgen.cli_report import report
from hlsgen.cli_segment import segment
from hlsgen.cli_strategies import strategies
from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import DEFAULT_SCHEME
from hlsgen.quantize.strategies import runnable

OK, MISMATCH, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
HOST_LINE = "HOST      encodes prompts and makes masks of logits; image encoder and mask decoder are on the accelerator"
STAGE_NAMES = ("load", "quantize", "export", "import", "passes", "lower", "render", "csim")


class ImageSize(click.ParamType[tuple[int, int]]):
    """`640` or `416x640` (height x width) to (height, width)."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,5})(?:[xX]([0-9]{1,5}))?", str(value))
        if not found:
            self.fail(f"expected a size such as 640 or 416x640 (height x width), got {value!r}", param, ctx)
        height = int(found[1])
        return height, int(found[2] or height)


def _json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")(
        function
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hlsgen")
def cli() -> None:
    """Quantized vision networks to Vitis HLS projects for a named FPGA part, proved bit-exact by C-simulation."""


@cli.command()
@click.argument("model")
@click.option("--part", "--board", "part", required=True, help="FPGA part or board (hlsgen targets lists them).")
@click.option("--weights", help="Checkpoint, a file of hlsgen quantize, or 'demo' for the bundled demo model.")
@click.option("--imgsz", type=ImageSize(), help="Image size, 640 or 416x640 (HxW)  [default: the model's own]")
@click.option(
    "--scheme",
    default=DEFAULT_SCHEME,
    show_default=True,
    help=f"Quantization: {', '.join(runnable())}; dynamic is for SAM.",
)
@click.option("--calib", type=click.Path(path_type=Path), help="Folder of calibration images.")
@click.option("--images", type=int, help="How many of them to use  [default: 32; 4 for networks of over 100 GMAC]")
@click.option("--pre-bits", type=int, help="Bits before an activation's table  [default: fixed 14, affine 12]")
@click.option("--arch", type=click.Choice(["auto", "engine"]), default="auto", show_default=True, help="Architecture.")
@click.option("--clock", type=float, help="Clock in MHz  [default: the part's]")
@click.option("--tm", type=int, help="Output channels multiplied in a cycle  [default: scheduled, as the next four]")
@click.option("--tn", type=int, help="Input channels multiplied in a cycle; divides TM.")
@click.option("--tp", type=int, help="Pixels multiplied in a cycle.")
@click.option("--lanes", type=int, help="Elements the epilogue makes in a cycle.")
@click.option("--cores", type=int, help="Engines, each on its own image.")
@click.option("--no-calibration", "calibration", flag_value=False, default=True, help="Ignore hlsgen calibrate's fit.")
@click.option("--force", is_flag=True, help="Generate the project even where the part is too small.")
@click.option("--image", type=click.Path(path_type=Path), help="Picture to simulate and show.")
@click.option("--strict", is_flag=True, help="C-simulate with the exact-width ap_ types (slow).")
@click.option("--out", type=click.Path(path_type=Path), help="Build folder  [default: build/MODEL-PART]")
@click.option("--stop-after", type=click.Choice(STAGE_NAMES), help="Stop after this stage.")
@click.option("--start-from", type=click.Choice(STAGE_NAMES), help="Take earlier stages from the build folder.")
@_json_option
def build(model: str, out: Path | None, as_json: bool, **rest: Any) -> int:
    """Compile MODEL into a Vitis HLS project and prove it by C-simulation.

    MODEL is yolo (yolov8n), yolov8n|s|m|l|x, yolov5nu|su|..., a .pt of these families, an .onnx of their operators, or
    sam_tiny (sam with --weights demo).
    """
    from hlsgen.build import BuildOptions, run

    name = "yolov8n" if model == "yolo" else Path(model).stem  # as the project and its package are called
    folder = out or Path("build") / f"{_plain_name(name)}-{_plain_name(rest['part'])}"
    with _progress() as progress:
        report = run(BuildOptions(model=model, out=folder, **rest), progress)
    if as_json:
        _print_json(report)
    else:
        _print_verdict(report, folder)
    return MISMATCH if report["verdict"] == "mismatch" else OK


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--image", type=click.Path(path_type=Path), help="Another picture than the build's own.")
@click.option("--strict", is_flag=True, help="Compile with the exact-width ap_ types (slow).")
@_json_option
def csim(folder: Path, image: Path | None, strict: bool, as_json: bool) -> int:
    """Compile and run the project in FOLDER, and compare every op's output with the reference."""
    from hlsgen.revisit import simulate

    with _progress() as progress:
        facts = simulate(folder, image, strict, progress)
    if as_json:
        _print_json(facts.model_dump(mode="json"))
    else:
        _print_csim(facts.model_dump(mode="json"))
    return MISMATCH if facts.mismatches else OK


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--image", type=click.Path(path_type=Path), required=True, help="The picture.")
@click.option("--box", help="For SAM: a box around what to segment, x0,y0,x1,y1 in pixels.")
@click.option("--point", "points", multiple=True, help="For SAM: a point in it, x,y in pixels; may be given again.")
@click.option("--not-point", "not_points", multiple=True, help="For SAM: a point outside it.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to draw  [default: FOLDER/compare]")
@_json_option
def compare(
    folder: Path,
    image: Path,
    box: str | None,
    points: tuple[str, ...],
    not_points: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> int:
    """Boxes of one picture by the float network, the INT8 reference and the C-simulated hardware, side by side.

    Of a SAM, the masks of a prompt (--box, --point, --not-point): four tokens at most, of which a box takes two, a point one,
    and a prompt without a box one more.
    """
    from hlsgen.revisit import compare as compare_picture
    from hlsgen.revisit import compare_masks, no_prompt, takes_prompts

    if takes_prompts(folder):
        with _progress() as progress:
            facts = compare_masks(folder, image, (box, points, not_points), out or folder / "compare", progress)
        if as_json:
            _print_json(facts)
        else:
            _print_masks(facts)
        return MISMATCH if facts["csim"]["mismatches"] else OK
    if box or points or not_points:
        no_prompt(folder)
    with _progress() as progress:
        facts = compare_picture(folder, image, out or folder / "compare", progress)
    if as_json:
        _print_json(facts)
        return MISMATCH if facts["csim"]["mismatches"] else OK
    table = Table("source", "class", "score", "x1", "y1", "x2", "y2", box=None, pad_edge=False)
    for source, boxes in facts["detections"].items():
        for row in boxes:
            table.add_row(source, escape(row["name"]), f"{row['score']:.3f}", *(f"{v:.1f}" for v in row["box"]))
    _print_table(table)
    _print_csim(facts["csim"])
    for path in facts["files"].values():
        click.echo(f"picture   {path}")
    return MISMATCH if facts["csim"]["mismatches"] else OK


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Images with boxes in YOLO text format; not for a SAM.")
@click.option("--images", type=int, help="For SAM: how many generated pictures  [default: 64]")
@_json_option
def evaluate(folder: Path, data: Path | None, images: int | None, as_json: bool) -> int:
    """Accuracy of the INT8 reference in FOLDER beside the float network's: mAP on labelled images.

    Of a SAM, mean IoU on pictures of the demo's world that it has never seen, box and point prompts.
    """
    from hlsgen.revisit import evaluate as measure
    from hlsgen.revisit import evaluate_masks, takes_prompts

    sam = takes_prompts(folder)
    if sam and data is not None:
        raise HlsgenError(f"{folder} is a SAM's build: its masks are measured on generated pictures; leave out --data")
    if not sam and (data is None or images is not None):
        raise HlsgenError(
            f"{folder} is a detector's build: give --data FOLDER, images with boxes in YOLO text format, alone"
        )
    with _progress() as progress:
        facts = (
            measure(folder, data, progress)
            if data is not None
            else evaluate_masks(folder, 64 if images is None else images, progress)
        )
    if as_json:
        _print_json(facts)
    elif sam:
        for side in ("fp32", "int8"):
            click.echo("{:<9} mean IoU {miou:.4f} (box {box:.4f}, point {point:.4f})".format(side, **facts[side]))
        click.echo(
            f"{'kept':<9} IoU of the INT8 masks with the float ones {facts['mask_iou']:.4f}, least {facts['least_iou']:.4f}; "
            f"{facts['pictures']} pictures, {facts['shapes']} shapes"
        )
    else:
        click.echo(
            f"mAP50-95 {facts['map50_95']:.4f} (float {facts['fp32_map50_95']:.4f}), mAP50 {facts['map50']:.4f}, "
            f"{facts['images']} images"
        )
    return OK


@cli.command()
@click.argument("name", required=False)
@_json_option
def targets(name: str | None, as_json: bool) -> int:
    """The parts and boards a project can be made for, or everything known about one of them."""
    from hlsgen.targets import all_targets, find

    if name is not None:
        target = find(name)
        if as_json:
            _print_json(target.model_dump(mode="json"))
        else:
            _print_target(target.model_dump(mode="json"))
        return OK
    everything = all_targets()
    if as_json:
        _print_json({key: target.model_dump(mode="json") for key, target in everything.items()})
        return OK
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("name", "left"), ("what", "left"), ("LUT", "right"), ("DSP", "right"), ("", "left")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for heading in ("BRAM36", "URAM", "GB/s", "MHz"):
        table.add_column(heading, justify="right", no_wrap=True)
    for target in everything.values():
        r = target.resources
        table.add_row(
            target.name,
            target.title,
            f"{r.lut:,}",
            f"{r.dsp:,}",
            r.dsp_kind,
            f"{r.bram36:,}",
            f"{r.uram:,}",
            f"{target.bandwidth_gb_s:g}",
            f"{target.clock.default_mhz:g}",
        )
    _print_table(table)
    return OK


@cli.command()
@_json_option
def version(as_json: bool) -> int:
    """Versions of hlsgen and of what its results depend on."""
    from hlsgen.report.versions import versions

    found = versions()
    if as_json:
        _print_json(found)
    else:
        for key, value in found.items():
            click.echo(f"{key:<14} {value}")
    return OK


cli.add_command(calibrate)
cli.add_command(estimate)
cli.add_command(report)
cli.add_command(explore)
cli.add_command(quantize)
cli.add_command(strategies)
cli.add_command(segment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 1 on a mismatch, 2 on bad input, 130 when interrupted."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        # not cli.main(): it would exit with 1, our code for a mismatch, when the reader of a pipe goes away
        with cli.make_context("hlsgen", list(sys.argv[1:] if arguments is None else arguments)) as context:
            code = cli.invoke(context)
        return code if isinstance(code, int) else OK
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except HlsgenError as error:
        return _fail(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return BAD_INPUT
    except click.UsageError as error:
        command = f" {error.ctx.info_name}" if error.ctx and error.ctx.parent else ""
        return _fail(f"{error.format_message().rstrip('.')} (see hlsgen{command} --help)")
    except click.ClickException as error:
        return _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("hlsgen: interrupted, nothing was left half written", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        with contextlib.suppress(OSError):  # the reader went away; keep the interpreter's last flush quiet
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str) -> int:
    click.echo(f"hlsgen: error: {' '.join(message.split())}", err=True)
    return BAD_INPUT


def _plain_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "model"


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """A terminal's progress on stderr; libraries that print to stdout are sent there too."""
    from hlsgen.progress import Terminal

    with contextlib.redirect_stdout(sys.stderr), Terminal(Console(stderr=True)) as terminal:
        yield terminal


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1, sort_keys=False))


def _print_table(table: Table) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    with console.capture() as capture:
        console.print(table)
    click.echo(capture.get(), nl=False)


def _print_verdict(report: dict[str, Any], folder: Path) -> None:
    if report["csim"] is not None:
        _print_csim(report["csim"])
    else:
        click.echo(f"STOPPED   before the C-simulation; go on with --start-from {_next_stage(report)}")
    if report["files"].get("picture_masks"):
        click.echo(HOST_LINE)
    click.echo(f"project   {folder}")
    click.echo(f"report    {folder / 'report.html'}")
    for name, path in report["files"].items():
        if name.startswith("picture_"):
            click.echo(f"picture   {folder / path}")


def _next_stage(report: dict[str, Any]) -> str:
    return next(name for name in STAGE_NAMES if name not in report["stages"])


def _print_csim(facts: dict[str, Any]) -> None:
    meant = "the INT8 reference" if facts["values"] == "integers" else "the specification"
    size = f"{facts['elements']:,} {facts['values']} of {facts['tensors']} tensors ({facts['types']} types)"
    if not facts["mismatches"]:
        click.secho(f"EXACT     all {size} equal {meant}", fg="green", bold=True)
    else:
        click.secho(f"MISMATCH  {facts['mismatches']:,} of {size} differ from {meant}", fg="red", bold=True)
        first = facts["first"]
        click.echo(
            f"          first at {first['op']} {first['index']}: expected {first['expected']}, got {first['got']}; "
            f"{first['ops_affected']} of {facts['ops']} ops differ"
        )
    click.echo(
        f"          {facts['seconds']:.2f} s simulated ({facts['gmacs_per_second']:.2f} GMAC/s), "
        f"{facts['compile_seconds']:.1f} s to compile"
    )


def _print_masks(facts: dict[str, Any]) -> None:
    for source, mask in facts["masks"].items():
        click.echo(
            f"{source:<9} {mask['area']:,} pixels, predicted IoU {mask['predicted_iou']:.3f}, "
            f"IoU with the float mask {mask['iou']:.4f}"
        )
    click.echo(HOST_LINE)
    _print_csim(facts["csim"])
    for path in facts["files"].values():
        click.echo(f"picture   {path}")


def _print_target(target: dict[str, Any]) -> None:
    for key, value in target.items():
        if isinstance(value, dict):
            click.echo(f"{key}")
            for inner, entry in value.items():
                if entry not in (None, [], ()):
                    click.echo(f"  {inner:<16} {', '.join(entry) if isinstance(entry, list | tuple) else entry}")
        elif value is not None:
            click.echo(f"{key:<16} {value}")


if __name__ == "__main__":
    sys.exit(main())
