"""A stand-in for the package pynq on the simulated device: what the driver uses of it, and how pynq 2.7 to 3.x behaves.

`Overlay.ip_dict` as pynq's hwh parser fills it; `MMIO`; `allocate` with an ndarray subclass whose slices flush and
invalidate by themselves; `Interrupt`, which belongs to the asyncio loop in which it was made.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from types import ModuleType
from typing import Any

import numpy as np


def module(library: Any, handle: Any, registers: dict[str, int], cores: int, interrupts: bool = True) -> ModuleType:
    """The stand-in module; its `log` holds what was flushed and invalidated, as (what, address, bytes); `stop()` ends the
    watching of interrupts, before the simulated device goes away.
    """
    pynq: Any = ModuleType("pynq")
    pynq.log, pynq.stopped, pynq.lock = [], threading.Event(), threading.Lock()

    def stop() -> None:
        with pynq.lock:
            pynq.stopped.set()

    base = 0x4000_0000

    class Overlay:
        def __init__(self, path: str) -> None:
            self.ip_dict: dict[str, Any] = {
                "axi_intc_0": {"phys_addr": 0x4180_0000, "addr_range": 65536, "registers": {}}
            }
            for i in range(cores):
                rows = {
                    name: {"address_offset": offset, "size": 32, "access": "read-write", "fields": {}}
                    for name, offset in registers.items()
                }
                self.ip_dict[f"hlsgen_engine_{i}"] = {
                    "phys_addr": base + 0x1_0000 * i,
                    "addr_range": 65536,
                    "registers": rows,
                }

    class MMIO:
        def __init__(self, address: int, length: int) -> None:
            self.core, self.length = (address - base) // 0x1_0000, length

        def read(self, offset: int = 0) -> int:
            assert offset % 4 == 0 and offset < self.length
            return int(library.hlsgen_sim_read(handle, self.core, offset))

        def write(self, offset: int, value: int) -> None:
            assert isinstance(value, int) and 0 <= value < 1 << 32
            library.hlsgen_sim_write(handle, self.core, offset, value)

    class Held(np.ndarray):
        device_address: int

        def __array_finalize__(self, other: Any) -> None:
            if isinstance(other, Held) and hasattr(other, "device_address"):
                self.device_address = other.device_address + self.ctypes.data - other.ctypes.data

        def flush(self) -> None:
            pynq.log.append(("flush", self.device_address, self.nbytes))

        def invalidate(self) -> None:
            pynq.log.append(("invalidate", self.device_address, self.nbytes))

        def freebuffer(self) -> None:
            library.hlsgen_sim_free(handle, self.device_address)

    def allocate(shape: tuple[int], dtype: Any) -> Held:
        assert np.dtype(dtype) == np.int8
        address = library.hlsgen_sim_allocate(handle, shape[0])
        if not address:
            raise RuntimeError("Failed to allocate Memory!")
        memory = library.hlsgen_sim_memory(handle, address)
        held = np.ctypeslib.as_array((ctypes.c_int8 * shape[0]).from_address(memory)).view(Held)
        held.device_address = address
        return held

    class Interrupt:
        def __init__(self, pin: str) -> None:
            if not interrupts:
                raise ValueError(f"No Pin of name {pin} found")
            name, _, port = pin.partition("/")
            assert port == "interrupt"
            self.core, self.loop = int(name.rpartition("_")[2]), asyncio.get_event_loop()
            self.event, self.waiting = asyncio.Event(), False

        async def wait(self) -> None:
            """As pynq's: a wait that was given up leaves the event armed, and the next one takes it over."""
            assert asyncio.get_event_loop() is self.loop, "awaited in another loop than it was made in"
            if not self.waiting:
                self.event.clear()
                self.armed = asyncio.ensure_future(self.watch())
                self.waiting = True
            await self.event.wait()
            self.waiting = False

        async def watch(self) -> None:
            while not pynq.stopped.is_set():
                with pynq.lock:
                    if pynq.stopped.is_set() or library.hlsgen_sim_wait(handle, self.core, 0.0):
                        break
                await asyncio.sleep(0.001)
            self.event.set()

    for thing in (Overlay, MMIO, allocate, Interrupt, stop):
        setattr(pynq, thing.__name__, thing)
    return pynq
