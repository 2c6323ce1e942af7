"""What Vivado's text reports have in common: a head that names tool, design, device and state."""

import re
from dataclasses import dataclass
from pathlib import Path

from hlsgen.errors import HlsgenError

_LINE = re.compile(r"^\| (Tool Version|Design|Device|Speed File|Design State)\s*: (.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Head:
    """version: 2023.2. device: in the tool's spelling. state: Routed, or an earlier step; None where the report does not say."""

    version: str
    design: str
    device: str
    state: str | None


def head(text: str, path: Path, what: str) -> Head:
    """The head of a report.

    Raises:
        HlsgenError: where it has none.
    """
    found = dict(_LINE.findall(text[:10_000]))
    version = re.search(r"Vivado v\.(\d{4}\.\d+(?:\.\d+)?)", found.get("Tool Version", ""))
    if not version or "Device" not in found:
        raise HlsgenError(f"{path} names no Vivado version and device, expected {what}; run the implementation again")
    return Head(version[1], found.get("Design", ""), found["Device"], found.get("Design State"))


def is_device(device: str, part: str) -> bool:
    """Whether a device in a report's spelling (7z020clg400-1, 7z020-clg400, xck26-sfvc784) is the part."""
    short, whole = (re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("xc") for name in (device, part))
    return bool(short) and whole.startswith(short)
