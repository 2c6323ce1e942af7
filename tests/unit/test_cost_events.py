"""The event simulator by itself."""

import pytest

from hlsgen.cost.events import TICK, Get, Join, Move, Process, Put, Simulator, Stream, Units, Worker, ticks
from hlsgen.errors import HlsgenError


def run(*processes: Process) -> Simulator:
    """Each process as the one unit of a worker."""
    simulator = Simulator()
    workers = [Worker(Units.of([(0, i)]), lambda unit: processes[unit]) for i in range(len(processes))]
    simulator.start(Join(workers, ()), 0.0)
    simulator.run()
    return simulator


def producer(stream: Stream, count: int, cycles: float) -> Process:
    for _ in range(count):
        yield cycles
        yield Put(stream, 1)


def consumer(stream: Stream, count: int, cycles: float) -> Process:
    for _ in range(count):
        yield Get(stream, 1)
        yield cycles


def test_the_slower_process_sets_the_pace() -> None:
    for fast, slow in ((1.0, 5.0), (5.0, 1.0)):
        stream = Stream("s", 4)
        assert run(producer(stream, 100, fast), consumer(stream, 100, slow)).now == pytest.approx(501)
        assert stream.tokens == 100
        assert stream.level == 0


def test_a_full_stream_holds_its_writer() -> None:
    stream = Stream("s", 3)
    run(producer(stream, 50, 1.0), consumer(stream, 50, 9.0))
    assert stream.peak == 3


def test_the_memory_serves_one_after_another() -> None:
    def mover() -> Process:
        for _ in range(10):
            yield Move(2.0, 5.0)

    simulator = run(mover(), mover())
    assert simulator.now == pytest.approx(100)  # 20 moves of 5 cycles of memory
    assert simulator.memory_busy == pytest.approx(100)


def test_a_deadlock_is_an_error() -> None:
    a, b = Stream("a", 1), Stream("b", 1)
    with pytest.raises(HlsgenError, match="deadlock"):
        run(consumer(a, 1, 1.0), consumer(b, 1, 1.0))


def test_more_than_a_stream_holds_is_an_error() -> None:
    def writer(stream: Stream) -> Process:
        yield Put(stream, 2)

    with pytest.raises(HlsgenError, match="shallower than the 2"):
        run(writer(Stream("s", 1)))


def test_a_worker_does_its_units_in_order_and_knows_where_it_is() -> None:
    seen = []

    def work(unit: str) -> Process:
        seen.append((worker.at, worker.tile, unit))
        yield 1.0
        yield 2.0
        assert worker.waits == 2

    units = Units.of([(-1, "begin")]).then(Units.of([(0, "a"), (0, "b"), (1, "a")]).repeated(2, 2))
    worker = Worker(units, work)
    simulator = Simulator()
    simulator.start(Join([worker], ()), 0.0)
    simulator.run()
    assert [unit for *_, unit in seen] == ["begin", "a", "b", "a", "a", "b", "a"]
    assert [(at, tile) for at, tile, _ in seen] == list(enumerate([-1, 0, 0, 1, 2, 2, 3]))
    assert simulator.now == 21.0
    assert worker.waits == -1


def test_times_are_whole_ticks() -> None:
    assert ticks(1 / 3) / TICK == round(2**20 / 3)
    assert sum([ticks(1 / 3)] * 3) == 3 * ticks(1 / 3)  # exact
