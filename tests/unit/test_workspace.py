"""The build folder appears whole or not at all."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hlsgen.errors import HlsgenError
from hlsgen.workspace import STAMP, read_stamp, replacing


def stamp(folder: Path, text: str = '{"hlsgen": "0", "last": "csim"}') -> None:
    (folder / STAMP).parent.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).write_text(text)


def fail_half_way(made: Path, error: BaseException) -> None:
    (made / "half").write_text("half")
    raise error


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_new_folder(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with replacing(out, []) as made:
        assert not out.exists()
        assert made.parent == out.parent
        stamp(made)
    assert tree(tmp_path) == ["a", "a/b", "a/b/stages", "a/b/stages/build.json"]
    assert read_stamp(out) == {"hlsgen": "0", "last": "csim"}


def test_an_earlier_build_is_replaced_and_what_is_kept_is_copied(tmp_path: Path) -> None:
    out = tmp_path / "b"
    (out / "src").mkdir(parents=True)
    (out / "src" / "old.cpp").write_text("old")
    (out / "old.txt").write_text("old")
    stamp(out)
    with replacing(out, ["src", "never.txt"]) as made:
        stamp(made)
        assert (out / "old.txt").exists()
    assert tree(tmp_path) == ["b", "b/src", "b/src/old.cpp", "b/stages", "b/stages/build.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), HlsgenError("x"), ValueError("x")])
def test_nothing_is_left_and_nothing_is_lost(tmp_path: Path, error: BaseException) -> None:
    old = tmp_path / "old"
    stamp(old)
    for out in (tmp_path / "new" / "deep", old):
        with pytest.raises(type(error)), replacing(out, []) as made:
            fail_half_way(made, error)
    assert tree(tmp_path) == ["old", "old/stages", "old/stages/build.json"]


def test_other_peoples_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years")
    for out, said in (
        (tmp_path, "holds files that hlsgen did not write"),
        (tmp_path / "thesis.tex", "exists and is no folder"),
    ):
        with pytest.raises(HlsgenError, match=said), replacing(out, []):
            pass
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(HlsgenError, match="is no folder"), replacing(link, []):
        pass
    assert tree(tmp_path) == ["link", "thesis.tex"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    with replacing(tmp_path / "e", []) as made:
        stamp(made)
    assert read_stamp(tmp_path / "e")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HlsgenError, match=r"cannot write .*/file/b: File exists"),
        replacing(tmp_path / "file" / "b", []),
    ):
        pass
    with pytest.raises(HlsgenError, match=r"cannot write /proc/none/b: "), replacing(Path("/proc/none/b"), []):
        pass
    with pytest.raises(HlsgenError, match="File name too long"), replacing(tmp_path / ("x" * 300), []):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir(mode=0o555)
    with pytest.raises(HlsgenError, match=r"cannot write .*: Permission denied"), replacing(tmp_path / "ro" / "b", []):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_up_on_the_way(tmp_path: Path, number: int) -> None:
    with pytest.raises(HlsgenError, match=r"the disk of .* is full"), replacing(tmp_path / "b", []):
        raise OSError(number, os.strerror(number))
    assert tree(tmp_path) == []


def test_an_os_error_that_is_not_about_the_folder_stays_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "b", []):
        (Path("/nowhere") / "x").read_text()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "none", place], capture_output=True)
    if done.returncode:
        pytest.skip("may not mount a small disk here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_real_full_disk(tiny_disk: Path) -> None:
    with pytest.raises(HlsgenError, match="is full"), replacing(tiny_disk / "b", []) as made:
        (made / "big").write_bytes(bytes(100 << 20))
    (tiny_disk / "most").write_bytes(bytes(60 << 20))
    with pytest.raises(HlsgenError, match="is full"), replacing(tiny_disk / "b", []):
        raise AssertionError("begun without room")
    (tiny_disk / "most").unlink()

    def writer_in_c(made: Path) -> None:  # fills the disk and says only that it failed
        try:
            (made / "big").write_bytes(bytes(100 << 20))
        except OSError:
            raise RuntimeError("failed") from None

    with pytest.raises(HlsgenError, match="is full"), replacing(tiny_disk / "b", []) as made:
        writer_in_c(made)
    assert tree(tiny_disk) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_damaged_stamp(tmp_path: Path, text: str) -> None:
    stamp(tmp_path, text)
    with pytest.raises(HlsgenError, match="is no build of hlsgen"):
        read_stamp(tmp_path)
