"""The network on a device: its weights in memory, images through its engines, and the proof that it computes right."""

from __future__ import annotations

import hashlib
import queue
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import numpy as np

from .device import Buffer, Core, Device, pointer_buffers
from .errors import DeviceError, HangError, MismatchError, WrongResultError
from .network import Tensor
from .package import Package

CHANGED = "the weights in the device's memory are not those of the package any more"


class Accelerator:
    """A package's network on a device.

    Each core has feature maps of its own; the weights are there once, or once a core (`Device.one_memory`).
    timeout: seconds that one image may take, None for the device's own.
    """

    def __init__(self, package: Package, device: Device, timeout: float | None = None) -> None:
        """Ask every core which build it is, then load the weights.

        Raises:
            MismatchError: a core is of another build than the package.
            DeviceError: not enough memory.
            HangError: a core does not answer.
        """
        self.package, self.device, self.network = package, device, package.network
        self.timeout = device.timeout if timeout is None else timeout
        for core in device.cores:
            self._check_identity(core)
        self._buffers: list[Buffer] = []
        numbers = range(len(device.cores))
        loaded = [self._load(core) for core in (numbers[:1] if device.one_memory else numbers)]
        self._weights = loaded * len(numbers) if device.one_memory else loaded
        self._maps = [self._allocate(self.network.feature_map_bytes, core, "feature_maps") for core in numbers]
        for maps in self._maps:
            self._place_constants(maps)
        self._free: queue.Queue = queue.Queue()
        for index in numbers:
            self._free.put(index)

    def _check_identity(self, core: Core) -> None:
        core.call({}, 0, 0, self.timeout)
        found, wanted = core.identity(), self.network.identity
        if found != wanted:
            raise MismatchError(
                f"{core.name} is build 0x{found:08x}, the package's weights and Program are build 0x{wanted:08x}: "
                "the bitstream is of another "
                "build; use the one made from this project"
            )

    def _load(self, core: int) -> Buffer:
        """The weights in memory that the core reaches."""
        size = self.network.parameter_bytes
        buffer = self._allocate(size, core, "parameters")
        buffer.array[:size] = np.frombuffer(self.package.parameters, np.int8)
        buffer.flush(0, size)
        return buffer

    def _place_constants(self, maps: Buffer) -> None:
        """The maps that nothing computes, from the end of the weights to their places: once, no op writes there."""
        for begin, source, size in self.network.constants:
            maps.array[begin : begin + size] = np.frombuffer(self.package.parameters, np.int8)[source : source + size]
            maps.flush(begin, begin + size)

    def _allocate(self, size: int, core: int, argument: str) -> Buffer:
        buffer = self.device.allocate(size, core, argument)
        self._buffers.append(buffer)
        if buffer.array.nbytes < size:
            raise DeviceError(
                f"asked for a buffer of {size:,} bytes, device {self.device.name} gave {buffer.array.nbytes:,}: the "
                "engine would write beyond it"
            )
        return buffer

    def close(self) -> None:
        """Free the buffers and the device."""
        for buffer in self._buffers:
            buffer.free()
        self._buffers = []
        self.device.close()

    def __enter__(self) -> Accelerator:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def run(self, packed: np.ndarray) -> list[np.ndarray]:
        """The inputs, packed as they lie in memory, through the next free core; the outputs' bytes, packed, in order.

        Raises:
            HangError: the core did not finish within the time-out.
        """
        index = self._free.get()
        try:
            self._write(index, packed, self.network.inputs)
            self._call(index, 0, self.network.ops)
            return self._read(index)
        finally:
            self._free.put(index)

    def infer(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs' integers by name, int8 [C, H, W], for the inputs', int8 [C, H, W] each (not folded)."""
        outputs = self.run(np.concatenate([t.pack(x) for t, x in zip(self.network.inputs, inputs)]))
        return {t.name: t.unpack(data) for t, data in zip(self.network.outputs, outputs)}

    @contextmanager
    def held(self, packed: np.ndarray) -> Iterator[Callable[..., dict[str, np.ndarray]]]:
        """What depends on the image alone, computed once, on a core that is kept meanwhile.

        packed: the image as it lies in memory. Gives a function: the other inputs' integers, int8 [C, H, W] each, to the outputs
        as `infer`'s, by the ops that are left.

        Raises:
            HangError: the core did not finish within the time-out.
        """
        index, network = self._free.get(), self.network

        def infer(*others: np.ndarray) -> dict[str, np.ndarray]:
            data = np.concatenate([t.pack(x) for t, x in zip(network.inputs[1:], others)])
            self._write(index, data, network.inputs[1:])
            self._call(index, network.once, network.ops - network.once)
            return {t.name: t.unpack(data) for t, data in zip(network.outputs, self._read(index))}

        try:
            self._write(index, packed, network.inputs[:1])
            self._call(index, 0, network.once)
            yield infer
        finally:
            self._free.put(index)

    def _read(self, index: int) -> list[np.ndarray]:
        """The outputs' bytes."""
        maps, outputs = self._maps[index], []
        for tensor in self.network.outputs:
            begin, end = tensor.address, tensor.address + tensor.bytes
            maps.invalidate(begin, end)
            outputs.append(maps.array[begin:end].copy())
        return outputs

    def _write(self, index: int, packed: np.ndarray, inputs: list[Tensor]) -> None:
        """Some inputs, which lie one behind the other."""
        maps, size = self._maps[index], sum(tensor.packed_bytes for tensor in inputs)
        if packed.dtype != np.int8 or packed.shape != (size,):
            raise ValueError(f"expected packed inputs, int8 ({size},), got {packed.dtype} {packed.shape}")
        begin = inputs[0].address
        maps.array[begin : begin + size] = packed
        maps.flush(begin, begin + size)

    def _call(self, index: int, first: int, count: int) -> None:
        self.device.cores[index].call(
            pointer_buffers(self._maps[index], self._weights[index]), first, count, self.timeout
        )

    def self_test(self) -> dict[str, int]:
        """The golden input, op by op on every core, every tensor held to what the INT8 model computes.

        Returns:
            cores, tensors and integers compared.

        Raises:
            WrongResultError: the weights in memory changed, or the first tensor that differs, with the place.
            HangError: names the op that did not finish.
        """
        network = self.network
        image = self.package.golden("image.bin", network.input_bytes)
        expected = self.package.golden("expected.bin", network.expected_bytes)
        compared = 0
        for index in range(len(self.device.cores)):
            self._weights[index].invalidate(0, network.parameter_bytes)
            self._write(index, image, network.inputs)
            for op, tensor in enumerate(network.made):
                try:
                    self._call(index, op, 1)
                except HangError as error:
                    raise HangError(f"self-test: op {op} ({tensor.name}): {error}") from error
                if tensor.expected is None:
                    continue
                begin, end = tensor.address, tensor.address + tensor.bytes
                self._maps[index].invalidate(begin, end)
                got = tensor.unpack(self._maps[index].array[begin:end])
                want = tensor.unpack(expected[tensor.expected : tensor.expected + tensor.bytes])
                if not np.array_equal(got, want):
                    raise WrongResultError(self._difference(index, op, tensor.name, got, want))
                compared += got.size
            if self._weights_changed(index):
                raise WrongResultError(
                    f"self-test: {CHANGED}, though the golden input does not show it: load them again"
                )
        return {"cores": len(self.device.cores), "tensors": network.ops, "integers": compared}

    def _weights_changed(self, index: int) -> bool:
        held = self._weights[index].array[: self.network.parameter_bytes]
        return hashlib.sha256(held.tobytes()).hexdigest() != self.network.parameter_sha256

    def _difference(self, index: int, op: int, name: str, got: np.ndarray, want: np.ndarray) -> str:
        wrong = np.argwhere(got != want)
        at = tuple(int(v) for v in wrong[0])
        reason = (
            CHANGED
            if self._weights_changed(index)
            else "the weights in memory are right, so the engine, its clock or its memory ports are not"
        )
        return (
            f"self-test: the first tensor that differs is {name} (op {op}, {self.device.cores[index].name}): channel {at[0]}, row "
            f"{at[1]}, column {at[2]}: expected {int(want[at])}, got {int(got[at])}; "
            f"{len(wrong):,} of {got.size:,} integers differ; {reason}"
        )
