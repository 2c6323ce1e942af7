"""What attention costs beside a convolution's: cycles and resources of templates/engine/attention.h and its uses."""

import numpy as np
import numpy.typing as npt

from hlsgen.cost.hardware import LOOP, Link
from hlsgen.cost.shape import OpShape
from hlsgen.program.ops import MOST_PIXELS, EngineConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TURNED = 8  # blocks of keys that come in one burst (templates/engine/attention.h)
EXPONENTS = 256  # bytes of the table of weights
DIVIDER_DEPTH = 40  # epilogue: iteration latency of the loop that divides, a bit of the quotient a cycle and a few more
QUOTIENT = 17  # bits
TURN_LUT, TURN_FF = 150, 200  # control of the process that reads keys and values


def neighbours(shape: OpShape) -> bool:
    """Whether a window's tokens lie one behind the other in memory."""
    rows, columns = shape.window_of_keys
    return rows <= 1 or columns == shape.size_in[1]


def block_arrival(engine: EngineConfig, way: Link, shape: OpShape, blocks: Ints) -> Floats:
    """Cycles in which TM x TM weights come from a feature map, of a tile of `blocks`, int64 [n].

    Keys wait until TURNED blocks of them are there, to be turned; in scheme `dynamic` until their own is there, a burst a row of
    a window.
    """
    beats = engine.tm * engine.tm // engine.beat
    if shape.dynamic:
        row = shape.window_of_keys[1]
        bursts = 1 + (engine.tm - 1) / row if row else 1
        turning = beats + LOOP if shape.special == "scores" else 0
        return np.full(len(blocks), bursts * way.burst + beats * shape.stored * way.beat_cycles + turning)
    coming = beats * (way.beat_cycles if neighbours(shape) else way.read_interval)
    if shape.special == "attend":
        return np.full(len(blocks), way.burst + coming)
    return keys_arrival(engine, way, shape, blocks)


def keys_arrival(engine: EngineConfig, way: Link, shape: OpShape, blocks: Ints, step: int = 1) -> Floats:
    """`block_arrival` of keys of which every `step`th block is turned."""
    beats = engine.tm * engine.tm // engine.beat
    coming = beats * (way.beat_cycles if neighbours(shape) else way.read_interval)
    return coming * step + beats + (way.burst + 2 * LOOP) / np.minimum(blocks, TURNED) * step


def logic(engine: EngineConfig, row_sum: int) -> tuple[int, int]:
    """LUT and FF. row_sum: bits of a row's sum."""
    beat, bits = engine.beat, row_sum
    rotators = 2 * beat * 8 * (beat - 1).bit_length() // 2
    weights = beat * (9 + 7 + 9) + bits  # difference, mask and adder tree, a byte of a beat
    divider = QUOTIENT * (bits + 2)
    maxima = engine.lanes * 12  # comparison and selection
    constants = engine.lanes * 50 // 2  # a channel's or a row's
    lut = TURN_LUT + rotators + weights + divider + maxima + constants + 3 * bits
    return lut, TURN_FF + 2 * divider + beat * 16 + engine.lanes * 50


def memories(engine: EngineConfig, row_sum: int) -> list[tuple[int, int, int]]:
    """(depth, width in bits, copies)."""
    block_beats = engine.tm // engine.beat
    return [
        (TURNED * engine.tm * block_beats, 8, engine.beat),  # blocks being turned
        (EXPONENTS // engine.beat, 8 * engine.beat, (engine.beat + 1) // 2),
        (MOST_PIXELS, 8, 2),  # the rows' largest, in the MAC process and in the epilogue
        (MOST_PIXELS, row_sum, 2),  # the rows' sums, and their stream
        (MOST_PIXELS, row_sum + 8 + QUOTIENT + 6, 1),  # what divides each row: bias, multiplier, shift
    ]
