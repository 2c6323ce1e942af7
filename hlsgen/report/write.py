"""report.json and report.html from one set of facts."""

import base64
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError

from hlsgen.figures import duration, figure
from hlsgen.report import plot
from hlsgen.report.activity import activity
from hlsgen.report.facts import ReportFacts
from hlsgen.report.gantt import gantt
from hlsgen.report.layer_bars import PROCESSES, layer_bars
from hlsgen.report.resource_bars import resource_bars
from hlsgen.report.roofline import roofline
from hlsgen.resources import folder as resource_folder

LABELS = {
    "sqnr_db_min": "lowest SQNR, dB",
    "sqnr_db_min_at": "at",
    "sqnr_db_outputs": "SQNR of the outputs, dB",
    "pre_bits": "bits before a table",
    "equal_inputs": "op by op",
    "end_to_end": "from the image on",
    "limit": "largest step allowed",
    "tm": "output channels a cycle",
    "tn": "input channels a cycle",
    "tp": "pixels a cycle",
    "beat": "bytes a transfer",
}


@dataclass(frozen=True)
class Picture:
    """A drawn picture: `jpeg` is the file's bytes, `name` its file name's stem, `count` how many boxes it shows."""

    name: str
    title: str
    text: str
    count: int
    jpeg: bytes


def write_report(folder: Path, facts: ReportFacts, pictures: Sequence[Picture] = ()) -> dict[str, Any]:
    """Writes report.json, report.html and pictures/ into `folder`; returns what report.json holds.

    The page needs no network: styles, plot and pictures are in it. Every text is escaped: names come from model files.
    """
    files = dict(facts.files)
    for picture in pictures:
        path = Path("pictures") / f"{picture.name}.jpg"
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(picture.jpeg)
        files[f"picture_{picture.name}"] = path.as_posix()
    whole = facts.model_copy(update={"files": files | {"report": "report.html"}})
    content: dict[str, Any] = whole.model_dump(mode="json")
    (folder / "report.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_page(whole, pictures), encoding="utf-8")
    return content


def add_reports(folder: Path, section: dict[str, Any]) -> str | None:
    """Put the vendor's reports (`hlsgen.handoff.reports.compare.compare`) into a build's report.json and report.html.

    Returns why the page is as it was, where it could not be written anew; None where it was.
    """
    from hlsgen.report.detections import TITLES

    why = f"{folder / 'report.html'} was left as it is"
    try:
        facts = ReportFacts.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        pictures = [
            Picture(name, *TITLES[name], len(boxes), (folder / "pictures" / f"{name}.jpg").read_bytes())
            for name, boxes in (facts.detections or {}).items()
        ]
        with tempfile.TemporaryDirectory(prefix=".report.", dir=folder) as aside:
            write_report(Path(aside), facts.model_copy(update={"reports": section}), pictures)
            for name in ("report.json", "report.html"):
                os.replace(Path(aside) / name, folder / name)
    except OSError as error:
        return f"{why}: {error.strerror}"
    except (ValidationError, KeyError):
        return f"{why}: report.json is damaged or another version's"
    return None


def environment() -> Environment:
    """What renders HTML: every text is escaped, nothing may be undefined."""
    made = Environment(
        loader=FileSystemLoader(resource_folder("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"figure": figure, "duration": duration}
    return made


def _page(facts: ReportFacts, pictures: Sequence[Picture]) -> str:
    shown = [
        {
            "name": p.name,
            "uri": f"data:image/jpeg;base64,{base64.b64encode(p.jpeg).decode('ascii')}",
            "title": p.title,
            "text": p.text,
            "count": p.count,
        }
        for p in pictures
    ]
    return (
        environment()
        .get_template("report/report.html.j2")
        .render(
            r=facts,
            last_stage=list(facts.stages)[-1] if facts.stages else "nothing",
            pictures=shown,
            plot=plot.sqnr_plot(facts.layers),
            width=plot.WIDTH,
            height=plot.HEIGHT,
            left=plot.LEFT,
            right=plot.RIGHT,
            top=plot.TOP,
            bottom=plot.BOTTOM,
            onnx=(facts.onnx or {}).get("tensors", {}),
            figures=_figures(facts.estimate) if facts.estimate else None,
            tables=_tables(facts),
        )
    )


def _figures(e: Mapping[str, Any]) -> dict[str, Any]:
    """The geometry of what the estimate's figures draw."""
    return {
        "resources": resource_bars(e["resources"]),
        "roofline": roofline(e),
        "layers": layer_bars(e["layers"]),
        "activity": activity(e["layers"], e["clock_mhz"]),
        "gantts": [gantt(op) for op in e.get("trace", [])],
        "processes": [p for p in PROCESSES if any(layer[f"{p}_cycles"] for layer in e["layers"])],
    }


def _tables(facts: ReportFacts) -> list[tuple[str, list[tuple[str, str]]]]:
    quantization = facts.quantization.model_dump() if facts.quantization else {}
    onnx = "ONNX" if facts.scheme == "dynamic" else "QDQ ONNX"
    return [
        ("Quantization", [(_words(k), _value(v)) for k, v in quantization.items()]),
        (onnx, [(_words(k), _value(v)) for k, v in (facts.onnx or {}).items() if k != "tensors"]),
        ("Engine", [(_words(k), _value(v)) for k, v in (facts.engine or {}).items()]),
        ("Time", [(stage, f"{seconds:.2f} s") for stage, seconds in facts.stages.items()]),
        ("Versions", [(name, version) for name, version in facts.versions.items()]),
        ("Files", [(_words(name), path) for name, path in facts.files.items()]),
    ]


def _words(key: str) -> str:
    return LABELS.get(key) or key.replace("_", " ")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(_value(v) for v in value)
    return "" if value is None else str(value)
