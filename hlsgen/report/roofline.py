"""The roofline's geometry; templates/report/roofline.svg.j2 draws it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hlsgen.report.scale import Tick, scale

WIDTH, HEIGHT = 960.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 18.0, 46.0


@dataclass(frozen=True)
class Dot:
    """An op, or the network (process "network"): x, y in SVG units, what binds it."""

    x: float
    y: float
    process: str
    title: str


@dataclass(frozen=True)
class Roofline:
    """roof: SVG path of the bandwidth's slope and the peak; ridge: where they meet."""

    dots: tuple[Dot, ...]
    roof: str
    ridge: tuple[float, float]
    ridge_title: str
    peak_title: str
    slope_title: str
    slope_at: tuple[float, float, float]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    size: tuple[float, float] = (WIDTH, HEIGHT)
    frame: tuple[float, float, float, float] = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)


def roofline(e: Mapping[str, Any]) -> Roofline | None:
    """Speed (GOPS, all cores) over operations a byte of memory traffic, both logarithmic: a dot an op that multiplies, one for
    the network. e: report.json's `estimate`. None where no op multiplies."""
    import math

    known = [layer for layer in e["layers"] if layer["macs"]]
    if not known:
        return None
    roof, speed = e["roofline"], 2 * e["cores"] * e["clock_mhz"] / 1000
    peak, bandwidth, ridge = roof["peak_gops"], roof["bandwidth_gb_s"], roof["ridge_ops_per_byte"]
    placed = [(2 * v["macs"] / v["ddr_bytes"], v["macs"] / v["cycles"] * speed, v) for v in known]
    xs, ys = [x for x, _, _ in placed], [y for _, y, _ in placed]
    across = scale([*xs, ridge / 4, ridge * 4], LEFT, WIDTH - RIGHT, log=True, most=9)
    up = scale([*ys, peak, across.low * bandwidth], HEIGHT - BOTTOM, TOP, log=True, most=9)
    dots = [
        Dot(
            across.at(x),
            up.at(y),
            v["binds"],
            f"{v['name']}: {y:.3g} GOPS, {x:.3g} operations a byte, {v['binds']} binds",
        )
        for x, y, v in placed
    ]
    x, y = roof["ops_per_byte"], e["gops"]
    dots.append(
        Dot(
            across.at(x), up.at(y), "network", f"the network: {y:.3g} GOPS, {x:.3g} operations a byte of memory traffic"
        )
    )
    corner = (across.at(ridge), up.at(peak))
    low = (across.at(across.low), up.at(across.low * bandwidth))
    slope = math.degrees(math.atan2(corner[1] - low[1], corner[0] - low[0]))
    middle = ((2 * low[0] + corner[0]) / 3, (2 * low[1] + corner[1]) / 3)
    return Roofline(
        tuple(dots),
        f"M{low[0]} {low[1]}L{corner[0]} {corner[1]}H{WIDTH - RIGHT}",
        corner,
        f"ridge {ridge:.3g} operations a byte",
        f"{peak:,.0f} GOPS: the array's peak",
        f"{bandwidth:.3g} GB/s of memory",
        (round(middle[0], 1), round(middle[1], 1), round(slope, 1)),
        across.ticks,
        up.ticks,
    )
