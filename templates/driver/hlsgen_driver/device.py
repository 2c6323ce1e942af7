"""A device: memory that the engine can address, and engines. What pynq, sim and xrt devices have in common."""

from __future__ import annotations

import time
from typing import Callable

import numpy as np

from .errors import DeviceError, HangError

POINTERS = ("feature_maps", "residuals", "parameters", "results")
SCALARS = ("first", "count")
START, DONE, IDLE = 1, 2, 4
"""Bits of CTRL (UG1399, S_AXILITE Control Register Map)."""
SLICE = 0.5
"""Seconds after which a wait for the interrupt looks at CTRL itself."""


class Buffer:
    """Contiguous memory: `array` is int8, as the host sees it; `address` is the engine's."""

    array: np.ndarray
    address: int

    def flush(self, begin: int, end: int) -> None:
        """Make what the host wrote to bytes [begin, end) visible to the engine."""

    def invalidate(self, begin: int, end: int) -> None:
        """Make what the engine wrote to bytes [begin, end) visible to the host."""

    def free(self) -> None:
        """Give the memory back."""


class Core:
    """One engine."""

    name: str

    def call(self, buffers: dict[str, Buffer], first: int, count: int, timeout: float) -> None:
        """Run ops [first, first + count) and wait; buffers by pointer argument (POINTERS), none needed for count 0.

        Raises:
            HangError: not done within `timeout` seconds.
        """
        raise NotImplementedError

    def identity(self) -> int:
        """What the engine's register `identity` holds after a call."""
        raise NotImplementedError


class Device:
    """cores: the engines. timeout: seconds that one image may take, unless the user says otherwise. one_memory: every core
    reaches all memory, so that one copy of the weights serves all.
    """

    name: str
    cores: list[Core]
    timeout: float
    one_memory = True

    def allocate(self, size: int, core: int, argument: str) -> Buffer:
        """Contiguous memory of `size` bytes, where core number `core` reaches it as `argument` (of POINTERS).

        Raises:
            DeviceError: there is not so much.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back."""


class RegisterCore(Core):
    """An engine behind its s_axilite register file.

    registers: offsets by name, from the overlay's hardware hand-off file. read, write: a 32-bit access at an offset.
    wait: waits at most so many seconds for the interrupt and says whether it came; None where none is connected.
    """

    def __init__(
        self,
        name: str,
        registers: dict[str, int],
        read: Callable[[int], int],
        write: Callable[[int, int], None],
        wait: Callable[[float], bool] | None,
    ) -> None:
        self.name = name
        self._registers, self._read, self._write = registers, read, write
        self.wait = wait
        self._offset("CTRL")
        for pointer in POINTERS:
            self._pointer(pointer)
        for scalar in (*SCALARS, "identity"):
            self._offset(scalar)

    def _offset(self, name: str) -> int:
        if name not in self._registers:
            raise DeviceError(
                "{} expected a register {}, it has {}; the bitstream was not made from this project".format(
                    self.name, name, ", ".join(sorted(self._registers)) or "none"
                )
            )
        return self._registers[name]

    def _pointer(self, name: str) -> list[int]:
        """Offsets of a pointer's words: NAME, or NAME_1 and NAME_2 where addresses have 64 bits."""
        if name in self._registers:
            return [self._registers[name]]
        return [self._offset(name + "_1"), self._offset(name + "_2")]

    def identity(self) -> int:
        return self._read(self._offset("identity")) & 0xFFFFFFFF

    def call(self, buffers: dict[str, Buffer], first: int, count: int, timeout: float) -> None:
        ctrl = self._offset("CTRL")
        if not self._read(ctrl) & IDLE:
            raise HangError(
                f"{self.name} is still busy with an earlier call (CTRL 0x{self._read(ctrl):02x}); load the "
                "bitstream again"
            )
        for name, buffer in buffers.items():
            words = self._pointer(name)
            if buffer.address >> 32 and len(words) == 1:
                raise DeviceError(
                    f"{self.name} takes 32-bit addresses, the memory lies at 0x{buffer.address:x}; allocate below 4 GiB"
                )
            for i, offset in enumerate(words):
                self._write(offset, buffer.address >> 32 * i & 0xFFFFFFFF)
        self._write(self._offset("first"), first)
        self._write(self._offset("count"), count)
        self._enable_interrupt()
        self._write(ctrl, START)
        self._finish(first, count, timeout)

    def _enable_interrupt(self) -> None:
        if self.wait is None:
            return
        status = self._offset("IP_ISR")
        pending = self._read(status)
        if pending:
            self._write(status, pending)  # a status bit toggles when 1 is written
        self._write(self._offset("GIER"), 1)
        self._write(self._offset("IP_IER"), 1)

    def _done(self) -> bool:
        """ap_done, which reading clears; or idle again, where somebody else has read it."""
        ctrl = self._read(self._offset("CTRL"))
        return bool(ctrl & DONE) or (ctrl & (START | IDLE)) == IDLE

    def _finish(self, first: int, count: int, timeout: float) -> None:
        """Wait for the interrupt, and look at CTRL now and then in case it was lost; without one, poll."""
        deadline = time.monotonic() + timeout
        pause = 20e-6
        while not self._done():
            left = deadline - time.monotonic()
            if left <= 0:
                what = f"ops {first} to {first + count - 1}" if count else "a call without ops"
                raise HangError(
                    "{} did not finish {} within {:g} s (CTRL 0x{:02x}: {}): its memory ports or its clock do not answer; "
                    "load the bitstream again".format(
                        self.name, what, timeout, self._read(self._offset("CTRL")), "started, never done"
                    )
                )
            if self.wait is not None:
                self.wait(min(left, SLICE))
            else:
                time.sleep(min(left, pause))
                pause = min(2 * pause, 1e-3)
        if self.wait is not None:
            status = self._offset("IP_ISR")
            pending = self._read(status)
            if pending:
                self._write(status, pending)


def pointer_buffers(feature_maps: Buffer, parameters: Buffer) -> dict[str, Buffer]:
    """The engine's pointers: three of them are the same feature maps."""
    return {name: parameters if name == "parameters" else feature_maps for name in POINTERS}


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
