"""A small event simulator: processes joined by bounded streams, and a memory they share.

A process is a generator that yields what it waits for: a number (cycles), `Get`, `Put` or `Move`.
"""

import heapq
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from hlsgen.errors import HlsgenError


@dataclass(eq=False)
class Stream:
    """A bounded stream of elements; peak: the most that ever waited in it, tokens: all that went through."""

    name: str
    depth: int
    level: int = 0
    peak: int = 0
    tokens: int = 0
    reader: "tuple[Process, int] | None" = None
    writer: "tuple[Process, int] | None" = None


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


@dataclass(eq=False)
class Simulator:
    """Runs processes to their end; now: cycles since the start."""

    now: float = 0.0
    memory_free: float = 0.0
    memory_busy: float = 0.0
    events: int = 0
    _queue: list[tuple[float, int, Process]] = field(default_factory=list)
    _done: dict[int, "Join"] = field(default_factory=dict)

    def start(self, process: Process, at: float, join: "Join") -> None:
        """Let `process` run from time `at`; `join` is told of its end."""
        self._done[id(process)] = join
        self._push(at, process)

    def _push(self, at: float, process: Process) -> None:
        self.events += 1
        heapq.heappush(self._queue, (at, self.events, process))

    def run(self) -> None:
        """Until nothing moves any more.

        Raises:
            HlsgenError: where processes still wait for one another then: a deadlock.
        """
        queue = self._queue
        while queue:
            self.now, _, process = heapq.heappop(queue)
            self._step(process)
        if self._done:
            raise HlsgenError(f"the streams deadlock: {len(self._done)} processes wait for one another; deepen them")

    def _step(self, process: Process) -> None:
        """Run the process until it has to wait."""
        while True:
            try:
                wait = next(process)
            except StopIteration:
                self._done.pop(id(process)).ended(self)
                return
            if isinstance(wait, Get):
                if not self._get(process, *wait):
                    return
            elif isinstance(wait, Put):
                if not self._put(process, *wait):
                    return
            elif isinstance(wait, Move):
                self.memory_free = max(self.memory_free, self.now) + wait.cost
                self.memory_busy += wait.cost
                self._push(max(self.now + wait.cycles, self.memory_free), process)
                return
            else:
                self._push(self.now + wait, process)
                return

    def _get(self, process: Process, stream: Stream, count: int) -> bool:
        if count > stream.level:
            stream.reader = (process, count)
            return False
        stream.level -= count
        if stream.writer is not None and stream.level + stream.writer[1] <= stream.depth:
            waiting, size = stream.writer
            stream.writer = None
            _fill(stream, size)
            self._push(self.now, waiting)
        return True

    def _put(self, process: Process, stream: Stream, count: int) -> bool:
        if stream.level + count > stream.depth:
            if count > stream.depth:
                raise HlsgenError(
                    f"the stream {stream.name} of {stream.depth} is shallower than the {count} put at once"
                )
            stream.writer = (process, count)
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
    """Told of the end of each process of a group; `finished` runs after the last."""

    def __init__(self, pending: int) -> None:
        self.pending = pending

    def ended(self, simulator: Simulator) -> None:
        self.pending -= 1
        if not self.pending:
            self.finished(simulator)

    def finished(self, simulator: Simulator) -> None:
        """What happens after the last process; by default nothing."""
