"""Cycle-level simulation of a Program: its six processes an op, tile by tile, through bounded streams and a shared memory.

The processes do what the templates' loops do, in the same order, in chunks of CHUNK cycles. The closed formulas
(`hlsgen.cost.cycles`) are held against this.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hlsgen.cost.attention import DIVIDER_DEPTH, EXPONENTS, TURNED, neighbours
from hlsgen.cost.cycles import parameter_beats
from hlsgen.cost.events import Get, Join, Move, Process, Put, Simulator, Stream
from hlsgen.cost.hardware import GATHER, LOOP, OP_START, OP_STOP, Link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.shape import OpShape
from hlsgen.cost.streams import Depths, stream_depths
from hlsgen.program.ops import MOST_PIXELS, EngineConfig, Program, Tile

CHUNK = 32  # cycles simulated as one event where nothing else divides them
CORES = 4  # cores simulated at most; more share the memory alike


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
) -> Simulated:
    """`simulate` of ops given by their shapes and tiles. On one core, equal ops take equal time: each is simulated once."""
    kinds = tuple(zip(shapes, tiles, strict=True))
    if cores == 1 and not trace and len(set(kinds)) < len(kinds):
        alone = {k: simulate_ops(engine, k[:1], k[1:], way, depths) for k in dict.fromkeys(kinds)}
        return _in_turn([alone[kind] for kind in kinds])
    together = min(cores, CORES)
    simulator = Simulator()
    runs = []
    for i in range(together):
        run = _Core(engine, shapes, tiles, way, depths, way.bytes_a_cycle * together, trace)
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
    ) -> None:
        self.engine, self.shapes, self.tiles, self.way, self.depths = engine, shapes, tiles, way, depths
        self.memory_bytes = memory_bytes
        self.trace = trace
        self.attends = any(shape.attends for shape in shapes)
        self.norms = any(shape.special == "norm" for shape in shapes)
        self.dynamic = any(shape.dynamic for shape in shapes)
        self.ends: list[float] = []
        self.peaks: dict[str, int] = {}
        self.op_tokens: list[dict[str, int]] = []
        self.spans: list[Span] = []

    def begin(self, simulator: Simulator, at: float) -> None:
        index = len(self.ends)
        op = _Op(self, simulator, index)
        processes = op.processes()
        core = self

        class Next(Join):
            def finished(self, simulator: Simulator) -> None:
                core.ends.append(simulator.now + OP_STOP)
                for stream in op.streams():
                    core.peaks[stream.name] = max(core.peaks.get(stream.name, 0), stream.peak)
                core.op_tokens.append({stream.name: stream.tokens for stream in op.streams()})
                if len(core.ends) < len(core.shapes):
                    core.begin(simulator, simulator.now + OP_STOP)

        join = Next(len(processes))
        for process in processes:
            simulator.start(process, at + OP_START, join)


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
        self.block_beats = self.engine.tm // self.engine.beat
        self.stored_beats = self.block_beats * self.shape.stored
        self.weight_beats = self.engine.tn * self.engine.tm // self.engine.beat

    def streams(self) -> tuple[Stream, ...]:
        used: tuple[Stream, ...]
        used = self.input, self.weights, self.parameters, self.sums, self.residual, self.output
        used = (*used, self.operand, self.row_sums) if self.core.attends else used
        used = (*used, self.moments) if self.core.norms else used
        return (*used, self.scalings, self.passed) if self.core.dynamic else used

    def processes(self) -> list[Process]:
        load = self.load_floats() if self.shape.dynamic else self.load_input()
        made = [load, self.load_weights(), self.mac(), self.epilogue(), self.store()]
        if self.shape.attends:
            return [*made, self.load_operand()]
        return [*made, self.load_residual()] if self.shape.residual else made

    # ---- what the tiles are, in the order of templates/engine/walk.h -------------------------------------------

    def walk(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        """(group, first row, first column, rows, columns, blocks) of each tile."""
        (height, width), tile, groups = self.shape.size_out, self.tile, self.shape.groups
        for y in range(0, height, tile.rows):
            for x in range(0, width, tile.cols):
                for g in range(groups.count):
                    for m in range(0, groups.outputs, tile.blocks):
                        rows, cols = min(tile.rows, height - y), min(tile.cols, width - x)
                        yield g, y, x, rows, cols, min(tile.blocks, groups.outputs - m)

    def patch(self, y: int, x: int, rows: int, cols: int) -> tuple[int, int, int, int, int]:
        """(pixels, first row, end row, first column, end column) of a tile's patch; the rows and columns on the map."""
        (kh, kw), (sh, sw), (top, left) = self.shape.window.kernel, self.shape.window.stride, self.shape.window.pad
        patch_rows, patch_cols = (rows - 1) * sh + kh, (cols - 1) * sw + kw
        y0, x0 = y * sh - top, x * sw - left
        y_end = max(min(y0 + patch_rows, self.shape.size_in[0]), max(y0, 0))
        x_end = max(min(x0 + patch_cols, self.shape.size_in[1]), max(x0, 0))
        return patch_rows * patch_cols, max(y0, 0), y_end, max(x0, 0), x_end

    def told(self, tile: int) -> int:
        """Blocks of the rows' largest scores that follow a tile: one after a head's last."""
        per_head = -(-self.shape.groups.outputs // self.tile.blocks)
        return int(self.shape.special == "scores" and tile % per_head == per_head - 1)

    def read(self, rows: int, begin: int, end: int, upsample: int) -> tuple[int, int]:
        """(bursts, beats of each) that bring one block's patch."""
        columns = (((end - 1) >> upsample) + 1 - (begin >> upsample)) if end > begin else 0
        whole = upsample == 0 and columns == self.shape.size_in[1]
        return (min(rows, 1), rows * columns * self.block_beats) if whole else (rows, columns * self.block_beats)

    def upsample_of(self, block: int) -> int:
        for count, upsample in self.shape.sources:
            block -= count
            if block < 0:
                return upsample
        return 0

    # ---- the processes -----------------------------------------------------------------------------------------

    def move(self, beats: int, interval: float = 0.0) -> Move:
        """interval: cycles from beat to beat, where more than the port's."""
        return Move(beats * max(interval, self.way.beat_cycles), beats * self.engine.beat / self.core.memory_bytes)

    def burst(self, beats: int, stream: Stream | None, each: int = 1, interval: float = 0.0) -> Process:
        """beats: that go into the stream, each of so many from memory."""
        yield float(self.way.burst)
        while beats > 0:
            n = min(self.chunk, beats)
            yield self.move(n * each, interval)
            if stream is not None:
                yield Put(stream, n)
            beats -= n

    def rows(self, runs: int, beats: int, stream: Stream) -> Process:
        """`read_rows` of templates/engine/walk.h."""
        if runs > 1 and beats < GATHER:
            yield from self.burst(runs * beats, stream, interval=self.way.read_interval)
            return
        for _ in range(runs):
            yield from self.burst(beats, stream)

    def span(self, process: str, tile: int, start: float) -> None:
        if self.core.trace:
            self.core.spans.append(Span(self.index, process, tile, start, self.simulator.now))

    def load_input(self) -> Process:
        inputs = self.shape.groups.inputs
        for t, (g, y, x, rows, cols, _) in enumerate(self.walk()):
            start = self.simulator.now
            _, y_begin, y_end, x_begin, x_end = self.patch(y, x, rows, cols)
            for c in range(inputs):
                bursts, beats = self.read(y_end - y_begin, x_begin, x_end, self.upsample_of(g * inputs + c))
                yield from self.rows(bursts, beats, self.input)
            self.span("load", t, start)

    def load_floats(self) -> Process:
        """Scheme dynamic: padding goes through the stream too; what softmax and LayerNorm sum up is found on the way."""
        shape = self.shape
        attends, norms, first = (
            shape.special == "attend",
            shape.special == "norm",
            shape.groups.inputs // shape.parts - 1,
        )
        yield float(self.way.burst)
        yield Put(self.scalings, 1)
        for t, (_, y, x, rows, cols, _) in enumerate(self.walk()):
            start = self.simulator.now
            cells, y_begin, y_end, x_begin, x_end = self.patch(y, x, rows, cols)
            bursts, beats = self.read(y_end - y_begin, x_begin, x_end, 0)
            if attends:  # the rows' largest
                for _ in range(bursts):
                    yield from self.burst(beats, None, shape.read)
            for c in range(shape.groups.inputs):
                for _ in range(bursts):
                    if shape.passes:
                        yield from self.burst(beats * shape.read, self.passed)
                    else:
                        yield from self.burst(beats, None if norms else self.input, shape.read)
                padding = 0 if norms or shape.passes else cells * self.block_beats - bursts * beats
                while padding > 0:
                    n = min(self.chunk, padding)
                    yield float(n)
                    yield Put(self.input, n)
                    padding -= n
                if attends and c == first:
                    yield Put(self.row_sums, rows * cols)
            if norms:
                yield Put(self.moments, rows * cols)
            self.span("load", t, start)

    def passes(self, block: int, blocks: int) -> int:
        """Passes of a step: the last input block may need fewer halves."""
        if block < self.shape.filled_only:
            return 0
        if not self.shape.convolves:
            return self.shape.taps
        tm, tn = self.engine.tm, self.engine.tn
        halves = -(-self.shape.last_lanes // tn) if block == self.shape.groups.inputs - 1 else tm // tn
        return blocks * halves * self.shape.taps

    def met(self, block: int, tile: int, blocks: int) -> tuple[int, int, int]:
        """`met_by` of templates/engine/walk.h for input block `block` of a tile: first, step, count."""
        by_row, by_column = self.shape.places
        if block < by_row:
            begins = tile % -(-self.shape.groups.outputs // self.tile.blocks) * self.tile.blocks
            begin = max(by_column * block * self.engine.tm - begins, 0)
            end = min(by_column * (block + 1) * self.engine.tm - begins, blocks)
            return begin, 1, max(end - begin, 0)
        if block < by_row + by_column:
            return block - by_row, by_column, blocks // by_column
        return 0, 1, blocks

    def load_weights(self) -> Process:
        start = self.simulator.now
        yield from self.burst(parameter_beats(self.engine, self.shape), self.parameters)
        self.span("parameters", 0, start)
        if self.shape.special == "attend" and not self.shape.dynamic:
            yield from self.burst(EXPONENTS // self.engine.beat, self.weights)
        if not self.shape.convolves or self.shape.attends:
            return
        groups, inputs = self.shape.groups, self.shape.groups.inputs
        per_tile = sum(self.passes(c, groups.count * groups.outputs) for c in range(inputs)) * self.weight_beats
        (height, width), tile = self.shape.size_out, self.tile
        for t in range(-(-height // tile.rows) * -(-width // tile.cols)):
            start = self.simulator.now
            yield from self.burst(per_tile, self.weights)
            self.span("weights", t * groups.count * -(-groups.outputs // tile.blocks), start)

    def load_operand(self) -> Process:
        """Values, a block of TM x TM a time; keys TURNED blocks a time, turned when they are there."""
        inputs, scores = self.shape.groups.inputs, self.shape.special == "scores"
        interval = 0.0 if neighbours(self.shape) else self.way.read_interval
        for t, (*_, blocks) in enumerate(self.walk()):
            for c in range(self.shape.filled_only, inputs):
                beats = self.passes(c, 1) * self.weight_beats
                if self.shape.dynamic:
                    yield from self.load_floats_of_operand(beats, blocks)
                    continue
                if not scores:
                    for _ in range(blocks):
                        yield from self.burst(beats, self.operand, interval=interval)
                    continue
                met, step, count = self.met(c, t, blocks)
                begin, end = (met, met + count) if step == 1 else (0, blocks)
                for first in range(begin, end, TURNED):
                    some = min(TURNED, end - first)
                    yield float(self.way.burst)
                    yield self.move(some * self.engine.tm * self.block_beats, interval)
                    yield float(2 * LOOP)
                    left = beats * sum((b - met) % step == 0 for b in range(first, first + some))
                    while left > 0:
                        n = min(self.chunk, left)
                        yield float(n)
                        yield Put(self.operand, n)
                        left -= n

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
            yield self.move(self.engine.tm * self.stored_beats)
            yield float(LOOP)
            left = beats
            while left > 0:
                n = min(self.chunk, left)
                yield float(n)
                yield Put(self.operand, n)
                left -= n

    def load_residual(self) -> Process:
        for t, (_, _, _, rows, cols, blocks) in enumerate(self.walk()):
            start = self.simulator.now
            for _ in range(blocks):
                yield from self.rows(*self.out_bursts(rows, cols), self.residual)
            self.span("residual", t, start)

    def out_bursts(self, rows: int, cols: int) -> tuple[int, int]:
        """Runs of a block of a tile, and beats of each."""
        if cols == self.shape.size_out[1]:
            return 1, rows * cols * self.stored_beats
        return rows, cols * self.stored_beats

    def mac(self) -> Process:
        weights = self.operand if self.shape.attends else self.weights
        if self.shape.special == "attend" and not self.shape.dynamic:
            yield Get(self.weights, EXPONENTS // self.engine.beat)
        inputs, convolves = self.shape.steps, self.shape.convolves
        steps = [
            (t, c, y, x, rows, cols, blocks)
            for t, (_, y, x, rows, cols, blocks) in enumerate(self.walk())
            for c in range(inputs)
        ]
        groups_of = [g for g, *_ in self.walk() for _ in range(inputs)]
        loads_left = sum(self.passes(c, self.met(c, t, n)[2]) for t, c, *_, n in steps) if convolves else 0
        for s in range(len(steps) + 1):
            yield float(self.way.loops.step_overhead(self.engine))
            start = self.simulator.now
            fill_cycles = fill_beats = 0
            if s < len(steps):
                _, c, y, x, rows, cols, _ = steps[s]
                cells, y_begin, y_end, x_begin, x_end = self.patch(y, x, rows, cols)
                bursts, beats = self.read(y_end - y_begin, x_begin, x_end, self.upsample_of(groups_of[s] * inputs + c))
                fill_cycles, fill_beats = cells * self.block_beats, bursts * beats
                if self.shape.dynamic:
                    fill_beats = fill_cycles
            filling = _Filling(fill_cycles, fill_beats)
            if s == 0 and loads_left:
                yield Get(weights, self.weight_beats)
                loads_left -= 1
            if s > 0:
                t, c, _, _, rows, cols, blocks = steps[s - 1]
                groups = -(-rows * cols // self.engine.tp)
                length = max(groups, self.engine.pass_min)
                passes = self.passes(c, self.met(c, t, blocks)[2])
                emitting = passes // blocks if c == inputs - 1 else 0  # the last pass of each block gives the sums away
                if self.shape.special == "norm":
                    emitting = passes  # each block passes once
                for p in range(passes):
                    if loads_left:
                        yield Get(weights, self.weight_beats)
                        loads_left -= 1
                    emits = emitting > 0 and (p + 1) % emitting == 0
                    left, sums_left = length, groups if emits else 0
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
                self.span("mac", t, start)
            while filling.left:
                n = min(self.chunk, filling.left)
                got = filling.take(n)
                if got:
                    yield Get(self.input, got)
                yield float(n)
            if self.shape.dynamic:
                continue
            rows_end = {"attend": inputs - 1, "norm": self.shape.filled_only - 1}.get(self.shape.special)
            if s < len(steps) and steps[s][1] == rows_end:
                yield Put(self.moments if self.shape.special == "norm" else self.row_sums, steps[s][4] * steps[s][5])

    def epilogue(self) -> Process:
        engine, shape = self.engine, self.shape
        channels = 0 if shape.attends or shape.passes else shape.channels
        if shape.dynamic:
            yield Get(self.scalings, 1)
        for beats in (shape.table_bytes // engine.beat, channels * shape.parameter_bytes // engine.beat):
            yield float(LOOP)
            while beats > 0:
                n = min(self.chunk, beats)
                yield Get(self.parameters, n)
                yield float(n)
                beats -= n
        per_pixel = engine.tm // engine.lanes
        for t, (_, _, _, rows, cols, blocks) in enumerate(self.walk()):
            start = self.simulator.now
            if shape.special in ("attend", "norm"):
                yield Get(self.moments if shape.special == "norm" else self.row_sums, rows * cols)
                yield float(rows * cols + DIVIDER_DEPTH)
            for _ in range(blocks):
                yield float(self.way.loops.epilogue_depth + LOOP)
                pixels = rows * cols
                while pixels:
                    n = min(pixels, max(1, self.chunk // (per_pixel * engine.tp)) * engine.tp)
                    if shape.steps:
                        yield Get(self.sums, -(-n // engine.tp))
                    if shape.passes:
                        yield Get(self.passed, n * self.stored_beats)
                    if shape.residual:
                        yield Get(self.residual, n * self.stored_beats)
                    yield float(n * per_pixel)
                    yield Put(self.output, n * self.stored_beats)
                    pixels -= n
            beats = self.told(t) * rows * cols * self.stored_beats
            while beats > 0:
                n = min(self.chunk, beats)
                yield float(n)
                yield Put(self.output, n)
                beats -= n
            self.span("epilogue", t, start)

    def store(self) -> Process:
        part = 0  # of channels that are stored as pixels: which of a row's neighbours a block is
        for t, (_, _, _, rows, cols, blocks) in enumerate(self.walk()):
            start = self.simulator.now
            for _ in range(blocks + self.told(t)):
                if self.shape.spread > 1:
                    yield from self.store_part(rows, cols, part == self.shape.spread - 1)
                    part = (part + 1) % self.shape.spread
                    continue
                runs, beats = self.out_bursts(rows, cols)
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
            self.span("store", t, start)

    def store_part(self, rows: int, cols: int, last: bool) -> Process:
        """A block of channels that are stored as pixels: held, or, the last of a row's neighbours, written with the others."""
        for beats in [cols * self.stored_beats] * rows if last else [rows * cols * self.stored_beats]:
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
