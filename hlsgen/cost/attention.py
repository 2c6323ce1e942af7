"""What attention costs beside a convolution's: cycles and resources of templates/engine/attention.h and its uses."""

from hlsgen.cost.hardware import LOOP, Link
from hlsgen.program.ops import MOST_PIXELS, EngineConfig

EXPONENTS = 256  # bytes of the table of weights
DIVIDER_DEPTH = 40  # epilogue: iteration latency of the loop that divides, a bit of the quotient a cycle and a few more
QUOTIENT = 17  # bits
TURN_LUT, TURN_FF = 150, 200  # control of the process that reads keys and values


def block_arrival(engine: EngineConfig, way: Link, kind: str, window_row: int = 0, stored: int = 1) -> float:
    """Cycles in which TM x TM weights come from a feature map: a burst, or one a row of a window (of window_row tokens).

    Keys wait until their block is there, to be turned. stored: bytes of an element in memory.
    """
    beats = engine.tm * engine.tm // engine.beat
    turning = beats + LOOP if kind == "scores" else 0
    bursts = 1 + (engine.tm - 1) / window_row if window_row else 1
    return bursts * way.burst + beats * stored * way.beat_cycles + turning


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
        (engine.tm * block_beats, 8, engine.beat),  # a block being turned
        (EXPONENTS // engine.beat, 8 * engine.beat, (engine.beat + 1) // 2),
        (MOST_PIXELS, 8, 2),  # the rows' largest, in the MAC process and in the epilogue
        (MOST_PIXELS, row_sum, 2),  # the rows' sums, and their stream
        (MOST_PIXELS, row_sum + 8 + QUOTIENT + 6, 1),  # what divides each row: bias, multiplier, shift
    ]
