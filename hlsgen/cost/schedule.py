"""The scheduler: engine, tiles and cores with which a network runs fastest on a part, within its budgets.

A branch and bound over a small legal set: candidates in the order of the throughput that they cannot exceed, each
priced only while it might still beat the best one found.
"""

import bisect
import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hlsgen.backend.layers import scheme_of
from hlsgen.cost.array import PORTS, PRODUCT_LUT
from hlsgen.cost.attention import weights_fill
from hlsgen.cost.budget import budget, overflows
from hlsgen.cost.coefficients import MODEL, Coefficients
from hlsgen.cost.estimate import Facts, estimate
from hlsgen.cost.hardware import Link, link
from hlsgen.cost.program_shapes import op_shapes
from hlsgen.cost.resources import Usage, Widths, total_usage, widths
from hlsgen.cost.shape import OpShape
from hlsgen.cost.streams import Depths, stream_depths
from hlsgen.errors import HlsgenError
from hlsgen.program.lower import lower
from hlsgen.program.memory import placed
from hlsgen.program.ops import EngineConfig, Program, Tile
from hlsgen.program.tiling import best_tile
from hlsgen.targets import Target

Objective = Literal["throughput", "latency"]
_Size = tuple[int, int, int, int, int]
_Candidate = tuple[float, int, int, _Size, EngineConfig]
"""-(inferences a cycle that cannot be exceeded), the stage of the search, cores, the order among equals, the engine."""
TM, TN, TP, BEATS = (8, 16, 32, 64), (8, 16, 32, 64), (1, 2, 3, 4, 5, 6, 8), (8, 16, 32, 64)
PATCH_DEPTHS, ACC_DEPTHS = (4096, 2048, 1024, 512), (2048, 1024, 512, 256)
MAX_CORES = 32
GAP = 1.01  # the search ends where nothing left can be 1 % faster
MOST_PRICED = (
    30  # or when so many engines have been priced; 60 find nothing faster for yolov8n, yolov8s, yolo11n on any part
)


@dataclass(frozen=True)
class Overrides:
    """What the user fixed; None leaves it to the scheduler."""

    tm: int | None = None
    tn: int | None = None
    tp: int | None = None
    lanes: int | None = None
    cores: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 1 <= value <= 256:
                raise HlsgenError(f"--{name} expects 1 to 256, got {value}")


@dataclass(frozen=True, eq=False)
class Design:
    """A schedule: the engine, the program tiled for it, how many cores, and what it costs.

    cycles: of one inference on one core. used: all cores. depths: of the streams. way: to memory, for one core.
    """

    engine: EngineConfig
    program: Program
    cores: int
    clock_mhz: float
    target: Target
    cycles: float
    used: Usage
    depths: Depths
    way: Link
    coefficients: Coefficients = MODEL

    @property
    def fps(self) -> float:
        return self.cores * self.clock_mhz * 1e6 / self.cycles

    @property
    def over(self) -> dict[str, int]:
        """By how much each resource is over its budget."""
        return overflows(self.used, self.target)

    @property
    def fits(self) -> bool:
        return not self.over

    @cached_property
    def estimate(self) -> Facts:
        """`hlsgen.cost.estimate.estimate` of this design."""
        return estimate(self.program, self.target, self.clock_mhz, self.cores, self.coefficients)


