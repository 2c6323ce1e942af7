"""How the cost of a build grows with the network: yolov8n, s and m with random weights, in one table.

    python benchmarks/sizes.py [--models yolov8n,yolov8s,yolov8m] [--images 4] [--imgsz 640]

One line of JSON a network: GMAC, seconds of the whole build, of the C-simulation and of its compilation, peak memory of
the build's largest process (MB), and build seconds a GMAC. Random weights: nothing here says anything of accuracy.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np


def noise_images(folder: Path, count: int, size: int) -> None:
    """Smooth coloured noise to calibrate on."""
    random = np.random.default_rng(0)
    for i in range(count):
        small = random.integers(0, 256, (size // 16, size // 16, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="yolov8n,yolov8s,yolov8m")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--imgsz", type=int, default=640)
    given = parser.parse_args()
    for model in given.models.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            calib, out = Path(scratch) / "calib", Path(scratch) / "out"
            calib.mkdir()
            noise_images(calib, given.images, given.imgsz)
            command = [sys.executable, "-m", "hlsgen.cli", "build", model, "--weights", "random", "--part", "xc7z020"]
            command += ["--calib", str(calib), "--images", str(given.images), "--imgsz", str(given.imgsz)]
            begun = time.perf_counter()
            subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - begun
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            report = json.loads((out / "report.json").read_text())
            row = {
                "model": model,
                "gmacs": report["gmacs"],
                "build_s": round(seconds, 1),
                "csim_s": report["csim"]["seconds"],
                "compile_s": report["csim"]["compile_seconds"],
                "mismatches": report["csim"]["mismatches"],
                "peak_mb_so_far": round(peak),
                "build_s_per_gmac": round(seconds / report["gmacs"], 2),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
