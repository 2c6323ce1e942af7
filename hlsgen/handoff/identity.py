"""The build identity: one 32-bit number that ties a bitstream, a Program and its weights together.

The engine writes it to an AXI-Lite register (`IDENTITY` in config.h), network.json carries it, and the driver works it
out again from the weights' file: three witnesses, of which none can belong to another build unnoticed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def program_digest(sources: Iterable[tuple[str, str]], layout: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of what is synthesized and of where its tensors lie.

    sources: name and text of each C++ file, without its origin (which names the part and hlsgen's version) and with
    identity 0. layout: the memory layout, as plain values.
    """
    digest = hashlib.sha256()
    for name, text in sources:
        digest.update(f"{name}\0{len(text)}\0{text}".encode())
    digest.update(json.dumps(layout, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def identity(program: str, parameters: str) -> int:
    """The identity of a Program and its weights, both given by their SHA-256 (hex): 32 bits, never 0."""
    found = hashlib.sha256(f"{program}{parameters}".encode()).digest()
    return int.from_bytes(found[:4], "big") or 1
