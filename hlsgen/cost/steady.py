"""What repeats itself in a simulation is skipped, exactly.

A simulation's future depends on where each worker is within its unit, on the units and ops to come, on the streams' levels and
on the times to come, counted from now. Where all of that is again what it was (`Simulator.now` and the units' numbers aside),
and each worker's coming units are those that it has done since, the same happens again, and again, as long as the units go on
alike: these periods are added, not simulated. The same with ops in the place of units, where a core begins one, and all
workers are at the same units as before. Times are multiples of `hlsgen.cost.events.TICK`, so the result is the same to the bit.
"""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hlsgen.cost.events import Join, Simulator, Worker

MANY = 1 << 30  # what stands still can do so any number of times
State = tuple[object, ...]


class Ops(Protocol):
    """A core's ops: order[i] says which are equal; ends and op_tokens of those that it has done."""

    order: npt.NDArray[np.int32]
    ends: list[float]
    op_tokens: list[dict[str, int]]


class _Seen(NamedTuple):
    """When a state was: the counts that grow. at: of each worker's units, or of each core's ops."""

    now: float
    memory_busy: float
    events: int
    at: tuple[int, ...]
    tokens: tuple[int, ...]


class Steady:
    """Looks at a simulator whenever one worker begins a unit, and one core an op."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.cores: list[Ops] = []
        self._units: dict[State, _Seen] = {}
        self._ops: dict[State, _Seen] = {}
        self._live: list[Join] = []

    def unit_begins(self, _: Worker) -> None:
        """Skip units that repeat themselves; no worker but the one that begins a unit is running."""
        s = self.simulator
        if s.live != self._live:  # another op began
            self._live, self._units = list(s.live), {}
        workers = [worker for join in s.live for worker in join.workers]
        streams = [stream for join in s.live for stream in join.streams]
        state = self._state(workers)
        at, tokens = tuple(worker.at for worker in workers), tuple(stream.tokens for stream in streams)
        seen, here = self._units.get(state), _Seen(s.now, s.memory_busy, s.events, at, tokens)
        if seen is not None:
            orders = [worker.units.order for worker in workers]
            times = min(map(_alike, orders, seen.at, at))
            self._skip(times, seen)
            for worker, before, now in zip(workers, seen.at, at, strict=True):
                worker.at += times * (now - before)
            for stream, before, now in zip(streams, seen.tokens, tokens, strict=True):
                stream.tokens += times * (now - before)
            at, tokens = tuple(worker.at for worker in workers), tuple(stream.tokens for stream in streams)
            here = _Seen(s.now, s.memory_busy, s.events, at, tokens)
        self._units[state] = here

    def op_begins(self) -> None:
        """Skip ops that repeat themselves; no worker is running."""
        s, cores = self.simulator, self.cores
        workers = [worker for join in s.live for worker in join.workers]
        at = tuple(len(core.ends) for core in cores)
        tokens = tuple(stream.tokens for join in s.live for stream in join.streams)
        kinds = tuple(int(core.order[n]) if n < len(core.order) else -1 for core, n in zip(cores, at, strict=True))
        state = (*self._state(workers), kinds, tuple(worker.at for worker in workers), tokens)
        seen = self._ops.get(state)
        if seen is not None and all(now > before for before, now in zip(seen.at, at, strict=True)):
            times, period = min(map(_alike, [core.order for core in cores], seen.at, at)), s.now - seen.now
            self._skip(times, seen)
            for core, before, now in zip(cores, seen.at, at, strict=True):
                for _ in range(times * (now - before)):
                    core.ends.append(core.ends[before - now] + period)
                    core.op_tokens.append(core.op_tokens[before - now])
        at = tuple(len(core.ends) for core in cores)
        self._ops[state] = _Seen(s.now, s.memory_busy, s.events, at, tokens)

    def _state(self, workers: list[Worker]) -> State:
        s = self.simulator
        streams = [stream for join in s.live for stream in join.streams]
        index = {id(worker): i for i, worker in enumerate(workers)}
        return (
            tuple(worker.waits for worker in workers),
            tuple((stream.level, stream.reader is None, stream.writer is None) for stream in streams),
            tuple((at - s.now, index[id(worker)]) for at, _, worker in sorted(s.queue, key=lambda entry: entry[:2])),
            max(0.0, s.memory_free - s.now),
        )

    def _skip(self, times: int, seen: _Seen) -> None:
        """Let pass `times` times what passed since `seen`."""
        s = self.simulator
        time, events = times * (s.now - seen.now), times * (s.events - seen.events)
        s.now += time
        s.memory_free += time
        s.memory_busy += times * (s.memory_busy - seen.memory_busy)
        s.events += events
        s.queue = [(at + time, number + events, worker) for at, number, worker in s.queue]


def _alike(order: npt.NDArray[np.int32], before: int, now: int) -> int:
    """How many more times what is in order from `before` up to `now` follows, and its first once more; MANY of nothing."""
    period = now - before
    if not period:
        return MANY
    if now >= len(order) or order[before] != order[now]:
        return 0
    differ = order[before : len(order) - period] != order[now:]
    first = int(np.argmax(differ)) if differ.any() else len(differ)
    return (first - 1) // period
