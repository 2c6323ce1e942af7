"""The register protocol, the pynq device and the simulated one: what is said when something is wrong, and within what time."""

import hashlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.driver.conftest import Built
from tests.driver.pynq_standin import module
from tests.symbols import exported

REGISTERS = {"CTRL": 0, "GIER": 4, "IP_IER": 8, "IP_ISR": 12, "feature_maps_1": 16, "feature_maps_2": 20}
REGISTERS |= {"residuals_1": 28, "residuals_2": 32, "parameters_1": 40, "parameters_2": 44, "results_1": 52}
REGISTERS |= {"results_2": 56, "first": 64, "count": 72, "identity": 80}


class Wires:
    """A register file that finishes after some reads of CTRL."""

    def __init__(self, reads: int = 3, registers: dict[str, int] | None = None) -> None:
        self.reads, self.left, self.values, self.written = reads, 0, {}, []
        self.registers = REGISTERS if registers is None else registers

    def read(self, offset: int) -> int:
        if offset != 0:
            return self.values.get(offset, 0)
        if self.left == 0:
            return 4
        self.left -= 1
        return 6 if self.left == 0 else 1

    def write(self, offset: int, value: int) -> None:
        self.written.append((offset, value))
        self.values[offset] = value
        if offset == 0 and value & 1:
            self.left = self.reads

    def core(self, wait: Any = None) -> Any:
        from hlsgen_driver.device import RegisterCore

        return RegisterCore("engine", self.registers, self.read, self.write, wait)


class At:
    def __init__(self, address: int) -> None:
        self.address = address


def test_addresses_of_64_bits_take_two_registers() -> None:
    wires = Wires()
    wires.core().call({"feature_maps": At(0x8_1234_5678), "results": At(0x10)}, 3, 2, 1.0)
    assert wires.written == [(16, 0x1234_5678), (20, 8), (52, 0x10), (56, 0), (64, 3), (72, 2), (0, 1)]


def test_addresses_of_32_bits() -> None:
    from hlsgen_driver.errors import DeviceError

    names = [n for n in REGISTERS if not n.endswith("_2")]
    wires = Wires(registers={name.replace("_1", ""): REGISTERS[name] for name in names})
    wires.core().call({"feature_maps": At(0x1234_5678)}, 0, 1, 1.0)
    assert (16, 0x1234_5678) in wires.written
    with pytest.raises(DeviceError, match="engine takes 32-bit addresses, the memory lies at 0x800000000"):
        wires.core().call({"feature_maps": At(0x8_0000_0000)}, 0, 1, 1.0)


@pytest.mark.parametrize("missing", ["CTRL", "identity", "parameters_2", "count"])
def test_an_overlay_of_another_interface(missing: str) -> None:
    from hlsgen_driver.errors import DeviceError

    with pytest.raises(DeviceError, match=f"engine expected a register {missing}, it has "):
        Wires(registers={name: at for name, at in REGISTERS.items() if name != missing}).core()


def test_a_hang_is_told_within_the_time_out() -> None:
    from hlsgen_driver.errors import HangError

    waited = []

    def never(seconds: float) -> bool:
        waited.append(seconds)
        time.sleep(seconds)
        return False

    for wait in (None, never):
        wires = Wires(reads=10**9)
        core = wires.core(wait)
        begun = time.monotonic()
        with pytest.raises(HangError, match=r"engine did not finish ops 5 to 8 within 0\.2 s \(CTRL 0x01"):
            core.call({}, 5, 4, 0.2)
        assert 0.2 <= time.monotonic() - begun < 1.0
        with pytest.raises(HangError, match="engine is still busy with an earlier call"):
            core.call({}, 0, 1, 0.2)
    assert waited


def test_a_lost_interrupt_costs_time_and_nothing_else() -> None:
    wires = Wires(reads=2)
    begun = time.monotonic()
    wires.core(lambda seconds: bool(time.sleep(seconds))).call({}, 0, 1, 5.0)
    assert 0.4 < time.monotonic() - begun < 2.0
    assert (4, 1) in wires.written and (8, 1) in wires.written  # the interrupt was enabled


@pytest.fixture
def sim(built: Built) -> Iterator[Any]:
    from hlsgen_driver import Package, open_device

    device = open_device(Package(built.package), "sim")
    yield device
    device.close()


