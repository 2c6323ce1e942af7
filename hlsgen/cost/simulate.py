"""Cycle-level simulation of a Program: its six processes an op, tile by tile, through bounded streams and a shared memory.

The processes do what the templates' loops do, in the same order, in chunks of CHUNK cycles. The closed formulas
(`hlsgen.cost.cycles`) are held against this. A process does units of work, a step or a block each, whose numbers say all that
they take; so where units follow that are as those before, `hlsgen.cost.steady` skips them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hlsgen.cost.attention import DIVIDER_DEPTH, EXPONENTS, TURNED, gathered_values, neighbours
from hlsgen.cost.events import TICK, Get, Join, Move, Process, Put, Simulator, Stream, Units, Worker, ticks
from hlsgen.cost.hardware import GATHER, LOOP, OP_START, OP_STOP, Link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.shape import OpShape
from hlsgen.cost.steady import Steady
from hlsgen.cost.streams import Depths, stream_depths
from hlsgen.cost.units import Chunk, Finished, Floats, Operand, Plan, Rows, Step, Stored
from hlsgen.program.ops import MOST_PIXELS, EngineConfig, Program, Tile

CHUNK = 32  # cycles simulated as one event where nothing else divides them
CORES = 4  # cores simulated at most; more share the memory alike
Work = Callable[[Any], Process]


@dataclass(frozen=True)
class Span:
    """What one process did for one tile: op and tile by index, from start to stop in cycles."""

    op: int
    process: str
    tile: int
    start: float
    stop: float


@dataclass(frozen=True)
class Simulated:
    """What a simulation saw.

    cycles: of one inference on one core, all cores busy. op_cycles: op by op (first core). memory_use: share of the memory's
    bandwidth. peaks: the most elements each stream ever held. op_tokens: what went through each, op by op. spans: for a
    Gantt chart, empty unless asked for.
    """

    cycles: float
    op_cycles: tuple[float, ...]
    memory_use: float
    peaks: dict[str, int]
    op_tokens: tuple[dict[str, int], ...]
    spans: tuple[Span, ...]
    events: int

    @property
    def tokens(self) -> dict[str, int]:
        """What went through each stream, over all ops."""
        return {name: sum(tokens[name] for tokens in self.op_tokens) for name in self.peaks}


def simulate(
    program: Program, way: Link, cores: int = 1, depths: Depths | None = None, trace: bool = False
) -> Simulated:
    """Simulate one inference of `program` on each of `cores` cores.

    way: as `hardware.link` makes it for these cores. depths: by default `stream_depths`.

    Raises:
        HlsgenError: where a stream is so shallow that the processes deadlock.
    """
    shapes = op_shapes(program)
    known = depths or stream_depths(program.engine)
    return simulate_ops(program.engine, shapes, tuple(op.tile for op in program.ops), way, known, cores, trace)


def simulate_ops(
    engine: EngineConfig,
    shapes: tuple[OpShape, ...],
    tiles: tuple[Tile, ...],
    way: Link,
    depths: Depths,
    cores: int = 1,
    trace: bool = False,
    whole: bool = False,
) -> Simulated:
    """`simulate` of ops given by their shapes and tiles. On one core, equal ops take equal time: each is simulated once.

    whole: simulate also what repeats itself, as a trace does; the result is the same.
    """
    kinds = tuple(zip(shapes, tiles, strict=True))
    if cores == 1 and not trace and len(set(kinds)) < len(kinds):
        alone = {k: simulate_ops(engine, k[:1], k[1:], way, depths, whole=whole) for k in dict.fromkeys(kinds)}
        return _in_turn([alone[kind] for kind in kinds])
    together = min(cores, CORES)
    simulator = Simulator()
    steady = None if trace or whole else Steady(simulator)
    units: dict[tuple[OpShape, Tile], dict[str, Units]] = {}
    runs = []
    for i in range(together):
        run = _Core(engine, shapes, tiles, way, depths, way.bytes_a_cycle * together, trace, units)
        run.steady = None if i else steady
        if steady is not None:
            steady.cores.append(run)
        run.begin(simulator, float(i))  # a cycle apart: no two ask for the memory at once by construction
        runs.append(run)
    simulator.run()
    first = runs[0]
    return Simulated(
        max(run.ends[-1] for run in runs),
        tuple(b - a for a, b in zip([0.0, *first.ends[:-1]], first.ends, strict=True)),
        simulator.memory_busy / simulator.now,
        first.peaks,
        tuple(first.op_tokens),
        tuple(first.spans),
        simulator.events,
    )


def _in_turn(ran: list[Simulated]) -> Simulated:
    """One op after another."""
    names = dict.fromkeys(name for one in ran for name in one.peaks)
    cycles = sum(one.cycles for one in ran)
    return Simulated(
        cycles,
        tuple(one.cycles for one in ran),
        sum(one.memory_use * one.cycles for one in ran) / cycles,
        {name: max(one.peaks.get(name, 0) for one in ran) for name in names},
        tuple({name: one.op_tokens[0].get(name, 0) for name in names} for one in ran),
        (),
        sum(one.events for one in ran),
    )


class _Core:
    """One core: its ops one after another."""

    def __init__(
        self,
        engine: EngineConfig,
        shapes: tuple[OpShape, ...],
        tiles: tuple[Tile, ...],
        way: Link,
        depths: Depths,
        memory_bytes: float,
        trace: bool,
        units: dict[tuple[OpShape, Tile], dict[str, Units]],
    ) -> None:
        self.engine, self.shapes, self.tiles, self.way, self.depths = engine, shapes, tiles, way, depths
        self.beat_cost = max(TICK, ticks(engine.beat / memory_bytes))
        self.trace, self.units = trace, units
        self.steady: Steady | None = None
        self.attends = any(shape.attends for shape in shapes)
        self.norms = any(shape.special == "norm" for shape in shapes)
        self.dynamic = any(shape.dynamic for shape in shapes)
        known: dict[tuple[OpShape, Tile], int] = {}
        kinds = [known.setdefault(kind, len(known)) for kind in zip(shapes, tiles, strict=True)]
        self.order = np.array(kinds, np.int32)
        self.ends: list[float] = []
        self.peaks: dict[str, int] = {}
        self.op_tokens: list[dict[str, int]] = []
        self.spans: list[Span] = []

    def begin(self, simulator: Simulator, at: float) -> None:
        index = len(self.ends)
        op = _Op(self, simulator, index)
        core = self

        class Next(Join):
            def finished(self, simulator: Simulator) -> None:
                core.ends.append(simulator.now + OP_STOP)
                for stream in op.streams():
                    core.peaks[stream.name] = max(core.peaks.get(stream.name, 0), stream.peak)
                core.op_tokens.append({stream.name: stream.tokens for stream in op.streams()})
                if len(core.ends) < len(core.shapes):
                    core.begin(simulator, simulator.now + OP_STOP)

        simulator.start(Next(op.workers(), op.streams()), at + OP_START)
        if self.steady is not None and index:
            self.steady.op_begins()


class _Op:
    """The processes of one op."""

    def __init__(self, core: _Core, simulator: Simulator, index: int) -> None:
        self.core, self.simulator, self.index = core, simulator, index
        self.engine, self.way = core.engine, core.way
        self.shape, self.tile = core.shapes[index], core.tiles[index]
        d = core.depths
        self.input, self.weights = Stream("input", d.input), Stream("weights", d.weights)
        self.parameters, self.sums = Stream("parameters", d.parameters), Stream("sums", d.sums)
        self.residual, self.output = Stream("residual", d.residual), Stream("output", d.output)
        # Of attention: keys or values in the place of weights; the sums of a tile's rows. Of LayerNorm: its pixels' sums.
        self.operand = Stream("operand", d.weights)
        self.row_sums, self.moments = Stream("row_sums", MOST_PIXELS), Stream("moments", MOST_PIXELS)
        self.scalings, self.passed = Stream("scalings", 2), Stream("passed", d.residual)
        # Half a stream at a time at most, so that both its ends can work at once.
        self.chunk = max(1, min([CHUNK] + [s.depth // 2 for s in self.streams() if s is not self.scalings]))
        self.plan = Plan(self.engine, self.shape, self.tile, self.chunk)
        self.made: dict[str, Worker] = {}
        self.begun: dict[str, float] = {}  # of a trace: when each process's tile began

    def streams(self) -> tuple[Stream, ...]:
        used: tuple[Stream, ...]
        used = self.input, self.weights, self.parameters, self.sums, self.residual, self.output
        used = (*used, self.operand, self.row_sums) if self.core.attends else used
        used = (*used, self.moments) if self.core.norms else used
        return (*used, self.scalings, self.passed) if self.core.dynamic else used

    def workers(self) -> list[Worker]:
        """In the order in which they start."""
        work: dict[str, Work] = {
            "load": self.load_floats if self.shape.dynamic else self.load_input,
            "weights": self.load_weights,
            "mac": self.mac,
            "epilogue": self.epilogue,
            "store": self.store,
        }
        if self.shape.attends:
            work["operand"] = self.load_operand
        elif self.shape.residual:
            work["residual"] = partial(self.rows, stream=self.residual)
        key = self.shape, self.tile
        if key not in self.core.units:
            self.core.units[key] = self.plan.units()
        for name, units in self.core.units[key].items():
            spans = self.core.trace and name != "mac"
            self.made[name] = Worker(units, partial(self.traced, name, work[name]) if spans else work[name])
        if self.core.steady is not None:
            self.made["mac" if self.shape.steps else "epilogue"].begins = self.core.steady.unit_begins
        return list(self.made.values())

    def traced(self, name: str, work: Work, unit: Any) -> Process:
        """The work, and the span of its tile when that was its last unit."""
        worker = self.made[name]
        if worker.at == 0 or worker.tile != worker.units.tiles[worker.at - 1]:
            self.begun[name] = self.simulator.now
        yield from work(unit)
        end = worker.at + 1 == len(worker.units.tiles)
        if worker.tile >= 0 and (end or worker.tile != worker.units.tiles[worker.at + 1]):
            self.span(name, worker.tile, self.begun[name])

    # ---- the processes -----------------------------------------------------------------------------------------

    def move(self, beats: int, interval: float = 0.0) -> Move:
        """interval: cycles from beat to beat, where more than the port's."""
        return Move(beats * ticks(max(interval, self.way.beat_cycles)), beats * self.core.beat_cost)

    def burst(self, beats: int, stream: Stream | None, each: int = 1, interval: float = 0.0) -> Process:
        """beats: that go into the stream, each of so many from memory."""
        yield float(self.way.burst)
        while beats > 0:
            n = min(self.chunk, beats)
            yield self.move(n * each, interval)
            if stream is not None:
                yield Put(stream, n)
            beats -= n

    def rows(self, block: Rows, stream: Stream) -> Process:
        """`read_rows` of templates/engine/walk.h."""
        runs, beats = block
        if runs > 1 and beats < GATHER:
            yield from self.burst(runs * beats, stream, interval=self.way.read_interval)
            return
        for _ in range(runs):
            yield from self.burst(beats, stream)

    def span(self, process: str, tile: int, start: float) -> None:
        if self.core.trace:
            self.core.spans.append(Span(self.index, process, tile, start, self.simulator.now))

    def load_input(self, block: Rows) -> Process:
        yield from self.rows(block, self.input)

    def load_floats(self, block: Floats) -> Process:
        """Scheme dynamic: padding goes through the stream too; what softmax and LayerNorm sum up is found on the way."""
        shape = self.shape
        if block.first:
            yield float(self.way.burst)
            yield Put(self.scalings, 1)
        if block.largest:
            for _ in range(block.bursts):
                yield from self.burst(block.beats, None, shape.read)
        for _ in range(block.bursts):
            if shape.passes:
                yield from self.burst(block.beats * shape.read, self.passed)
            else:
                yield from self.burst(block.beats, None if shape.special == "norm" else self.input, shape.read)
        yield from self.put(block.padding, self.input)
        if block.row_sums:
            yield Put(self.row_sums, block.row_sums)
        if block.moments:
            yield Put(self.moments, block.moments)

    def load_weights(self, chunk: Chunk) -> Process:
        stream = self.parameters if chunk.stream == "parameters" else self.weights
        start, beats = self.simulator.now, chunk.beats
        if chunk.first:
            yield float(self.way.burst)
        while beats > 0:
            n = min(self.chunk, beats)
            yield self.move(n)
            yield Put(stream, n)
            beats -= n
        if stream is self.parameters:
            self.span("parameters", 0, start)

    def load_operand(self, operand: Operand) -> Process:
        """Keys TURNED blocks a time, turned when they are there; values as they lie."""
        interval = 0.0 if neighbours(self.shape) else self.way.read_interval
        if self.shape.dynamic:
            yield from self.load_floats_of_operand(operand.beats, operand.blocks)
        elif operand.made:
            yield float(LOOP)
            yield from self.put(operand.beats * operand.blocks, self.operand)
        elif operand.turned:
            for first in range(0, operand.blocks, TURNED):
                some = min(TURNED, operand.blocks - first)
                yield float(self.way.burst)
                yield self.move(some * self.engine.tm * self.plan.block_beats, interval)
                yield float(2 * LOOP)
                yield from self.put(some * operand.beats, self.operand)
        else:
            gathers = gathered_values(self.engine, self.shape)
            for _ in range(operand.blocks):
                yield from self.burst(operand.beats, self.operand, interval=self.way.read_interval if gathers else 0.0)

    def put(self, beats: int, stream: Stream) -> Process:
        """A beat a cycle into the stream, of what is on chip."""
        while beats > 0:
            n = min(self.chunk, beats)
            yield float(n)
            yield Put(stream, n)
            beats -= n

    def load_floats_of_operand(self, beats: int, blocks: int) -> Process:
        """Scheme dynamic: keys are turned when their block is there."""
        row = self.shape.window_of_keys[1]
        bursts = 1 + (self.engine.tm - 1) / row if row else 1  # a block's tokens lie in as many rows, on average
        for _ in range(blocks):
            yield float(round((bursts - 1) * self.way.burst))
            if self.shape.special != "scores":
                yield from self.burst(beats, self.operand, self.shape.stored)
                continue
            yield self.way.burst + 0.0
            yield self.move(self.engine.tm * self.plan.stored_beats)
            yield float(LOOP)
            yield from self.put(beats, self.operand)

    def mac(self, step: Step) -> Process:
        weights = self.operand if self.shape.attends else self.weights
        if step.exponents:
            yield Get(self.weights, EXPONENTS // self.engine.beat)
        yield float(self.way.loops.step_overhead(self.engine))
        start = self.simulator.now
        filling = _Filling(step.fill_cycles, step.fill_beats)
        if step.first:
            yield Get(weights, self.plan.weight_beats)
        length = max(step.groups, self.engine.pass_min)
        for p in range(step.passes):
            if p < step.loads:
                yield Get(weights, self.plan.weight_beats)
            emits = step.emitting > 0 and (p + 1) % step.emitting == 0
            scores = step.scoring > 0 and (p + 1) % step.scoring == 0
            left, sums_left = length * (self.engine.score_parts if scores else 1), step.groups if emits else 0
            while left:
                n = min(self.chunk, left) if emits or filling.left else left
                got = filling.take(n)
                if got:
                    yield Get(self.input, got)
                yield float(n)
                if sums_left:
                    gone = min(n, sums_left)
                    yield Put(self.sums, gone)
                    sums_left -= gone
                left -= n
        if step.groups:
            self.span("mac", self.made["mac"].tile, start)
        while filling.left:
            n = min(self.chunk, filling.left)
            got = filling.take(n)
            if got:
                yield Get(self.input, got)
            yield float(n)
        if step.told:
            yield Put(self.moments if self.shape.special == "norm" else self.row_sums, step.told)

    def epilogue(self, block: Finished) -> Process:
        engine, shape = self.engine, self.shape
        if not block.pixels:
            if shape.dynamic:
                yield Get(self.scalings, 1)
            for beats in (block.factors, block.table, block.parameters):
                yield float(LOOP)
                while beats > 0:
                    n = min(self.chunk, beats)
                    yield Get(self.parameters, n)
                    yield float(n)
                    beats -= n
            return
        per_pixel = engine.tm // engine.lanes
        if block.sums:
            yield Get(self.moments if shape.special == "norm" else self.row_sums, block.sums)
        if block.divided:
            yield float(block.divided + DIVIDER_DEPTH)
        yield float(self.way.loops.epilogue_depth + LOOP)
        pixels = block.pixels
        while pixels:
            n = min(pixels, max(1, self.chunk // (per_pixel * engine.tp)) * engine.tp)
            if shape.steps and block.comes:
                yield Get(self.sums, -(-n // engine.tp))
            if shape.passes:
                yield Get(self.passed, n * self.plan.stored_beats)
            if shape.residual:
                yield Get(self.residual, n * self.plan.stored_beats)
            yield float(n * per_pixel)
            if block.goes:
                yield Put(self.output, n * self.plan.stored_beats)
            pixels -= n
        yield from self.put(block.told, self.output)

    def store(self, block: Stored) -> Process:
        rows, cols, last = block
        if self.shape.spread > 1:
            yield from self.store_part(rows, cols, last)
            return
        runs, beats = self.plan.out_bursts(rows, cols)
        interval = 0.0
        if runs > 1 and beats < GATHER and not self.shape.dynamic:
            runs, beats, interval = 1, runs * beats, self.way.write_interval
        for _ in range(runs):
            left = beats
            while left > 0:
                n = min(left, self.chunk)
                yield Get(self.output, n)
                yield self.move(n, interval)
                left -= n
            yield float(self.way.write_latency + LOOP)

    def store_part(self, rows: int, cols: int, last: bool) -> Process:
        """A block of channels that are stored as pixels: held, or, the last of a row's neighbours, written with the others."""
        for beats in [cols * self.plan.stored_beats] * rows if last else [rows * cols * self.plan.stored_beats]:
            while beats > 0:
                n = min(beats, self.chunk)
                yield Get(self.output, n)
                yield self.move(n * self.shape.spread) if last else float(n)
                beats -= n
            yield float(self.way.write_latency + LOOP) if last else float(LOOP)


@dataclass
class _Filling:
    """A patch being filled: cycles left, and the beats that they read (fewer: padding and upsampling read none)."""

    left: int
    beats: int

    def take(self, cycles: int) -> int:
        """Spend up to `cycles`; the beats read meanwhile."""
        if not self.left:
            return 0
        n = min(cycles, self.left)
        got = self.beats if n == self.left else self.beats * n // self.left
        self.left -= n
        self.beats -= got
        return got
