"""The tiny SAM, image encoder and mask decoder: built, compared on a picture, and run by the driver on the simulated device."""

import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hlsgen.build import opened
from hlsgen.cli import main
from hlsgen.models import attention
from hlsgen.models.demo.shapes import HELDOUT_SEED
from hlsgen.models.fitted import own_picture
from hlsgen.models.sam import load
from hlsgen.models.sam.prompts import parse_prompt
from hlsgen.report.segmented import segment_all
from tests.driver.conftest import driver, run_alone  # noqa: F401
from tests.sam_nets import MICRO, micro


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam") / "built"
    command = ["build", "sam", "--weights", "demo", "--part", "xczu9eg", "--images", "16", "--out", str(folder)]
    assert main(command) == 0
    return folder


def test_it_is_exact_and_says_what_runs_on_the_host(project: Path) -> None:
    report = json.loads((project / "report.json").read_text())
    assert report["verdict"] == "exact" and report["csim"]["elements"] > 1_900_000
    assert report["notice"].startswith(
        "image encoder and mask decoder are on the accelerator; the host encodes prompts"
    )
    assert report["masks"]["int8"] == report["masks"]["csim"] and report["masks"]["csim"]["iou"] > 0.95
    assert len(report["masks"]["prompt"]["box"]) == 4
    parts = report["estimate"]["parts"]
    assert 0 < parts["each"]["cycles"] < parts["once"]["cycles"]
    assert (project / report["files"]["picture_masks"]).stat().st_size > 5000
    assert report["quantization"]["sqnr_db_outputs"]["embedding"] > 25
    assert report["quantization"]["sqnr_db_outputs"]["masks"] > 15


