"""LUT, FF, DSP, BRAM and URAM of an engine: formulas with named terms (docs/cost-model.md gives each source)."""

from dataclasses import dataclass
from functools import lru_cache

from hlsgen.cost import array, attention, dynamic, norm
from hlsgen.cost.hardware import BURST, MASTERS, OUTSTANDING
from hlsgen.cost.memory import SHALLOW, Memory, memory
from hlsgen.cost.streams import Depths
from hlsgen.program.attention import CHUNK, FRACTION, LARGEST_WEIGHT
from hlsgen.program.dynamic import LARGEST
from hlsgen.program.encode import attention_sums, score_shifts
from hlsgen.program.encode_dynamic import CHANNEL_BYTES, largest_sum
from hlsgen.program.ops import MOST_PIXELS, EngineConfig, Program
from hlsgen.quantize.spec import Scheme

# The MAC array's registers; its LUTs are hlsgen.cost.array's.
PACKED_FF, PRODUCT_FF = 60, 34  # pipeline registers of a pair of packed products and its trees; of a product in LUTs
# The epilogue, a lane; measured with yosys 0.23 synth_xilinx -family xc7.
REQUANT_LUT, REQUANT_FF = 197, 100  # bias, rounding shift, clamp, scheme fixed
RESIDUAL_LUT, RESIDUAL_FF = 238, 97  # sum of two products, rounding shift, clamp
RESIDUAL_DSP = 2  # the two products
AFFINE_DSP = 1  # 25 x 18 multiplier; two where the sum is wider than 25 bits
NATIVE_DSP, NATIVE_LUT = 7, 900  # float32: one product (3 DSP), two additions (2 DSP each), conversions (PG060)
# Ports and control. Estimates from published csynth reports of engines of this kind; the error bar is theirs.
AXI_LUT, AXI_LUT_A_BIT, AXI_FF, AXI_FF_A_BIT = 600, 4, 700, 8
CONTROL_LUT, CONTROL_FF = 250, 400  # AXI-Lite slave
LOADER_LUT, LOADER_FF = 450, 600  # load_input, load_residual, store_output each; load_weights half
ARRAY_LUT, ARRAY_FF = 900, 900  # the MAC process's own control
PIXEL_LUT = 150  # addresses of one pixel of a group
ADDRESS_PRODUCTS, ADDRESS_LUT = 12, 130  # products of addresses, 12 x 12 bits in LUTs
FIFO_LUT, FIFO_FF = 40, 60
PROGRAM_BITS = 780  # instruction bits that vary, summed over the processes that hold them; a LUT holds 64 ops of a bit
INTERCONNECT_LUT, INTERCONNECT_FF = 1200, 1500  # a master more than the part has ports: its share of a SmartConnect


@dataclass(frozen=True)
class Widths:
    """Signed widths in bits that the network's own weights prove, the table's entries, the network's extent; port: of the part's
    DSPs (`hlsgen.cost.array.PORTS`)."""

    scheme: Scheme
    acc: int
    biased: int
    table: int
    channels: int
    ops: int
    pools: bool
    residuals: bool
    port: int = 25
    row_sum: int = 0  # of an attention's rows, with their fraction; 0 where the network has none
    softmax: attention.Sums | None = None  # but in scheme `dynamic`
    norms: bool = False
    held: int = 0  # blocks of channels that wait to be stored as pixels


def widths(program: Program, port: int = 25) -> Widths:
    """As `hlsgen.program.encode` proves them."""
    import numpy as np

    acc = biased = 128
    for op in program.ops:
        if op.floats is not None:
            acc, biased = max(acc, largest_sum(op)), max(biased, 2 * largest_sum(op))
        if op.weights is not None and op.bias is not None:
            sums = np.abs(op.weights.astype(np.int64)).sum(axis=(1, 2, 3)) * 128
            acc, biased = max(acc, int(sums.max())), max(biased, int((sums + np.abs(op.bias.astype(np.int64))).max()))
    keys = 0
    for op in program.ops:
        if op.operand is not None:
            keys = max(keys, op.operand.keys)
        if op.operand is not None and op.floats is None:
            largest, merged = attention_sums(op)
            acc, biased = max(acc, largest), max(biased, merged)
    row_sum = ((LARGEST if program.scheme == "dynamic" else LARGEST_WEIGHT) * keys).bit_length() if keys else 0
    softmax = None
    if keys and program.scheme != "dynamic":
        merges = any(op.values is not None and op.operand is not None and op.operand.keys > CHUNK for op in program.ops)
        row_sum += FRACTION if merges else 0
        row, shifts = (LARGEST_WEIGHT * min(keys, CHUNK)).bit_length(), score_shifts(program)
        several = sum(op.softmax is not None for op in program.ops) > 1
        levels = max(attention.LEVELS, (shifts[1] - shifts[0]).bit_length()) if several else 0
        sums = acc.bit_length() + 1, row, row_sum, biased.bit_length() + 1 if merges else 0, levels
        softmax = attention.Sums(*sums)
    return Widths(
        program.scheme,
        acc.bit_length() + 1,
        biased.bit_length() + 1,
        max((len(op.table) for op in program.ops if op.table is not None), default=0),
        max(len(program.made(op).lanes) for op in program.ops if op.operand is None),
        len(program.ops),
        any(not op.multiplies and op.window.kernel != (1, 1) for op in program.ops),
        any(op.addition is not None for op in program.ops),
        port,
        row_sum,
        softmax,
        any(op.kind == "norm" for op in program.ops),
        max(op.spread for op in program.ops) - 1,
    )


