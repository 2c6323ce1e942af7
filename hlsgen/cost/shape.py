"""What the cost of an op depends on: its sizes, without its integers."""

from dataclasses import dataclass, field

from hlsgen.cost.streams import PARAMETER_BYTES
from hlsgen.program.attention import CHUNK
from hlsgen.program.encode_dynamic import CHANNEL_BYTES as DYNAMIC_PARAMETER_BYTES
from hlsgen.program.groups import BlockGroups
from hlsgen.program.ops import Window


@dataclass(frozen=True)
class OpShape:
    """Sizes of an op for blocks of TM channels.

    size_in, size_out: height and width in pixels. sources: (blocks, log2 of the upsampling) of each source. last_lanes:
    lanes in use of the last input block of a group. channels: physical output channels. macs: products the network
    defines (padding lanes excluded). table_bytes: 0 without a table. special: "scores" or "attend" where other feature maps
    stand in the place of weights, "norm" of a LayerNorm, which reads its blocks twice, else "". window_of_keys: rows and
    columns of an attention's windows; (0, 0): none. within: of what a tile is a part, 0 for any number: that of the windows, unless
    those beside each other have equal keys.
    places: input blocks that say in which row and in which column a key lies (`Operand.places`), of which a block of keys meets
    one each. spread: above 1, channels are stored as pixels, a row a burst. parts: in scheme `dynamic`, how often the input is
    read, else 0. read, stored: bytes of an element of the input and of what is stored. keys: of a head, where an attention's scores
    stay on chip ("attend", but in scheme `dynamic`), else 0.
    """

    window: Window
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    groups: BlockGroups
    convolves: bool
    sources: tuple[tuple[int, int], ...]
    last_lanes: int
    channels: int
    residual: bool = False
    table_bytes: int = 0
    macs: int = field(default=0, compare=False)
    special: str = ""
    window_of_keys: tuple[int, int] = (0, 0)
    within: tuple[int, int] = (0, 0)
    spread: int = 1
    places: tuple[int, int] = (0, 0)
    parts: int = 0
    read: int = 1
    stored: int = 1
    keys: int = 0

    @property
    def taps(self) -> int:
        return self.window.kernel[0] * self.window.kernel[1]

    @property
    def dynamic(self) -> bool:
        """Whether floats become integers as they are read, and what softmax and LayerNorm sum up is found then."""
        return self.parts > 0

    @property
    def passes(self) -> bool:
        """Whether floats go past the MAC array: what is added or activated only."""
        return self.dynamic and not self.convolves and not self.special

    @property
    def parameter_bytes(self) -> int:
        """Bytes of a channel's parameters."""
        return DYNAMIC_PARAMETER_BYTES if self.dynamic else PARAMETER_BYTES

    @property
    def steps(self) -> int:
        """Input blocks that the MAC process takes for a tile."""
        return 0 if self.dynamic and not self.convolves else self.groups.inputs

    @property
    def attends(self) -> bool:
        """Whether a feature map stands in the place of weights."""
        return self.special in ("scores", "attend")

    @property
    def tells(self) -> bool:
        """Scheme dynamic: whether the rows' largest scores are stored as a block more a head."""
        return self.special == "scores" and self.dynamic

    @property
    def chunks(self) -> int:
        """Chunks of an attention's keys; 1 of any other op."""
        return max(1, -(-self.keys // CHUNK))

    @property
    def visits(self) -> int:
        """How often the epilogue goes through a tile: for each chunk, and once more where there are several."""
        return self.chunks + (self.chunks > 1)

    @property
    def filled_only(self) -> int:
        """Input blocks of a tile that are filled but not computed with."""
        return self.groups.inputs // 2 if self.special == "norm" and not self.dynamic else 0
