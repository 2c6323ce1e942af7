"""The choice of an op's tile: the fewest estimated cycles within the engine's buffers."""

from hlsgen.errors import HlsgenError
from hlsgen.program.groups import BlockGroups
from hlsgen.program.ops import EngineConfig, Tile, Window

BURST_LATENCY = 40  # cycles from a burst's request to its first beat, DDR3 behind a Zynq-7000 HP port
STEP_OVERHEAD = 24  # cycles to set a step up and to drain its pipeline


def step_cycles(engine: EngineConfig, window: Window, tile: Tile, whole: bool, halves: int, convolves: bool) -> int:
    """Cycles of one step of the MAC process: the largest of computing, filling the patch and reading it."""
    rows, cols = _patch(window, tile)
    groups = -(-tile.rows * tile.cols // engine.tp)
    taps = window.kernel[0] * window.kernel[1]
    compute = (tile.blocks * halves if convolves else 1) * taps * max(groups, engine.pass_min)
    beats = rows * cols * (engine.tm // engine.beat)
    read = beats + (1 if whole else rows) * BURST_LATENCY
    return max(compute, read) + STEP_OVERHEAD


def _patch(window: Window, tile: Tile) -> tuple[int, int]:
    (kh, kw), (sh, sw) = window.kernel, window.stride
    return (tile.rows - 1) * sh + kh, (tile.cols - 1) * sw + kw


def choose_tile(
    engine: EngineConfig, window: Window, size: tuple[int, int], groups: BlockGroups, convolves: bool, where: str
) -> Tile:
    """The legal tile with the fewest estimated cycles; size: the output's height and width.

    Raises:
        HlsgenError: where not even one row of TP pixels fits the patch buffer.
    """
    height, width = size
    halves = engine.tm // engine.tn
    best: tuple[int, int, Tile] | None = None
    for cols in _splits(width):
        for rows in _splits(height):
            patch = _patch(window, Tile(rows, cols, 1))
            if patch[0] * patch[1] > engine.patch_depth:
                continue
            room = engine.acc_depth // -(-rows * cols // engine.tp) if convolves else 1
            for blocks in (b for b in range(1, groups.outputs + 1) if groups.outputs % b == 0 or groups.count == 1):
                if blocks > room or (not convolves and blocks > 1):
                    break
                tile = Tile(rows, cols, blocks)
                tiles_m = groups.count * -(-groups.outputs // blocks)
                steps = -(-height // rows) * -(-width // cols) * tiles_m * groups.inputs
                cycles = steps * step_cycles(engine, window, tile, cols == width, halves, convolves)
                candidate = (cycles, -rows * cols * blocks, tile)
                if best is None or candidate[:2] < best[:2]:
                    best = candidate
    if best is None:
        patch = _patch(window, Tile(1, 1, 1))
        raise HlsgenError(
            f"{where} needs a patch of {patch[0]} x {patch[1]} pixels but the engine's buffer holds {engine.patch_depth}; "
            "raise the engine's patch depth"
        )
    return best[2]


def _splits(n: int) -> list[int]:
    """The distinct tile sizes that cut n into 1, 2, 3 ... equal parts, largest first."""
    return sorted({-(-n // parts) for parts in range(1, n + 1)}, reverse=True)
