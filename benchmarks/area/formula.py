"""The area of an array by formula: docs/area.md says where each term comes from."""

from benchmarks.area.array import Array

PRODUCT_LUT = 40  # a Booth product: four rows on carry chains of 10 bits


def luts(array: Array) -> int:
    """LUTs of logic."""
    a = array
    packs, sums = packed(a)
    bits = a.residue_bits if a.dsp_tn else 0
    # A residue: `bits` LUTs a product (its k-th bit has 2k + 2 inputs) and `bits` an addition.
    residue = bits * (2 * a.dsp_tn - 1)
    # The split: code and sign of the lane, then the upper sum less the lane's floor.
    split = bits + a.sum_bits + 3 if a.dsp_tn else 0
    total = 9 * packs + sums * (residue + split)
    fabric = a.tn - a.dsp_tn
    total += fabric * a.tm * a.tp * PRODUCT_LUT + a.tm * a.tp * adders(fabric)
    if fabric and a.dsp_tn:
        total += a.tm * a.tp * a.sum_bits
    return total


def shift_registers(array: Array) -> int:
    """LUTs as shift registers: operand n of a cascade waits n cycles, and three or more are a shift register."""
    a = array
    if not a.dsp_tn:
        return 0
    packs, _ = packed(a)
    shared = a.tm if a.tp % 2 == 0 else a.tp
    total = 17 * packs // a.dsp_tn * max(0, a.dsp_tn - 2) + 8 * shared * max(0, a.dsp_tn - 3)
    fabric = a.tn - a.dsp_tn
    levels = (fabric - 1).bit_length()
    if fabric and a.dsp_tn + 4 - (2 + levels) >= 3:
        total += a.tm * a.tp * (16 + levels)  # the LUT products' sums wait for the cascades
    return total


def packed(array: Array) -> tuple[int, int]:
    """Packed operands, and pairs of sums (cascades)."""
    a = array
    if a.tp % 2 == 0:
        return a.dsp_tn * a.tp // 2, a.tm * a.tp // 2
    return a.dsp_tn * a.tm // 2, a.tm * a.tp // 2


def adders(terms: int) -> int:
    """LUTs of a tree over `terms` 16-bit products: a LUT a bit, a bit more each level."""
    total, bits = 0, 16
    while terms > 1:
        bits += 1
        total += terms // 2 * bits
        terms = (terms + 1) // 2
    return total
