"""What LayerNorm costs beside the epilogue's other work: resources of templates/engine/norm.h, by its operators' widths."""

from hlsgen.program.ops import EngineConfig

SQUARE_LUT = 40  # of an element of a beat, as a product of the array in LUTs
LANE_LUT, LANE_FF, LANE_DSP = 480, 260, 2  # centring, two products, two rounding shifts
CONSTANTS_DSP = 6  # sum squared, squares times channels
DIVIDER_LUT = 33 * 50  # a subtraction of 50 bits for each of 33 digits
ROOT_LUT = 17 * 40
MEMORIES = (50, 50, 44)  # bits a pixel: sums being taken, their stream, what normalizes


def logic(engine: EngineConfig) -> tuple[int, int, int]:
    """LUT, FF and DSP."""
    taking = engine.beat * (SQUARE_LUT + 25) + 50
    lut = taking + engine.lanes * LANE_LUT + DIVIDER_LUT + ROOT_LUT
    return lut, taking + engine.lanes * LANE_FF + 2 * DIVIDER_LUT, engine.lanes * LANE_DSP + CONSTANTS_DSP
