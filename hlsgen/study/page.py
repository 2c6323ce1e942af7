"""The study on disk: strategies.json, strategies.md, and index.html, which needs no network."""

import base64
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hlsgen.errors import HlsgenError
from hlsgen.figures import figure
from hlsgen.models.boxes import color
from hlsgen.report.detections import to_bgr
from hlsgen.resources import folder as resource_folder
from hlsgen.study.agreement import Boxes, confident, pairs

Facts = dict[str, Any]
WIDTH = 420  # pixels of a gallery picture
LOST, NEW, FLIPPED = (40, 40, 220), (20, 140, 255), (200, 40, 200)  # BGR
HEADINGS = (
    ("strategy", "the strategy"),
    ("engine", "whether the generated engine runs it"),
    ("mAP50-95", "COCO mAP over IoU 0.50 to 0.95, mean over the seeds (lowest to highest)"),
    ("drop", "below the float network's mAP50-95"),
    ("mAP50", "COCO mAP at IoU 0.50, mean over the seeds"),
    ("agree", "share of boxes (score 0.25 and more) that pair with one of the float network's at IoU 0.5 and more"),
    ("IoU", "mean of the paired boxes"),
    ("flips", "paired boxes of another class, mean over the seeds"),
    ("SQNR dB", "signal over quantization noise of the network's outputs, mean"),
    ("MB", "parameters: weights at their width, biases, scales"),
    ("torch ms", "latency on this CPU, one thread; what exactly was timed is in the cell's title"),
    ("ORT ms", "the same in ONNX Runtime"),
    ("FPS", "estimated images a second of the engine on the part"),
    ("DSP", "estimated"),
    ("LUT", "estimated"),
)