class Scheduler:
    """Prices engines for one network; lowers it once for each block size that it looks at."""

    def __init__(
        self,
        graph: Any,
        target: Target,
        clock_mhz: float,
        coefficients: Coefficients = MODEL,
        lowered: "dict[tuple[int, int], _Lowered] | None" = None,
    ) -> None:
        """lowered: what another scheduler of this graph for the same kind of DSP has lowered; both add to it."""
        if not 10 <= clock_mhz <= 1000:
            raise HlsgenError(f"a clock expects 10 to 1000 MHz, got {clock_mhz:g}")
        self.graph, self.target, self.clock_mhz, self.coefficients = graph, target, clock_mhz, coefficients
        self.floats = scheme_of(graph) == "dynamic"
        self._lowered: dict[tuple[int, int], _Lowered] = {} if lowered is None else lowered
        self._other_dsps: dict[tuple[int, int], int] = {}

    def lowered(self, engine: EngineConfig) -> "_Lowered":
        """The network for blocks of the engine's TM; TN only decides whether the image is folded, which 16 settles."""
        key = engine.tm, min(engine.tn, 16)
        if key not in self._lowered:
            roomy = EngineConfig(tm=key[0], tn=key[1], patch_depth=PATCH_DEPTHS[0], acc_depth=ACC_DEPTHS[0])
            self._lowered[key] = _Lowered.of(lower(self.graph, roomy), PORTS[self.target.resources.dsp_kind])
        return self._lowered[key]

    def way(self, engine: EngineConfig, cores: int) -> Link:
        return link(self.target, engine, self.clock_mhz, cores, self.coefficients.loops)

    def used(self, engine: EngineConfig, cores: int) -> Usage:
        """Resources of all cores."""
        ports, factors = self.target.axi.ports, self.coefficients.factors
        return total_usage(engine, self.lowered(engine).widths, stream_depths(engine), cores, ports, factors)

    def fits(self, engine: EngineConfig, cores: int) -> bool:
        return not overflows(self.used(engine, cores), self.target)

    def tiles(self, engine: EngineConfig, cores: int, limit: float = math.inf) -> tuple[list[Tile], float]:
        """The best tile of every op, and the sum of the cycles; no tiles where that is certain to exceed `limit`."""
        way, depths = self.way(engine, cores), stream_depths(engine)
        network = self.lowered(engine)
        ops, shapes, floors = network.program.ops, network.shapes, network.floors(engine, way).tolist()
        known: dict[OpShape, tuple[Tile, float]] = {}
        at_least = sum(floors)
        for i in sorted(range(len(ops)), key=lambda i: -floors[i]):
            shape = shapes[i]
            if shape not in known:
                known[shape] = best_tile(engine, shape, way, depths, ops[i].name)
            at_least += known[shape][1] - floors[i]
            if at_least > limit:
                return [], math.inf
        return [known[shape][0] for shape in shapes], sum(known[shape][1] for shape in shapes)

    def design(self, engine: EngineConfig, cores: int) -> Design:
        """The network on `cores` cores of `engine`, whether or not it fits.

        Raises:
            HlsgenError: where an op does not fit the engine's buffers.
        """
        tiles, cycles = self.tiles(engine, cores)
        program = retiled(self.lowered(engine).program, engine, tiles)
        used, depths, way = self.used(engine, cores), stream_depths(engine), self.way(engine, cores)
        return Design(engine, program, cores, self.clock_mhz, self.target, cycles, used, depths, way, self.coefficients)

    def best(self, overrides: Overrides, objective: Objective) -> Design | None:
        """The fastest design that fits (to GAP), or None.

        Best first: a candidate's bound starts as the array's own cycles, becomes those of the engine with roomy buffers and
        one core, then is what the buffers that fit make of it; whoever is still ahead then wins. The first candidate is
        priced at once, so that from then on pricing stops where a candidate has fallen behind.
        """
        best: tuple[float, EngineConfig, int] | None = None
        roomy: dict[EngineConfig, float] = {}
        queue = list(self._bounded(overrides, objective))
        heapq.heapify(queue)
        priced = 0
        while queue and priced < MOST_PRICED:
            bound, stage, cores, size, engine = heapq.heappop(queue)
            if best is not None and -bound <= best[0] * GAP:
                break
            busy = cores if objective == "throughput" else 1
            if stage == 0:
                if cores > 1 and overrides.cores is None:  # fewer of them come into question now, not before
                    heapq.heappush(queue, self._candidate(engine, cores - 1, objective))
                plain = replace(engine, dsp_tn=0, patch_depth=PATCH_DEPTHS[0], acc_depth=ACC_DEPTHS[0])
                if plain not in roomy:
                    roomy[plain] = self.tiles(plain, 1, busy / (best[0] * GAP) if best else math.inf)[1]
                    priced += 1
                if best is not None:
                    heapq.heappush(queue, (max(bound, -busy / roomy[plain]), 1, cores, size, engine))
                    continue
            for sized in self._sized(engine, cores):
                priced += 1
                try:
                    cycles = self.tiles(sized, cores, busy / (best[0] * GAP) if best else math.inf)[1]
                except HlsgenError:  # a patch of one pixel does not fit these buffers
                    continue
                if best is None or busy / cycles > best[0]:
                    best = busy / cycles, sized, cores
        return None if best is None else self.design(best[1], best[2])

    def _bounded(self, overrides: Overrides, objective: Objective) -> Iterator[_Candidate]:
        """Every engine with as many cores as fit with the least buffers; for latency one core: more only share the memory."""
        for engine in legal_engines(overrides, self.target, self.floats):
            if array_lut(engine, self.target, self.coefficients) > budget(self.target)["lut"]:
                continue  # before anything is lowered for it
            if overrides.cores is None:
                most = self._most_cores(engine, MAX_CORES if objective == "throughput" else 1)
            else:
                most = overrides.cores if self._least_fits(self.narrowest(engine), overrides.cores) else 0
            if most:
                yield self._candidate(engine, most, objective)

    def _candidate(self, engine: EngineConfig, cores: int, objective: Objective) -> _Candidate:
        """Inferences a cycle never get fewer with more cores, so that each may wait behind the one with a core more. Scores are
        narrow where nothing else fits."""
        wide = replace(engine, narrow=False)
        engine = wide if self._least_fits(wide, cores) else self.narrowest(engine)
        floor = float(self.lowered(engine).floors(engine, self.way(engine, cores)).sum())
        return (
            -(cores if objective == "throughput" else 1) / floor,
            0,
            cores,
            _size(engine),
            self.with_dsps(engine, cores),
        )

    def _least_fits(self, engine: EngineConfig, cores: int) -> bool:
        """Whether `cores` of the engine fit with the least buffers."""
        uram = self.target.resources.uram > 0
        least = replace(engine, patch_depth=PATCH_DEPTHS[-1], acc_depth=ACC_DEPTHS[-1], uram=uram, table_uram=uram)
        return self.fits(self.with_dsps(least, cores), cores)

    def narrowest(self, engine: EngineConfig) -> EngineConfig:
        """The engine that makes scores a beat a cycle, where the network has any."""
        return replace(engine, narrow=self.lowered(engine).widths.softmax is not None)

    def _most_cores(self, engine: EngineConfig, limit: int) -> int:
        """How many cores fit with the least buffers, 0 to `limit`."""
        narrowest = self.narrowest(engine)
        return bisect.bisect(range(1, limit + 1), 0, key=lambda cores: not self._least_fits(narrowest, cores))

    def _sized(self, engine: EngineConfig, cores: int) -> Iterator[EngineConfig]:
        """The engine with the largest buffers that fit: for each depth of the sums the deepest patches, and with narrow scores
        where these leave room for deeper ones."""
        urams = (True, False) if self.target.resources.uram else (False,)
        for acc_depth in ACC_DEPTHS:
            deepest = 0
            for narrow in sorted({engine.narrow, self.narrowest(engine).narrow}):
                sizes = (
                    replace(engine, acc_depth=acc_depth, patch_depth=d, uram=u, table_uram=t, narrow=narrow)
                    for d in PATCH_DEPTHS
                    for u in urams
                    for t in urams
                    if d > deepest
                )
                fitting = next((sized for sized in sizes if self.fits(sized, cores)), None)
                if fitting is not None:
                    deepest = fitting.patch_depth
                    yield fitting

    def with_dsps(self, engine: EngineConfig, cores: int) -> EngineConfig:
        """As many of the TN channels in DSPs as the part has for each core."""
        key = engine.tm, engine.lanes  # what the DSPs beside the array depend on
        if key not in self._other_dsps:
            self._other_dsps[key] = self.used(replace(engine, dsp_tn=0), 1).dsp
        left = budget(self.target)["dsp"] // cores - self._other_dsps[key]
        channel = engine.tm * engine.tp // 2 * self.coefficients.factors.factor("products in DSPs", "dsp")
        return replace(engine, dsp_tn=max(0, min(engine.tn, int(left // channel if channel else engine.tn))))


@dataclass(frozen=True, eq=False)
class _Lowered:
    """A network lowered for one TM: tiles and buffers still to be chosen."""

    program: Program
    shapes: tuple[OpShape, ...]
    widths: Widths
    sizes: dict[str, npt.NDArray[np.float64]]

    @classmethod
    def of(cls, program: Program, port: int) -> "_Lowered":
        shapes, tm = op_shapes(program), program.engine.tm
        columns: dict[str, list[float]] = {
            "array": [
                bool(s.steps) * s.groups.count * s.groups.outputs * s.taps * math.prod(s.size_out) for s in shapes
            ],
            "full": [s.groups.inputs - 1 - s.filled_only for s in shapes],
            "last": [s.last_lanes for s in shapes],
            "heads": [s.groups.count * math.prod(s.size_out) for s in shapes],
            "values": [s.groups.outputs for s in shapes],
            "key_blocks": [-(-s.keys // tm) for s in shapes],
            "last_keys": [(s.keys - 1) % tm + 1 for s in shapes],
            "passed_over": [max(0, sum(s.places) - 2) for s in shapes],
            "convolves": [s.convolves for s in shapes],
            "stored": [s.channels * math.prod(s.size_out) for s in shapes],
            "weights": [
                s.groups.count * s.groups.outputs * tm * s.taps * (s.convolves and not s.attends) for s in shapes
            ],
            "residual": [s.residual for s in shapes],
            "read": [
                s.read
                * sum(n * tm * (s.size_in[1] >> up) for n, up in s.sources)
                * min(s.size_in[0], s.size_out[0] * s.window.stride[0])
                for s in shapes
            ],
        }
        sizes = {name: np.array(values, np.float64) for name, values in columns.items()}
        return cls(program, shapes, widths(program, port), sizes)

    def floors(self, engine: EngineConfig, way: Link) -> npt.NDArray[np.float64]:
        """Cycles [ops] that no tile can undercut: the array's with its blocks' padding, the epilogue's, the ports', the
        memory's for every element moved once."""
        v = self.sizes
        halves = v["full"] * (engine.tm // engine.tn) + np.ceil(v["last"] / engine.tn)
        array = v["array"] * np.where(v["convolves"] > 0, halves, v["full"] + 1) / engine.tp
        # An attention: each block of keys meets the queries' blocks, but those passed over; then its weights are made, and
        # meet the values' blocks meanwhile.
        whole = engine.tm // engine.tn
        keys = (v["key_blocks"] - 1) * whole + np.ceil(v["last_keys"] / engine.tn)
        made = v["key_blocks"] * weights_fill(engine, engine.tp)
        scores = v["key_blocks"] * (halves + engine.score_parts - 1 - v["passed_over"] * whole)
        attention = scores + np.maximum(v["values"] * keys, made)
        array = np.where(v["key_blocks"] > 0, v["heads"] * attention / engine.tp, array)
        epilogue = v["stored"] / min(engine.lanes, engine.beat)
        moved = v["read"] + v["stored"] * (1 + v["residual"]) + v["weights"] * halves * engine.tn
        ports = np.maximum(v["read"] / engine.beat, moved / way.bytes_a_cycle)
        return np.maximum(np.maximum(array, epilogue), ports)


def array_lut(engine: EngineConfig, target: Target, coefficients: Coefficients = MODEL) -> float:
    """The least LUTs of the array alone: as much of it in DSPs as the part has."""
    factors, products = coefficients.factors, engine.tm * engine.tn * engine.tp
    in_dsps = 2 * target.resources.dsp / max(1e-3, factors.factor("products in DSPs", "dsp"))
    return max(0.0, products - in_dsps) * PRODUCT_LUT * factors.factor("products in LUTs", "lut")


def legal_engines(overrides: Overrides, target: Target, floats: bool = False) -> Iterator[EngineConfig]:
    """Every engine of the search, with its buffers and DSPs still to be chosen; floats: for scheme `dynamic`.

    Raises:
        HlsgenError: where the overrides leave none, with the rule that they break.
    """
    port = target.axi.width_bits // 8
    found = False
    for tm in (overrides.tm,) if overrides.tm else _block_sizes(target):
        if tm % 8:
            raise HlsgenError(f"--tm expects a multiple of 8 (the bytes of a 64-bit port), got {tm}")
        for tn in (overrides.tn,) if overrides.tn else TN:
            if tm % tn or (overrides.tn is None and tn * 2 < tm):
                continue  # a narrower TN takes more passes for the same products
            for tp in (overrides.tp,) if overrides.tp else TP:
                for beat in (b for b in BEATS if tm % b == 0 and b <= max(8, port)):
                    made = (beat // 4,) if floats else (beat, beat // 2, beat // 4)  # as many as a beat holds
                    for lanes in (overrides.lanes,) if overrides.lanes else made:
                        if beat % lanes == 0 and (not floats or lanes == made[0]):
                            found = True
                            yield EngineConfig(tm=tm, tn=tn, tp=tp, beat=beat, lanes=lanes)
    if not found and floats and overrides.lanes:
        raise HlsgenError(
            "scheme dynamic makes as many floats a cycle as a port takes, a quarter of its bytes; "
            f"leave out --lanes {overrides.lanes}"
        )
    if not found:
        given = " ".join(f"--{name} {value}" for name, value in vars(overrides).items() if value is not None)
        raise HlsgenError(
            f"no engine has {given}: TN must divide TM, and the lanes must divide a port's bytes ({', '.join(map(str, BEATS))}, "
            f"at most {max(8, port)} on {target.name}), which must divide TM"
        )


def _block_sizes(target: Target) -> tuple[int, ...]:
    """The TM worth trying: blocks of 8 waste a large part, blocks of 32 and 64 a small one's array."""
    dsp = target.resources.dsp
    return tuple(tm for tm in TM if (tm >= 16 or dsp <= 500) and tm <= max(16, dsp // 16))


def retiled(program: Program, engine: EngineConfig, tiles: list[Tile]) -> Program:
    """`program` on `engine`, which has the same TM, with these tiles: exactly what lowering for `engine` makes but for them."""
    if engine.tm != program.engine.tm:
        raise HlsgenError(
            f"a program for blocks of {program.engine.tm} channels cannot run on an engine of {engine.tm}"
        )
    ops = tuple(replace(op, tile=tile) for op, tile in zip(program.ops, tiles, strict=True))
    return placed(replace(program, engine=engine, ops=ops))


def schedule(
    graph: Any,
    target: Target,
    clock_mhz: float | None = None,
    overrides: Overrides | None = None,
    objective: Objective = "throughput",
    coefficients: Coefficients = MODEL,
) -> Design:
    """The fastest design of a ModelGraph (after the passes) on a part.

    clock_mhz: by default the target's. coefficients: of the cost model. Where nothing fits, the design comes back that comes
    nearest, with `fits` False: `hlsgen.cost.fit.check_fit` says what to do.

    Raises:
        HlsgenError: an illegal override or clock.
    """
    fixed = overrides or Overrides()
    scheduler = Scheduler(graph, target, clock_mhz or target.clock.default_mhz, coefficients)
    best = scheduler.best(fixed, objective)
    return best or smallest(scheduler, fixed)


def smallest(scheduler: Scheduler, overrides: Overrides) -> Design:
    """What comes nearest to fitting: the least array that the overrides allow, on the smallest buffers; of its variants
    the one with the fewest LUTs too many, then the fastest epilogue."""
    cores = overrides.cores or 1
    engines = [
        replace(
            scheduler.with_dsps(scheduler.narrowest(e), cores), patch_depth=PATCH_DEPTHS[-1], acc_depth=ACC_DEPTHS[-1]
        )
        for e in legal_engines(overrides, scheduler.target, scheduler.floats)
    ]
    least = min(_size(e)[0] for e in engines)

    def excess(engine: EngineConfig) -> tuple[int, int]:
        over = overflows(scheduler.used(engine, cores), scheduler.target)
        return over.get("lut", 0) * 100 // scheduler.target.resources.lut, -engine.lanes

    return scheduler.design(min((e for e in engines if _size(e)[0] == least), key=excess), cores)


def _size(engine: EngineConfig) -> _Size:
    """A total order, smallest first, that makes the choice between equals deterministic."""
    return engine.tm * engine.tn * engine.tp, engine.lanes, engine.beat, engine.tm, engine.tn
