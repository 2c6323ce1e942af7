"""The reports that a user has calibrated with: one file in the user's configuration folder."""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_config_path
from pydantic import TypeAdapter, ValidationError

from hlsgen.cost.calibrate import Sample, fit
from hlsgen.cost.coefficients import MODEL, Coefficients
from hlsgen.errors import HlsgenError

FOLDER = "HLSGEN_CONFIG"
"""The environment variable that names another folder than the user's own."""
_FORMAT = 1
_SAMPLES = TypeAdapter(list[Sample])


def place() -> Path:
    """The file: $HLSGEN_CONFIG/calibration.json, or in the user's configuration folder ($XDG_CONFIG_HOME/hlsgen on Linux)."""
    given = os.environ.get(FOLDER)
    return (Path(given) if given else user_config_path("hlsgen")) / "calibration.json"


def samples() -> list[Sample]:
    """Every report, in the order in which they came.

    Raises:
        HlsgenError: the file cannot be read, is damaged, or was written by another version of hlsgen.
    """
    path = place()
    cure = f"give --no-calibration to go on without, or run hlsgen calibrate --reset ({path})"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(held, dict) or held.get("format") != _FORMAT:
            raise HlsgenError(f"the calibration was written by another version of hlsgen; {cure}")
        return _SAMPLES.validate_python(held["samples"])
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HlsgenError(f"the calibration cannot be read: {error.strerror}; {cure}") from error
    except (ValueError, KeyError, ValidationError) as error:
        raise HlsgenError(f"the calibration is damaged; {cure}") from error


def keep(found: Sequence[Sample]) -> None:
    """Write these as the user's reports, at once or not at all.

    Raises:
        HlsgenError: where the folder cannot be written.
    """
    path = place()
    text = json.dumps({"format": _FORMAT, "samples": _SAMPLES.dump_python(list(found), mode="json")}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".calibration.", dir=path.parent) as aside:
            whole = Path(aside) / path.name
            whole.write_text(text + "\n", encoding="utf-8")
            os.replace(whole, path)
    except OSError as error:
        raise HlsgenError(
            f"cannot write {path}: {error.strerror}; set {FOLDER} to a folder that you may write to"
        ) from error


def reset() -> int:
    """Forget every report, whatever state the file is in; returns how many were known."""
    try:
        known = len(samples())
    except HlsgenError:
        known = 0
    try:
        place().unlink(missing_ok=True)
    except OSError as error:
        raise HlsgenError(f"cannot remove {place()}: {error.strerror}") from error
    return known


def merged(known: Sequence[Sample], new: Sequence[Sample]) -> list[Sample]:
    """`known` and `new`; of the same design by the same tool the later stays."""
    latest = {(s.tool, *s.design): s for s in (*known, *new)}
    return list(latest.values())


def groups(found: Sequence[Sample]) -> dict[tuple[str, str], list[Sample]]:
    """By (family, tool version): what is fitted together; the newest tool last."""
    keys = sorted({(s.family, s.tool) for s in found}, key=lambda key: (key[0], _order(key[1])))
    return {key: [s for s in found if (s.family, s.tool) == key] for key in keys}


def coefficients(family: str) -> Coefficients:
    """What the user's reports say of a family of parts, by the newest tool version; the model as it is where there is none.

    Raises:
        HlsgenError: as `samples`.
    """
    of = [held for key, held in groups(samples()).items() if key[0] == family]
    return fit(of[-1]) if of else MODEL


def _order(tool: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", tool))