def test_the_library_exports_the_device_alone(built: Built) -> None:
    """g++ makes a static local of an inline function unique in the process: two engines would share their buffers."""
    names = exported(next((built.package / "sim").glob("*.so")))
    assert len(names) == 10 and all(name.startswith("hlsgen_sim_") for name in names)


def accelerator(built: Built, device: Any, timeout: float = 20.0) -> Any:
    from hlsgen_driver import Accelerator, Package

    return Accelerator(Package(built.package), device, timeout)


@pytest.mark.parametrize("bits", [32, 64])
def test_the_simulated_device_and_its_register_file(built: Built, bits: int) -> None:
    from hlsgen_driver.sim_device import SimDevice

    library = next((built.package / "sim").glob("*.so"))
    device = SimDevice(library, 2, bits)
    tested = accelerator(built, device).self_test()
    assert tested["cores"] == 2 and tested["tensors"] > 60 and tested["integers"] > 400_000
    device.close()


def test_never_done(built: Built, sim: Any) -> None:
    from hlsgen_driver.errors import HangError

    made = accelerator(built, sim, 0.3)
    sim.fault("never-done")
    begun = time.monotonic()
    with pytest.raises(
        HangError, match=r"self-test: op 0 \(\w+\): hlsgen_engine_0 did not finish ops 0 to 0 within 0\.3 s"
    ):
        made.self_test()
    assert time.monotonic() - begun < 1.5


def test_a_lost_interrupt(built: Built, sim: Any) -> None:
    sim.fault("no-interrupt")
    made = accelerator(built, sim)
    image = made.package.golden("image.bin", made.network.image.bytes)
    assert len(made.run(image)) == len(made.network.outputs)


def test_the_bitstream_is_of_another_build(built: Built, sim: Any) -> None:
    from hlsgen_driver.errors import MismatchError

    sim.fault("identity", 0x0BADF00D)
    with pytest.raises(
        MismatchError, match=r"hlsgen_engine_0 is build 0x0badf00d, the package's weights and Program are"
    ):
        accelerator(built, sim)


