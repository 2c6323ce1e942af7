"""The parts and boards that a project can be made for: `targets/*.toml`, one file each."""

import difflib
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from hlsgen.errors import HlsgenError
from hlsgen.resources import folder

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
VivadoPart = Annotated[str, StringConstraints(pattern=r"^xc[a-z0-9]+(-[A-Za-z0-9]+)*$")]
BoardPart = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.]+:[a-z0-9_-]+:part0:\*$")]
Carrier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.]+:[a-z0-9_-]+:[a-z0-9_]+$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+$")]
Source = Annotated[str, StringConstraints(min_length=8)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Resources(_Strict):
    """What the fabric holds. A LUT has 6 inputs, a BRAM block 36 Kbit, an URAM block 288 Kbit."""

    lut: int = Field(gt=0)
    ff: int = Field(gt=0)
    bram36: int = Field(gt=0)
    uram: int = Field(ge=0)
    dsp: int = Field(gt=0)
    dsp_kind: Literal["DSP48E1", "DSP48E2", "DSP58"]
    source: Source


class Axi(_Strict):
    """The memory ports that a design may master: their number, the data bits of each, and their usual clock."""

    ports: int = Field(gt=0)
    width_bits: Literal[32, 64, 128, 256, 512]
    clock_mhz: float = Field(gt=0)
    source: Source

    @property
    def bandwidth_gb_s(self) -> float:
        """All ports together, one direction, 10^9 bytes a second."""
        return self.ports * self.width_bits / 8 * self.clock_mhz / 1000


class Memory(_Strict):
    """The memory behind the ports. usable_gb_s, 10^9 bytes a second, is what a long linear burst can expect; size_mb is 2^20
    bytes, all banks together."""

    kind: str
    size_mb: int = Field(gt=0)
    peak_gb_s: float = Field(gt=0)
    usable_gb_s: float = Field(gt=0)
    source: Source


class Clock(_Strict):
    default_mhz: float = Field(gt=0)
    source: Source


class BoardFile(_Strict):
    """How Vivado calls the board (`get_board_parts` patterns, the preferred first; the newest version of the first that is
    installed is taken). A module on a carrier card names the module's connector, the carrier, and its versions, newest
    first."""

    parts: tuple[BoardPart, ...] = Field(min_length=1)
    connector: Word | None = None
    carrier: Carrier | None = None
    carrier_versions: tuple[Version, ...] = ()
    source: Source

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len({self.connector is None, self.carrier is None, not self.carrier_versions}) > 1:
            raise ValueError("a carrier card needs connector, carrier and carrier_versions")
        return self


class Platform(_Strict):
    """The Vitis platform of an accelerator card, its memory banks, and its dies (SLRs), the nearest to the memory first."""

    name: Word
    memory: Literal["DDR", "HBM"]
    banks: int = Field(gt=0, le=32)
    slrs: tuple[Word, ...] = Field(min_length=1)
    source: Source


class _Part(_Strict):
    name: Name
    kind: Literal["part"]
    title: str
    family: Literal["zynq-7000", "artix-7", "zynq-ultrascale+", "virtex-ultrascale+", "versal"]
    vivado: VivadoPart
    speed_grade: str
    resources: Resources
    axi: Axi
    memory: Memory
    clock: Clock
    platform: Platform | None = None


class _Board(_Strict):
    name: Name
    kind: Literal["board"]
    title: str
    part: Name
    vivado: VivadoPart
    speed_grade: str
    source: Source
    memory: Memory | None = None
    clock: Clock | None = None
    board_file: BoardFile | None = None


class Target(_Strict):
    """A part, or a board with its part's figures filled in. `vivado` is the full part string that Vivado takes."""

    name: Name
    kind: Literal["part", "board"]
    title: str
    part: Name
    family: str
    vivado: VivadoPart
    speed_grade: str
    resources: Resources
    axi: Axi
    memory: Memory
    clock: Clock
    platform: Platform | None = None
    board_file: BoardFile | None = None
    source: str | None = None

    @property
    def bandwidth_gb_s(self) -> float:
        """What the design can move to or from memory: the ports' or the memory's rate, whichever is less."""
        return min(self.axi.bandwidth_gb_s, self.memory.usable_gb_s)


def read(path: Path) -> _Part | _Board:
    """One target file, checked.

    Raises:
        HlsgenError: naming the file, the key and what is wrong with it.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise HlsgenError(f"{path.name}: not a readable TOML file: {error}") from error
    kind = fields.get("kind")
    if kind not in ("part", "board"):
        raise HlsgenError(f'{path.name}: kind must be "part" or "board", got {kind!r}')
    try:
        found = _Part.model_validate(fields) if kind == "part" else _Board.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise HlsgenError(f"{path.name}: {where}: {first['msg'].lower()}, got {first['input']!r}") from error
    if found.name != path.stem:
        raise HlsgenError(f"{path.name}: name must be {path.stem!r} as the file is called, got {found.name!r}")
    return found


@cache
def all_targets() -> dict[str, Target]:
    """Every target by name: parts first, then boards, each in alphabetical order."""
    files = [read(path) for path in sorted(folder("targets").glob("*.toml"))]
    parts = {f.name: Target(part=f.name, **f.model_dump()) for f in files if isinstance(f, _Part)}
    boards: dict[str, Target] = {}
    for board in files:
        if isinstance(board, _Board):
            if board.part not in parts:
                raise HlsgenError(f"{board.name}.toml: part {board.part!r} has no file in targets/")
            own = {key: value for key, value in board.model_dump().items() if value is not None}
            boards[board.name] = Target(**(parts[board.part].model_dump() | own))
    return parts | boards


def find(name: str) -> Target:
    """The part or board `name` (as in targets/, or a full part string of one of the parts), case ignored.

    Raises:
        HlsgenError: where there is none, with the nearest names.
    """
    targets = all_targets()
    wanted = name.strip().lower()
    if wanted in targets:
        return targets[wanted]
    for target in targets.values():
        if target.vivado.lower() == wanted:
            return target
    near = difflib.get_close_matches(wanted, targets, n=3, cutoff=0.5)
    hint = f"the nearest names are {', '.join(near)}" if near else f"known are {', '.join(targets)}"
    raise HlsgenError(f"unknown part or board {name!r}: {hint} (hlsgen targets shows them all)")
