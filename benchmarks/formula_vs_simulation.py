"""The closed formulas against the cycle simulation, network by network: the table in docs/cost-model.md.

python benchmarks/formula_vs_simulation.py [--json]
"""

import argparse
import json
import time
from typing import Any

import torch
from torch import fx, nn

from hlsgen import targets
from hlsgen.cost.assumed import assumed_graph
from hlsgen.cost.schedule import schedule
from hlsgen.cost.simulate import simulate
from hlsgen.models import load

ROWS = (
    ("yolov8n", (640, 640), "xc7z020", 150.0),
    ("yolov8n", (640, 640), "pynq-z2", 100.0),
    ("yolov8n", (416, 416), "xc7z010", 125.0),
    ("yolov3-tiny", (416, 416), "xc7z020", 150.0),
    ("yolov5nu", (640, 640), "xc7z020", 150.0),
    ("yolo11n", (640, 640), "xc7z020", 150.0),
    ("yolov8n", (640, 640), "kv260", 300.0),
    ("yolov8n", (640, 640), "zcu104", 300.0),
    ("yolov8s", (640, 640), "zcu104", 300.0),
    ("yolo11n", (640, 640), "zcu104", 300.0),
    ("yolov8n", (640, 640), "alveo-u250", 300.0),
)


class YoloV3Tiny(nn.Module):
    """YOLOv3-tiny's layers, 80 classes, LeakyReLU. Its padded 2x2 pool of stride 1 is a 3x3 pool of stride 1 here."""

    def __init__(self) -> None:
        super().__init__()
        trunk: list[nn.Module] = []
        channels = 3
        for out in (16, 32, 64, 128):
            trunk += [self.block(channels, out, 3), nn.MaxPool2d(2, 2)]
            channels = out
        self.trunk = nn.Sequential(*trunk)
        self.middle = self.block(128, 256, 3)
        self.deep = nn.Sequential(
            nn.MaxPool2d(2, 2),
            self.block(256, 512, 3),
            nn.MaxPool2d(3, 1, 1),
            self.block(512, 1024, 3),
            self.block(1024, 256, 1),
        )
        self.large = nn.Sequential(self.block(256, 512, 3), nn.Conv2d(512, 255, 1))
        self.up = nn.Sequential(self.block(256, 128, 1), nn.Upsample(scale_factor=2.0, mode="nearest"))
        self.small = nn.Sequential(self.block(384, 256, 3), nn.Conv2d(256, 255, 1))

    @staticmethod
    def block(channels: int, out: int, kernel: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, out, kernel, 1, kernel // 2), nn.LeakyReLU(0.1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        middle = self.middle(self.trunk(x))
        deep = self.deep(middle)
        return self.large(deep), self.small(torch.cat([self.up(deep), middle], 1))


def graph_of(model: str, size: tuple[int, int]) -> Any:
    """The model's ModelGraph with random weights."""
    if model == "yolov3-tiny":
        torch.manual_seed(0)
        return assumed_graph(fx.symbolic_trace(YoloV3Tiny().eval()), (3, *size))
    loaded = load(model, "random", size)
    return assumed_graph(loaded.network, loaded.shape)


def measured(model: str, size: tuple[int, int], part: str, clock: float) -> dict[str, Any]:
    """One row."""
    graph = graph_of(model, size)
    began = time.perf_counter()
    design = schedule(graph, targets.find(part), clock)
    scheduled = time.perf_counter() - began
    ran = simulate(design.program, design.way, design.cores, design.depths)
    facts, engine = design.estimate, design.engine
    fps = design.cores * clock * 1e6 / ran.cycles
    gops = 2 * design.program.macs() * fps / 1e9
    return {
        "network": f"{model}-{size[0]}",
        "part": part,
        "clock_mhz": clock,
        "engine": f"{design.cores} x {engine.tm}x{engine.tn}x{engine.tp}",
        "formula": round(design.cycles),
        "simulation": round(ran.cycles),
        "ratio": design.cycles / ran.cycles,
        "worst_op": max((abs(a["cycles"] - b) for a, b in zip(facts["layers"], ran.op_cycles, strict=True)))
        / ran.cycles,
        "fps": fps,
        "gops": gops,
        "gops_per_dsp": gops / design.target.resources.dsp,
        "mac_utilization": design.program.macs() / (engine.tm * engine.tn * engine.tp) / ran.cycles,
        "memory_use": ran.memory_use,
        "fits": design.fits,
        **{name: f"{r['share']:.0%}" for name, r in facts["resources"].items()},
        "schedule_s": scheduled,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    rows = [measured(*row) for row in ROWS]
    if parser.parse_args().json:
        print(json.dumps(rows, indent=1))
        return
    columns = {
        "network": "",
        "part": "",
        "clock_mhz": ".0f",
        "engine": "",
        "formula": ",",
        "simulation": ",",
        "ratio": ".4f",
        "worst_op": ".2%",
        "fps": ".1f",
        "gops": ".0f",
        "gops_per_dsp": ".2f",
        "mac_utilization": ".1%",
        "memory_use": ".0%",
        "lut": "",
        "dsp": "",
        "bram36": "",
        "uram": "",
        "fits": "",
    }
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = (
            str(row[name]) if isinstance(row[name], bool) else format(row[name], how) for name, how in columns.items()
        )
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
