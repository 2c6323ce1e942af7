"""What attention costs beside a convolution's: cycles and resources of templates/engine/attention.h and its uses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.cost.hardware import GATHER, LOOP, Link
from hlsgen.cost.memory import SHALLOW
from hlsgen.cost.shape import OpShape
from hlsgen.program.attention import CHUNK
from hlsgen.program.chunks import held
from hlsgen.program.ops import EngineConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TURNED = 8  # blocks of keys that come in one burst (templates/engine/attention.h)
EXPONENTS, FACTORS = 256, 256  # bytes of the table of weights; words of the table by which chunks are merged
DIVIDER_DEPTH = 40  # epilogue: iteration latency of the loop that divides, a bit of the quotient a cycle and a few more
QUOTIENT = 17  # bits
LARGEST_LUT = 12  # comparison and selection of a score
LEVELS = 3  # of a shifter, at least, where there are several attentions: before calibration nobody knows how many
TURN_LUT, TURN_FF = 150, 200  # control of the process that reads keys and values


def neighbours(shape: OpShape) -> bool:
    """Whether a window's tokens lie one behind the other in memory."""
    rows, columns = shape.window_of_keys
    return rows <= 1 or columns == shape.size_in[1]


def gathered_values(engine: EngineConfig, shape: OpShape) -> bool:
    """Whether a chunk's values come by requests of a beat each, not by a burst a block."""
    return not neighbours(shape) or engine.tm * engine.tm // engine.beat < GATHER


def made_at_once(engine: EngineConfig) -> int:
    """Pixels of a group whose weights are made in a cycle (MADE of templates/engine/types.h)."""
    return 1 if engine.narrow else min(2, engine.tp)


def weights_fill(engine: EngineConfig, pixels: Any) -> Any:
    """Cycles in which a patch of a softmax's weights is filled for so many pixels, integer or array."""
    return -(-pixels // engine.tp) * -(-engine.tp // made_at_once(engine)) * (engine.tm // engine.beat)


def rows_told(engine: EngineConfig, pixels: int) -> int:
    """Elements of the stream of the weights' sums for a tile of so many pixels."""
    made = made_at_once(engine)
    return pixels // engine.tp * -(-engine.tp // made) + -(-(pixels % engine.tp) // made)


def factor_beats(engine: EngineConfig, shape: OpShape) -> int:
    """Beats of the factors with which an attention's chunks are merged."""
    return FACTORS * 4 // engine.beat if shape.chunks > 1 else 0


def float_arrival(engine: EngineConfig, way: Link, shape: OpShape) -> float:
    """Scheme dynamic: cycles in which TM x TM weights come from a feature map, a burst a row of a window; keys wait until their
    block is there, to be turned."""
    beats, row = engine.tm * engine.tm // engine.beat, shape.window_of_keys[1]
    bursts = 1 + (engine.tm - 1) / row if row else 1
    turning = beats + LOOP if shape.special == "scores" else 0
    return bursts * way.burst + beats * shape.stored * way.beat_cycles + turning


def keys_arrival(engine: EngineConfig, way: Link, shape: OpShape, blocks: Ints) -> Floats:
    """Cycles in which TM x TM keys come, of `blocks` that are asked for at once, int64 [n]: TURNED of them a time, to be turned."""
    beats = engine.tm * engine.tm // engine.beat
    coming = beats * (way.beat_cycles if neighbours(shape) else way.read_interval)
    return coming + beats + (way.burst + 2 * LOOP) / np.minimum(blocks, TURNED)


def values_arrival(engine: EngineConfig, way: Link, shape: OpShape, blocks: Ints, chunk: int) -> Floats:
    """The same of values, `blocks` of each of a chunk's `chunk` blocks of keys."""
    beats = engine.tm * engine.tm // engine.beat
    if gathered_values(engine, shape):
        return beats * way.read_interval + way.burst / (blocks * chunk)
    return np.full(len(blocks), way.burst + beats * way.beat_cycles)


def logic(engine: EngineConfig, w: "Sums") -> tuple[int, int, int]:
    """LUT, FF and DSP."""
    beat, bits = engine.beat, w.sum
    rotators = 2 * beat * 8 * (beat - 1).bit_length() // 2
    made = made_at_once(engine)
    weights = made * (beat * (9 + 7 + 9) + w.row)  # difference, mask and adder tree, a byte of a beat
    divider = QUOTIENT * (bits + 2)
    constants = engine.lanes * 50 // 2  # a channel's or a row's
    # A score of each sum: rounding, a shift by few distances, zero point and clamp; the largest of each pixel's.
    score = w.acc * (1 + w.levels / 2) + 9 + 18
    scored, copies = engine.tp * engine.tm // engine.score_parts, 1 if engine.narrow else engine.tp
    picked = w.acc * engine.score_parts // 3 if engine.score_parts > 1 else 0  # a sum out of so many
    scores = round(scored * (score + LARGEST_LUT + picked))
    strip = beat * 8 * max(0, copies - made) // 3  # the pixels whose scores become weights
    merging = engine.lanes * w.merged * 5 // 2 if w.merged else 0  # which is scaled, their sum
    lut = TURN_LUT + rotators + weights + divider + constants + 3 * bits + scores + strip + merging
    ff = TURN_FF + 2 * divider + beat * 16 + engine.lanes * (50 + 2 * w.merged) + scored * (w.acc + 8)
    return lut, ff, 2 if w.merged else 0  # the product of a row's sum and a factor


@dataclass(frozen=True)
class Sums:
    """Widths in bits: of the array's sums, of a chunk's sum of weights, of a row's (with its fraction), of the values' sums where
    chunks are merged, else 0. levels: of the shifters that take sums to scores."""

    acc: int
    row: int
    sum: int
    merged: int
    levels: int


def memories(engine: EngineConfig, w: Sums) -> list[tuple[int, int, int]]:
    """(depth, width in bits, copies)."""
    block_beats, lanes, made, most = engine.tm // engine.beat, engine.lanes, made_at_once(engine), held(engine)
    largest = most.strip // min(most.strip, CHUNK // engine.tm)
    strips = [(most.strip, 8 * engine.tm, engine.tp), (largest, 16, engine.tp)]
    if engine.narrow:
        strips = [(most.strip, 8 * engine.beat, 1), (SHALLOW, 16, most.pixels // SHALLOW)]
    merging = [
        (FACTORS * 4 // engine.beat, 17 * engine.beat // 4, 1),
        (most.merged // lanes, w.merged * lanes, 1),
        (most.pixels, w.sum + 9, 1),  # of each pixel what is merged: sum, largest score, which was scaled
    ]
    return [
        (TURNED * engine.tm * block_beats, 8, engine.beat),  # blocks being turned
        (EXPONENTS // engine.beat, 8 * engine.beat, made * engine.beat // 2),
        *strips,  # scores; the pixels' largest, read twice
        (most.pixels // made, w.row, made),
        (most.pixels // made, (w.row + 8) * made, 1),  # the stream of these and the largest scores
        (most.pixels, w.row + 8 + QUOTIENT + 6, 1),  # what divides each row: bias, multiplier, shift
        *(merging if w.merged else []),
    ]
