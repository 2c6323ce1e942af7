"""explore.json, explore.csv and explore.html from one set of facts. Same facts, same bytes."""

import csv
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hlsgen.explore import plot
from hlsgen.explore.objectives import OBJECTIVES, Objective
from hlsgen.program.ops import EngineConfig
from hlsgen.quantize.spec import DEFAULT_SCHEME
from hlsgen.report.write import environment
from hlsgen.workspace import write_whole

FILES = ("explore.json", "explore.csv", "explore.html")
Row = Mapping[str, Any]
_ASKED = ("model", "weights", "part", "clock_mhz", "budget", "goal", "calibration", "fits", "front", "cores")
_ENGINE = {field.name: field.name for field in fields(EngineConfig)} | {
    "uram": "patch_uram"
}  # its columns: `uram` is how many


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Write the three files of explore.json's facts (docs/explore.md) into `folder`, each whole."""
    weighed = [OBJECTIVES[o["name"]] for o in found["objectives"]]
    write_whole(folder / "explore.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    write_whole(folder / "explore.csv", _csv(found["points"]))
    write_whole(folder / "explore.html", _page(found, weighed))


def _csv(rows: Sequence[Row]) -> str:
    figures = [name for name in OBJECTIVES if name not in _ASKED]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*_ASKED, *_ENGINE.values(), *figures, "binds", "why"])
    for row in rows:
        engine, values = row["engine"] or {}, row["values"] or {}
        table.writerow(
            [
                *(_cell(row[name]) for name in _ASKED),
                *(engine.get(name) for name in _ENGINE),
                *(values.get(name) for name in figures),
                binds(row),
                row["why"],
            ]
        )
    return file.getvalue()


def _cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula is set off."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" and value else value


def binds(row: Row) -> str:
    """The process that binds for most of the cycles; empty where no engine was found."""
    return next(iter(row["binds"] or {}), "")


def engine(row: Row) -> str:
    """2 x 16x16x4: cores, TM, TN, TP."""
    e = row["engine"]
    return f"{row['cores']} x {e['tm']}x{e['tn']}x{e['tp']}" if e else ""


def given(fixed: Mapping[str, int]) -> str:
    """What was fixed, as options."""
    return " ".join(f"--{name} {value}" for name, value in fixed.items())


def _unfit(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What does not fit: one row for all clocks of the same reason."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if not row["fits"]:
            clocks = found.setdefault((row["part"], row["budget"], given(row["fixed"]), row["why"]), [])
            clocks.extend([row["clock_mhz"]] if row["clock_mhz"] not in clocks else [])
    names = ("part", "budget", "given", "why")
    return [
        dict(zip(names, key, strict=True)) | {"clocks": ", ".join(f"{c:g}" for c in clocks)}
        for key, clocks in found.items()
    ]


def command(row: Row, found: Mapping[str, Any]) -> str:
    """The build that makes this design."""
    from hlsgen.models.sam.config import VARIANTS
    from hlsgen.models.zoo import NAMES

    e, weights = row["engine"], row["weights"]
    named = row["model"] in (*NAMES, *VARIANTS) and not weights.endswith(".onnx")
    words = ["hlsgen", "build", *((row["model"], "--weights", weights) if named else (weights,))]
    words += ["--part", row["part"], "--clock", f"{row['clock_mhz']:g}"]
    if found["imgsz"]:
        words += ["--imgsz", "x".join(map(str, found["imgsz"]))]
    if found["scheme"] != DEFAULT_SCHEME:
        words += ["--scheme", found["scheme"]]
    for name in ("tm", "tn", "tp", "lanes"):
        words += [f"--{name}", str(e[name])]
    return shlex.join([*words, "--cores", str(row["cores"])])


def _page(found: Mapping[str, Any], weighed: Sequence[Objective]) -> str:
    rows = found["points"]
    parts = list(dict.fromkeys(row["part"] for row in rows))
    up = weighed[0]
    others = weighed[1:] or [OBJECTIVES["lut" if up.name != "lut" else "fps"]]
    shown = dict.fromkeys([*weighed, *(OBJECTIVES[name] for name in ("fps", "latency_ms", "lut", "dsp", "bram36"))])
    networks = []
    for model, weights in dict.fromkeys((row["model"], row["weights"]) for row in rows):
        own = [row for row in rows if (row["model"], row["weights"]) == (model, weights)]
        order = others[0].name
        front = sorted((r for r in own if r["front"] == "all"), key=lambda r: (r["values"][order] or 0, r["key"]))
        numbers = {row["key"]: i + 1 for i, row in enumerate(front)}
        networks.append(
            {
                "model": model,
                "weights": weights,
                "plots": [p for other in others if (p := plot.scatter(own, parts, other, up, numbers))],
                "front": front,
                "points": own,
                "unfit": _unfit(own),
            }
        )
    return (
        environment()
        .get_template("explore/explore.html.j2")
        .render(
            found=found,
            networks=networks,
            parts=[{"name": p, "colour": plot.colour(parts, p), "shape": plot.shape(parts, p)} for p in parts],
            columns=list(shown),
            weighed=weighed,
            binds=binds,
            engine=engine,
            given=given,
            command=command,
            width=plot.WIDTH,
            height=plot.HEIGHT,
            left=plot.LEFT,
            right=plot.RIGHT,
            top=plot.TOP,
            bottom=plot.BOTTOM,
        )
    )
