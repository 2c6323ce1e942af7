"""The units of work of an op's processes: what each of them does, step by step and block by block, in numbers.

Tiles come in the order of templates/engine/walk.h.
"""

from collections.abc import Iterator
from typing import NamedTuple

from hlsgen.cost.attention import EXPONENTS, factor_beats, gathered_values, rows_told, weights_fill
from hlsgen.cost.cycles import parameter_beats
from hlsgen.cost.events import Units
from hlsgen.cost.shape import OpShape
from hlsgen.program.chunks import chunks
from hlsgen.program.ops import EngineConfig, Tile


class Rows(NamedTuple):
    """A block's patch, or its part of a tile: bursts and beats of each."""

    runs: int
    beats: int


class Floats(NamedTuple):
    """A block's patch of floats. first: of the op, behind its scales. largest: the rows' largest are looked for before."""

    first: bool
    largest: bool
    bursts: int
    beats: int
    padding: int
    row_sums: int
    moments: int


class Chunk(NamedTuple):
    """Beats for a stream; first: of a burst."""

    stream: str
    beats: int
    first: bool


class Operand(NamedTuple):
    """Blocks of keys or values, of so many beats. made: not read at all; turned: that wait until a burst of them is there; else a
    burst a block, or all of them as one block of requests that overlap."""

    beats: int
    blocks: int
    made: bool
    turned: bool


class Step(NamedTuple):
    """A step of the MAC array. exponents, first: whether it takes these, or the first pass's weights, before. loads: passes
    before which the next one's weights are taken. groups: of pixels, of a tile's block. emitting: passes of a block whose last
    gives the sums away, or 0. told: of rows, by softmax or LayerNorm, at its end. scoring: passes of a block of keys whose last
    makes scores, `EngineConfig.score_parts` times as long, or 0."""

    exponents: bool
    first: bool
    fill_cycles: int
    fill_beats: int
    passes: int
    loads: int
    groups: int
    emitting: int
    told: int
    scoring: int = 0


class Finished(NamedTuple):
    """A block in the epilogue: beats of factors, table and parameters (and no pixels), or pixels, before the tile's first after so
    many divisions (`divided`), for which `sums` are told. comes, goes: whether sums come, or were held; whether they are stored."""

    factors: int
    table: int
    parameters: int
    sums: int
    divided: int
    pixels: int
    told: int
    comes: bool
    goes: bool


class Stored(NamedTuple):
    """A block of a tile that is written; last: of a row's neighbours, where channels are stored as pixels."""

    rows: int
    cols: int
    last: bool


