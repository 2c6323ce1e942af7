"""The tiny SAM in scheme dynamic, encoder and decoder: built, compared, measured, and run by the driver on the simulated device."""

import json
import subprocess
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from hlsgen.build import opened
from hlsgen.cli import main
from hlsgen.models.demo.shapes import HELDOUT_SEED
from hlsgen.models.fitted import own_picture
from tests.driver.conftest import driver, run_alone  # noqa: F401


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dynamic") / "built"
    command = ["build", "sam", "--weights", "demo", "--part", "xc7z020", "--scheme", "dynamic", "--out", str(folder)]
    assert main(command) == 0
    return folder


def test_it_is_the_specification_bit_for_bit(project: Path) -> None:
    report = json.loads((project / "report.json").read_text())
    assert report["verdict"] == "exact" and report["scheme"] == "dynamic"
    assert report["csim"]["values"] == "floats" and report["csim"]["elements"] > 2_200_000
    assert report["quantization"]["sqnr_db_outputs"]["embedding"] > 40 and report["onnx"]["embedding_sqnr_db"] > 40
    assert report["estimate"]["fits"] and report["masks"]["csim"]["iou"] > 0.99
    assert (project / report["files"]["onnx"]).is_file() and (project / report["files"]["picture_masks"]).is_file()
    for name in ("Makefile", "hls_config.cfg", "tcl/run_hls.tcl"):  # no product and sum in one rounding
        assert "-ffp-contract=off" in (project / name).read_text()
    facts = json.loads((project / "stages" / "facts.json").read_text())
    assert facts["lower"]["golden_sqnr_db"]["embedding"] >= 40 and facts["lower"]["golden_sqnr_db"]["masks"] >= 40
    assert 0.9 < facts["lower"]["simulation"]["formula_over_simulation"] < 1.1


@pytest.mark.usefixtures("driver")
def test_compare_and_the_driver_agree(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hlsgen_driver import Accelerator, Package, open_device

    picture, prompt = tmp_path / "wide.png", ("--box", "20,30,150,120")
    cv2.imwrite(str(picture), cv2.resize(own_picture(opened(project, "load").loaded, 5, HELDOUT_SEED), (200, 150)))
    assert main(["compare", str(project), "--image", str(picture), "--out", str(tmp_path), *prompt, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["csim"]["mismatches"] == 0
    assert facts["masks"]["csim"]["iou"] > 0.98 and facts["masks"]["int8"]["iou"] > 0.98
    done = subprocess.run(["make", "package"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = (project / "package").glob("*.tar.gz")
    with tarfile.open(archive) as held:
        held.extractall(tmp_path / "board", filter="data")
    (folder,) = (tmp_path / "board").iterdir()
    package, b = Package(folder), opened(project, "render")
    with Accelerator(package, open_device(package, "sim")) as accelerator:
        compared = accelerator.self_test()["integers"]
        found = accelerator.infer(*(b.tensors[name] for name in ("image", "tokens", "absent")))
    assert compared == json.loads((project / "report.json").read_text())["csim"]["elements"]
    for name in b.outputs:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], b.expected[name])
    done = run_alone(folder, tmp_path, "wide.png", "--device", "sim", "--json", *prompt, script="segment.py")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["prompts"]
    assert {key: row[key] for key in ("area", "predicted_iou")} == {
        key: facts["masks"]["csim"][key] for key in ("area", "predicted_iou")
    }


def test_its_masks_are_measured(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(project), "--images", "4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["scheme"] == "dynamic" and facts["mask_iou"] > 0.98
    assert abs(facts["int8"]["miou"] - facts["fp32"]["miou"]) < 0.01


def test_what_it_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["build", "sam_tiny", "--part", "xc7z020", "--scheme", "dynamic", "--out", str(tmp_path / "b")]
    assert main([*command, "--pre-bits", "10"]) == 2
    assert "scheme dynamic has float pre-activations; leave out --pre-bits" in capsys.readouterr().err
    assert main([*command, "--lanes", "8"]) == 2
    assert "leave out --lanes 8" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_its_cost_is_estimated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "sam_tiny", "--part", "xc7z020", "--scheme", "dynamic", "--simulate", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = main(["estimate", "sam_tiny", "--part", "xczu9eg", "--scheme", "dynamic", "--lanes", "4", "--json"])
    assert found == 0 and json.loads(capsys.readouterr().out)["engine"]["beat"] == 16
    assert facts["fits"] and 0.9 < facts["simulation"]["formula_over_simulation"] < 1.1
    assert main(["estimate", "yolov8n", "--weights", "random", "--part", "xc7z020", "--scheme", "dynamic"]) == 2
    assert "the engine cannot run strategy dynamic: its ranges" in capsys.readouterr().err
