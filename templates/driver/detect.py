#!/usr/bin/env python3
"""Boxes in a picture, by the accelerator that this package is for.

    python detect.py street.jpg                  on the board (or card) that the package holds a bitstream for
    python detect.py street.jpg --device sim     on any computer: the hardware's C-simulation
    python detect.py --self-test                 the golden input, every tensor of the network held to what it must be

Exit status: 0; 1 where the self-test finds a wrong result; 2 for anything else that is wrong, with one sentence; 130 when
interrupted.
"""

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # the package stays as it was checked
sys.path.insert(0, str(HERE))

from hlsgen_driver import Detector, command  # noqa: E402
from hlsgen_driver.boxes import CONFIDENCE, IOU  # noqa: E402
from hlsgen_driver.picture import draw, read_picture, write_png  # noqa: E402
from hlsgen_driver.pipeline import mean_seconds  # noqa: E402


def share(text):
    """A threshold: 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return value


def arguments():
    parser = argparse.ArgumentParser(
        description="Boxes in pictures, by the generated accelerator.", epilog="README.md beside this file says more."
    )
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PICTURE", help="picture files (png, jpg, ppm, ...)")
    command.common(parser)
    parser.add_argument(
        "--confidence", type=share, default=CONFIDENCE, help="least score of a box (default: %(default)s)"
    )
    parser.add_argument(
        "--iou", type=share, default=IOU, help="overlap above which a box is dropped (default: %(default)s)"
    )
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="run the pictures N times, to measure images/s"
    )
    given = parser.parse_args()
    if not given.pictures and not given.self_test:
        parser.error("expected a picture, or --self-test")
    if given.repeat < 1:
        parser.error(f"--repeat expected 1 or more, got {given.repeat}")
    return given


def detect(accelerator, given):
    pictures = [read_picture(path) for path in given.pictures]
    detector = Detector(accelerator, given.confidence, given.iou)
    begun = time.perf_counter()
    found = list(detector.stream(pictures * given.repeat))
    rate = len(found) / (time.perf_counter() - begun)
    step = mean_seconds(found)
    out, said = command.folder(given), []
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


if __name__ == "__main__":
    given = arguments()
    sys.exit(command.run("detect", HERE, given, detect if given.pictures else None))
