"""`hlsgen segment`: a SAM's masks of one picture, float and INT8, side by side."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from hlsgen.segment import SAM_SCHEMES


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--image", type=click.Path(path_type=Path), help="The picture  [default: a generated one, for sam_tiny]")
@click.option("--box", help="What to segment: a box around it, x0,y0,x1,y1 in pixels.")
@click.option("--point", "points", multiple=True, help="A point in it, x,y in pixels; may be given again.")
@click.option("--not-point", "not_points", multiple=True, help="A point outside it.")
@click.option("--weights", help="Checkpoint file, 'demo' for the bundled tiny SAM, or 'random'.")
@click.option("--scheme", type=click.Choice(SAM_SCHEMES), default="dynamic", show_default=True, help="INT8 scheme.")
@click.option("--calib", type=click.Path(path_type=Path), help="Folder of calibration images, for scheme fixed.")
@click.option("--onnx", type=click.Path(path_type=Path), help="Write the dynamic model as ONNX here, and run it too.")
@click.option("--out", type=click.Path(path_type=Path), default="segment", show_default=True, help="Where to draw.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout, nothing else.")
def segment(model: str, as_json: bool, **options: Any) -> int:
    """Segment what a box or points say in a picture, by MODEL in float and in INT8.

    MODEL is sam (sam_vit_b), sam_vit_l, sam_vit_h, sam_tiny (the bundled demo), or a .pth of segment_anything.
    """
    from hlsgen.progress import Terminal
    from hlsgen.segment import segment as run

    with contextlib.redirect_stdout(sys.stderr), Terminal(Console(stderr=True)) as progress:
        facts = run(model, progress=progress, **options)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return 0
    for source, mask in facts["masks"].items():
        click.echo(
            f"{source:<9} {mask['area']:,} pixels, predicted IoU {mask['predicted_iou']:.3f}, "
            f"IoU with the float mask {mask['iou']:.4f}"
        )
    if facts["embedding_sqnr_db"] is not None:
        click.echo(f"embedding {facts['embedding_sqnr_db']:.1f} dB SQNR, {facts['scheme']} against float")
    for path in facts["files"].values():
        click.echo(f"picture   {path}")
    return 0
