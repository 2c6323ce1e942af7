"""The package elsewhere, without hlsgen: picture file, driver, registers, accelerator, boxes, picture."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hlsgen import revisit
from hlsgen.models.images import place, read_image
from hlsgen.progress import Quiet
from tests.driver.conftest import ROOT, Built, run_alone
from tests.driver.test_devices import resum

XRT = ROOT / "tests" / "xrt"


def picture_file(built: Built, folder: Path) -> Path:
    """A photograph-like picture of another size than the network's: the build's own, enlarged and cropped."""
    own = cv2.imread(str(built.package / "example.png"))
    large = cv2.resize(own, (301, 207), interpolation=cv2.INTER_CUBIC)[:199]
    path = folder / "street.png"
    assert cv2.imwrite(str(path), large)
    return path


def test_the_whole_path_equals_what_hlsgen_compare_shows(built: Built, tmp_path: Path) -> None:
    path = picture_file(built, tmp_path)
    compared = revisit.compare(built.project, path, tmp_path / "compare", Quiet())
    assert compared["csim"]["mismatches"] == 0
    wanted = compared["detections"]["csim"]
    assert wanted
    done = run_alone(built.package, tmp_path, str(path), "--device", "sim", "--json", "--self-test")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    (image,) = said["images"]
    height, width = read_image(path).shape[:2]
    at = place((height, width), (64, 96))
    restored = at.restore(np.array([box["box"] for box in wanted], np.float32))
    assert len(image["detections"]) == len(wanted)
    for row, box, own in zip(image["detections"], wanted, restored, strict=True):
        assert (row["class"], round(row["score"], 4)) == (box["name"], box["score"])
        np.testing.assert_allclose(row["box"], own, atol=0.05)  # compare's boxes are rounded to 0.01 pixel
    drawn = cv2.imread(str(tmp_path / "street-boxes.png"))
    assert drawn.shape == (height, width, 3)
    assert (drawn != read_image(path)).any(axis=2).mean() > 0.01
    assert said["device"] == "sim" and said["images_per_second"] > 0
    assert said["self_test"]["integers"] > 400_000
    assert set(said["seconds"]) == {"pack", "device", "boxes"}


def test_every_float_is_the_host_s(built: Built, tmp_path: Path) -> None:
    """Not rounded: the driver's boxes in the letterboxed picture against the host's decoding of the reference's maps."""
    from hlsgen_driver import Accelerator, Detector, Package, open_device
    from hlsgen_driver.picture import read_picture

    from hlsgen.build import opened
    from hlsgen.models.boxes import detect
    from hlsgen.report.detections import real

    path = picture_file(built, tmp_path)
    package = Package(built.package)
    with Accelerator(package, open_device(package, "sim")) as accelerator:
        found = Detector(accelerator, 0.0).detect(read_picture(path)).letterboxed
    b = opened(built.project, "render", path)
    maps = [real(b.tensors[name], b.reference.spec.tensors[name]) for name in b.outputs]
    wanted = detect(maps, b.loaded.strides, b.loaded.reg_max, len(b.loaded.classes), 0.0)
    assert len(wanted) > 20
    assert found.boxes.tobytes() == wanted.boxes.tobytes()
    assert found.scores.tobytes() == wanted.scores.tobytes()
    np.testing.assert_array_equal(found.classes, wanted.classes)


def test_what_it_prints(built: Built, tmp_path: Path) -> None:
    example = str(built.package / "example.png")
    done = run_alone(built.package, tmp_path, example, "--device", "sim", "--self-test", "--repeat", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("EXACT     self-test: all ")
    assert lines[-2].endswith("drawn in example-boxes.png") and " box" in lines[-2]
    assert lines[-1].startswith("speed     ") and "images/s on 2 core(s) of device sim" in lines[-1]
    # nothing was written into the package
    summed = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=built.package, capture_output=True)
    assert summed.returncode == 0
    listed = {line.split("  ")[1] for line in (built.package / "SHA256SUMS").read_text().splitlines()}
    there = {p.relative_to(built.package).as_posix() for p in built.package.rglob("*") if p.is_file()}
    assert there == listed | {"SHA256SUMS"}


