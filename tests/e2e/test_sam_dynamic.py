"""The tiny SAM's image encoder in scheme dynamic: built, compared on a picture, and run by the driver on the simulated device."""

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hlsgen.build import opened
from hlsgen.cli import main
from tests.driver.conftest import driver  # noqa: F401


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dynamic") / "built"
    command = ["build", "sam", "--weights", "demo", "--part", "xc7z020", "--scheme", "dynamic", "--out", str(folder)]
    assert main(command) == 0
    return folder


def test_it_is_the_specification_bit_for_bit(project: Path) -> None:
    report = json.loads((project / "report.json").read_text())
    assert report["verdict"] == "exact" and report["scheme"] == "dynamic"
    assert report["csim"]["values"] == "floats" and report["csim"]["elements"] > 1_800_000
    assert report["quantization"]["sqnr_db_outputs"]["embedding"] > 40 and report["onnx"]["embedding_sqnr_db"] > 40
    assert report["estimate"]["fits"]
    assert (project / report["files"]["onnx"]).is_file() and (project / report["files"]["picture_masks"]).is_file()
    facts = json.loads((project / "stages" / "facts.json").read_text())
    assert facts["lower"]["golden_sqnr_db"]["embedding"] >= 40
    assert 0.9 < facts["lower"]["simulation"]["formula_over_simulation"] < 1.1


def test_masks_of_float_pytorchs_int8_and_simulation(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(project / "pictures" / "input.png")
    arguments = ["compare", str(project), "--image", picture, "--out", str(tmp_path), "--point", "60,60", "--json"]
    assert main(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["csim"]["mismatches"] == 0
    assert facts["masks"]["csim"]["iou"] > 0.98 and facts["masks"]["int8"]["iou"] > 0.98


@pytest.mark.usefixtures("driver")
def test_the_driver_gives_the_embedding(project: Path, tmp_path: Path) -> None:
    from hlsgen_driver import Accelerator, Package, open_device

    done = subprocess.run(["make", "package"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = (project / "package").glob("*.tar.gz")
    with tarfile.open(archive) as held:
        held.extractall(tmp_path, filter="data")
    package = Package(next(path for path in tmp_path.iterdir() if path.is_dir()))
    b = opened(project, "render")
    with Accelerator(package, open_device(package, "sim")) as accelerator:
        assert (
            accelerator.self_test()["integers"] == json.loads((project / "report.json").read_text())["csim"]["elements"]
        )
        (found,) = accelerator.infer(b.tensors["image"]).values()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, b.expected["embedding"])


def test_what_it_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["build", "sam_tiny", "--part", "xc7z020", "--scheme", "dynamic", "--out", str(tmp_path / "b")]
    assert main([*command, "--pre-bits", "10"]) == 2
    assert "scheme dynamic has float pre-activations; leave out --pre-bits" in capsys.readouterr().err
    assert main([*command, "--lanes", "8"]) == 2
    assert "leave out --lanes 8" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
