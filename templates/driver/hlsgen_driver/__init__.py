"""The driver of one generated accelerator: pictures in, boxes or masks out, on a board, a card, or the simulated device.

from hlsgen_driver import Accelerator, Package, open_device
package = Package(folder)
with Accelerator(package, open_device(package, "pynq")) as accelerator:
    outputs = accelerator.infer(image)
"""

from .accelerator import Accelerator
from .devices import open_device
from .errors import DriverError
from .package import Package
from .pipeline import Detector
from .prompts import Prompt
from .segmenter import Segmenter

__all__ = ["Accelerator", "Detector", "DriverError", "Package", "Prompt", "Segmenter", "open_device"]