def test_several_pictures_of_one_name(built: Built, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(built.package / "example.png", tmp_path / "a")
    pictures = [str(built.package / "example.png"), "a/example.png"]
    done = run_alone(built.package, tmp_path, *pictures, "--device", "sim", "--json", "--out", "drawn")
    assert done.returncode == 0, done.stderr
    images = json.loads(done.stdout)["images"]
    assert [image["picture"] for image in images] == ["drawn/example-boxes.png", "drawn/example-2-boxes.png"]
    assert images[0]["detections"] == images[1]["detections"]
    assert (tmp_path / "drawn" / "example-2-boxes.png").read_bytes() == (
        tmp_path / "drawn" / "example-boxes.png"
    ).read_bytes()


def test_without_pillow(built: Built, tmp_path: Path) -> None:
    example = built.package / "example.png"
    done = run_alone(built.package, tmp_path, str(example), "--device", "sim", hidden=("PIL",))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"detect: error: picture {example} needs Pillow (pip install pillow); without it only binary PPM files can be read"
    )
    assert cv2.imwrite(str(tmp_path / "example.ppm"), cv2.imread(str(example)))
    outputs = []
    for path, hidden in ((tmp_path / "example.ppm", ("PIL",)), (example, ())):
        done = run_alone(built.package, tmp_path, str(path), "--device", "sim", "--json", hidden=hidden)
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout)["images"][0]["detections"])
    assert outputs[0] == outputs[1] != []
    assert cv2.imread(str(tmp_path / "example-boxes.png")).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["nothing.jpg", "--device", "sim"],
            "detect: error: picture nothing.jpg cannot be read (No such file or directory)",
        ),
        (
            ["text.jpg", "--device", "sim"],
            "detect: error: picture text.jpg: expected a picture (png, jpg, bmp, ...), it is ",
        ),
        (["bad.ppm", "--device", "sim"], "detect: error: picture bad.ppm: expected a binary PPM with 8 bits a channel"),
        (
            ["."],
            "this package holds no bitstream (make bitstream, then make package again); without one it runs with --device",
        ),
        (["x.jpg", "--device", "pynq"], "device pynq expected hlsgen.bit and hlsgen.hwh in "),
        (["x.jpg", "--device", "xrt"], "device xrt expected hlsgen.xclbin in "),
        ([], "expected a picture, or --self-test"),
        (["x.jpg", "--device", "gpu"], "argument --device: invalid choice: 'gpu'"),
        (["x.jpg", "--confidence", "2"], "argument --confidence: expected a number from 0 to 1, got 2"),
        (["x.jpg", "--repeat", "0"], "--repeat expected 1 or more, got 0"),
        (["x.jpg", "--timeout", "-1"], "argument --timeout: expected a number above 0, got -1"),
        (
            ["ok.ppm", "--device", "sim", "--out", "text.jpg/x"],
            "detect: error: text.jpg/x cannot be made (Not a directory)",
        ),
    ],
)
def test_what_a_user_gets_wrong(built: Built, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "bad.ppm").write_bytes(b"P6\n9 9\n255\nshort")
    (tmp_path / "ok.ppm").write_bytes(b"P6\n# a comment\n4 3\n255\n" + bytes(36))
    done = run_alone(built.package, tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_a_damaged_package_is_refused(built: Built, tmp_path: Path) -> None:
    package = tmp_path / "p"
    shutil.copytree(built.package, package)
    with (package / "parameters.bin").open("r+b") as file:
        file.truncate(100)
    done = run_alone(package, tmp_path, "--self-test", "--device", "sim")
    assert (done.returncode, done.stdout) == (2, "")
    assert "are truncated: expected" in done.stderr and done.stderr.count("\n") == 1


def test_the_same_project_gives_the_same_archive(built: Built) -> None:
    archive = built.project / "package" / "yolov8n-pynq-z2.tar.gz"
    before = archive.read_bytes()
    done = subprocess.run(["make", "package"], cwd=built.project, capture_output=True, text=True)
    assert done.returncode == 0 and archive.read_bytes() == before


def test_what_make_package_takes_and_refuses(built: Built, tmp_path: Path) -> None:
    project = tmp_path / "demo"
    shutil.copytree(built.project, project, ignore=shutil.ignore_patterns("stages", "package"))

    def package() -> Any:
        return subprocess.run(["make", "package"], cwd=project, capture_output=True, text=True)

    (project / "export").mkdir()
    (project / "export" / "design.bit").write_bytes(b"bits")
    done = package()
    assert done.returncode == 2
    assert "export/design.bit expected its hardware hand-off file export/*.hwh, there is none" in done.stderr
    assert not (project / "package" / "yolov8n-pynq-z2").exists()
    (project / "export" / "design.hwh").write_bytes(b"<x/>")
    done = package()
    assert done.returncode == 0 and "sim only" not in done.stdout
    made = project / "package" / "yolov8n-pynq-z2"
    assert (made / "hlsgen.bit").read_bytes() == b"bits" and "  hlsgen.hwh" in (made / "SHA256SUMS").read_text()
    done = run_alone(made, tmp_path, "--self-test")
    assert done.returncode == 2 and "device pynq needs the package pynq" in done.stderr
    (project / "export" / "other.bit").write_bytes(b"bits")
    done = package()
    assert done.returncode == 2 and "export/ expected one .bit file, it holds" in done.stderr
    (project / "export" / "other.bit").unlink()
    (project / "data" / "expected.bin").unlink()
    done = package()
    assert done.returncode == 2 and "data/expected.bin is missing; build the project up to csim" in done.stderr


@pytest.fixture(scope="module")
def xrt(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A package whose xrt/ is compiled against the stand-in for XRT, and the environment that it runs in."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("xrt")
    (folder / "lib").mkdir()
    (folder / "include").symlink_to(XRT)
    library = folder / "lib" / "libxrt_coreutil.so"
    command = [
        "g++",
        "-std=c++14",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fPIC",
        "-shared",
        f"-I{XRT}",
        str(XRT / "standin.cpp"),
    ]
    subprocess.run([*command, "-o", str(library), "-ldl"], check=True)
    package = folder / "package"
    shutil.copytree(built.package, package)
    (package / "hlsgen.xclbin").write_bytes(b"xclbin2")
    resum(package, "hlsgen.xclbin")
    done = subprocess.run(
        ["make", "-C", str(package / "xrt"), f"XILINX_XRT={folder}", "CXXFLAGS=-O1 -Werror"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    simulated = next((package / "sim").glob("*.so"))
    return package, {"LD_LIBRARY_PATH": str(folder / "lib"), "HLSGEN_SIM": str(simulated), "PATH": "/usr/bin:/bin"}


def test_the_xrt_driver_computes_the_same(built: Built, xrt: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    package, environment = xrt
    done = subprocess.run(
        [package / "xrt" / "hlsgen_selftest", package], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("EXACT     all ") and "tensors on 2 core(s)" in done.stdout
    path = picture_file(built, tmp_path)
    found = []
    for where, arguments in ((package, ()), (built.package, ("--device", "sim"))):
        done = run_alone(where, tmp_path, str(path), "--json", "--self-test", *arguments, env=environment)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert [said["device"] for said in found] == ["xrt", "sim"]
    assert found[0]["images"][0]["detections"] == found[1]["images"][0]["detections"] != []


@pytest.mark.parametrize(
    ("fault", "code", "said", "cpp"),
    [
        (
            "identity=0xbadf00d",
            2,
            "hlsgen_engine_0 is build 0x0badf00d, the package's",
            "core 0 is build 0x0badf00d, this package",
        ),
        ("memory=4096", 2, "of memory on the card (failed to allocate bo", "failed to allocate bo"),
        ("never-done=1", 2, "did not finish ops 0 to", None),
    ],
)
def test_the_xrt_driver_tells_faults_apart(
    xrt: tuple[Path, dict[str, str]], tmp_path: Path, fault: str, code: int, said: str, cpp: str | None
) -> None:
    package, environment = xrt
    environment = environment | {"HLSGEN_SIM_FAULT": fault}
    done = run_alone(package, tmp_path, "--self-test", "--timeout", "0.3", env=environment)
    assert done.returncode == code and said in done.stderr, done.stderr
    if cpp is not None:
        done = subprocess.run(
            [package / "xrt" / "hlsgen_selftest", package], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 2 and cpp in done.stderr


def test_the_xrt_driver_finds_wrong_integers(xrt: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    package, environment = xrt
    other = tmp_path / "other"
    shutil.copytree(package, other)
    golden = bytearray((other / "golden" / "expected.bin").read_bytes())
    for i in range(len(golden) // 2, len(golden)):
        golden[i] ^= 1
    (other / "golden" / "expected.bin").write_bytes(golden)
    done = subprocess.run([other / "xrt" / "hlsgen_selftest", other], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "WRONG     the first tensor that differs is " in done.stdout
    resum(other, "golden/expected.bin")
    environment = environment | {"HLSGEN_SIM": str(next((other / "sim").glob("*.so")))}
    done = run_alone(other, tmp_path, "--self-test", env=environment)
    assert done.returncode == 1 and "the first tensor that differs is " in done.stderr