class Plan:
    """What an op is made of: its tiles, and of them the units of each process. chunk: beats moved as one event at most."""

    def __init__(self, engine: EngineConfig, shape: OpShape, tile: Tile, chunk: int) -> None:
        self.engine, self.shape, self.tile, self.chunk = engine, shape, tile, chunk
        self.block_beats = engine.tm // engine.beat
        self.stored_beats = self.block_beats * shape.stored
        self.weight_beats = engine.tn * engine.tm // engine.beat
        self.chunks = chunks(shape.keys, engine.tm, shape.groups.inputs, shape.places)  # of an attention's keys

    def units(self) -> dict[str, Units]:
        """Of each process."""
        shape = self.shape
        planned = {
            "load": Units.of(self.float_blocks() if shape.dynamic else self.blocks()),
            "weights": self.weight_chunks(),
            "mac": Units.of(self.steps()),
            "epilogue": Units.of(self.finished_blocks()),
            "store": Units.of(self.stored_blocks()),
        }
        if shape.attends:
            planned["operand"] = Units.of(self.operand_blocks())
        elif shape.residual:
            planned["residual"] = Units.of(self.residual_blocks())
        return planned

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
        """Scheme dynamic: blocks of the rows' largest scores that follow a tile: one after a head's last."""
        per_head = -(-self.shape.groups.outputs // self.tile.blocks)
        return int(self.shape.tells and tile % per_head == per_head - 1)

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

    # ---- the processes' units ------------------------------------------------------------------------------------

    def blocks(self) -> Iterator[tuple[int, Rows]]:
        """load_input: the blocks of each tile's patch."""
        inputs = self.shape.groups.inputs
        for t, (g, y, x, rows, cols, _) in enumerate(self.walk()):
            _, y_begin, y_end, x_begin, x_end = self.patch(y, x, rows, cols)
            met = [c for chunk in self.chunks for c, _ in chunk.met] if self.shape.keys else range(inputs)
            for c in met:
                yield t, Rows(*self.read(y_end - y_begin, x_begin, x_end, self.upsample_of(g * inputs + c)))

    def float_blocks(self) -> Iterator[tuple[int, Floats]]:
        """load_input in scheme dynamic: the blocks of each tile's patch."""
        shape = self.shape
        inputs, attends, norms = shape.groups.inputs, shape.special == "attend", shape.special == "norm"
        for t, (_, y, x, rows, cols, _) in enumerate(self.walk()):
            cells, y_begin, y_end, x_begin, x_end = self.patch(y, x, rows, cols)
            bursts, beats = self.read(y_end - y_begin, x_begin, x_end, 0)
            padding = 0 if norms or shape.passes else cells * self.block_beats - bursts * beats
            for c in range(inputs):
                row_sums = rows * cols if attends and c == inputs // shape.parts - 1 else 0
                moments = rows * cols if norms and c == inputs - 1 else 0
                yield t, Floats(t == c == 0, attends and c == 0, bursts, beats, padding, row_sums, moments)

    def passes(self, block: int, blocks: int) -> int:
        """Passes of a step: the last input block may need fewer halves."""
        if block < self.shape.filled_only:
            return 0
        if not self.shape.convolves:
            return self.shape.taps
        tm, tn = self.engine.tm, self.engine.tn
        halves = -(-self.shape.last_lanes // tn) if block == self.shape.groups.inputs - 1 else tm // tn
        return blocks * halves * self.shape.taps

    def halves(self, block: int) -> int:
        """TN-wide passes of a block of an attention's keys."""
        tm = self.engine.tm
        return -(-min(tm, self.shape.keys - block * tm) // self.engine.tn)

    def weight_chunks(self) -> Units:
        """load_weights: an attention's exponents, all parameters, then each tile of pixels' weights, a chunk a unit."""
        shape, inputs = self.shape, self.shape.groups.inputs
        first: list[tuple[int, Chunk]] = [(-1, Chunk("parameters", parameter_beats(self.engine, shape), True))]
        if shape.keys:
            first.insert(0, (-1, Chunk("weights", EXPONENTS // self.engine.beat, True)))
        if not shape.convolves or shape.attends:
            return Units.of(first)
        groups, (height, width), tile = shape.groups, shape.size_out, self.tile
        beats = sum(self.passes(c, groups.count * groups.outputs) for c in range(inputs)) * self.weight_beats
        a_tile = [
            (0, Chunk("weights", min(self.chunk, beats - b), b == 0)) for b in range(0, max(beats, 1), self.chunk)
        ]
        tiles = -(-height // tile.rows) * -(-width // tile.cols)
        each = groups.count * -(-groups.outputs // tile.blocks)
        return Units.of(first).then(Units.of(a_tile).repeated(tiles, each))

    def operand_blocks(self) -> Iterator[tuple[int, Operand]]:
        """load_operand: the keys or values of each step; of an attention both, chunk by chunk."""
        shape, inputs, turned = self.shape, self.shape.groups.inputs, self.shape.special == "scores"
        for t, (*_, blocks) in enumerate(self.walk()):
            for c in range(0 if shape.keys else inputs):
                yield t, Operand(self.passes(c, 1) * self.weight_beats, blocks, False, turned)
            for chunk in self.chunks:
                for c, (_, _, count) in chunk.met:
                    yield t, Operand(self.passes(c, 1) * self.weight_beats, count, c < sum(shape.places), True)
                beats = [self.halves(chunk.first + j) * self.weight_beats for j in range(chunk.blocks)]
                if gathered_values(self.engine, shape):
                    yield t, Operand(sum(beats) * blocks, 1, False, False)
                else:
                    yield from [(t, Operand(n, blocks, False, False)) for n in beats]

    def residual_blocks(self) -> Iterator[tuple[int, Rows]]:
        for t, (_, _, _, rows, cols, blocks) in enumerate(self.walk()):
            yield from [(t, Rows(*self.out_bursts(rows, cols)))] * blocks

    def out_bursts(self, rows: int, cols: int) -> tuple[int, int]:
        """Runs of a block of a tile, and beats of each."""
        if cols == self.shape.size_out[1]:
            return 1, rows * cols * self.stored_beats
        return rows, cols * self.stored_beats

    def computed(self) -> Iterator[tuple[int, int, int, int, str, int]]:
        """mac: (tile, input block, passes, every how many of them give the sums away, what fills the patch: "input", "weights" of a
        softmax or nothing, every how many of them make scores) of each patch."""
        shape, inputs = self.shape, self.shape.groups.inputs
        for t, (*_, blocks) in enumerate(self.walk()):
            for c in range(0 if shape.keys else shape.steps):
                passes = self.passes(c, blocks)
                emitting = passes // blocks if c == inputs - 1 else 0
                yield (
                    t,
                    c,
                    passes,
                    passes if shape.special == "norm" else emitting,
                    "input",
                    0,
                )  # of a LayerNorm each block passes once
            for chunk in self.chunks:
                for c, (_, _, count) in chunk.met:
                    yield t, c, self.passes(c, count), 0, "input", self.passes(c, 1) if c == inputs - 1 else 0
                yield t, 0, 0, 0, "", 0
                for j in range(chunk.blocks):
                    halves = self.halves(chunk.first + j)
                    yield t, j, blocks * halves, halves if j == chunk.blocks - 1 else 0, "weights", 0

    def steps(self) -> Iterator[tuple[int, Step]]:
        """mac: each step fills a patch and computes with the one before; of the tile that it computes."""
        shape, inputs = self.shape, self.shape.groups.inputs
        walk, steps = list(self.walk()), list(self.computed())
        last = max((s for s, step in enumerate(steps) if step[2]), default=-1) if shape.convolves else -1
        for s in range(len(steps) + 1):
            fill_cycles = fill_beats = told = 0
            if s < len(steps):
                t, c, _, emits, fills, _ = steps[s]
                g, y, x, rows, cols, _ = walk[t]
                cells, y_begin, y_end, x_begin, x_end = self.patch(y, x, rows, cols)
                bursts, beats = self.read(y_end - y_begin, x_begin, x_end, self.upsample_of(g * inputs + c))
                if fills == "input":
                    fill_cycles = cells * self.block_beats
                    fill_beats = fill_cycles if shape.dynamic else bursts * beats
                elif fills:
                    fill_cycles = weights_fill(self.engine, cells)
                    told = rows_told(self.engine, cells) if emits else 0
                if shape.special == "norm" and c == shape.filled_only - 1:
                    told = rows * cols
            first = s == 0 and last >= 0
            if s == 0:
                yield -1, Step(shape.keys > 0, first, fill_cycles, fill_beats, 0, 0, 0, 0, told)
                continue
            t, c, n, emitting, _, scoring = steps[s - 1]
            *_, rows, cols, _ = walk[t]
            groups = -(-rows * cols // self.engine.tp)
            loads = n - (s - 1 == last) if s - 1 <= last else 0
            yield t, Step(False, first, fill_cycles, fill_beats, n, loads, groups, emitting, told, scoring)

    def finished_blocks(self) -> Iterator[tuple[int, Finished]]:
        """epilogue: table and parameters, then each tile's blocks."""
        engine, shape = self.engine, self.shape
        channels = 0 if shape.attends or shape.passes else shape.channels
        table, parameters = shape.table_bytes // engine.beat, channels * shape.parameter_bytes // engine.beat
        yield -1, Finished(factor_beats(engine, shape), table, parameters, 0, 0, 0, 0, False, False)
        for t, (_, _, _, rows, cols, blocks) in enumerate(self.walk()):
            pixels, divides = rows * cols, shape.special in ("attend", "norm")
            told = rows_told(engine, pixels) if shape.keys else pixels
            for visit in range(shape.visits):
                comes, goes = visit < shape.chunks, visit == shape.visits - 1
                for b in range(blocks):
                    divided = pixels if divides and b == 0 else 0
                    sums = told if divided and comes else 0
                    more = self.told(t) * pixels * self.stored_beats if b == blocks - 1 else 0
                    yield t, Finished(0, 0, 0, sums, divided, pixels, more, comes, goes)

    def stored_blocks(self) -> Iterator[tuple[int, Stored]]:
        """store_output: each tile's blocks, and what is told of them."""
        part = 0  # of channels that are stored as pixels: which of a row's neighbours a block is
        for t, (_, _, _, rows, cols, blocks) in enumerate(self.walk()):
            for _ in range(blocks + self.told(t)):
                yield t, Stored(rows, cols, part == self.shape.spread - 1)
                part = (part + 1) % self.shape.spread
