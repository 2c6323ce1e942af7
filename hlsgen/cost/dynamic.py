"""What scheme `dynamic` costs: resources of templates/engine/dynamic*.h, by its float operators.

Operators as the vendor's floating-point core takes them on a 7-series part with its DSPs in full use (PG060), rounded up.
"""

from dataclasses import dataclass

from hlsgen.program.ops import MOST_PIXELS, EngineConfig


@dataclass(frozen=True)
class Operator:
    """LUT, FF and DSP of one."""

    lut: int
    ff: int
    dsp: int = 0

    def __add__(self, other: "Operator") -> "Operator":
        return Operator(self.lut + other.lut, self.ff + other.ff, self.dsp + other.dsp)

    def times(self, n: int) -> "Operator":
        return Operator(self.lut * n, self.ff * n, self.dsp * n)


ADD, MULTIPLY, DIVIDE, ROOT = Operator(230, 340, 2), Operator(90, 160, 3), Operator(800, 1500), Operator(500, 900)
FROM_INTEGER, WIDE_ADD, WIDE_MULTIPLY = Operator(190, 230), Operator(800, 950, 3), Operator(220, 500, 11)
WIDE_DIVIDE, NARROW = Operator(3250, 6000), Operator(120, 150)  # of float64; float64 to float32
LINE = Operator(80, 60, 1)  # a straight line between a table's entries
SQUARE = Operator(60, 100, 2)  # of 20 bits, and its sum
ORDER = Operator(110, 70)  # extent, or a row's largest: comparisons by order
LANE = ADD.times(4) + MULTIPLY.times(3) + FROM_INTEGER.times(2) + LINE + ORDER  # epilogue: scale, bias, GELU, residual
LOADED = ADD.times(2) + MULTIPLY + WIDE_MULTIPLY + WIDE_ADD + NARROW + LINE  # load_input: level, integer, exponential
OPERAND = MULTIPLY + ADD
STEPS = DIVIDE.times(2) + WIDE_DIVIDE + WIDE_ADD.times(2) + MULTIPLY.times(2) + Operator(900, 900)  # scales, once an op
NORM = DIVIDE + ROOT + MULTIPLY.times(3) + ADD + FROM_INTEGER.times(2) + Operator(700, 600, 8)
TABLES = ((256, 40), (1025, 38))  # entries, bits: exponential, normal distribution


def floats(engine: EngineConfig) -> int:
    """float32 in a beat."""
    return engine.beat // 4


def loaders(engine: EngineConfig, attends: bool, norms: bool) -> Operator:
    """What load_input, load_operand and store_output have beside the integer engine's."""
    each = LOADED + ORDER.times(2) + (OPERAND if attends else Operator(0, 0)) + (SQUARE if norms else Operator(0, 0))
    return each.times(floats(engine)) + STEPS + (DIVIDE.times(2) if attends else Operator(0, 0))


def memories(engine: EngineConfig, row_sum: int, norms: bool) -> list[tuple[int, int, int]]:
    """(depth, width in bits, copies)."""
    held = [(depth, bits, -(-floats(engine) // 2)) for depth, bits in TABLES]
    if row_sum:
        held += [
            (engine.tm * engine.tm // engine.beat, 8, engine.beat),
            (MOST_PIXELS, 32, 3),
            (MOST_PIXELS, row_sum, 2),
        ]
    return held + ([(MOST_PIXELS, 85, 2), (MOST_PIXELS, 64, 1)] if norms else [])