def test_masks_of_float_int8_and_simulation(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(project / "pictures" / "input.png")
    arguments = ["compare", str(project), "--image", picture, "--out", str(tmp_path)]
    assert main([*arguments, "--point", "60,60", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["csim"]["mismatches"] == 0
    assert facts["masks"]["int8"] == facts["masks"]["csim"]
    assert facts["masks"]["csim"]["iou"] > 0.95 and facts["masks"]["fp32"]["area"] > 100
    assert Path(facts["files"]["masks"]).is_file()
    assert main(arguments) == 2
    assert "a prompt needs a box or a point in the object" in capsys.readouterr().err
    assert main([*arguments, "--point", "500,1"]) == 2
    assert "lies outside the picture" in capsys.readouterr().err
    for prompt, message in (
        (
            ["--not-point", "3,4"],
            "a prompt needs a box or a point in the object: give --box x0,y0,x1,y1 or --point x,y",
        ),
        (["--point", "60,60", "--not-point", "60,-1"], "--not-point 60,-1 lies outside the picture"),
        (["--point", "60,60", "--not-point", "60"], "--not-point expects x,y in pixels, 2 numbers with commas"),
        (["--box", "9,9,60,60", *["--not-point", "3,4"] * 3], "takes prompts of 4 tokens at most"),
    ):
        assert main([*arguments, *prompt]) == 2
        told = capsys.readouterr()
        assert told.out == "" and message in told.err and "compiling" not in told.err


@pytest.fixture(scope="module")
def packaged(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = subprocess.run(["make", "package"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = (project / "package").glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("board")
    with tarfile.open(archive) as held:
        held.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    assert (found / "segment.py").is_file() and not (found / "detect.py").exists()
    return found


@pytest.mark.usefixtures("driver")
def test_the_driver_places_the_constants(project: Path, packaged: Path) -> None:
    from hlsgen_driver import Accelerator, Package, open_device

    package = Package(packaged)
    b = opened(project, "render")
    assert len(package.network.constants) == len(b.program.constants) == 21
    with Accelerator(package, open_device(package, "sim")) as accelerator:
        assert (
            accelerator.self_test()["integers"] == len(accelerator.device.cores) * b.facts["lower"]["golden_integers"]
        )
        found = accelerator.infer(*(b.tensors[name] for name in ("image", "tokens", "absent")))
    for name in b.outputs:
        np.testing.assert_array_equal(found[name], b.tensors[name])


def test_segment_encodes_once_and_equals_compare(
    project: Path, packaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "wide.png"
    cv2.imwrite(str(picture), cv2.resize(own_picture(opened(project, "load").loaded, 5, HELDOUT_SEED), (200, 150)))
    box, point = ("--box", "20,30,150,120"), ("--point", "77.5,60")
    prompts = (box, point, (*box, *point), (*box, "--not-point", "40,40"), (*point, "--not-point", "120,20"))
    wanted = []
    for n, prompt in enumerate(prompts):
        assert (
            main(["compare", str(project), "--image", str(picture), "--out", str(tmp_path / str(n)), *prompt, "--json"])
            == 0
        )
        wanted.append(json.loads(capsys.readouterr().out)["masks"])
    asked = [word for prompt in prompts for word in (*prompt, "--and")][:-1]
    done = run_alone(packaged, tmp_path, "wide.png", "--device", "sim", "--json", *asked, script="segment.py")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [row["area"] for row in said["prompts"]] == [masks["csim"]["area"] for masks in wanted]
    assert [row["predicted_iou"] for row in said["prompts"]] == [masks["csim"]["predicted_iou"] for masks in wanted]
    b = opened(project, "render", picture)
    for row, prompt in zip(said["prompts"], prompts, strict=True):
        given = dict(zip(prompt[::2], prompt[1::2], strict=True))
        points, outside = ([given[key]] if key in given else [] for key in ("--point", "--not-point"))
        b.asked = parse_prompt(given.get("--box"), points, (150, 200), outside), (150, 200)
        for name in ("inputs", "tensors"):
            b.__dict__.pop(name, None)
        mask = segment_all(b, (150, 200))["int8"].mask
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / row["mask"]))[..., 0] == 255, mask)
    for words, message in (
        (["wide.png"], "segment: error: a prompt needs a box or a point in the object"),
        (
            ["wide.png", "--point", "5,151"],
            "segment: error: 5,151 lies outside the picture: it is 200 wide and 150 high",
        ),
        (["wide.png", "--point", "5"], "argument --point: expected 2 numbers with commas between them, got '5'"),
        (["nothing.png", "--point", "5,6"], "segment: error: picture nothing.png cannot be read"),
        ([], "expected a picture, or --self-test"),
    ):
        done = run_alone(packaged, tmp_path, *words, "--device", "sim", script="segment.py")
        assert done.returncode == 2 and message in done.stderr and not done.stdout


def test_its_masks_are_measured(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(project), "--images", "4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["shapes"] >= 4 and facts["int8"]["miou"] > facts["fp32"]["miou"] - 0.03 and facts["mask_iou"] > 0.95
    assert main(["evaluate", str(project), "--images", "0"]) == 2
    assert "expected at least one picture, got --images 0" in capsys.readouterr().err
    assert main(["evaluate", str(project), "--data", str(tmp_path)]) == 2
    assert "is a SAM's build: its masks are measured on generated pictures; leave out --data" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["affine", "dynamic"])
def test_scores_too_many_to_keep_are_reported_without_values(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(MICRO, img_size=72)  # 9 x 9 tokens: a head's scores are more than the masks' logits
    monkeypatch.setattr(attention, "MANY_SCORES", 81 * 81)
    monkeypatch.setattr(load, "_demo", lambda: micro(config=config))
    folder = tmp_path / "built"
    command = ["build", "sam", "--weights", "demo", "--part", "xc7z020", "--scheme", scheme, "--images", "2"]
    assert main([*command, "--out", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "exact"
    rows = {row["name"]: row for row in report["layers"]}
    scores, attended = rows["block1_scores0"], rows["block1_attend0"]
    assert scores["shape"] == [81, 9, 9] and scores["macs"] > 81 * 81 * 8
    assert scores["sqnr_db"] is None and scores["mismatches"] is None
    assert attended["mismatches"] == 0
    assert "block1_scores0" in (folder / "report.html").read_text()
    assert round(sum(row["macs"] for row in report["layers"]) / 1e9, 4) == report["gmacs"]
    picture = str(folder / "pictures" / "input.png")
    assert main(["compare", str(folder), "--image", picture, "--point", "16,16", "--out", str(tmp_path / "seen")]) == 0
    again = ["--start-from", "lower", "--stop-after", "lower"]  # from what is on disk
    assert main([*command, "--out", str(folder), *again]) == 0
