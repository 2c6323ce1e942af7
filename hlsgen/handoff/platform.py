"""From a target and a Program to the system around the engine: what the hand-off's templates are rendered from.

Three kinds. A Zynq gets a Vivado block design: processing system, memory ports, address map. An accelerator card gets a
Vitis kernel and a link configuration. Anything else gets the engine as an IP, and a sentence that says what is left to
its user. Sources: UG585 and PG082 (Zynq-7000), UG1085 and PG201 (Zynq UltraScale+), PG247 (SmartConnect), UG1393 (v++).
"""

from dataclasses import dataclass
from itertools import pairwise

from hlsgen.errors import HlsgenError
from hlsgen.program.ops import Program
from hlsgen.targets import BoardFile, Platform, Target

MASTERS = ("feature_maps", "residuals", "parameters", "results")
"""The engine's AXI masters, one a bundle of templates/engine/engine.cpp; on the IP each is called `m_axi_` and this."""

REGISTERS = 0x1_0000
"""Bytes of address space for one core's control registers, and for the interrupt controller's."""

SWITCH = 16
"""Most slaves, and most masters, of one SmartConnect (PG247)."""

MB = 1 << 20


@dataclass(frozen=True)
class Port:
    """A memory port of the processing system: its interface, its clock pin, and the path of its address segments."""

    interface: str
    clock: str
    segments: str


@dataclass(frozen=True)
class Processor:
    """The names by which Vivado knows a processing system.

    frequency, actual_frequency: the properties that ask for the clock, and that say what the PLL makes of it, in MHz.
    needs: what must be set for a part without a board file, in words.
    """

    ip: str
    rule_config: str
    clock: str
    reset: str
    interrupt: str
    control: str
    control_clock: str
    control_base: int
    control_size: int
    frequency: str
    actual_frequency: str
    settings: tuple[tuple[str, str], ...]
    part_settings: tuple[tuple[str, str], ...]
    needs: str
    ports: tuple[Port, ...]


@dataclass(frozen=True)
class Switch:
    """A SmartConnect: the masters it takes, and the port of the processing system it serves."""

    name: str
    masters: tuple[str, ...]
    port: Port


@dataclass(frozen=True)
class Segment:
    """`size` bytes from `offset` on of the slave segment `segment`, in the address space `space`.

    optional: the segment exists only where the board's memory is that large.
    """

    space: str
    segment: str
    offset: int
    size: int
    optional: bool = False


@dataclass(frozen=True)
class Zynq:
    """A block design: `cores` engines on the memory ports of a processing system."""

    processor: Processor
    board: BoardFile | None
    cores: tuple[str, ...]
    switches: tuple[Switch, ...]
    registers: tuple[str, ...]
    addresses: tuple[Segment, ...]

    def __post_init__(self) -> None:
        check_addresses(self.addresses)
        base, size = self.processor.control_base, self.processor.control_size
        for s in self.addresses:
            if s.space == "ps/Data" and not base <= s.offset <= s.offset + s.size <= base + size:
                raise HlsgenError(
                    f"the registers of {s.segment} expect to lie in {base:#x} + {size:#x}, got {s.offset:#x}"
                )


@dataclass(frozen=True)
class Link:
    """One core of an accelerator card: where its AXI masters' memory lies, and its die. banks: master to `DDR[0]`."""

    core: str
    banks: tuple[tuple[str, str], ...]
    slr: str


@dataclass(frozen=True)
class Card:
    """A Vitis kernel's links to the memory banks of a platform."""

    platform: str
    links: tuple[Link, ...]


@dataclass(frozen=True)
class System:
    """The one context of the hand-off's templates.

    period_ns: of the engine's clock. data_bits: of each AXI master. cores: copies of the engine. Exactly one of `zynq`,
    `card` and `alone` is set; `alone` says in one sentence why there is no system, and what to do with the IP.
    """

    part: str
    period_ns: float
    clock_mhz: float
    data_bits: int
    cores: int
    zynq: Zynq | None = None
    card: Card | None = None
    alone: str | None = None

    @property
    def kind(self) -> str:
        """`zynq`, `card` or `ip`."""
        return "zynq" if self.zynq else "card" if self.card else "ip"

    @property
    def flow_target(self) -> str:
        """Vitis HLS' flow: a kernel for v++, or an IP for Vivado."""
        return "vitis" if self.card else "vivado"

    @property
    def package(self) -> str:
        """The format in which Vitis HLS exports the engine."""
        return "xo" if self.card else "ip_catalog"


def system(target: Target, program: Program, clock_mhz: float, cores: int, part: str | None = None) -> System:
    """The system of `cores` engines that run `program` on `target` at `clock_mhz`; part: where it is not the target's own.

    Raises:
        HlsgenError: an accelerator card's memory does not hold the program's.
    """
    zynq, card, alone = None, None, _alone(target, cores)
    if alone is None and target.platform is not None:
        card = _card(target.platform, target.memory.size_mb, program, cores)
    elif alone is None:
        zynq = _zynq(target, cores)
    bits = program.engine.beat * 8
    return System(part or target.vivado, 1000 / clock_mhz, clock_mhz, bits, cores, zynq, card, alone)


