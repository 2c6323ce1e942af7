"""An Alveo card through xrt/, the C++ driver on XRT's native interface, as a shared library."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from .device import POINTERS, Buffer, Core, Device, megabytes
from .errors import DeviceError, HangError


class XrtBuffer(Buffer):
    """Memory on the card and its copy on the host; flush and invalidate move bytes between the two."""

    def __init__(self, device: XrtDevice, handle: int, size: int) -> None:
        self._device, self.handle = device, handle
        self.address = device.library.hlsgen_xrt_address(handle)
        host = device.library.hlsgen_xrt_host(handle)
        self.array = np.ctypeslib.as_array((ctypes.c_int8 * size).from_address(host))

    def flush(self, begin: int, end: int) -> None:
        self._device.check(self._device.library.hlsgen_xrt_sync(self.handle, 1, begin, end - begin))

    def invalidate(self, begin: int, end: int) -> None:
        self._device.check(self._device.library.hlsgen_xrt_sync(self.handle, 0, begin, end - begin))

    def free(self) -> None:
        self._device.library.hlsgen_xrt_free(self.handle)


class XrtCore(Core):
    def __init__(self, device: XrtDevice, name: str, index: int) -> None:
        self.name, self._device, self._index = name, device, index

    def call(self, buffers: dict[str, Buffer], first: int, count: int, timeout: float) -> None:
        handles = [getattr(buffers.get(name), "handle", None) for name in POINTERS]
        library = self._device.library
        status = library.hlsgen_xrt_call(self._device.handle, self._index, *handles, first, count, int(timeout * 1000))
        if status == 1:
            what = f"ops {first} to {first + count - 1}" if count else "a call without ops"
            raise HangError(
                f"{self.name} did not finish {what} within {timeout:g} s ({library.hlsgen_xrt_error().decode()}); "
                "reset the card with xbutil reset"
            )
        self._device.check(status)

    def identity(self) -> int:
        value = ctypes.c_uint32()
        self._device.check(
            self._device.library.hlsgen_xrt_identity(self._device.handle, self._index, ctypes.byref(value))
        )
        return value.value


class XrtDevice(Device):
    """binary: the .xclbin. library: what `make -C xrt` compiles."""

    name = "xrt"
    timeout = 10.0
    one_memory = False  # link.cfg gives each core memory banks of its own

    def __init__(self, library: Path, binary: Path, top: str, cores: int, card: int = 0) -> None:
        if not library.is_file():
            raise DeviceError(f"device xrt needs {library}; run make -C xrt (with XRT installed) first")
        try:
            self.library = ctypes.CDLL(str(library.resolve()))
        except OSError as error:
            raise DeviceError(
                f"{library} cannot be loaded ({error}); source XRT's setup.sh and run make -C xrt again"
            ) from error
        _declare(self.library)
        self.handle = self.library.hlsgen_xrt_open(card, str(binary).encode(), top.encode(), cores)
        if not self.handle:
            raise DeviceError(
                f"the card {card} cannot be opened with {binary} ({self.library.hlsgen_xrt_error().decode()})"
            )
        self.cores = [XrtCore(self, f"{top}_{index}", index) for index in range(cores)]

    def check(self, status: int) -> None:
        if status:
            raise DeviceError(f"XRT said: {self.library.hlsgen_xrt_error().decode()}")

    def allocate(self, size: int, core: int, argument: str) -> XrtBuffer:
        handle = self.library.hlsgen_xrt_allocate(self.handle, core, POINTERS.index(argument), size)
        if not handle:
            raise DeviceError(
                f"no {megabytes(size)} of memory on the card ({self.library.hlsgen_xrt_error().decode()})"
            )
        return XrtBuffer(self, handle, size)

    def close(self) -> None:
        if self.handle:
            self.library.hlsgen_xrt_close(self.handle)
        self.handle = None


def _declare(library: ctypes.CDLL) -> None:
    """The types of xrt/library.cpp's functions."""
    pointer, number, wide = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64
    types = {
        "error": (ctypes.c_char_p,),
        "open": (pointer, number, ctypes.c_char_p, ctypes.c_char_p, number),
        "close": (None, pointer),
        "allocate": (pointer, pointer, number, number, wide),
        "address": (wide, pointer),
        "host": (pointer, pointer),
        "sync": (number, pointer, number, wide, wide),
        "free": (None, pointer),
        "call": (number, pointer, number, pointer, pointer, pointer, pointer, number, number, number),
        "identity": (number, pointer, number, ctypes.POINTER(ctypes.c_uint32)),
    }
    for name, (result, *arguments) in types.items():
        function = getattr(library, "hlsgen_xrt_" + name)
        function.restype, function.argtypes = result, arguments
