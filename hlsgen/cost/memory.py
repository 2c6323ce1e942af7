"""What an array costs in block memories, as the tools map it. Sizes in bits."""

from typing import NamedTuple

# A RAMB18E1/E2 as simple dual port: depth x width (UG473 table 1-7, UG573 table 1-7).
RAMB18 = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
# As true dual port, both ports reading, each is at most 18 bits wide (UG473 table 1-6, UG573 table 1-6).
TRUE_DUAL = RAMB18[1:]
URAM = (4096, 72)  # UG573; both its ports read and write
SHALLOW = 64  # up to this depth in LUTs (RAM64M: three bits in four LUTs)
FEW_BITS = 1024  # Vitis HLS keeps a memory of so few bits in LUTs


class Memory(NamedTuple):
    """BRAM in halves (RAMB18), URAM blocks, LUTs as memory."""

    ramb18: int = 0
    uram: int = 0
    lut: int = 0


def memory(depth: int, width: int, uram: bool = False, two_readers: bool = False) -> Memory:
    """One memory of `depth` words of `width` bits with a port to write and a port to read, or with two ports that read."""
    if depth <= SHALLOW or depth * width <= FEW_BITS:
        return Memory(lut=-(-depth // 64) * -(-width * 4 // 3) * (2 if two_readers else 1))
    if uram:
        return Memory(uram=-(-depth // URAM[0]) * -(-width // URAM[1]))
    return Memory(ramb18=min(-(-depth // d) * -(-width // w) for d, w in (TRUE_DUAL if two_readers else RAMB18)))
