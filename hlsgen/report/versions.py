"""The versions a result depends on."""

import platform
from importlib.metadata import PackageNotFoundError, version

from hlsgen import __version__

PACKAGES = ("torch", "onnx", "onnxruntime", "hls4ml", "numpy", "ultralytics")


def versions() -> dict[str, str]:
    """Name to version: hlsgen, python, and each of `PACKAGES` that is installed ("not installed" otherwise)."""
    found = {"hlsgen": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