def write(out: Path, facts: Facts, gallery: Sequence[tuple[str, Sequence[Any]]]) -> dict[str, str]:
    """Write the three files into `out`, each whole or not at all; their paths by kind.

    gallery: as `hlsgen.study.run.study` returns it.

    Raises:
        HlsgenError: `out` cannot be written.
    """
    texts = {
        "strategies.json": json.dumps(facts, indent=1, allow_nan=False) + "\n",
        "strategies.md": markdown(facts),
        "index.html": page(facts, gallery),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            aside = out / f".{name}.part"
            aside.write_text(text, encoding="utf-8")
            os.replace(aside, out / name)
    except OSError as error:
        raise HlsgenError(f"cannot write {out}: {error.strerror}; give --out a folder you may write to") from error
    return {"page": str(out / "index.html"), "json": str(out / "strategies.json"), "table": str(out / "strategies.md")}


def cells(facts: Facts) -> list[list[tuple[str, str]]]:
    """The table: a strategy a row, a (text, title) a column of HEADINGS."""
    rows = []
    for row in facts["strategies"]:
        m, many = row["map50_95"], len(row["runs"]) > 1
        spread = f" ({m['min']:.4f} to {m['max']:.4f})" if many else ""
        noise = [db for name, db in row["sqnr_db"].items() if name in facts["outputs"] and db is not None]
        engine, unable = row["engine"], f"the engine cannot run it: {row['missing']}"
        cell = [
            (row["strategy"], f"{row['title']}. {row['source']}. {row['note']}".rstrip()),
            ("yes" if row["scheme"] else "no", unable if row["missing"] else f"as scheme {row['scheme']}"),
            (f"{m['mean']:.4f}{spread}", f"{len(row['runs'])} seeds" if many else "one run"),
            (f"{row['drop']:+.4f}", "float network minus this; positive is worse"),
            (f"{row['map50']['mean']:.4f}", ""),
            (f"{row['agreement']['mean']:.1%}", ""),
            (f"{row['matched_iou']['mean']:.3f}", ""),
            (f"{row['flips']['mean']:.1f}", ""),
            (f"{np.mean(noise):.1f}", "") if noise else ("exact", "no noise: it is the float network"),
            (f"{row['parameter_bytes'] / 1e6:.2f}", f"{row['parameter_bytes']:,} bytes"),
        ]
        for latency in (row["torch"], row["onnxruntime"]):
            cell.append(
                (f"{latency['ms']:.0f}", latency["what"]) if latency["ms"] is not None else ("none", latency["what"])
            )
        if engine is None:
            cell += [("none", unable)] * 3
        else:
            fits = "" if engine["fits"] else "; does not fit the part"
            cell += [
                (figure(engine["fps"]), f"at {engine['clock_mhz']:g} MHz{fits}"),
                (f"{engine['dsp']:,}", f"of the part's{fits}"),
                (f"{engine['lut']:,}", f"of the part's{fits}"),
            ]
        rows.append(cell)
    return rows


def markdown(facts: Facts) -> str:
    """The table in Markdown, with what its numbers are."""
    names = [name for name, _ in HEADINGS]
    lines = [
        f"# Quantization strategies: {facts['model']} at {'x'.join(map(str, facts['imgsz']))}",
        "",
        _about(facts),
        "",
        "| " + " | ".join(names) + " |",
        "|" + "|".join("---" if i < 2 else "---:" for i in range(len(names))) + "|",
    ]
    lines += ["| " + " | ".join(text for text, _ in row) + " |" for row in cells(facts)]
    lines += ["", *(f"- {name}: {what}." for name, what in HEADINGS[2:])]
    lines += [f"- {row['strategy']}: {row['note']}." for row in facts["strategies"] if row["note"]]
    lines += [f"- {row['strategy']} has no engine: {row['missing']}." for row in facts["strategies"] if row["missing"]]
    return "\n".join(lines) + "\n"


def page(facts: Facts, gallery: Sequence[tuple[str, Sequence[Any]]]) -> str:
    """The HTML page: styles, plots and pictures are in it. Every text is escaped: names come from model files."""
    environment = Environment(
        loader=FileSystemLoader(resource_folder("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report/strategies.html.j2").render(
        f=facts,
        about=_about(facts),
        headings=HEADINGS,
        rows=cells(facts),
        plots=plots(facts),
        gallery=[(name, pictures(image, boxes, facts["classes"])) for name, (image, boxes) in gallery],
    )


def _about(facts: Facts) -> str:
    c = facts["calibration"]
    return (
        f"mAP by ultralytics' validator on {facts['images']} images of {facts['data']}; calibrated on {c['images']} images of "
        f"{c['folder']}, drawn {facts['seeds']} time{'s' if facts['seeds'] > 1 else ''}. FPS, DSP and LUT are the cost model's "
        f"estimates for {facts['part']}. Differences below 0.005 are noise on so few images as 64."
    )


def pictures(image: npt.NDArray[np.float32], boxes: Mapping[str, Boxes], classes: Sequence[str]) -> list[Facts]:
    """The input, then each strategy's boxes with what differs from the float network's (the first of `boxes`) marked."""
    canvas = to_bgr(image)
    scale = WIDTH / canvas.shape[1]
    small = np.asarray(cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    found = [{"title": "input", "text": "", "uri": _uri(small)}]
    wanted = confident(next(iter(boxes.values())))
    for label, all_boxes in boxes.items():
        got = confident(all_boxes)
        matched = pairs(wanted, got)
        partner = {j: i for i, j, _ in matched}
        lost = sorted(set(range(len(wanted))) - {i for i, _, _ in matched})
        new = sorted(set(range(len(got))) - set(partner))
        flipped = [j for j, i in partner.items() if wanted[i, 5] != got[j, 5]]
        drawn: npt.NDArray[np.uint8] = small.copy()
        for j, box in enumerate(got):
            what = f"{classes[int(box[5])]} {box[4]:.2f}"
            if j in new:
                _box(drawn, box * scale, NEW, f"new: {what}", 2)
            elif j in flipped:
                _box(drawn, box * scale, FLIPPED, f"{classes[int(wanted[partner[j], 5])]} > {what}", 2)
            else:
                _box(drawn, box * scale, color(int(box[5])), what, 1)
        for i in lost:
            _box(drawn, wanted[i] * scale, LOST, f"lost: {classes[int(wanted[i, 5])]} {wanted[i, 4]:.2f}", 2)
        differing = [f"{len(v)} {k}" for k, v in (("lost", lost), ("new", new), ("flipped", flipped)) if v]
        text = f"{len(got)} boxes" + (f": {', '.join(differing)}" if differing else "")
        found.append({"title": label, "text": text, "uri": _uri(drawn)})
    return found


def _box(
    canvas: npt.NDArray[np.uint8], box: npt.NDArray[np.float32], ink: tuple[int, int, int], text: str, thick: int
) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box[:4])
    cv2.rectangle(canvas, (x1, y1), (x2, y2), ink, thick)
    plain = text.encode("ascii", "replace").decode("ascii")  # OpenCV's Hershey fonts know ASCII only
    (width, height), below = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
    x, y = max(0, min(x1, canvas.shape[1] - width)), max(height + below, y1)
    cv2.rectangle(canvas, (x, y - height - below), (x + width, y), ink, cv2.FILLED)
    light = (0, 0, 0) if sum(ink) > 380 else (255, 255, 255)
    cv2.putText(canvas, plain, (x, y - below // 2 - 1), cv2.FONT_HERSHEY_SIMPLEX, 0.35, light, 1, cv2.LINE_AA)


def _uri(picture: npt.NDArray[np.uint8]) -> str:
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def plots(facts: Facts) -> list[tuple[str, str]]:
    """Titles and SVG images (data URIs): accuracy against bytes, against estimated FPS, SQNR by layer."""
    rows = facts["strategies"]
    on_engine = [row for row in rows if row["engine"] is not None]
    styles = {row["strategy"]: _style(index) for index, row in enumerate(rows)}
    megabytes = _scatter(rows, styles, lambda r: r["parameter_bytes"] / 1e6, "parameters, MB", True)
    found = [("Accuracy against bytes", megabytes)]
    if on_engine:
        what = f"estimated images a second on {facts['part']}"
        speed = _scatter(on_engine, styles, lambda r: r["engine"]["fps"], what, False)
        found.append(("Accuracy against speed", speed))
    return [*found, ("SQNR by layer", _lines(rows, styles))]


def _axes(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, color="#e4e2dc", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(index: int) -> dict[str, Any]:
    from matplotlib import colormaps

    shade = colormaps["tab20"](((2 * index) % 20 + (1 if index >= 10 else 0)) / 20 + 0.001)
    return {"color": shade, "marker": "osD^vP*Xdph<>8"[index % 14]}


def _scatter(
    rows: Sequence[Facts], styles: Mapping[str, Facts], x: Callable[[Facts], float], what: str, logarithmic: bool
) -> str:
    figure, axes = _axes(7.2, 4.2)
    for row in rows:
        m = row["map50_95"]
        error = [[m["mean"] - m["min"]], [m["max"] - m["mean"]]]
        axes.errorbar(
            [x(row)], [m["mean"]], error, ls="none", ms=8, capsize=3, label=row["strategy"], **styles[row["strategy"]]
        )
    if logarithmic:
        axes.set_xscale("log", base=2)
        ticks = sorted({round(x(row), 1) for row in rows})
        axes.set_xticks([t for i, t in enumerate(ticks) if i == 0 or t > 1.15 * ticks[i - 1]])
        axes.xaxis.set_major_formatter("{x:.1f}")
        axes.minorticks_off()
    axes.set_xlabel(what)
    axes.set_ylabel("mAP50-95")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return _svg(figure)


def _lines(rows: Sequence[Facts], styles: Mapping[str, Facts]) -> str:
    figure, axes = _axes(11, 4.6)
    for row in rows:
        # the image is left out: 8-bit pictures are hardly changed, and its height would flatten all else
        known = [(i, db) for i, db in enumerate(row["sqnr_db"].values()) if db is not None and i > 0]
        if known:
            shade = styles[row["strategy"]]["color"]
            axes.plot([i for i, _ in known], [db for _, db in known], lw=1.2, label=row["strategy"], color=shade)
    axes.set_xlabel("tensor, in order of computation")
    axes.set_ylabel("SQNR, dB")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return _svg(figure)


def _svg(figure: Any) -> str:
    import matplotlib

    held = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "hlsgen", "svg.fonttype": "path"}):
        figure.savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(held.getvalue().encode()).decode('ascii')}"
