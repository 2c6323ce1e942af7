"""Output folders: a build's is moved into place when whole; in one that grows, each file is. Nothing is found half written."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hlsgen.errors import HlsgenError

STAMP = Path("stages") / "build.json"
"""The file, relative to a build folder, that marks it as ours."""
_UNFINISHED = ".part"
_SPARE_BYTES = 64 << 20  # the least free space with which a build is begun
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.ENOENT,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}


def read_stamp(folder: Path) -> dict[str, object]:
    """The recorded options of the build folder `folder`.

    Raises:
        HlsgenError: where it is none.
    """
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "hlsgen" not in found:
        raise HlsgenError(f"{folder} is no build of hlsgen (it has no readable {STAMP}); run hlsgen build first")
    return found


@contextmanager
def replacing(out: Path, keep: list[str]) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block ends well and vanishes when it does not.

    Args:
        out: the build folder; an existing one is replaced only where it is empty or one of ours.
        keep: paths, relative to `out`, that are copied from the existing folder first.

    Raises:
        HlsgenError: where `out` holds something else, or cannot be written, or the disk is full.
    """
    place = Path(os.path.abspath(out))  # --out . and --out .. too have a name and a parent
    parent = place.parent
    missing: list[Path] = []
    made: Path | None = None
    try:
        _may_take(out)
        missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir() and not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(out))
        made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=_UNFINISHED, dir=parent))
        made.chmod(0o777 & ~_umask())
        if shutil.disk_usage(parent).free < _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(parent))
        for path in keep:
            _copy(out / path, made / path)
        yield made
        _exchange(made, place)
        made, missing = None, []
    except OSError as error:
        explained = _explained(error, out)
        if explained is None:
            raise
        raise explained from error
    except HlsgenError as error:
        if made is None or str(made) not in str(error):
            raise
        raise HlsgenError(str(error).replace(str(made), str(out))) from error
    except Exception as error:
        if shutil.disk_usage(parent).free < 1 << 20:  # writers in C++ say only that they failed
            raise _full(out) from error
        raise
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        for folder in missing:  # deepest first; what somebody else put something into stays
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def growing(out: Path, own: Sequence[str]) -> Iterator[Path]:
    """The folder `out` itself, made where it is missing, to be filled file by file (`write_whole`) and added to later.

    Args:
        own: the names that may already lie in it.

    Raises:
        HlsgenError: where `out` holds something else, or cannot be written, or the disk is full.
    """
    try:
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise HlsgenError(f"{out} exists and is no folder; give --out another name")
        strange = sorted(p.name for p in out.iterdir() if p.name not in own) if out.is_dir() else []
        if [name for name in strange if not name.endswith(_UNFINISHED)]:
            raise HlsgenError(f"{out} holds files that hlsgen did not write; give --out another name or empty it")
        out.mkdir(parents=True, exist_ok=True)
        yield out
    except OSError as error:
        explained = _explained(error, out)
        if explained is None:
            raise
        raise explained from error


def write_whole(path: Path, text: str) -> None:
    """Writes the file aside and moves it into place, so that whoever finds it finds all of it."""
    aside = path.with_name(f".{path.name}{_UNFINISHED}")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _may_take(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise HlsgenError(f"{out} exists and is no folder; give --out another name")
    if out.is_dir() and any(out.iterdir()) and not (out / STAMP).is_file():
        raise HlsgenError(f"{out} holds files that hlsgen did not write; give --out another name or empty it")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy2(source, target)


def _exchange(made: Path, out: Path) -> None:
    if not out.exists():
        os.replace(made, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    os.replace(out, old)  # onto an empty folder
    try:
        os.replace(made, out)
    except BaseException:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _explained(error: OSError, out: Path) -> HlsgenError | None:
    """The error in the user's words where it is about the build folder or the room for it, else None."""
    if error.errno in _FULL:
        return _full(out)
    parent = str(out.absolute().parent)
    if error.errno in _REFUSED and (error.filename is None or str(error.filename).startswith(parent)):
        return HlsgenError(f"cannot write {out}: {error.strerror}; give --out a folder you may write to")
    return None


def _full(out: Path) -> HlsgenError:
    return HlsgenError(f"the disk of {out} is full: free {_SPARE_BYTES >> 20} MiB or more, or give --out another place")
