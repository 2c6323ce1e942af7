"""The wheel, installed outside the checkout, does the main job."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from hlsgen.report.versions import versions

ROOT = Path(__file__).resolve().parents[2]
JOB = ("build", "yolo", "--weights", "demo", "--part", "xc7z020", "--imgsz", "32", "--images", "1", "--out", "b")


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if path is not None:
        clean["PYTHONPATH"] = str(path)
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("hlsgen-*.whl"))


def test_what_the_wheel_holds(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("templates", "targets", "sim"):
        here = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*") if p.is_file()}
        assert here, folder
        assert {f"hlsgen/_data/{name}" for name in here} <= names
    assert {f"hlsgen/models/demo/{name}" for name in ("yolov8n-demo.pt", "sam-demo.pth")} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/")) or "__pycache__" in name]
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
    assert wheel.stat().st_size < 10_000_000


def test_it_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    where = run(sys.executable, "-c", "import hlsgen; print(hlsgen.__file__)", cwd=tmp_path, path=site)
    assert where.strip() == str(site / "hlsgen" / "__init__.py")
    out = run(sys.executable, "-m", "hlsgen.cli", *JOB, cwd=tmp_path, path=site)
    assert out.startswith("EXACT")
    assert (tmp_path / "b" / "report.html").is_file()


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_it_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Only what the wheel itself asks for is installed: no ultralytics, no development tools."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "requirements.lock", wheel, cwd=tmp_path)
    out = run(tmp_path / "env" / "bin" / "hlsgen", *JOB, cwd=tmp_path)
    assert out.startswith("EXACT")
    installed = run(tmp_path / "env" / "bin" / "hlsgen", "version", cwd=tmp_path)
    assert "ultralytics    not installed" in installed
    assert versions()["hlsgen"] in installed
    names = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path).lower()
    assert not [name for name in ("ultralytics", "torchvision", "segment", "pytest") if name in names]
    backends = run(python, "-c", "import hls4ml; print(hls4ml.backends.get_available_backends())", cwd=tmp_path)
    assert "hlsgen" in backends.lower()
