"""A SAM on one picture and one prompt: its float masks and those of an INT8 reference, measured and drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hlsgen.errors import HlsgenError
from hlsgen.progress import Progress, Quiet

if TYPE_CHECKING:
    from hlsgen.models.images import Picture
    from hlsgen.models.sam.checkpoint import Checkpoint
    from hlsgen.models.sam.model import Sam
    from hlsgen.models.sam.prompts import Prompt

SamScheme = Literal["dynamic", "fixed"]
SAM_SCHEMES: tuple[SamScheme, ...] = ("dynamic", "fixed")
CALIBRATION_PICTURES = 16


def segment(
    model: str,
    image: Path | None,
    out: Path,
    *,
    weights: str | None = None,
    box: str | None = None,
    points: Sequence[str] = (),
    not_points: Sequence[str] = (),
    scheme: SamScheme = "dynamic",
    calib: Path | None = None,
    onnx: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Segment what a prompt points at, by the float network and by the INT8 reference of ``scheme``.

    Args:
        model: a SAM's name or ``.pth`` file (``hlsgen.models.sam.load``).
        image: the picture, or None for one that the demo has never seen, by default with the box of a shape in it.
        out: the folder that the pictures are written to.
        weights: as ``hlsgen.models.sam.load.load``.
        box: "x0,y0,x1,y1".
        points: "x,y" each, in the object.
        not_points: "x,y" each, outside it.
        scheme: ``dynamic`` or ``fixed``.
        calib: pictures to calibrate ``fixed`` on; the demo has its own.
        onnx: a folder for the model as ONNX; ONNX Runtime then segments too. Not for ``fixed``.
        progress: told what is going on.

    Returns:
        model, weights, scheme, image, size [H, W], embedding_sqnr_db (INT8 against float), masks by source (area in
        pixels, predicted_iou, iou with the float mask), files by name.

    Raises:
        HlsgenError: an unknown model, bad weights, an unreadable picture, a prompt that is none or lies outside the
            picture, no calibration pictures, a folder that cannot be written.
    """
    import cv2

    from hlsgen.models.images import read_image
    from hlsgen.models.sam.config import TINY
    from hlsgen.models.sam.evaluate import generated, iou
    from hlsgen.models.sam.load import DEMO, is_sam, load
    from hlsgen.models.sam.model import float_sam
    from hlsgen.models.sam.prompts import parse_prompt
    from hlsgen.report.masks import side_by_side

    progress = progress or Quiet()
    if not is_sam(model):
        raise HlsgenError(
            f"segmenting needs a SAM: sam, sam_vit_b, sam_vit_l, sam_vit_h, sam_tiny or a .pth file; got {model!r}"
        )
    if onnx is not None and scheme != "dynamic":
        raise HlsgenError("--onnx writes the dynamic scheme; leave out --scheme fixed")
    if image is not None:
        picture, name = read_image(image), image.stem
    elif model.lower() == TINY.name or weights == DEMO:
        ((picture, asked),) = generated(1, TINY.img_size)
        name = "demo"
        if box is None and not points:
            box = ",".join(f"{v:g}" for v in asked[0].box.box or ())
    else:
        raise HlsgenError(f"which picture? give --image FILE; only the demo ({TINY.name}) has one of its own")
    size = (picture.shape[0], picture.shape[1])
    prompt = parse_prompt(box, points, size, not_points)
    progress.stage("load", "reading the network")
    checkpoint = load(model, weights)
    plain = float_sam(checkpoint)
    progress.stage("quantize", f"scheme {scheme}")
    sams: dict[str, Sam] = {"fp32": plain, "int8": _quantized(checkpoint, plain, scheme, calib)}
    if onnx is not None:
        progress.stage("export", "writing ONNX")
        sams["onnx"] = _exported(sams["int8"], onnx)
    masks, facts, embeddings = {}, {}, {}
    for source, sam in sams.items():
        progress.stage(source, "segmenting")
        embeddings[source] = sam.embed(picture)
        _, quality = sam.logits(embeddings[source], prompt, size)
        mask = sam.mask(embeddings[source], prompt, size)
        masks[source] = mask
        facts[source] = {
            "area": int(mask.sum()),
            "predicted_iou": round(float(quality.reshape(-1)[0]), 4),
            "iou": round(iou(masks["fp32"], mask), 4),
        }
    titles = {"fp32": "FP32", "int8": f"INT8 {scheme}", "onnx": "ONNX Runtime"}
    sheet = side_by_side(picture, prompt, {titles[source]: mask.numpy() for source, mask in masks.items()})
    files = {"masks": out / f"{name}-masks.png"}
    try:
        out.mkdir(parents=True, exist_ok=True)
        files["masks"].write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
        for source, mask in masks.items():
            files[source] = out / f"{name}-{source}.png"
            files[source].write_bytes(cv2.imencode(".png", mask.numpy().astype("uint8") * 255)[1].tobytes())
    except OSError as error:
        raise HlsgenError(f"cannot write {out}: {error.strerror}; give --out a folder you may write to") from error
    noise = float((embeddings["int8"] - embeddings["fp32"]).double().square().sum())
    signal = float(embeddings["fp32"].double().square().sum())
    return {
        "model": checkpoint.config.name,
        "weights": weights or model,
        "scheme": scheme,
        "image": "generated" if image is None else str(image),
        "size": list(size),
        "embedding_sqnr_db": round(10 * math.log10(signal / noise), 2) if noise and signal else None,
        "masks": facts,
        "files": {name: str(path) for name, path in files.items()},
    }


def _quantized(checkpoint: Checkpoint, plain: Sam, scheme: SamScheme, calib: Path | None) -> Sam:
    from hlsgen.models.sam.model import dynamic_sam, fixed_sam

    if scheme == "dynamic":
        return dynamic_sam(checkpoint)
    return fixed_sam(checkpoint, _calibration(checkpoint, calib))


def _calibration(checkpoint: Checkpoint, calib: Path | None) -> list[tuple[Picture, list[Prompt]]]:
    """Pictures, and prompts for each: the demo's shapes, or for photographs a box and points spread over them."""
    from hlsgen.models.demo.shapes import CALIB_SEED
    from hlsgen.models.images import list_images, read_image
    from hlsgen.models.sam.config import TINY
    from hlsgen.models.sam.evaluate import generated
    from hlsgen.models.sam.prompts import Prompt

    if calib is None:
        if checkpoint.config != TINY:
            raise HlsgenError("scheme fixed is calibrated on pictures like those to be segmented: give --calib FOLDER")
        made = generated(CALIBRATION_PICTURES, TINY.img_size, CALIB_SEED)
        return [(picture, [p for one in asked for p in (one.box, one.point)]) for picture, asked in made]
    found = []
    for path in list_images(calib)[:CALIBRATION_PICTURES]:
        picture = read_image(path)
        height, width = picture.shape[:2]
        prompts = [Prompt((width * 0.2, height * 0.2, width * 0.8, height * 0.8))]
        prompts += [Prompt(points=((width * x, height * y),)) for x, y in ((0.5, 0.5), (0.3, 0.4), (0.7, 0.6))]
        found.append((picture, prompts))
    return found


def _exported(sam: Sam, folder: Path) -> Sam:
    from hlsgen.frontend.onnx_tokens import sam_session, write_sam
    from hlsgen.models.sam.model import Sam

    return Sam(sam.config, sam.state, *sam_session(*write_sam(sam, folder)))
