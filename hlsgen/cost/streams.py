"""Depths of the streams between the processes: computed, none chosen by hand."""

from dataclasses import dataclass

from hlsgen.program.ops import EngineConfig

PARAMETER_BYTES = 8  # a channel's bias, multiplier and shift
LONGEST_LATENCY = 128  # cycles of read latency that a stream must hide: 270 ns at 470 MHz
SHALLOWEST = 16
PARAMETERS = 64  # the deepest stream that is still made of LUTs


@dataclass(frozen=True)
class Depths:
    """Stream depths in elements (what templates/engine/config.h.j2 takes)."""

    input: int
    weights: int
    sums: int
    residual: int
    output: int
    parameters: int


def stream_depths(engine: EngineConfig) -> Depths:
    """Depths with which no process waits for another's burst.

    input: two read latencies, so that the loader asks for the next burst while the MAC array still reads, and at least
    512 (one 36-Kbit memory as 512 x 72). weights: the next pass and a latency. sums: a tile leaves the MAC array at one
    group a cycle while the epilogue takes TP * TM / LANES cycles a group, so all but one in so many of ACC_DEPTH groups wait.
    residual, output: a row's burst and a latency. parameters: the epilogue takes a beat a cycle, as fast as they come, but for
    the few cycles between its two loops.

    Any depth of at least 1 is free of deadlock: the processes form no cycle, and `load_weights`, the only one with two
    outputs, writes all parameters first, which the epilogue reads before it waits for anything else.
    """
    cycles_a_group = max(1, engine.tp * engine.tm // engine.lanes)
    return Depths(
        input=_rounded(max(512, 2 * LONGEST_LATENCY)),
        weights=_rounded(2 * engine.tn * engine.tm // engine.beat + LONGEST_LATENCY),
        sums=_rounded(engine.acc_depth - engine.acc_depth // cycles_a_group),
        residual=_rounded(2 * LONGEST_LATENCY),
        output=_rounded(2 * LONGEST_LATENCY),
        parameters=PARAMETERS,
    )


def _rounded(elements: int) -> int:
    """A power of two up to 512, then a multiple of 512: what block memories come in."""
    if elements > 512:
        return -(-elements // 512) * 512
    return max(SHALLOWEST, 1 << (elements - 1).bit_length())
