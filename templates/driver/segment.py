#!/usr/bin/env python3
"""Masks of what prompts point at in a picture, by the accelerator that this package is for.

    python segment.py street.png --box 45,43,123,119                one prompt: a box
    python segment.py street.png --box 45,43,123,119 --point 80,70  one prompt: a box and a point
    python segment.py street.png --point 80,70 --and --point 20,30  two prompts: the picture is encoded once
    python segment.py street.png --point 80,70 --device sim         on any computer: the hardware's C-simulation
    python segment.py --self-test                                   the golden input, every tensor held to what it must be

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

from hlsgen_driver import command  # noqa: E402
from hlsgen_driver.picture import draw_masks, read_picture, write_png  # noqa: E402
from hlsgen_driver.prompts import Prompt  # noqa: E402
from hlsgen_driver.segmenter import Segmenter  # noqa: E402

EMPTY = Prompt()


def numbers(count):
    """A converter of `count` numbers with commas between them."""

    def convert(text):
        try:
            found = tuple(float(part) for part in text.split(","))
        except ValueError:
            found = ()
        if len(found) != count:
            raise argparse.ArgumentTypeError(f"expected {count} numbers with commas between them, got {text!r}")
        return found

    return convert


class Add(argparse.Action):
    """An option's value added to the last prompt, or (--and) one more prompt begun."""

    def __call__(self, parser, given, value, option=None):
        *before, last = given.prompts
        if option == "--and":
            given.prompts = [*before, last, EMPTY]
            return
        if option == "--box" and last.box is not None:
            parser.error("a prompt has one box; begin another prompt with --and")
        field = {"--box": "box", "--point": "points", "--not-point": "not_points"}[option]
        held = value if option == "--box" else (*getattr(last, field), value)
        given.prompts = [*before, last._replace(**{field: held})]


def arguments():
    parser = argparse.ArgumentParser(
        description="Masks in a picture, by the generated accelerator.", epilog="README.md beside this file says more."
    )
    parser.add_argument("picture", nargs="?", type=Path, metavar="PICTURE", help="picture file (png, jpg, ppm, ...)")
    parser.add_argument(
        "--box", action=Add, type=numbers(4), metavar="X0,Y0,X1,Y1", help="a box around what to segment"
    )
    parser.add_argument("--point", action=Add, type=numbers(2), metavar="X,Y", help="a point in it; may be given again")
    parser.add_argument("--not-point", action=Add, type=numbers(2), metavar="X,Y", help="a point outside it")
    parser.add_argument("--and", action=Add, nargs=0, help="begin another prompt")
    command.common(parser)
    parser.set_defaults(prompts=[EMPTY])
    given = parser.parse_args()
    if given.picture is None and not given.self_test:
        parser.error("expected a picture, or --self-test")
    return given


def segment(accelerator, given):
    picture = read_picture(given.picture)
    begun = time.perf_counter()
    with Segmenter(accelerator).picture(picture) as prompted:
        encoded = time.perf_counter() - begun
        found = [prompted(prompt) for prompt in given.prompts]
    out, said = command.folder(given), []
    for number, (prompt, one) in enumerate(zip(given.prompts, found), 1):
        path = out / f"{given.picture.stem}-mask{'' if len(found) == 1 else number}.png"
        write_png(path, (one.masks[0][..., None] * [255, 255, 255]).astype("uint8"))
        row = {
            **prompt._asdict(),
            "area": int(one.masks[0].sum()),
            "predicted_iou": round(float(one.quality[0]), 4),
            "mask": str(path),
            "seconds": one.seconds,
        }
        said.append(row)
        if not given.json:
            print("{:<9} {area:,} pixels, predicted IoU {predicted_iou:.3f}, {mask}".format(f"prompt {number}", **row))
    drawn = out / f"{given.picture.stem}-masks.png"
    write_png(drawn, draw_masks(picture, [one.masks[0] for one in found]))
    if not given.json:
        device = sum(one.seconds["device"] for one in found) / len(found)
        print("{:<9} {}".format("drawn", drawn))
        print(
            "{:<9} picture encoded in {:.1f} ms, a prompt in {:.1f} ms".format("speed", 1000 * encoded, 1000 * device)
        )
    return {"file": str(given.picture), "picture": str(drawn), "encode_seconds": encoded, "prompts": said}


if __name__ == "__main__":
    given = arguments()
    sys.exit(command.run("segment", HERE, given, segment if given.picture else None))
