"""Timing facts of the generated loops and of the memory behind the ports: the cost model's constants, with sources.

Cycles are the engine's clock. The templates' loops decide the structural ones: change a loop, change its constant.
"""

import math
from dataclasses import dataclass

from hlsgen.cost.array import latency
from hlsgen.program.ops import EngineConfig
from hlsgen.targets import Target

READ_LATENCY_NS = 270.0  # request to first beat; about 40 cycles at 150 MHz through a Zynq-7000 HP port
WRITE_LATENCY_NS = 200.0  # last beat to response; the store process waits for it after every burst
GATHER = 48  # beats: shorter runs of memory are requests of a beat each, which overlap (templates/engine/walk.h)
OUTSTANDING, BURST = 32, 16  # engine.cpp: requests under way on a port, and beats of each at most
LOOP = 3  # cycles to enter and leave a pipelined inner loop
STEP_SETUP = 10  # mac: what a step works out before its loop: patch, addresses, lengths
LOOP_DEPTH = 8  # mac: its loop's iteration latency beside the array's: memory 2, accumulate 2, write 1, control 3
EPILOGUE_DEPTH = 16  # epilogue: iteration latency: bias, shift, clamp, table, residual, write; once a block and tile
MASTERS = 4  # AXI masters of a core: three read, one writes
OP_START = 24  # DATAFLOW start, instruction read, first addresses
OP_STOP = 8  # every process done, the next op's start


@dataclass(frozen=True)
class Loops:
    """Depths of the engine's own loops in cycles: the constants above, or what a calibration found."""

    step_setup: int = STEP_SETUP
    loop_depth: int = LOOP_DEPTH
    epilogue_depth: int = EPILOGUE_DEPTH

    def step_overhead(self, engine: EngineConfig) -> int:
        """Cycles of a MAC step besides its loop's iterations: to set it up and to drain the array."""
        return max(1, self.step_setup + self.loop_depth + latency(engine))


LOOPS = Loops()


@dataclass(frozen=True)
class Link:
    """The way to memory as one core sees it, and the loops at its end.

    read_latency, write_latency: cycles. beat_cycles: cycles a beat takes on its port (1 where the port is as wide and as
    fast as the engine's). bytes_a_cycle: this core's share of the memory's usable bandwidth. cores: how many share it.
    """

    read_latency: int = math.ceil(READ_LATENCY_NS * 0.150)
    write_latency: int = math.ceil(WRITE_LATENCY_NS * 0.150)
    beat_cycles: float = 1.0
    bytes_a_cycle: float = 3200 / 150
    loops: Loops = LOOPS
    cores: int = 1

    @property
    def read_interval(self) -> float:
        """Cycles from beat to beat of requests that overlap."""
        return max(self.beat_cycles, self.read_latency / OUTSTANDING)

    @property
    def write_interval(self) -> float:
        """The same, written."""
        return max(self.beat_cycles, self.write_latency / OUTSTANDING)

    @property
    def burst(self) -> int:
        """Cycles of a read burst besides its beats."""
        return self.read_latency + LOOP


def link(target: Target, engine: EngineConfig, clock_mhz: float, cores: int, loops: Loops = LOOPS) -> Link:
    """The link of each of `cores` equal cores. Source: the target's file (ports, usable bandwidth).

    Masters that share a port take turns, beat by beat, when several of them ask: one alone has it to itself, and all of them
    have no more than the ports carry.
    """
    port = target.axi.width_bits / 8 * min(1.0, target.axi.clock_mhz / clock_mhz)
    share = min(target.bandwidth_gb_s * 1000 / clock_mhz, target.axi.ports * port) / cores
    return Link(
        math.ceil(READ_LATENCY_NS * clock_mhz / 1000),
        math.ceil(WRITE_LATENCY_NS * clock_mhz / 1000),
        max(1.0, engine.beat / port),
        share,
        loops,
        cores,
    )
