"""A small event simulator: workers joined by bounded streams, and a memory they share.

A worker does its units one after another. What it does for one is a generator that yields what it waits for: a number
(cycles), `Get`, `Put` or `Move`. All times are multiples of `TICK`, so that sums of them are exact.
"""

import heapq
from collections.abc import Callable, Generator, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError

TICK = 2.0**-20  # cycles; a float holds every multiple up to 2^33 cycles


@dataclass(eq=False)
class Stream:
    """A bounded stream of elements; peak: the most that ever waited in it, tokens: all that went through."""

    name: str
    depth: int
    level: int = 0
    peak: int = 0
    tokens: int = 0
    reader: "tuple[Worker, int] | None" = None
    writer: "tuple[Worker, int] | None" = None


class Get(NamedTuple):
    stream: Stream
    elements: int


class Put(NamedTuple):
    stream: Stream
    elements: int


class Move(NamedTuple):
    """A transfer: `cycles` on the process's own port and `cost` cycles of the shared memory."""

    cycles: float
    cost: float


Wait = float | Get | Put | Move
Process = Generator[Wait, None, None]


def ticks(cycles: float) -> float:
    """The multiple of TICK next to `cycles`."""
    return round(cycles / TICK) * TICK


@dataclass(frozen=True, eq=False)
class Units:
    """What a worker does, in order: kinds[order[i]] at i, for tile tiles[i] (-1: for none)."""

    kinds: tuple[Hashable, ...]
    order: npt.NDArray[np.int32]
    tiles: npt.NDArray[np.int32]

    @classmethod
    def of(cls, units: Iterable[tuple[int, Hashable]]) -> "Units":
        """From (tile, unit) pairs."""
        kinds: dict[Hashable, int] = {}
        pairs = [(tile, kinds.setdefault(unit, len(kinds))) for tile, unit in units]
        tiles, order = np.array(pairs, np.int32).reshape(-1, 2).T
        return cls(tuple(kinds), np.ascontiguousarray(order), np.ascontiguousarray(tiles))

    def repeated(self, times: int, tiles: int) -> "Units":
        """All of them so many times, each time `tiles` tiles on."""
        begin = np.repeat(np.arange(times, dtype=np.int32) * tiles, len(self.order))
        return Units(self.kinds, np.tile(self.order, times), np.tile(self.tiles, times) + begin)

    def then(self, other: "Units") -> "Units":
        kinds = (*self.kinds, *other.kinds)
        order = np.concatenate([self.order, other.order + np.int32(len(self.kinds))])
        return Units(kinds, order, np.concatenate([self.tiles, other.tiles]))


@dataclass(eq=False)
class Worker:
    """Does `work(unit)` for each of its units: what that does depends on the unit alone.

    at: the unit that it is at. waits: for how many things it has waited since that unit began, -1 after the last one.
    """

    units: Units
    work: Callable[[Any], Process]
    begins: Callable[["Worker"], None] | None = None
    at: int = 0
    waits: int = 0

    def __post_init__(self) -> None:
        self.running = self._run()

    @property
    def tile(self) -> int:
        """Of the unit that it is at."""
        return int(self.units.tiles[self.at])

    def _run(self) -> Process:
        kinds, order = self.units.kinds, self.units.order
        while self.at < len(order):
            self.waits = 0
            if self.begins is not None:
                self.begins(self)
            yield from self.work(kinds[order[self.at]])
            self.at += 1
        self.waits = -1


@dataclass(eq=False)
class Simulator:
    """Runs workers to their end; now: cycles since the start. live: what each `Join` waits for, and their streams."""

    now: float = 0.0
    memory_free: float = 0.0
    memory_busy: float = 0.0
    events: int = 0
    live: "list[Join]" = field(default_factory=list)
    queue: list[tuple[float, int, Worker]] = field(default_factory=list)

    def start(self, join: "Join", at: float) -> None:
        """Let the workers of `join` run from time `at`; it is told of each one's end."""
        self.live.append(join)
        for worker in join.workers:
            self._push(at, worker)

    def _push(self, at: float, worker: Worker) -> None:
        self.events += 1
        heapq.heappush(self.queue, (at, self.events, worker))

    def run(self) -> None:
        """Until nothing moves any more.

        Raises:
            HlsgenError: where processes still wait for one another then: a deadlock.
        """
        while self.queue:
            self.now, _, worker = heapq.heappop(self.queue)
            self._step(worker)
        waiting = sum(join.pending for join in self.live)
        if waiting:
            raise HlsgenError(f"the streams deadlock: {waiting} processes wait for one another; deepen them")

    def _step(self, worker: Worker) -> None:
        """Run the worker until it has to wait."""
        running = worker.running
        while True:
            try:
                wait = next(running)
            except StopIteration:
                self._ended(worker)
                return
            worker.waits += 1
            if isinstance(wait, Get):
                if not self._get(worker, *wait):
                    return
            elif isinstance(wait, Put):
                if not self._put(worker, *wait):
                    return
            elif isinstance(wait, Move):
                self.memory_free = max(self.memory_free, self.now) + wait.cost
                self.memory_busy += wait.cost
                self._push(max(self.now + wait.cycles, self.memory_free), worker)
                return
            else:
                self._push(self.now + wait, worker)
                return

    def _ended(self, worker: Worker) -> None:
        join = next(join for join in self.live if worker in join.workers)
        join.pending -= 1
        if not join.pending:
            self.live.remove(join)
            join.finished(self)

    def _get(self, worker: Worker, stream: Stream, count: int) -> bool:
        if count > stream.level:
            stream.reader = (worker, count)
            return False
        stream.level -= count
        if stream.writer is not None and stream.level + stream.writer[1] <= stream.depth:
            waiting, size = stream.writer
            stream.writer = None
            _fill(stream, size)
            self._push(self.now, waiting)
        return True

    def _put(self, worker: Worker, stream: Stream, count: int) -> bool:
        if stream.level + count > stream.depth:
            if count > stream.depth:
                raise HlsgenError(
                    f"the stream {stream.name} of {stream.depth} is shallower than the {count} put at once"
                )
            stream.writer = (worker, count)
            return False
        _fill(stream, count)
        if stream.reader is not None and stream.level >= stream.reader[1]:
            waiting, size = stream.reader
            stream.reader = None
            stream.level -= size
            self._push(self.now, waiting)
        return True


def _fill(stream: Stream, count: int) -> None:
    stream.level += count
    stream.tokens += count
    stream.peak = max(stream.peak, stream.level)


class Join:
    """Workers and their streams; `finished` runs after the last one's end."""

    def __init__(self, workers: list[Worker], streams: tuple[Stream, ...]) -> None:
        self.workers, self.streams, self.pending = workers, streams, len(workers)

    def finished(self, simulator: Simulator) -> None:
        """What happens after the last worker; by default nothing."""