@dataclass(frozen=True)
class Usage:
    """Resources used; bram36 in halves of a block (one RAMB18)."""

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram36: float = 0.0
    uram: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.lut + other.lut,
            self.ff + other.ff,
            self.dsp + other.dsp,
            self.bram36 + other.bram36,
            self.uram + other.uram,
        )

    def times(self, n: int) -> "Usage":
        return Usage(self.lut * n, self.ff * n, self.dsp * n, self.bram36 * n, self.uram * n)


@dataclass(frozen=True)
class Factors:
    """What a calibration multiplies the terms by: (term, resource, factor), 1 where nothing is said.

    extra: what a core takes that no term foresees.
    """

    of: tuple[tuple[str, str, float], ...] = ()
    extra: Usage = Usage()

    def factor(self, term: str, resource: str) -> float:
        return next((factor for t, r, factor in self.of if (t, r) == (term, resource)), 1.0)

    def applied(self, found: dict[str, Usage]) -> dict[str, Usage]:
        """The terms, each resource of each times its factor, in whole units (BRAM in halves)."""
        values = {name: dict(vars(term)) for name, term in found.items()}
        for term, resource, factor in self.of:
            if term in values:  # a calibration may know terms that this engine has not
                values[term][resource] = _whole(resource, values[term][resource] * factor)
        scaled = {name: Usage(**value) for name, value in values.items()}
        return scaled if self.extra == Usage() else scaled | {"not foreseen": self.extra}


AS_MODELLED = Factors()


def terms(engine: EngineConfig, w: Widths, d: Depths) -> dict[str, Usage]:
    """One core's resources by term, before any calibration."""
    lanes = _float_lanes(engine, w) if w.scheme == "dynamic" else _lanes(engine, w)
    return {**_array(engine, w), **lanes, **_around(engine, w, d)}


