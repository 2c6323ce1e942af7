"""`hlsgen quantize`: a quantized network as a file, for `hlsgen build --weights`."""

import json
import time
from pathlib import Path
from typing import Any

import click

from hlsgen.quantize.recipe import RANGES, ROUNDINGS
from hlsgen.quantize.spec import DEFAULT_SCHEME
from hlsgen.quantize.strategies import REGISTRY, runnable


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option(
    "--strategy",
    default=DEFAULT_SCHEME,
    show_default=True,
    help=f"{', '.join(REGISTRY)}; with a variant minifloat:e5m2, fixed:w6, mixed:0.75 or mixed:dsp0.8.",
)
@click.option("--weights", help="Checkpoint file, or 'demo' for the bundled demo model.")
@click.option("--imgsz", help="Image size, 640 or 416x640 (HxW)  [default: the model's own]")
@click.option("--calib", type=click.Path(path_type=Path), help="Folder of calibration images.")
@click.option("--images", type=int, default=32, show_default=True, help="How many of them to use.")
@click.option("--seed", type=int, help="Draw them, and all else, by this seed  [default: the first ones by name]")
@click.option("--ranges", type=click.Choice(RANGES), help="How activation ranges are chosen  [default: mse]")
@click.option("--percentile", type=float, help="Of what was seen, for --ranges percentile  [default: 99.999]")
@click.option("--rounding", type=click.Choice(ROUNDINGS), help="How weights are rounded  [default: compensated]")
@click.option("--refit/--no-refit", default=None, help="Move weights to what quantized inputs need  [default: yes]")
@click.option("--correct-bias/--no-correct-bias", default=None, help="Mend the outputs' means  [default: yes]")
@click.option("--equalize/--no-equalize", default=None, help="Cross-layer equalization first  [default: no]")
@click.option("--pre-bits", type=int, help="Bits before an activation's table  [default: fixed 14, affine 12]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file, such as q.pt.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")
def quantize(model: str, out: Path, as_json: bool, **options: Any) -> int:
    """Quantize MODEL by any strategy into a file that `hlsgen build --weights` takes."""
    from hlsgen.cli import _progress

    with _progress() as progress:
        facts = quantize_model(model, out, progress, **options)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return 0
    click.echo(f"{facts['strategy']}: {facts['title']}")
    if facts["note"]:
        click.echo(f"          {facts['note']}")
    click.echo(
        f"file      {out}: parameters of {facts['parameter_bytes']:,} bytes, {facts['float_bytes']:,} in float32"
    )
    click.echo(
        f"engine    {'runs it: hlsgen build --weights' if facts['scheme'] else 'cannot run it:'} {facts['engine']}"
    )
    return 0


def quantize_model(
    model: str,
    out: Path,
    progress: Any,
    strategy: str = DEFAULT_SCHEME,
    weights: str | None = None,
    imgsz: str | None = None,
    calib: Path | None = None,
    images: int = 32,
    seed: int | None = None,
    pre_bits: int | None = None,
    **tools: Any,
) -> dict[str, Any]:
    """Quantize and write `out`; the facts that `--json` prints. tools: settings of `hlsgen.quantize.recipe.Recipe`, None unset.

    Raises:
        HlsgenError: an unknown strategy or model, settings that the strategy has not, no images, a file that cannot be
            written.
    """
    from dataclasses import replace

    from hlsgen.cli import ImageSize
    from hlsgen.errors import HlsgenError
    from hlsgen.models import load
    from hlsgen.models.calibration import calibration_images
    from hlsgen.models.sam.engine import no_sam
    from hlsgen.quantize.quantized import parameter_bytes, write
    from hlsgen.quantize.strategies import Task, find

    chosen = find(strategy)
    given = {name: value for name, value in tools.items() if value is not None}
    unused = sorted(set(given) - chosen.tools())
    if unused:
        option = unused[0].replace("_", "-")
        able = ", ".join(n for n, c in REGISTRY.items() if unused[0] in c.tools())
        raise HlsgenError(f"strategy {chosen.name} makes no use of --{option}; it is for {able}")
    if pre_bits is not None and chosen.scheme not in ("fixed", "affine"):
        raise HlsgenError(
            f"strategy {chosen.name} makes no use of --pre-bits; it is for affine, fixed, mixed, trainable-fixed"
        )
    if images < 1:
        raise HlsgenError(f"calibration needs at least one image, got --images {images}")
    if seed is not None and seed < 0:
        raise HlsgenError(f"a seed is 0 or more, got --seed {seed}")
    if out.is_dir():
        raise HlsgenError(f"--out expects a file such as q.pt, {out} is a folder")
    chosen = replace(chosen, recipe=replace(chosen.recipe, seed=seed or 0, **given))
    began = time.perf_counter()
    progress.stage("load", "reading the network")
    loaded = load(model, weights, None if imgsz is None else ImageSize().convert(imgsz, None, None))
    no_sam(loaded.name, loaded.task, "hlsgen quantize")
    if loaded.quantization is not None:
        raise HlsgenError(f"{loaded.weights} is quantized already; give the float network")
    if loaded.notice:
        progress.note(loaded.notice)
    progress.done("load", time.perf_counter() - began, f"{loaded.name}: {loaded.params / 1e6:.2f} M parameters")
    source = ""
    pictures: list[Any] = []
    if chosen.calibrated:
        pictures, source = calibration_images(loaded, calib, images, seed)
    progress.stage("quantize", chosen.title)
    begun = time.perf_counter()
    made = chosen.quantize(Task(loaded.network, loaded.shape, pictures, loaded.reg_max, progress, pre_bits))
    seconds = time.perf_counter() - begun
    progress.done("quantize", seconds, f"{len(pictures)} images from {source}" if source else "no images needed")
    write(made, out, loaded.facts())
    return {
        "strategy": made.strategy,
        "title": chosen.title,
        "source": chosen.source,
        "scheme": chosen.scheme,
        "engine": str(out) if chosen.scheme else f"{chosen.missing}; it runs {', '.join(runnable())}",
        "note": made.note,
        "parameter_bytes": made.parameter_bytes,
        "float_bytes": parameter_bytes(loaded.network, 32, 4),
        "model": loaded.name,
        "weights": loaded.weights,
        "images": len(pictures),
        "seed": seed,
        "file": str(out),
        "seconds": round(seconds, 3),
    }
