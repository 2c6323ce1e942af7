"""A Zynq or Zynq UltraScale+ board under PYNQ (2.7 to 3.x): overlay, contiguous memory, registers, interrupt."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, Callable

import numpy as np

from .device import Buffer, Device, RegisterCore, megabytes
from .errors import DeviceError


class PynqBuffer(Buffer):
    """pynq.allocate's. Parts of it are flushed and invalidated by themselves: an image is not the whole memory."""

    def __init__(self, held: Any) -> None:
        self._held = held
        self.address = int(held.device_address)
        self.array = np.asarray(held)

    def flush(self, begin: int, end: int) -> None:
        self._held[begin:end].flush()

    def invalidate(self, begin: int, end: int) -> None:
        self._held[begin:end].invalidate()

    def free(self) -> None:
        self._held.freebuffer()


class Loop:
    """An asyncio loop in a thread: pynq's interrupts belong to the loop in which they are made, and cores wait in
    threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="interrupts", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def make(self, function: Callable[[], Any]) -> Any:
        """What `function` returns, run in the loop's thread."""

        async def inside() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result()

    def wait(self, interrupt: Any, seconds: float) -> bool:
        """Wait for a pynq.Interrupt; False when the time is over."""

        async def inside() -> bool:
            try:
                await asyncio.wait_for(interrupt.wait(), seconds)
            except asyncio.TimeoutError:
                return False  # it stays armed, for the next wait
            return True

        return bool(asyncio.run_coroutine_threadsafe(inside(), self._loop).result())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


class PynqDevice(Device):
    """bitstream: the .bit beside its .hwh. top: the engine's name; its instances are top_0, top_1, ..."""

    name = "pynq"
    timeout = 10.0

    def __init__(self, bitstream: Path, top: str, cores: int) -> None:
        try:
            import pynq
        except ImportError as error:
            raise DeviceError(
                f"device pynq needs the package pynq ({error}); run on the board, with sudo -E or in its Jupyter "
                "terminal, or use "
                "--device sim"
            ) from error
        self._pynq, self._loop = pynq, Loop()
        try:
            overlay = self._loop.make(lambda: pynq.Overlay(str(bitstream)))
        except Exception as error:  # pynq raises what its layers raise: say where it came from
            raise DeviceError(
                f"the overlay {bitstream} cannot be loaded ({type(error).__name__}: {error}); pynq needs root and a "
                "bitstream for this board"
            ) from error
        self._overlay = overlay
        found = engines(overlay.ip_dict, top)
        if len(found) != cores:
            raise DeviceError(
                "{} expected {} engine(s) {}_0 ..., it holds {}; the bitstream was not made from this project".format(
                    bitstream, cores, top, ", ".join(found) or "none"
                )
            )
        self.polling: list[str] = []
        self.cores = [self._core(name, overlay.ip_dict[name]) for name in found]

    def _core(self, name: str, described: dict[str, Any]) -> RegisterCore:
        mmio = self._pynq.MMIO(described["phys_addr"], described["addr_range"])
        registers = {key: row["address_offset"] for key, row in described["registers"].items()}
        return RegisterCore(name, registers, mmio.read, mmio.write, self._waiter(name))

    def _waiter(self, name: str) -> Callable[[float], bool] | None:
        """Waits for the core's interrupt; None, and the core in `polling`, where the overlay or Linux has none."""
        try:
            interrupt = self._loop.make(lambda: self._pynq.Interrupt(name + "/interrupt"))
        except Exception:  # not in the overlay, or no UIO device for the line: polling does as well, with more CPU
            self.polling.append(name)
            return None
        return lambda seconds: self._loop.wait(interrupt, seconds)

    def allocate(self, size: int, core: int, argument: str) -> PynqBuffer:
        try:
            return PynqBuffer(self._pynq.allocate((size,), np.int8))
        except Exception as error:  # MemoryError or RuntimeError, by version
            raise DeviceError(
                f"no {megabytes(size)} of contiguous memory ({error}); raise cma= on the kernel's command line, or "
                "free other buffers"
            ) from error

    def close(self) -> None:
        self._loop.close()


def engines(ip_dict: dict[str, Any], top: str) -> list[str]:
    """The engine's instances in the overlay, by number."""
    numbered = [(name, name[len(top) + 1 :]) for name in ip_dict if name.startswith(top + "_")]
    return [name for name, number in sorted(numbered, key=lambda pair: pair[1].zfill(4)) if number.isdigit()]
