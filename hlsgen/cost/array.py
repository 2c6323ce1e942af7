"""LUTs of the MAC array of templates/engine/dot.h: the formulas of docs/area.md for an engine."""

from hlsgen.program.ops import EngineConfig

PRODUCT_LUT = 40  # a product in LUTs: four Booth rows on carry chains of 10 bits
PORTS = {"DSP48E1": 25, "DSP48E2": 27, "DSP58": 27}  # the wide operand in which two lie side by side


def in_dsps(engine: EngineConfig, port: int) -> int:
    """LUTs beside the DSPs: packing, residues, splits, shift registers along the cascades."""
    t, tm, tp = engine.dsp_tn, engine.tm, engine.tp
    if not t:
        return 0
    packs, shared = (t * tp // 2, tm) if tp % 2 == 0 else (t * tm // 2, tp)
    sums, bits = tm * tp // 2, residue_bits(t, port)
    logic = 9 * packs + sums * (bits * (2 * t - 1) + bits + sum_bits(engine) + 3)
    return logic + 17 * packs // t * max(0, t - 2) + 8 * shared * max(0, t - 3)


def in_luts(engine: EngineConfig) -> int:
    """LUTs of the other products: rows, trees, and what joins and delays their sums."""
    fabric, outputs, t = engine.tn - engine.dsp_tn, engine.tm * engine.tp, engine.dsp_tn
    if not fabric:
        return 0
    total = outputs * (fabric * PRODUCT_LUT + tree(fabric))
    if t:
        total += outputs * sum_bits(engine)
        levels = (fabric - 1).bit_length()
        if t + 4 - (2 + levels) >= 3:
            total += outputs * (16 + levels)
    return total


def residue_bits(terms: int, port: int) -> int:
    """Bits of a cascade's lower sum that its lane of port - 9 bits does not hold."""
    bits = 0
    while 1 << (port - 9 + bits) < 32640 * terms + 1:
        bits += 1
    return bits


def sum_bits(engine: EngineConfig) -> int:
    """Signed bits of a sum of TN products of two INT8."""
    return (16384 * engine.tn).bit_length() + 1


def tree(terms: int) -> int:
    """LUTs of an adder tree over 16-bit products: a LUT a bit, a bit more each level."""
    total, bits = 0, 16
    while terms > 1:
        bits += 1
        total += terms // 2 * bits
        terms = (terms + 1) // 2
    return total


def latency(engine: EngineConfig) -> int:
    """Cycles from operands to sums: a cascade takes one a term."""
    return engine.dsp_tn + 4 if engine.dsp_tn else 2 + (engine.tn - 1).bit_length()
