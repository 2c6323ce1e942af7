"""What the cost of an op depends on: its sizes, without its integers."""

from dataclasses import dataclass, field

from hlsgen.cost.streams import PARAMETER_BYTES
from hlsgen.program.encode_dynamic import CHANNEL_BYTES as DYNAMIC_PARAMETER_BYTES
from hlsgen.program.groups import BlockGroups
from hlsgen.program.ops import Window


@dataclass(frozen=True)
class OpShape:
    """Sizes of an op for blocks of TM channels.

    size_in, size_out: height and width in pixels. sources: (blocks, log2 of the upsampling) of each source. last_lanes:
    lanes in use of the last input block of a group. channels: physical output channels. macs: products the network
    defines (padding lanes excluded). table_bytes: 0 without a table. special: "scores" or "attend" where another feature map
    stands in the place of weights, "norm" of a LayerNorm, which reads its blocks twice, else "". window_of_keys: rows and
    columns of an attention's windows; (0, 0): none. within: of what a tile is a part, 0 for any number: that of the windows, unless
    those beside each other have equal keys.
    places: input blocks that say in which row and in which column a key lies (`Operand.places`), of which a block of keys meets
    one each; a tile's blocks are whole rows of keys then. spread: above 1, channels are stored as pixels, a row a burst. parts:
    in scheme `dynamic`, how often the input is read, else 0. read, stored: bytes of an element of the input and of what is stored.
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
    def passed_over(self) -> int:
        """Input blocks that a block of keys does not meet."""
        return max(0, sum(self.places) - 2)

    @property
    def filled_only(self) -> int:
        """Input blocks of a tile that are filled but not computed with."""
        if self.dynamic:
            return 0
        return {"attend": 1, "norm": self.groups.inputs // 2}.get(self.special, 0)