def templates_of(built: System) -> list[tuple[str, str]]:
    """The hand-off's templates that the system needs, each with the file it makes in the project."""
    scripts = ["run_hls.tcl", "tools.sh"]
    if built.zynq:
        scripts += [
            f"{step}.tcl" for step in ("vivado", "project", "processor", "design", "addresses", "implement", "export")
        ]
        scripts.append("constraints.xdc")
    configs = ["hls_config.cfg"] + (["link.cfg"] if built.card else [])
    return [(f"tcl/{n}.j2", f"tcl/{n}") for n in scripts] + [(f"project/{n}.j2", n) for n in configs]


def check_addresses(addresses: tuple[Segment, ...]) -> None:
    """Raise HlsgenError where segments of one address space overlap, or one does not lie on a multiple of its size."""
    for s in addresses:
        if s.size < 4096 or s.size & (s.size - 1) or s.offset % s.size:
            raise HlsgenError(f"{s.segment} expects a power of two of at least 4096 bytes on a multiple of itself, got "
                              f"{s.size:#x} at {s.offset:#x}")  # fmt: skip
    for space in {s.space for s in addresses}:
        ordered = sorted((s for s in addresses if s.space == space), key=lambda s: s.offset)
        for a, b in pairwise(ordered):
            if a.offset + a.size > b.offset:
                raise HlsgenError(f"{a.segment} and {b.segment} overlap in {space} at {b.offset:#x}")


