"""The driver as it stands in templates/, and a built and packaged detector with its simulated device."""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hlsgen.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def driver() -> Iterator[None]:
    """hlsgen_driver can be imported, and leaves no compiled files in templates/, which the wheel carries."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(ROOT / "templates" / "driver"))
    yield
    sys.path.remove(str(ROOT / "templates" / "driver"))
    sys.dont_write_bytecode = before


@dataclass(frozen=True)
class Built:
    """A build of the demo detector, and its package, unpacked somewhere else."""

    project: Path
    package: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    project = tmp_path_factory.mktemp("driver") / "demo"
    command = ["build", "yolo", "--weights", "demo", "--board", "pynq-z2", "--imgsz", "64x96", "--images", "2"]
    assert main([*command, "--cores", "2", "--force", "--out", str(project)]) == 0
    done = subprocess.run(["make", "package"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this package runs with --device sim only" in done.stdout
    elsewhere = tmp_path_factory.mktemp("board")
    with tarfile.open(project / "package" / "yolov8n-pynq-z2.tar.gz") as archive:
        archive.extractall(elsewhere, filter="data")
    return Built(project, elsewhere / "yolov8n-pynq-z2")


ALONE = """
import runpy, sys
for name in ("hlsgen", "cv2", "torch", "hls4ml", *{hidden!r}):
    sys.modules[name] = None  # importing it fails
sys.argv = {argv!r}
runpy.run_path({script!r}, run_name="__main__")
"""


def run_alone(
    package: Path, cwd: Path, *arguments: str, hidden: tuple[str, ...] = (), script: str = "detect.py", **more: Any
) -> Any:
    """A command of `package`, with numpy and Pillow but without hlsgen, OpenCV and torch."""
    path = str(package / script)
    code = ALONE.format(hidden=hidden, argv=[path, *arguments], script=path)
    return subprocess.run([sys.executable, "-I", "-c", code], cwd=cwd, capture_output=True, text=True, **more)
