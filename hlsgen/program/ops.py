"""The Program: what the engine executes, as typed, frozen machine ops on tensors in DDR.

Feature maps lie in DDR as [blocks][height][width][TM] int8, in blocks of `EngineConfig.tm` channels. A tensor's `lanes`
say which logical channel each physical lane holds (-1: none), so that splits fall on block boundaries and a
concatenation is a list of addresses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import Addition, Requant
from hlsgen.program.dynamic import FloatOp
from hlsgen.program.layer_norm import Norm
from hlsgen.quantize.spec import Scheme, TensorQ

Kind = Literal["convolution", "max_pool", "elementwise", "scores", "attend", "norm"]
EXTENT_BYTES = 64  # behind a float32 tensor, for its least and its largest element: a multiple of every beat
MOST_PIXELS = 1024  # of a tile of scores, attention or LayerNorm: the engine holds something for each pixel


@dataclass(frozen=True)
class EngineConfig:
    """The engine's parallelism and buffers.

    tm, tn, tp: output channels, input channels and pixels multiplied in one cycle. beat: bytes of one AXI transfer.
    lanes: output elements the epilogue makes in one cycle. patch_depth: blocks of tm bytes in one input patch buffer.
    acc_depth: groups of tp pixels whose sums stay on chip. dsp_tn: how many of the tn input channels are multiplied in
    DSPs, two products each; the others in LUTs. uram, table_uram: the patch buffers, the activation table in URAM instead
    of BRAM. narrow: an attention's scores are made a beat a cycle, not all of TP x TM sums at once, and less of it is held
    (`hlsgen.program.chunks.held`).
    """

    tm: int = 16
    tn: int = 16
    tp: int = 2
    beat: int = 8
    lanes: int = 8
    patch_depth: int = 2048
    acc_depth: int = 1024
    dsp_tn: int = 0
    uram: bool = False
    table_uram: bool = False
    narrow: bool = False

    def __post_init__(self) -> None:
        for name in ("tm", "tn", "tp", "beat", "lanes", "patch_depth", "acc_depth"):
            value = getattr(self, name)
            if not 1 <= value <= 1 << 20:
                raise HlsgenError(f"engine parameter {name} expects 1 to {1 << 20}, got {value}")
        if not 0 <= self.dsp_tn <= self.tn:
            raise HlsgenError(f"engine parameter dsp_tn expects 0 to TN = {self.tn}, got {self.dsp_tn}")
        if self.tm % self.tn:
            raise HlsgenError(f"TN must divide TM, got TM {self.tm} and TN {self.tn}")
        if self.tm % self.beat or self.beat % 8:
            raise HlsgenError(f"a port of {self.beat} bytes expects a multiple of 8 that divides TM, got TM {self.tm}")
        if self.beat % self.lanes:
            raise HlsgenError(f"the epilogue's lanes must divide the port's {self.beat} bytes, got {self.lanes}")

    @property
    def pass_min(self) -> int:
        """Least cycles of one pass: the next pass's weights load meanwhile, and a sum is read again only that late."""
        return max(16, self.tn * self.tm // self.beat)

    @property
    def score_parts(self) -> int:
        """Cycles in which the scores of a group of TP pixels and a block of TM keys are made."""
        return self.tp * self.tm // self.beat if self.narrow else 1


@dataclass(frozen=True)
class Tensor:
    """A feature map in DDR.

    address: in beats; tensors that are never needed at once may share it. fold: n where n x n pixels of an image were folded into
    channels. reference: the node of the quantized network whose output this is. compared: False of scores that only the engine
    holds (`hlsgen.models.attention.MANY_SCORES`).
    """

    name: str
    channels: int
    height: int
    width: int
    quant: TensorQ
    lanes: tuple[int, ...]
    address: int
    reference: str
    fold: int = 1
    compared: bool = True

    @property
    def element(self) -> int:
        """Bytes of an element: 1, of a float32 4."""
        return 4 if self.quant.bits == 32 else 1

    def bytes(self) -> int:
        return len(self.lanes) * self.height * self.width * self.element

    def beats(self, beat: int) -> int:
        """Beats of `beat` bytes that it takes, its extent behind it where it is float32."""
        return (self.bytes() + (EXTENT_BYTES if self.element == 4 else 0)) // beat

    @property
    def kind(self) -> type[np.generic]:
        """Its elements' type in memory."""
        return np.float32 if self.element == 4 else np.int8

    def pack(self, values: npt.NDArray[Any], tm: int) -> npt.NDArray[np.int8]:
        """[C, H, W] int8 (or float32) to the bytes in DDR (flat); lanes without a channel hold 0."""
        values = values.astype(self.kind)
        if self.fold > 1:
            values = fold_pixels(values, self.fold)
        full = np.concatenate([values, np.zeros((1, *values.shape[1:]), self.kind)])  # lane -1 takes the zeros
        blocks = full[np.array(self.lanes)].reshape(-1, tm, self.height, self.width)
        return np.ascontiguousarray(blocks.transpose(0, 2, 3, 1)).reshape(-1).view(np.int8)

    def unpack(self, data: npt.NDArray[np.int8], tm: int) -> npt.NDArray[Any]:
        """The bytes in DDR (flat) to [C, H, W] int8 or float32 (folded pixels stay folded)."""
        blocks = data.view(self.kind).reshape(-1, self.height, self.width, tm).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(blocks.reshape(len(self.lanes), self.height, self.width)[self.lane_of()])

    def lane_of(self) -> npt.NDArray[np.int64]:
        """The physical lane of each logical channel, int64 [channels]."""
        where = np.zeros(self.channels, np.int64)
        for lane, channel in enumerate(self.lanes):
            if channel >= 0:
                where[channel] = lane
        return where


def fold_pixels(values: npt.NDArray[Any], fold: int) -> npt.NDArray[Any]:
    """Space to depth, [C, H, W] to [C * fold**2, H / fold, W / fold]; channel order (c, dy, dx)."""
    c, h, w = values.shape
    v = values.reshape(c, h // fold, fold, w // fold, fold).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(v.reshape(c * fold * fold, h // fold, w // fold))


@dataclass(frozen=True)
class Source:
    """Consecutive channel blocks of a tensor from row `top` and column `left` on, upsampled by 2**upsample as they are read."""

    tensor: str
    first_block: int
    blocks: int
    upsample: int = 0
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class Window:
    """Kernel, stride and padding (top, left); the bottom and right padding follow from the output's size."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Operand:
    """A feature map in the place of weights: the keys of scores, the values of an attention.

    source: its blocks, none upsampled; every head's channels begin a block. lanes: its logical channel in each physical
    lane (-1: none). zero_point: of its integers. keys: tokens, height * width. window: (rows, columns) of the windows within
    which queries meet keys, in maps of one size; (0, 0): all meet all. others: sources that follow the first, in scheme `dynamic`.
    alike: whether the windows below each other, beside each other have equal keys (a constant map's). places: how many blocks of
    channels of a key, before those of `source`, say by `unit` alone in which row it lies, and how many in which column; no tensor
    holds them. (0, 0): none.
    """

    source: Source
    lanes: tuple[int, ...]
    heads: int
    keys: int
    zero_point: int
    window: tuple[int, int] = (0, 0)
    others: tuple[Source, ...] = ()
    alike: tuple[bool, bool] = (False, False)
    places: tuple[int, int] = (0, 0)
    unit: int = 0

    @property
    def within(self) -> tuple[int, int]:
        """Rows and columns of queries that meet the same keys, in which a tile has to lie; 0: any number."""
        rows, columns = (0 if alike else n for n, alike in zip(self.window, self.alike, strict=True))
        return rows, columns


@dataclass(frozen=True)
class Softmax:
    """Of an attention: the scores' quantization, and the shift that takes sums of queries times keys to it."""

    scores: TensorQ
    shift: int


@dataclass(frozen=True)
class Tile:
    """Output tile: rows, columns, channel blocks."""

    rows: int
    cols: int
    blocks: int


@dataclass(frozen=True, eq=False)
class Op:
    """One machine op: out = residual(table(requantize(accumulate(sources)))).

    lanes: logical input channel of each physical input lane (-1: none). weights: int8 [O, I / groups, KH, KW] and bias:
    int32 [O] (zero point folded in) of a convolution; pools and elementwise ops have neither and take the maximum over
    their window. operand: the keys that scores multiply by instead (docs/arithmetic-attention.md). An attention's sources are its
    queries; it has `values` too, as many heads and tokens of them, and `softmax` for the scores between, which are no tensor. The
    requant of both has one multiplier and shift for the whole tensor. table: int8 [2**pre bits] or None. residual: the blocks added
    after the table, in the lanes of `out`. norm: a LayerNorm's constants; its sources are its input, twice: first its sums are
    taken. spread: above 1, the channels it makes are spread * spread times the tensor's, by (row, column, channel): they are stored
    as pixels (`Program.made`). idle: products a pixel with what is zero by construction, not counted as multiply-accumulates
    (`hlsgen.macs`): of weights folded, of keys that say where they lie.

    floats: of scheme `dynamic`: an attention is two ops there, and blocks of scores begin with one, without channels, that holds
    the rows' largest; then there are no bias, requantization, table, addition or norm (docs/arithmetic-dynamic.md),
    weights are int8 or int16, and a LayerNorm has its input as `residual` too.
    """

    name: str
    kind: Kind
    sources: tuple[Source, ...]
    lanes: tuple[int, ...]
    in_size: tuple[int, int]
    in_quant: TensorQ
    out: str
    window: Window
    groups: int
    requant: Requant
    tile: Tile
    weights: npt.NDArray[np.int8] | None = None
    bias: npt.NDArray[np.int32] | None = None
    table: npt.NDArray[np.int8] | None = None
    residual: Source | None = None
    addition: Addition | None = None
    operand: Operand | None = None
    values: Operand | None = None
    softmax: Softmax | None = None
    norm: Norm | None = None
    spread: int = 1
    idle: int = 0
    floats: FloatOp | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that the op reads."""
        operands = (held for held in (self.operand, self.values) if held is not None)
        operand = [source for held in operands for source in (held.source, *held.others)]
        residual = () if self.residual is None else (self.residual,)
        return tuple(dict.fromkeys(source.tensor for source in (*self.sources, *operand, *residual)))

    @property
    def multiplies(self) -> bool:
        """Whether the MAC array multiplies, or takes maxima."""
        return self.weights is not None or self.operand is not None

    @property
    def special(self) -> str:
        """Its kind where it is scores, an attention or a LayerNorm, else ""."""
        return self.kind if self.kind in ("scores", "attend", "norm") else ""

    @property
    def macs_per_pixel(self) -> int:
        if self.operand is not None:  # each query meets all keys, and their values
            channels = max(self.operand.lanes) + 1
            if self.values is not None:
                channels = max(self.lanes) + 1 + max(self.values.lanes) + 1
            return self.operand.keys * channels - self.idle
        return 0 if self.weights is None else int(self.weights.size) - self.idle


def spread_lanes(lanes: tuple[int, ...], spread: int, tm: int) -> tuple[int, ...]:
    """The lanes of channels that become pixels, from those of the tensor that they become: row by row, and in it block by block,
    those of neighbouring pixels one behind the other."""
    channels, found = max(lanes) + 1, list[int]()
    for row in range(spread):
        for block in (lanes[i : i + tm] for i in range(0, len(lanes), tm)):
            for part in range(row * spread, (row + 1) * spread):
                found += [c + part * channels if c >= 0 else -1 for c in block]
    return tuple(found)


@dataclass(frozen=True)
class Made:
    """Physical output lanes of an op (their logical channels, -1: none), and its output's rows and columns."""

    lanes: tuple[int, ...]
    height: int
    width: int


@dataclass(frozen=True)
class Program:
    """A network on an engine: ops in order of execution, tensors by name, network inputs and outputs by tensor name.

    inputs: the image, then what else there is (a prompt); they lie in memory one behind the other, in this order.
    constants: the tensors that nothing computes, int8 or float32 [C, H, W] by name; they are in memory before the first op runs.
    """

    name: str
    scheme: Scheme
    engine: EngineConfig
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    image: tuple[int, int, int]  # C, H, W before folding
    fmap_beats: int = field(default=0)
    constants: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @cached_property
    def once(self) -> int:
        """Ops, from the first on, that depend on the image alone: they run once for all prompts of a picture."""
        changing = set(self.inputs[1:])
        for i, op in enumerate(self.ops):
            if changing.intersection(op.reads):
                return i
        return len(self.ops)

    def made(self, op: Op) -> "Made":
        """What the op makes, before its channels become pixels."""
        out, n = self.tensors[op.out], op.spread
        return Made(spread_lanes(out.lanes, n, self.engine.tm), out.height // n, out.width // n)

    def expected(self) -> list[int | None]:
        """Where in expected.bin each op's output begins, in bytes: one behind the other; None of what is not compared."""
        found: list[int | None] = []
        at = 0
        for tensor in (self.tensors[op.out] for op in self.ops):
            found.append(at if tensor.compared else None)
            at += tensor.bytes() if tensor.compared else 0
        return found

    def expected_bytes(self) -> int:
        """The size of expected.bin."""
        return sum(self.tensors[op.out].bytes() for op in self.ops if self.tensors[op.out].compared)

    def macs(self) -> int:
        """Multiply-accumulates of one inference, as the network defines them (`hlsgen.macs`; folding adds none)."""
        return sum(op.macs_per_pixel * made.height * made.width for op in self.ops for made in [self.made(op)])
