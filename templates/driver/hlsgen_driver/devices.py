"""Which device a package runs on."""

from __future__ import annotations

import platform

from .device import Device
from .errors import DeviceError
from .package import Package

DEVICES = ("auto", "pynq", "xrt", "sim")


def open_device(package: Package, name: str = "auto") -> Device:
    """The device `name`; auto takes what the package holds a bitstream for.

    Raises:
        DeviceError: the package has nothing for it, or it cannot be opened; the sentence says why.
    """
    network = package.network
    if name not in DEVICES:
        raise DeviceError("unknown device {!r}: expected one of {}".format(name, ", ".join(DEVICES)))
    if name == "auto":
        name = "pynq" if package.find(".bit") else "xrt" if package.find(".xclbin") else ""
        if not name:
            raise DeviceError(
                "this package holds no bitstream (make bitstream, then make package again); without one it runs with "
                "--device sim"
            )
    if name == "pynq":
        from .pynq_device import PynqDevice

        bitstream = package.find(".bit")
        if bitstream is None or package.find(".hwh") is None:
            raise DeviceError(f"device pynq expected hlsgen.bit and hlsgen.hwh in {package.folder}")
        return PynqDevice(bitstream, network.top, network.cores)
    if name == "xrt":
        from .xrt_device import XrtDevice

        binary = package.find(".xclbin")
        if binary is None:
            raise DeviceError(f"device xrt expected hlsgen.xclbin in {package.folder}")
        return XrtDevice(package.folder / "xrt" / "libhlsgen_xrt.so", binary, network.top, network.cores)
    from .sim_device import SimDevice

    library = package.folder / "sim" / f"libhlsgen_sim-{platform.machine()}.so"
    if not library.is_file():
        held = ", ".join(sorted(p.name for p in library.parent.glob("*.so"))) or "nothing"
        raise DeviceError(
            f"device sim expected {library}, the package holds {held}; run make package on a machine like this one "
            f"({platform.machine()})"
        )
    return SimDevice(library, network.cores)
