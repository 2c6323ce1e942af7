"""The area of an array by formula: docs/area.md says where each term comes from."""

from benchmarks.area.array import Array

PRODUCT_LUT = 44  # a Booth product: rows of 10 bits on 4 carry chains, and the ones' complements' ones


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
    """LUTs as shift registers: operand n of a cascade waits n cycles, three or more of which are a shift register."""
    packs, _ = packed(array)
    if not array.dsp_tn:
        return 0
    per_term = 17 * packs // array.dsp_tn + 8 * (array.tm if array.tp % 2 == 0 else array.tp)
    return per_term * max(0, array.dsp_tn - 3)


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