def _array(engine: EngineConfig, w: Widths) -> dict[str, Usage]:
    """The MAC array with its buffers."""
    tm, tn, tp = engine.tm, engine.tn, engine.tp
    pairs = engine.dsp_tn * tm * tp // 2
    in_luts = (tn - engine.dsp_tn) * tm * tp
    # An accumulator adds in one LUT a bit; a maximum beside it compares in half a LUT a bit and selects in one.
    accumulate = tp * tm * (w.acc + (w.acc * 3 // 2 if w.pools else 0))
    select = tp * tm * 4 + (tp * tn * 8 * (tm // tn) // 4 if tm > tn else 0) + tm * 8  # banks, halves, the word filled
    return {
        "products in DSPs": Usage(lut=array.in_dsps(engine, w.port), ff=pairs * PACKED_FF, dsp=pairs),
        "products in LUTs": Usage(lut=array.in_luts(engine), ff=in_luts * PRODUCT_FF),
        "weight registers": Usage(lut=tn * tm * 8 // 8, ff=2 * tn * tm * 8),
        "accumulators": Usage(lut=accumulate, ff=tp * tm * w.acc) + _memory(memory(engine.acc_depth, tm * w.acc), tp),
        "patch buffers": Usage(lut=select, ff=tp * tm * 8 * 2)
        + _memory(memory(engine.patch_depth, tm * 8, engine.uram), 2 * tp),
    }


def _lanes(engine: EngineConfig, w: Widths) -> dict[str, Usage]:
    """The epilogue of the integer schemes."""
    tm, tp, lanes, beat = engine.tm, engine.tp, engine.lanes, engine.beat
    lane_lut = NATIVE_LUT if w.scheme == "native" else REQUANT_LUT
    multiplied = AFFINE_DSP * (1 if w.biased <= 25 else 2)
    lane_dsp = {"fixed": multiplied if w.row_sum else 0, "affine": multiplied, "native": NATIVE_DSP}[w.scheme]
    residual_lut = RESIDUAL_LUT if w.residuals else 0
    pick = w.acc * (tp * tm // lanes) // 4  # a lane's sum out of the group
    word = beat // 2 if w.table // beat > SHALLOW else beat  # a beat is written through both ports of a block memory
    return {
        "epilogue lanes": Usage(
            lut=lanes * (lane_lut + residual_lut + pick),
            ff=lanes * (REQUANT_FF + (RESIDUAL_FF if w.residuals else 0)),
            dsp=lanes * (lane_dsp + (RESIDUAL_DSP if w.residuals else 0)),
        ),
        # Two lanes share a copy, which holds half a beat a word.
        "tables": _memory(memory(-(-w.table // word), word * 8, engine.table_uram, two_readers=True), -(-lanes // 2)),
        "channel parameters": _memory(memory(max(1, w.channels // tm), 64), tm)
        + Usage(lut=lanes * 64 * (tm // lanes) // 4),
    }


def _float_lanes(engine: EngineConfig, w: Widths) -> dict[str, Usage]:
    """The epilogue of scheme dynamic, and what makes integers of floats."""
    tm, lanes, bits = engine.tm, dynamic.floats(engine), CHANNEL_BYTES * 6
    pick = w.acc * (engine.tp * tm // lanes) // 4
    attends, norms = w.row_sum > 0, w.norms
    lane, load = dynamic.LANE.times(lanes), dynamic.loaders(engine, attends, norms)
    tables = sum((_memory(memory(*m[:2]), m[2]) for m in dynamic.memories(engine, w.row_sum, norms)), Usage())
    divides = dynamic.DIVIDE if attends else dynamic.Operator(0, 0)
    made = divides + (dynamic.NORM if norms else dynamic.Operator(0, 0))
    return {
        "epilogue lanes": Usage(lane.lut + lanes * pick, lane.ff, lane.dsp),
        "integers of floats": Usage(load.lut, load.ff, load.dsp),
        "softmax and LayerNorm": Usage(made.lut, made.ff, made.dsp),
        "tables": tables,
        "channel parameters": _memory(memory(max(1, w.channels // tm), bits), tm)
        + Usage(lut=lanes * bits * (tm // lanes) // 4),
    }


def _around(engine: EngineConfig, w: Widths, d: Depths) -> dict[str, Usage]:
    """Streams, ports and control."""
    tm, tp, bits = engine.tm, engine.tp, engine.beat * 8
    port = _memory(memory(OUTSTANDING * BURST, bits))
    whole = w.scheme != "dynamic"  # its softmax and LayerNorm have terms of their own
    return {
        "streams": Usage(lut=6 * FIFO_LUT, ff=6 * FIFO_FF)
        + _memory(memory(d.sums, tp * tm * w.acc))
        + sum((_memory(memory(n, bits)) for n in (d.input, d.weights, d.residual, d.output, d.parameters)), Usage()),
        "AXI ports": (Usage(lut=AXI_LUT + AXI_LUT_A_BIT * bits, ff=AXI_FF + AXI_FF_A_BIT * bits) + port).times(MASTERS),
        "AXI-Lite": Usage(lut=CONTROL_LUT, ff=CONTROL_FF),
        "loaders": Usage(lut=LOADER_LUT * 7 // 2, ff=LOADER_FF * 7 // 2)
        + _memory(memory(MOST_PIXELS * (tm // engine.beat) * (1 if whole else 4), bits), w.held),
        "array control": Usage(lut=ARRAY_LUT + tp * PIXEL_LUT, ff=ARRAY_FF + tp * PIXEL_LUT),
        "addresses": Usage(lut=ADDRESS_PRODUCTS * ADDRESS_LUT),
        **({"attention": _attention(engine, w.softmax, d)} if w.softmax is not None else {}),
        **({"LayerNorm": _norm(engine)} if w.norms and whole else {}),
        "program": Usage(lut=PROGRAM_BITS * -(-w.ops // 64)),
    }


def _attention(engine: EngineConfig, w: attention.Sums, d: Depths) -> Usage:
    lut, ff, dsp = attention.logic(engine, w)
    held = sum((_memory(memory(n, bits), copies) for n, bits, copies in attention.memories(engine, w)), Usage())
    fifos = Usage(lut=2 * FIFO_LUT, ff=2 * FIFO_FF) + _memory(memory(d.weights, engine.beat * 8))
    return Usage(lut=lut, ff=ff, dsp=dsp) + held + fifos


def _norm(engine: EngineConfig) -> Usage:
    lut, ff, dsp = norm.logic(engine)
    held = sum((_memory(memory(MOST_PIXELS, bits)) for bits in norm.MEMORIES), Usage())
    return Usage(lut=lut + FIFO_LUT, ff=ff + FIFO_FF, dsp=dsp) + held


@lru_cache(maxsize=1 << 16)
def usage(engine: EngineConfig, w: Widths, d: Depths, factors: Factors = AS_MODELLED) -> Usage:
    """Resources of one core."""
    return sum(factors.applied(terms(engine, w, d)).values(), Usage())


def total_usage(
    engine: EngineConfig, w: Widths, d: Depths, cores: int, ports: int, factors: Factors = AS_MODELLED
) -> Usage:
    """Resources of `cores` cores on a part with `ports` memory ports, interconnect included."""
    shared = max(0, MASTERS * cores - ports)
    return usage(engine, w, d, factors).times(cores) + Usage(lut=INTERCONNECT_LUT, ff=INTERCONNECT_FF).times(shared)


def _whole(resource: str, value: float) -> float:
    """Whole units; half blocks of BRAM."""
    return round(value * 2) / 2 if resource == "bram36" else round(value)


def _memory(m: Memory, copies: int = 1) -> Usage:
    return Usage(lut=m.lut * copies, bram36=m.ramb18 * copies / 2, uram=m.uram * copies)
