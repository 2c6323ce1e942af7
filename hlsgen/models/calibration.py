"""The pictures that a network is calibrated on."""

import random
from pathlib import Path
from typing import TYPE_CHECKING

from hlsgen.errors import HlsgenError
from hlsgen.models.fitted import fitted, own_picture, prompted
from hlsgen.models.images import Input, Picture, list_images, read_image

if TYPE_CHECKING:
    from hlsgen.models.sam.prompts import Prompt
    from hlsgen.models.zoo import Loaded


LARGE = 100.0  # GMAC of an image


def enough(loaded: "Loaded") -> int:
    """How many images a network is calibrated on by default: of large ones few, which take long and have many tokens each."""
    return 4 if loaded.gmacs() > LARGE else 32


def calibration_images(
    loaded: "Loaded", folder: Path | None, count: int, seed: int | None = None
) -> tuple[list[Input], str]:
    """The calibration images, letterboxed to the network's size, and where they come from.

    folder: of pictures, or None for those that demo and random weights have of their own. count: how many at most. seed: of
    drawing them; None takes the first by name.

    Raises:
        HlsgenError: the folder holds no image, or there is none and the weights have no pictures of their own.
    """
    if folder is not None:
        paths = list_images(folder)
        if seed is not None:
            paths = sorted(random.Random(seed).sample(paths, min(count, len(paths))))
        return [fitted(loaded, read_image(path)) for path in paths[:count]], str(folder)
    if loaded.weights == "demo" or loaded.weights.startswith("random"):
        from hlsgen.models.demo.shapes import CALIB_SEED

        first = 0 if seed is None else 1000 * seed
        pictures = (own_picture(loaded, first + index, CALIB_SEED) for index in range(count))
        return [fitted(loaded, picture) for picture in pictures], "generated shapes"
    raise HlsgenError(
        "calibration needs pictures like those the network will see: give --calib FOLDER (32 pictures are enough), or "
        "--weights demo for the bundled demo, which has its own"
    )


def calibration_prompts(loaded: "Loaded", folder: Path | None, count: int) -> tuple[list[tuple[Input, ...]], str]:
    """`calibration_images` for a SAM: with each picture a prompt, a box, a point, a box and a point in turn.

    Raises:
        HlsgenError: as `calibration_images`.
    """
    from hlsgen.models.demo.shapes import CALIB_SEED
    from hlsgen.models.sam.evaluate import shown

    images, source = calibration_images(loaded, folder, count)
    if folder is not None:
        pictures = [read_image(path) for path in list_images(folder)[:count]]
        return [
            prompted(loaded, x, somewhere(x, i), image)
            for i, (x, image) in enumerate(zip(pictures, images, strict=True))
        ], source
    found = []
    for i, image in enumerate(images):
        picture, asked = shown(i, loaded.shape[1], CALIB_SEED)
        one = asked[i % len(asked)]
        found.append(prompted(loaded, picture, (one.box, one.point, one.both)[i % 3], image))
    return found, source


def somewhere(picture: Picture, index: int) -> "Prompt":
    """A prompt for a photograph that nobody has labelled."""
    from hlsgen.models.sam.prompts import Prompt

    height, width = picture.shape[:2]
    x, y = ((0.5, 0.5), (0.3, 0.4), (0.7, 0.6))[index // 3 % 3]
    box = (width * (x - 0.25), height * (y - 0.3), width * (x + 0.25), height * (y + 0.3))
    at = ((width * x, height * y),)
    return (Prompt(box), Prompt(points=at), Prompt(box, at))[index % 3]
