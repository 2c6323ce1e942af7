"""Published weights: where they may lie already, and fetching them, checked, with nothing half written."""

import hashlib
import http.client
import json
import os
import re
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hlsgen.errors import HlsgenError

URL_VARIABLE = "HLSGEN_WEIGHTS_URL"
PUBLISHED = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
"""The release that ultralytics 8.4 itself downloads from."""
GITHUB_API = "https://api.github.com"
TIMEOUT = 15.0  # seconds without an answer
MAX_BYTES = 4 << 30
_RELEASE = re.compile(r"https://github\.com/([^/]+/[^/]+)/releases/download/([^/]+)")


class Unreachable(Exception):
    """The file could not be had; str() says why. Not an error of the user's."""


@dataclass(frozen=True)
class Published:
    """A published file: its name, the address of its folder, and its SHA-256 (None: ask the server for one)."""

    file: str
    at: str = PUBLISHED
    sha256: str | None = None


def cache_folder() -> Path:
    """Where downloaded weights are kept: `$XDG_CACHE_HOME/hlsgen/weights` (`~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hlsgen" / "weights"


def find_cached(file: str) -> Path | None:
    """`file` in the working directory, in ultralytics' weights folder, or in ours."""
    folders = [Path(), ultralytics_weights_folder(), cache_folder()]
    return next((folder / file for folder in folders if folder is not None and (folder / file).is_file()), None)


def ultralytics_weights_folder() -> Path | None:
    """`weights_dir` of ultralytics' settings file, read without importing ultralytics; None where there is none."""
    home = Path.home()
    if "YOLO_CONFIG_DIR" in os.environ:
        folder = Path(os.environ["YOLO_CONFIG_DIR"]).expanduser()
    elif sys.platform == "win32":
        folder = home / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    try:
        settings = json.loads((folder / "Ultralytics" / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # ultralytics has not run here, or its settings are being written: no cache known
        return None
    found = settings.get("weights_dir") if isinstance(settings, dict) else None
    return Path(found) if isinstance(found, str) else None


def download(published: Published, folder: Path, api: str = GITHUB_API) -> tuple[Path, str | None]:
    """Fetch a file ("yolov8n.pt") into `folder`: its path, and the SHA-256 it was checked against (None: none known).

    It comes from $HLSGEN_WEIGHTS_URL, else from where it is published. A checksum that is not known beforehand comes
    from `URL.sha256` beside it, for a GitHub release from GitHub's own record of the asset.

    Raises:
        Unreachable: no network, or the server does not have it.
        HlsgenError: it came truncated, with another checksum, or it cannot be written.
    """
    base = os.environ.get(URL_VARIABLE, "").rstrip("/")
    if not base and os.environ.get("YOLO_OFFLINE", "").lower() in ("1", "true"):
        raise Unreachable("YOLO_OFFLINE is set")
    file = published.file
    url = f"{base or published.at}/{urllib.parse.quote(file)}"
    if not url.startswith(("http://", "https://")):
        raise HlsgenError(f"{URL_VARIABLE} expects an http or https address, got {base!r}")
    temporary: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{file}.", delete=False) as out:
            temporary = out.name
            got = _fetch(url, out)  # type: ignore[arg-type]
        expected = published.sha256 or _checksum(url, file, api)
        if expected is not None and got != expected:
            raise HlsgenError(
                f"{url}: expected SHA-256 {expected}, got {got}; the file is damaged or not the published one"
            )
        os.replace(temporary, folder / file)
        temporary = None
    except OSError as error:
        raise HlsgenError(
            f"{folder}: weights cannot be written there ({error.strerror or error}); give --weights FILE"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return folder / file, expected


def _open(url: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "hlsgen"})
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        raise Unreachable(f"{url} answered {error.code}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise Unreachable(f"{url} cannot be reached ({getattr(error, 'reason', error)})") from error
    return answer


def _fetch(url: str, out: BinaryIO) -> str:
    """Copy `url` to `out`; its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with _open(url) as answer:
        announced = answer.headers.get("Content-Length")
        while True:
            try:
                part = answer.read(1 << 16)
            except (http.client.HTTPException, OSError) as error:
                raise HlsgenError(f"{url}: the connection broke after {size} bytes; try again") from error
            if not part:
                break
            size += len(part)
            if size > MAX_BYTES:
                raise HlsgenError(f"{url}: more than {MAX_BYTES} bytes, which no checkpoint has")
            digest.update(part)
            out.write(part)
    if announced is not None and size != int(announced):
        raise HlsgenError(f"{url}: expected {announced} bytes, got {size}; the download is truncated, try again")
    return digest.hexdigest()


def _checksum(url: str, file: str, api: str) -> str | None:
    """The published SHA-256 of `url`, or None where nobody publishes one."""
    release = _RELEASE.match(url)
    try:
        if release is None:
            with _open(f"{url}.sha256") as answer:
                words = answer.read(1 << 12).decode("ascii", "replace").split()
            said = words[0] if words else ""
        else:
            with _open(f"{api}/repos/{release[1]}/releases/tags/{release[2]}") as answer:
                assets = json.loads(answer.read(1 << 24)).get("assets", [])
            said = next((a.get("digest") or "" for a in assets if a.get("name") == file), "").removeprefix("sha256:")
    except (Unreachable, ValueError, AttributeError):  # no such record: the caller says that nothing was checked
        return None
    said = said.lower()
    if said and not re.fullmatch(r"[0-9a-f]{64}", said):
        raise HlsgenError(f"{url}.sha256: expected a SHA-256 in hexadecimal, got {said[:80]!r}")
    return said or None
