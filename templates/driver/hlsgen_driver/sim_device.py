"""The simulated device: the engine's C-simulation behind the register file and the memory that a board has."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import numpy as np

from .device import Buffer, Device, RegisterCore
from .errors import DeviceError


class SimBuffer(Buffer):
    def __init__(self, device: SimDevice, address: int, size: int) -> None:
        self.address, self._device = address, device
        memory = device.library.hlsgen_sim_memory(device.handle, address)
        self.array = np.ctypeslib.as_array((ctypes.c_int8 * size).from_address(memory))

    def free(self) -> None:
        self._device.library.hlsgen_sim_free(self._device.handle, self.address)


class SimDevice(Device):
    """library: what `make sim` compiles. address_bits: 32 or 64, the width of the engine's pointers."""

    name = "sim"
    timeout = 600.0

    def __init__(self, library: Path, cores: int, address_bits: int = 64) -> None:
        try:
            self.library = ctypes.CDLL(str(library.resolve()))
        except OSError as error:
            raise DeviceError(
                f"the simulated device {library} cannot be loaded ({error}); on this machine ({platform.machine()}) "
                "run make package again"
            ) from error
        _declare(self.library)
        self.handle = self.library.hlsgen_sim_open(cores, address_bits)
        registers = self._registers()
        self.cores = [self._core(index, registers) for index in range(cores)]

    def _registers(self) -> dict[str, int]:
        found: dict[str, int] = {}
        name, offset = ctypes.c_char_p(), ctypes.c_uint()
        while self.library.hlsgen_sim_register(self.handle, len(found), ctypes.byref(name), ctypes.byref(offset)):
            found[(name.value or b"").decode("ascii")] = offset.value
        return found

    def _core(self, index: int, registers: dict[str, int]) -> RegisterCore:
        library, handle = self.library, self.handle
        return RegisterCore(
            f"hlsgen_engine_{index}",
            registers,
            lambda offset: library.hlsgen_sim_read(handle, index, offset),
            lambda offset, value: library.hlsgen_sim_write(handle, index, offset, value),
            lambda seconds: bool(library.hlsgen_sim_wait(handle, index, seconds)),
        )

    def allocate(self, size: int, core: int, argument: str) -> SimBuffer:
        address = self.library.hlsgen_sim_allocate(self.handle, size)
        if not address:
            raise DeviceError(f"the simulated device has no {size:,} bytes of memory left")
        return SimBuffer(self, address, size)

    def fault(self, name: str, value: int = 1) -> None:
        """Inject a fault: never-done, no-interrupt, identity (what the register reads), memory (bytes there are)."""
        self.library.hlsgen_sim_fault(self.handle, name.encode("ascii"), value)

    def close(self) -> None:
        if self.handle:
            self.library.hlsgen_sim_close(self.handle)
        self.handle = None


def _declare(library: ctypes.CDLL) -> None:
    """The types of sim_device.cpp's functions."""
    pointer, number, wide = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64
    types = {
        "open": (pointer, number, number),
        "close": (None, pointer),
        "register": (number, pointer, number, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_uint)),
        "read": (ctypes.c_uint, pointer, number, ctypes.c_uint),
        "write": (None, pointer, number, ctypes.c_uint, ctypes.c_uint),
        "wait": (number, pointer, number, ctypes.c_double),
        "allocate": (wide, pointer, wide),
        "memory": (pointer, pointer, wide),
        "free": (None, pointer, wide),
        "fault": (None, pointer, ctypes.c_char_p, wide),
    }
    for name, (result, *arguments) in types.items():
        function = getattr(library, "hlsgen_sim_" + name)
        function.restype, function.argtypes = result, arguments