def test_too_little_memory(built: Built, sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from hlsgen_driver.errors import DeviceError

    sim.fault("memory", 1 << 20)
    with pytest.raises(DeviceError, match=r"the simulated device has no [0-9,]+ bytes of memory left"):
        accelerator(built, sim)
    sim.fault("memory", 0)
    whole = sim.allocate

    monkeypatch.setattr(sim, "allocate", lambda size, *where: whole(size - 4096, *where))
    with pytest.raises(
        DeviceError, match=r"asked for a buffer of [0-9,]+ bytes, device sim gave [0-9,]+: the engine would"
    ):
        accelerator(built, sim)


def test_an_address_outside_memory_hangs_the_engine(built: Built, sim: Any) -> None:
    from hlsgen_driver.errors import HangError

    made = accelerator(built, sim, 0.3)
    made._maps[0].address += 4096
    with pytest.raises(HangError, match="hlsgen_engine_0 did not finish ops 0 to"):
        made.run(made.package.golden("image.bin", made.network.image.bytes))


def test_a_flipped_bit_in_the_weights(built: Built, sim: Any) -> None:
    from hlsgen_driver.errors import WrongResultError

    made = accelerator(built, sim)
    parameters = made._weights[0].array
    tables = np.flatnonzero(parameters[:100_000])  # the first op's table and channels come first
    parameters[tables] ^= 0x40
    with pytest.raises(WrongResultError) as caught:
        made.self_test()
    text = str(caught.value)
    assert "the first tensor that differs is " in text and "expected" in text and "got" in text
    assert "the weights in the device's memory are not those of the package any more" in text
    parameters[tables] ^= 0x40
    made.self_test()
    parameters[-1] ^= 1  # a lane that nothing reads
    with pytest.raises(WrongResultError, match="though the golden input does not show it"):
        made.self_test()


def test_a_flipped_bit_in_a_feature_map(built: Built, sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After op 9 has run, one bit of its output changes: the self-test names that tensor and the place."""
    from hlsgen_driver.errors import WrongResultError

    made = accelerator(built, sim)
    tensor, whole = made.network.tensors[10], made._call

    def flipping(index: int, first: int, count: int) -> None:
        whole(index, first, count)
        if first == 9 and index == 1:
            lane = int(tensor.lane_of[3])
            at = lane // tensor.tm * tensor.height * tensor.width * tensor.tm + lane % tensor.tm + tensor.tm
            made._maps[index].array[tensor.address + at] ^= 1

    monkeypatch.setattr(made, "_call", flipping)
    with pytest.raises(WrongResultError) as caught:
        made.self_test()
    assert f"is {tensor.name} (op 9, hlsgen_engine_1): channel 3, row 0, column 1: " in str(caught.value)
    assert "1 of " in str(caught.value) and "the weights in memory are right" in str(caught.value)


def test_cores_work_at_the_same_time_and_results_keep_their_order(built: Built, sim: Any) -> None:
    from hlsgen_driver import Detector
    from hlsgen_driver.picture import read_picture

    made = accelerator(built, sim)
    used: set[str] = set()
    for core in sim.cores:
        monkey = core.call

        def noting(*arguments: Any, core: Any = core, call: Any = monkey) -> None:
            used.add(core.name)
            call(*arguments)

        core.call = noting
    picture = read_picture(built.package / "example.png")
    pictures = [np.ascontiguousarray(np.roll(picture, 5 * i, axis=1)) for i in range(9)]
    detector = Detector(made, 0.02)
    alone = [detector.detect(p) for p in pictures]
    together = list(detector.stream(pictures))
    assert used == {"hlsgen_engine_0", "hlsgen_engine_1"}
    assert len({one.detections.boxes.tobytes() for one in alone}) > 5
    for one, other in zip(alone, together, strict=True):
        assert one.detections.boxes.tobytes() == other.detections.boxes.tobytes()


def test_a_pipeline_overlaps_and_ends_at_the_first_error() -> None:
    from hlsgen_driver.pipeline import in_order

    under_way, most, lock = 0, 0, threading.Lock()

    def work(n: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.03 if n % 3 else 0.06)
        with lock:
            under_way -= 1
        if n == 7:
            raise ValueError("seven")
        return n * n

    assert list(in_order(work, range(7), 3)) == [n * n for n in range(7)]
    assert most == 3
    results = in_order(work, range(10**9), 3)
    assert [next(results) for _ in range(7)] == [n * n for n in range(7)]
    with pytest.raises(ValueError, match="seven"):
        next(results)


@pytest.mark.parametrize("interrupts", [True, False])
def test_the_pynq_device(built: Built, sim: Any, interrupts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same accelerator through a stand-in for the package pynq, whose registers and memory are the simulated device's."""
    from hlsgen_driver.pynq_device import PynqDevice

    pynq = module(sim.library, sim.handle, sim._registers(), 2, interrupts)
    monkeypatch.setitem(sys.modules, "pynq", pynq)
    device = PynqDevice(built.package / "hlsgen.bit", "hlsgen_engine", 2)
    assert [core.name for core in device.cores] == ["hlsgen_engine_0", "hlsgen_engine_1"]
    assert device.polling == ([] if interrupts else ["hlsgen_engine_0", "hlsgen_engine_1"])
    made = accelerator(built, device)
    assert made.self_test()["cores"] == 2
    pynq.log.clear()
    outputs = made.run(made.package.golden("image.bin", made.network.image.bytes))
    expected = made.package.golden("expected.bin", made.network.expected_bytes)
    base = made._maps[0].address
    moved = [(what, address - base, size) for what, address, size in pynq.log]
    image = made.network.image
    assert moved[0] == ("flush", image.address, image.bytes)
    assert moved[1:] == [("invalidate", t.address, t.bytes) for t in made.network.outputs]
    for tensor, data in zip(made.network.outputs, outputs, strict=True):
        np.testing.assert_array_equal(tensor.unpack(data), tensor.unpack(expected[tensor.expected :][: tensor.bytes]))
    for buffer in made._buffers:
        buffer.free()
    pynq.stop()
    device.close()


def test_pynq_hangs_and_refusals(built: Built, sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from hlsgen_driver.errors import DeviceError, HangError
    from hlsgen_driver.pynq_device import PynqDevice

    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(DeviceError, match="device pynq needs the package pynq"):
        PynqDevice(Path("x.bit"), "hlsgen_engine", 1)
    pynq = module(sim.library, sim.handle, sim._registers(), 2)
    monkeypatch.setitem(sys.modules, "pynq", pynq)
    with pytest.raises(
        DeviceError, match=r"x\.bit expected 3 engine\(s\) hlsgen_engine_0 \.\.\., it holds hlsgen_engine_0, hl"
    ):
        PynqDevice(Path("x.bit"), "hlsgen_engine", 3)
    device = PynqDevice(Path("x.bit"), "hlsgen_engine", 2)
    sim.fault("memory", 1000)
    with pytest.raises(DeviceError, match=r"no [0-9.]+ MB of contiguous memory .*; raise cma="):
        accelerator(built, device)
    sim.fault("memory", 0)
    made = accelerator(built, device, 0.7)
    sim.fault("never-done")
    begun = time.monotonic()
    with pytest.raises(HangError, match="hlsgen_engine_0 did not finish ops 0 to"):
        made.run(made.package.golden("image.bin", made.network.image.bytes))
    assert 0.7 <= time.monotonic() - begun < 2.0
    pynq.stop()
    device.close()


def altered(built: Built, folder: Path) -> Path:
    shutil.copytree(built.package, folder)
    return folder


def resum(package: Path, name: str) -> None:
    """Let SHA256SUMS list the file as it now is."""
    rows = [line for line in (package / "SHA256SUMS").read_text().splitlines() if not line.endswith("  " + name)]
    rows.append(f"{hashlib.sha256((package / name).read_bytes()).hexdigest()}  {name}")
    (package / "SHA256SUMS").write_text("\n".join(rows) + "\n")


def test_files_that_are_missing_truncated_or_altered(built: Built, tmp_path: Path) -> None:
    from hlsgen_driver import Package
    from hlsgen_driver.errors import MismatchError, PackageError

    package = altered(built, tmp_path / "p")
    weights = (package / "parameters.bin").read_bytes()
    (package / "parameters.bin").write_bytes(weights[:1000])
    with pytest.raises(PackageError, match=r"the weights in .* are truncated: expected [0-9,]+ bytes, got 1,000"):
        Package(package)
    (package / "parameters.bin").write_bytes(bytes([weights[0] ^ 1]) + weights[1:])
    with pytest.raises(PackageError, match=r"the weights in .* are damaged"):
        Package(package)
    resum(package, "parameters.bin")
    with pytest.raises(MismatchError, match=r"the weights in .* belong to another build than network\.json"):
        Package(package)
    (package / "parameters.bin").unlink()
    with pytest.raises(PackageError, match=r"parameters\.bin is missing; copy the whole package"):
        Package(package)
    (package / "parameters.bin").write_bytes(weights)
    resum(package, "parameters.bin")
    text = (package / "network.json").read_text()
    (package / "network.json").write_text(
        text.replace('"identity": "0x', '"identity": "0x1', 1).replace("0x1", "0x", 1) + " "
    )
    with pytest.raises(PackageError, match=r"network\.json is not the file that SHA256SUMS lists"):
        Package(package)
    (package / "network.json").write_text(text.replace(text.split('"identity": "')[1][:10], "0x00000001"))
    resum(package, "network.json")
    with pytest.raises(MismatchError, match=r"network\.json says build 0x00000001, its Program and weights are 0x"):
        Package(package)
    for bad, said in (
        ("{", "is damaged"),
        (text.replace('"format": 2', '"format": 9'), "has format 9, this driver reads format 2"),
    ):
        (package / "network.json").write_text(bad)
        with pytest.raises(PackageError, match=said):
            Package(package)
    (package / "network.json").write_text(text)
    resum(package, "network.json")
    Package(package)
    golden = package / "golden" / "image.bin"
    golden.write_bytes(b"x")
    resum(package, "golden/image.bin")
    with pytest.raises(PackageError, match=r"golden/image\.bin expected [0-9,]+ bytes, got 1"):
        Package(package).golden("image.bin", 24576)
    for bad in ("nonsense", "0" * 64 + "  ../../etc/passwd", "0" * 64 + "  /etc/passwd"):
        (package / "SHA256SUMS").write_text(bad + "\n")
        with pytest.raises(PackageError, match="SHA256SUMS is damaged"):
            Package(package)
    (package / "SHA256SUMS").unlink()
    with pytest.raises(PackageError, match="expected a package; run make package in the project"):
        Package(package)
