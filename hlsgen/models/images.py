"""Pictures from files to the network's input, and the way back for boxes."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError

Picture = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], BGR, as OpenCV reads it."""
Input = npt.NDArray[np.float32]
"""float32 [3, H, W], RGB, 0..1."""

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
PADDING = 114
"""The grey beside a letterboxed picture, as ultralytics trains with."""


def read_image(path: str | Path) -> Picture:
    """A picture, turned upright by its EXIF orientation.

    Raises:
        HlsgenError: it is missing, unreadable, or no image.
    """
    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise HlsgenError(f"image {path}: cannot be read ({error.strerror or error})") from error
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # OpenCV raises on some damage and returns None on other
        picture = None
    if picture is None:
        raise HlsgenError(
            f"image {path}: expected a picture ({', '.join(sorted(SUFFIXES))}), it is damaged or something else"
        )
    return np.asarray(picture, np.uint8)


def list_images(folder: str | Path) -> list[Path]:
    """The pictures in `folder`, by name; where it has none, those in its folder `images`.

    Raises:
        HlsgenError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HlsgenError(f"image folder {folder}: expected a folder, there is none")
    try:
        for place in (folder, folder / "images"):
            found = (
                [p for p in place.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()] if place.is_dir() else []
            )
            if found:
                return sorted(found)
    except OSError as error:
        raise HlsgenError(f"image folder {folder}: cannot be read ({error.strerror or error})") from error
    raise HlsgenError(f"image folder {folder}: expected pictures ({', '.join(sorted(SUFFIXES))}), it holds none")


@dataclass(frozen=True)
class Placement:
    """Where a picture of height x width lies in a letterboxed one: new_height x new_width pixels at (left, top)."""

    height: int
    width: int
    new_height: int
    new_width: int
    left: int
    top: int

    def restore(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes [N, 4] (x1, y1, x2, y2) in letterboxed pixels -> in the picture's own, clipped to it."""
        gain_x, gain_y = np.float32(self.new_width / self.width), np.float32(self.new_height / self.height)
        offset = np.array([self.left, self.top] * 2, np.float32)
        moved = (boxes.astype(np.float32) - offset) / np.array([gain_x, gain_y] * 2, np.float32)
        limits = np.array([self.width, self.height] * 2, np.float32)
        return np.clip(moved, 0, limits).astype(np.float32)


def place(size: tuple[int, int], into: tuple[int, int]) -> Placement:
    """A picture of `size` (H, W) centred in `into` (H, W), its proportions kept (each side at least a pixel)."""
    (height, width), (target_height, target_width) = size, into
    ratio = min(target_height / height, target_width / width)
    new_height, new_width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    # an odd pixel of padding goes to the bottom and the right, as in ultralytics
    left, top = ((outer - inner) // 2 for outer, inner in ((target_width, new_width), (target_height, new_height)))
    return Placement(height, width, new_height, new_width, left, top)


def letterbox(picture: Picture, size: tuple[int, int]) -> Input:
    """The network's input of `size` (H, W): scaled bilinearly, centred on grey, float32 [3, H, W] RGB 0..1.

    The same integers before the division by 255 as ultralytics' LetterBox; `place` gives the way back.
    """
    at = place((picture.shape[0], picture.shape[1]), size)
    canvas = np.full((*size, 3), PADDING, np.uint8)
    scaled: npt.NDArray[np.uint8] = picture
    if (at.height, at.width) != (at.new_height, at.new_width):
        scaled = np.asarray(
            cv2.resize(picture, (at.new_width, at.new_height), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    canvas[at.top : at.top + at.new_height, at.left : at.left + at.new_width] = scaled
    return np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
