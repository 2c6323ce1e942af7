"""The driver that goes with a project: `driver/` as it is in templates/driver, and network.json, what it must know."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hlsgen import resources
from hlsgen.handoff.identity import identity, program_digest
from hlsgen.names import identifier
from hlsgen.program.encode import Encoded
from hlsgen.program.ops import Program, Tensor

FORMAT = 2
COMMENT = {".py": "#", ".h": "//", ".cpp": "//"}
"""How a file of this kind begins a comment: the line that says where it comes from."""
SKIPPED = frozenset({"__pycache__"})


@dataclass(frozen=True)
class Head:
    """What a detector's raw maps mean: `hlsgen.models.boxes.decode`."""

    strides: tuple[int, ...]
    reg_max: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Host:
    """What the host does before and after the accelerator.

    levels: the network's input for each 8-bit value of a pixel (256 integers), or () where its input is no picture.
    outputs: the nodes (`Tensor.reference`) of its outputs, in the network's order; () takes the Program's order.
    head: None where the network is no detector. prompting: of a SAM, what network.json says of prompts.
    """

    levels: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ()
    head: Head | None = None
    prompting: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Stamp:
    """What ties the parts of a build together: SHA-256 (hex) of the Program and of the weights, and their identity."""

    program: str
    parameters: str
    identity: int


def stamp(program: Program, encoded: Encoded, sources: Mapping[str, str]) -> Stamp:
    """sources: the text of each synthesized file by name, rendered with identity 0 and without an origin."""
    digest = program_digest(sorted(sources.items()), layout(program))
    parameters = hashlib.sha256(encoded.weights.tobytes()).hexdigest()
    return Stamp(digest, parameters, identity(digest, parameters))


def layout(program: Program) -> dict[str, Any]:
    """Where tensors lie in memory: plain values, in order of computation, the image first."""
    beat = program.engine.beat
    order = [
        *((name, None) for name in program.inputs),
        *zip((op.out for op in program.ops), program.expected(), strict=True),
    ]
    return {
        "tm": program.engine.tm,
        "feature_map_bytes": program.fmap_beats * beat,
        "expected_bytes": program.expected_bytes(),
        "tensors": [_tensor(program.tensors[name], at, beat) for name, at in order],
    }


def _tensor(t: Tensor, expected: int | None, beat: int) -> dict[str, Any]:
    return {
        "name": identifier(t.name, "a tensor"),
        "address": t.address * beat,
        "expected": expected,
        "channels": t.channels,
        "height": t.height,
        "width": t.width,
        "fold": t.fold,
        "scale": t.quant.scale,
        "zero_point": t.quant.zero_point,
        **({"element": t.element} if t.element > 1 else {}),
        "lanes": list(t.lanes),
    }


def write_driver(
    folder: Path, origin: str, facts: Mapping[str, Any], program: Program, encoded: Encoded, host: Host, tied: Stamp
) -> None:
    """Write driver/ into the project `folder`. facts: model, target, clock_mhz, cores and top, as in manifest.json."""
    source = resources.folder("templates") / "driver"
    other = "segment.py" if host.prompting is None else "detect.py"
    for path in sorted(p for p in source.rglob("*") if p.is_file() and p.name != other and not SKIPPED & set(p.parts)):
        place = folder / "driver" / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        mark = COMMENT.get(path.suffix)
        if mark is None:
            shutil.copyfile(path, place)
        else:
            place.write_text(f"{mark} {origin}\n{mark}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    text = lines(network(facts, program, encoded, host, tied))
    (folder / "driver" / "network.json").write_text(text, encoding="utf-8")


def network(facts: Mapping[str, Any], program: Program, encoded: Encoded, host: Host, tied: Stamp) -> dict[str, Any]:
    """network.json, described in docs/driver.md."""
    named = {program.tensors[name].reference: name for name in program.outputs}
    return {
        "format": FORMAT,
        **facts,
        "identity": f"0x{tied.identity:08x}",
        "program_sha256": tied.program,
        "parameters": {"bytes": len(encoded.weights), "sha256": tied.parameters},
        "image": {"size": list(program.image), "levels": list(host.levels)},
        **({"inputs": list(program.inputs), "once": program.once} if program.inputs[1:] else {}),
        "outputs": [named[node] for node in host.outputs] if host.outputs else list(program.outputs),
        "head": None
        if host.head is None
        else {
            "strides": list(host.head.strides),
            "reg_max": host.head.reg_max,
            "classes": list(host.head.classes),
        },
        **({"prompting": dict(host.prompting)} if host.prompting is not None else {}),
        **({"constants": _constants(program, encoded)} if encoded.constants else {}),
        **layout(program),
    }


def _constants(program: Program, encoded: Encoded) -> list[dict[str, int]]:
    """What the driver copies from the parameters to the feature maps: first bytes in both, and how many."""
    keys, beat = ("feature_map", "parameter", "bytes"), program.engine.beat
    return [{key: n * beat for key, n in zip(keys, row, strict=True)} for row in encoded.constants]


def lines(value: Mapping[str, Any]) -> str:
    """JSON with one line a key, and in a list of objects one line an object: for people to read and to compare."""
    rows = []
    for key, entry in value.items():
        if isinstance(entry, list) and entry and isinstance(entry[0], dict):
            inner = ",\n  ".join(json.dumps(item) for item in entry)
            rows.append(f"{json.dumps(key)}: [\n  {inner}\n ]")
        else:
            rows.append(f"{json.dumps(key)}: {json.dumps(entry)}")
    return "{\n " + ",\n ".join(rows) + "\n}\n"
