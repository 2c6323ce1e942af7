#!/usr/bin/env python3
"""Boxes in a picture, by the accelerator that this package is for.

    python detect.py street.jpg                  on the board (or card) that the package holds a bitstream for
    python detect.py street.jpg --device sim     on any computer: the hardware's C-simulation
    python detect.py --self-test                 the golden input, every tensor of the network held to what it must be

Exit status: 0; 1 where the self-test finds a wrong result; 2 for anything else that is wrong, with one sentence; 130 when
interrupted.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # the package stays as it was checked
sys.path.insert(0, str(HERE))

from hlsgen_driver import Accelerator, Detector, DriverError, Package, open_device  # noqa: E402
from hlsgen_driver.boxes import CONFIDENCE, IOU  # noqa: E402
from hlsgen_driver.devices import DEVICES  # noqa: E402
from hlsgen_driver.errors import WrongResultError  # noqa: E402
from hlsgen_driver.picture import draw, read_picture, write_png  # noqa: E402
from hlsgen_driver.pipeline import mean_seconds  # noqa: E402


def share(text):
    """A threshold: 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return value


def positive(text):
    """Seconds or images: above 0."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def arguments():
    parser = argparse.ArgumentParser(
        description="Boxes in pictures, by the generated accelerator.", epilog="README.md beside this file says more."
    )
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PICTURE", help="picture files (png, jpg, ppm, ...)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: what the package has a bitstream for")
    parser.add_argument("--self-test", action="store_true", help="run the golden input and compare every tensor")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to draw (default: the current folder)")
    parser.add_argument(
        "--confidence", type=share, default=CONFIDENCE, help="least score of a box (default: %(default)s)"
    )
    parser.add_argument(
        "--iou", type=share, default=IOU, help="overlap above which a box is dropped (default: %(default)s)"
    )
    parser.add_argument("--timeout", type=positive, help="seconds one image may take (default: the device's)")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="run the pictures N times, to measure images/s"
    )
    parser.add_argument("--json", action="store_true", help="print facts as JSON on stdout, nothing else")
    given = parser.parse_args()
    if not given.pictures and not given.self_test:
        parser.error("expected a picture, or --self-test")
    if given.repeat < 1:
        parser.error(f"--repeat expected 1 or more, got {given.repeat}")
    return given


def self_test(accelerator, given):
    begun = time.perf_counter()
    said = accelerator.self_test()
    said["seconds"] = round(time.perf_counter() - begun, 3)
    if not given.json:
        print(
            "EXACT     self-test: all {integers:,} integers of {tensors} tensors on {cores} core(s) are what the INT8 model "
            "computes, {seconds:.2f} s".format(**said)
        )
    return said


def detect(accelerator, given):
    pictures = [read_picture(path) for path in given.pictures]
    detector = Detector(accelerator, given.confidence, given.iou)
    begun = time.perf_counter()
    found = list(detector.stream(pictures * given.repeat))
    rate = len(found) / (time.perf_counter() - begun)
    step = mean_seconds(found)
    out = given.out or Path(".")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DriverError(f"{out} cannot be made ({error.strerror}); give --out another folder") from error
    said = []
    for path, picture, one in zip(given.pictures, pictures, found):
        rows = one.detections.rows(detector.classes)
        names = [image["picture"] for image in said]
        drawn = out / f"{path.stem}-boxes.png"
        if str(drawn) in names:  # pictures of one name from several folders
            drawn = out / f"{path.stem}-{len(said) + 1}-boxes.png"
        write_png(drawn, draw(picture, rows, one.detections.classes.tolist()))
        said.append({"file": str(path), "detections": rows, "picture": str(drawn)})
        if not given.json:
            for row in rows:
                print("{:<16} {:.3f}  {}".format(row["class"], row["score"], " ".join(f"{v:7.1f}" for v in row["box"])))
            print("{:<9} {}, drawn in {}".format(f"{len(rows)} boxes" if len(rows) != 1 else "1 box", path, drawn))
    if not given.json:
        print(
            "{:<9} {:.2f} images/s on {} core(s) of device {}; one image: pack {:.1f} ms, engine {:.1f} ms, boxes {:.1f} ms".format(
                "speed",
                rate,
                len(accelerator.device.cores),
                accelerator.device.name,
                *(1000 * step[name] for name in ("pack", "device", "boxes")),
            )
        )
    return {"images": said, "images_per_second": rate, "seconds": step}


def main():
    given = arguments()
    try:
        package = Package(HERE)
        with Accelerator(package, open_device(package, given.device), given.timeout) as accelerator:
            polling = getattr(accelerator.device, "polling", [])
            if polling:
                print("note      no interrupt from {}: polling instead".format(", ".join(polling)), file=sys.stderr)
            said = {"model": package.network.model, "device": accelerator.device.name}
            if given.self_test:
                said["self_test"] = self_test(accelerator, given)
            if given.pictures:
                said.update(detect(accelerator, given))
        if given.json:
            print(json.dumps(said, indent=1))
    except DriverError as error:
        print(f"detect: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, WrongResultError) else 2
    except KeyboardInterrupt:
        print("detect: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader went away; keep the interpreter's last flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