def _alone(target: Target, cores: int) -> str | None:
    """Why there is no system for the target, in a sentence; None where there is one."""
    ip = "make export makes the engine's IP (export/ip)"
    if target.platform is not None:
        return None
    if target.family == "versal":
        return (
            f"{target.name} is a Versal, whose memory lies behind its NoC and CIPS: {ip}; connect its masters to the NoC "
            "of your own design or platform"
        )
    if target.family not in ("zynq-7000", "zynq-ultrascale+"):
        return (
            f"{target.name} has no processor, and its memory needs a controller (MIG) with your board's pins: {ip}; "
            "connect its masters to the controller and its registers to your own host"
        )
    most = min(SWITCH - 1, target.axi.ports * SWITCH // len(MASTERS))
    if cores > most:
        return (
            f"{cores} cores are more than the {most} that one SmartConnect serves: {ip}; or build with --cores {most}"
        )
    return None


def _zynq(target: Target, cores: int) -> Zynq:
    names = tuple(f"hlsgen_engine_{core}" for core in range(cores))
    ports = min(target.axi.ports, len(MASTERS) * cores)
    processor = (_ps7 if target.family == "zynq-7000" else _ps8)(ports, target.axi.width_bits)
    # The next core's masters are shifted by one port: one core's busiest stream then shares with the other's quietest.
    masters: list[list[str]] = [[] for _ in range(ports)]
    for core, name in enumerate(names):
        for number, master in enumerate(MASTERS):
            masters[(core + number) % ports].append(f"{name}/m_axi_{master}")
    switches = tuple(
        Switch(f"memory_{number}", tuple(taken), port)
        for number, (taken, port) in enumerate(zip(masters, processor.ports, strict=True))
    )
    registers = tuple(f"{name}/s_axi_control" for name in names)
    segments = [f"{register}/Reg" for register in registers]
    registers += ("interrupts/s_axi",)  # PYNQ hears interrupts only through a controller
    segments.append("interrupts/S_AXI/Reg")
    addresses = [
        Segment("ps/Data", segment, processor.control_base + number * REGISTERS, REGISTERS)
        for number, segment in enumerate(segments)
    ]
    for switch in switches:
        for master in switch.masters:
            core_name, _, interface = master.partition("/")
            space = f"{core_name}/Data_{interface}"
            addresses += [Segment(space, *where) for where in _memory(target, switch.port)]
    return Zynq(processor, target.board_file, names, switches, registers, tuple(addresses))


def _memory(target: Target, port: Port) -> list[tuple[str, int, int, bool]]:
    """Segment, offset, size, optional: of the processor's DDR behind a port."""
    size = target.memory.size_mb * MB
    number = port.interface.removeprefix("S_AXI_HP")[0]
    if target.family == "zynq-7000":
        return [(f"{port.segments}/HP{number}_DDR_LOWOCM", 0, size, False)]
    low = 2048 * MB
    found = [(f"{port.segments}/HP{number}_DDR_LOW", 0, min(size, low), False)]
    if size > low:
        found.append((f"{port.segments}/HP{number}_DDR_HIGH", 0x8_0000_0000, size - low, True))
    return found


def _ps7(ports: int, width: int) -> Processor:
    settings = [("PCW_USE_M_AXI_GP0", "1"), ("PCW_EN_CLK0_PORT", "1"), ("PCW_EN_RST0_PORT", "1")]
    settings += [("PCW_USE_FABRIC_INTERRUPT", "1"), ("PCW_IRQ_F2P_INTR", "1")]
    for n in range(ports):
        settings += [(f"PCW_USE_S_AXI_HP{n}", "1"), (f"PCW_S_AXI_HP{n}_DATA_WIDTH", str(min(width, 64)))]
    return Processor(
        ip="processing_system7",
        rule_config="make_external {FIXED_IO, DDR} Master Disable Slave Disable",
        clock="FCLK_CLK0",
        reset="FCLK_RESET0_N",
        interrupt="IRQ_F2P",
        control="M_AXI_GP0",
        control_clock="M_AXI_GP0_ACLK",
        control_base=0x4000_0000,
        control_size=0x4000_0000,
        frequency="PCW_FPGA0_PERIPHERAL_FREQMHZ",
        actual_frequency="PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ",
        settings=tuple(settings),
        part_settings=(
            ("PCW_CRYSTAL_PERIPHERAL_FREQMHZ", "33.333333"),
            ("PCW_PRESET_BANK0_VOLTAGE", "LVCMOS 3.3V"),
            ("PCW_PRESET_BANK1_VOLTAGE", "LVCMOS 1.8V"),
        ),
        needs="the crystal (PCW_CRYSTAL_PERIPHERAL_FREQMHZ), bank voltages, DDR part, width and timing (PCW_UIPARAM_DDR_*), "
        "and the MIO pins of boot device, UART, Ethernet and USB (PCW_*_PERIPHERAL_ENABLE, PCW_*_IO)",
        ports=tuple(Port(f"S_AXI_HP{n}", f"S_AXI_HP{n}_ACLK", f"ps/S_AXI_HP{n}") for n in range(ports)),
    )


def _ps8(ports: int, width: int) -> Processor:
    settings = [("PSU__USE__M_AXI_GP0", "1"), ("PSU__USE__M_AXI_GP1", "0"), ("PSU__USE__M_AXI_GP2", "0")]
    settings += [("PSU__MAXIGP0__DATA_WIDTH", "32"), ("PSU__USE__IRQ0", "1"), ("PSU__FPGA_PL0_ENABLE", "1")]
    settings += [("PSU__USE__FABRIC__RST", "1"), ("PSU__NUM_FABRIC_RESETS", "1")]
    for n in range(ports):  # S_AXI_HP0_FPD is number 2 of the slave ports
        settings += [(f"PSU__USE__S_AXI_GP{n + 2}", "1"), (f"PSU__SAXIGP{n + 2}__DATA_WIDTH", str(min(width, 128)))]
    return Processor(
        ip="zynq_ultra_ps_e",
        rule_config="",
        clock="pl_clk0",
        reset="pl_resetn0",
        interrupt="pl_ps_irq0",
        control="M_AXI_HPM0_FPD",
        control_clock="maxihpm0_fpd_aclk",
        control_base=0xA000_0000,
        control_size=0x1000_0000,
        frequency="PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ",
        actual_frequency="PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ",
        settings=tuple(settings),
        part_settings=(("PSU__PSS_REF_CLK__FREQMHZ", "33.333"),),
        needs="the reference clock (PSU__PSS_REF_CLK__FREQMHZ), bank voltages (PSU_BANK_*_IO_STANDARD), DDR type, width, "
        "size and timing (PSU__DDRC__*), and the MIO pins of boot device, UART, Ethernet and USB (PSU__*__PERIPHERAL__*)",
        ports=tuple(Port(f"S_AXI_HP{n}_FPD", f"saxihp{n}_fpd_aclk", f"ps/SAXIGP{n + 2}") for n in range(ports)),
    )


def _card(platform: Platform, size_mb: int, program: Program, cores: int) -> Card:
    """Each core's feature maps in one group of banks, its copy of the parameters in another where there are enough.

    Feature maps, residuals and results are one buffer, so their masters share its banks.
    """
    from hlsgen.program.encode import encode

    bank = size_mb * MB // platform.banks
    maps = -(-program.fmap_beats * program.engine.beat // bank)
    parameters = -(-len(encode(program).weights) // bank)
    apart = (maps + parameters) * cores <= platform.banks
    per_core = maps + parameters if apart else max(maps, parameters, 1)
    if per_core > platform.banks:
        raise HlsgenError(
            f"{platform.name} has {platform.banks} memory banks of {bank // MB} MB; one core of this network expects "
            f"{per_core}"
        )
    links = []
    for core in range(cores):
        first = core * per_core % (platform.banks - platform.banks % per_core)
        for_maps = _banks(platform.memory, first, maps if apart else per_core)
        for_parameters = _banks(platform.memory, first + maps, parameters) if apart else for_maps
        banks = tuple((m, for_parameters if m == "parameters" else for_maps) for m in MASTERS)
        links.append(Link(f"hlsgen_engine_{core}", banks, platform.slrs[core % len(platform.slrs)]))
    return Card(platform.name, tuple(links))


def _banks(memory: str, first: int, count: int) -> str:
    return f"{memory}[{first}]" if count == 1 else f"{memory}[{first}:{first + count - 1}]"
