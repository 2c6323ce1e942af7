"""What one does with a finished build: simulate it again, compare it on another picture, measure its accuracy."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hlsgen.build import Build, opened
from hlsgen.errors import HlsgenError
from hlsgen.progress import Progress
from hlsgen.report.facts import CsimFacts
from hlsgen.workspace import read_stamp


def simulate(folder: Path, image: Path | None, strict: bool, progress: Progress) -> CsimFacts:
    """C-simulate the project in `folder`, on `image` or on the build's own picture; nothing but its binary is written.

    Raises:
        HlsgenError: no such build, an unreadable image, no compiler.
    """
    return _simulated(opened(folder, "render", image, strict, progress))


def _simulated(b: Build) -> CsimFacts:
    from hlsgen import csim
    from hlsgen.report.collect import csim_facts

    b.progress.stage("csim", "compiling and simulating")
    program = b.program
    with tempfile.TemporaryDirectory(prefix="hlsgen-csim-") as scratch:
        data = Path(scratch)
        shutil.copy(b.folder / "data" / "parameters.bin", data)
        csim.write_data(program, data, b.tensors[program.tensors[program.inputs[0]].reference], b.expected)
        tokens = b.facts["lower"]["simulation"]["tokens"]
        b.simulated = csim.simulate(b.folder, program, data, b.options.strict, tokens)
    return CsimFacts.model_validate(csim_facts(program, b.simulated))


def compare(folder: Path, image: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Boxes of `image` by the float network, the INT8 reference and the C-simulated hardware; drawn into `out`.

    Returns:
        csim (as in report.json), detections by source, sqnr_db by output, files by source.

    Raises:
        HlsgenError: as `simulate`, or `out` cannot be written.
    """
    from hlsgen.report.detections import draw_all, find_all
    from hlsgen.report.sqnr import sqnr_by_tensor

    b = opened(folder, "render", image, False, progress)
    facts = _simulated(b)
    found = find_all(b)
    sqnr = sqnr_by_tensor(b.loaded.network, b.tensors, b.reference.spec.tensors, b.picture)
    files = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for picture in draw_all(b.picture, found):
            path = out / f"{image.stem}-{picture.name}.jpg"
            path.write_bytes(picture.jpeg)
            files[picture.name] = str(path)
    except OSError as error:
        raise HlsgenError(f"cannot write {out}: {error.strerror}; give --out a folder you may write to") from error
    return {
        "csim": facts.model_dump(mode="json"),
        "detections": {source: [box.model_dump(mode="json") for box in boxes.facts] for source, boxes in found.items()},
        "sqnr_db": {name: sqnr.get(name) for name in b.outputs},
        "files": files,
    }


def takes_prompts(folder: Path) -> bool:
    """Whether the build in `folder` is a SAM's.

    Raises:
        HlsgenError: it is no build.
    """
    from hlsgen.models.sam.load import is_sam

    return is_sam(str(read_stamp(folder).get("model")))


def no_prompt(folder: Path) -> NoReturn:
    """Say that the build in `folder` takes no prompt.

    Raises:
        HlsgenError: always.
    """
    model = read_stamp(folder).get("model")
    raise HlsgenError(
        f"--box, --point and --not-point are a SAM's prompts, and {folder} was built from {model}; leave them out"
    )


def compare_masks(
    folder: Path,
    image: Path,
    asked: tuple[str | None, Sequence[str], Sequence[str]],
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """The mask of a prompt in `image` by the float network, the INT8 reference and the C-simulated hardware; drawn into `out`.

    asked: --box, --point and --not-point.

    Returns:
        csim (as in report.json), masks by source (area, predicted_iou, iou), sqnr_db by output, files by name.

    Raises:
        HlsgenError: as `simulate`, a prompt that is none, too long or outside the picture, or `out` cannot be written.
    """
    from hlsgen.models.images import read_image
    from hlsgen.models.sam.prompting import check_room
    from hlsgen.models.sam.prompts import parse_prompt
    from hlsgen.report.segmented import draw_masks, facts_of, segment_all
    from hlsgen.report.sqnr import sqnr_by_tensor

    pixels, (box, points, not_points) = read_image(image), asked
    size = (pixels.shape[0], pixels.shape[1])
    prompt = parse_prompt(box, points, size, not_points)
    check_room(prompt)
    b = opened(folder, "render", image, False, progress)
    b.asked = prompt, size
    facts = _simulated(b)
    found = segment_all(b, size)
    sqnr = sqnr_by_tensor(b.loaded.network, b.tensors, b.reference.spec.tensors, *b.inputs)
    path = out / f"{image.stem}-masks.jpg"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_masks(pixels, prompt, found).jpeg)
    except OSError as error:
        raise HlsgenError(f"cannot write {out}: {error.strerror}; give --out a folder you may write to") from error
    return {
        "csim": facts.model_dump(mode="json"),
        "masks": facts_of(found),
        "sqnr_db": {name: sqnr.get(name) for name in b.outputs},
        "files": {"masks": str(path)},
    }


def evaluate_masks(folder: Path, count: int, progress: Progress) -> dict[str, Any]:
    """Mean IoU of a SAM's INT8 reference, encoder and decoder, and of the float network, on pictures of the demo's world.

    Returns:
        miou, box, point of `int8` and of `fp32`, mask_iou and least_iou (of the INT8 masks with the float ones), pictures,
        shapes, scheme.

    Raises:
        HlsgenError: as `opened`, or no picture is asked for.
    """
    from hlsgen.models.sam.evaluate import kept

    if count < 1:
        raise HlsgenError(f"expected at least one picture, got --images {count}")
    b = opened(folder, "quantize", progress=progress)
    progress.stage("int8", "the float network and the INT8 reference")
    found = kept(b.loaded, b.reference, count, progress.step)
    sides = {"int8": found.int8, "fp32": found.fp32}
    return {
        **{
            name: {key: round(float(getattr(side, key)), 4) for key in ("miou", "box", "point")}
            for name, side in sides.items()
        },
        "mask_iou": round(found.mask_iou, 4),
        "least_iou": round(found.least_iou, 4),
        "pictures": count,
        "shapes": found.int8.shapes,
        "scheme": b.reference.spec.scheme,
    }


def evaluate(folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
    """mAP of the INT8 reference, and of the float network, on labelled images (`hlsgen.evaluate.accuracy`).

    Returns:
        map50_95, map50, fp32_map50_95, fp32_map50 (0..1), images, scheme, imgsz.
    """
    from hlsgen.evaluate import accuracy

    b = opened(folder, "quantize", progress=progress)
    size = max(b.size)
    progress.stage("float", "the float network")
    fp32 = accuracy(b.loaded.network, b.loaded, data, size, progress=progress.step)
    progress.stage("int8", "the INT8 reference")
    int8 = accuracy(b.reference, b.loaded, data, size, progress=progress.step)
    return {
        "map50_95": int8["map50_95"],
        "map50": int8["map50"],
        "fp32_map50_95": fp32["map50_95"],
        "fp32_map50": fp32["map50"],
        "images": int8["images"],
        "scheme": b.reference.spec.scheme,
        "imgsz": list(b.size),
    }
