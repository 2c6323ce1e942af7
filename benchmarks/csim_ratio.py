"""C-simulation against ONNX Runtime's FP32 forward of the same network, both on one thread, in one run.

    python benchmarks/csim_ratio.py BUILD [--runs 5]

BUILD is a finished build folder. Prints one JSON object: the median CPU seconds of each and their ratio.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort


def csim_seconds(build: Path) -> float:
    """CPU seconds of one run of the compiled test bench, its own start and file reading included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(build / "build" / "csim"), str(build / "data")], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    build = given.build.resolve()
    subprocess.run(["make", "-s", "-C", str(build), "build/csim"], check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    network = build / "stages" / "1-load" / "network.onnx"
    session = ort.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    feed = {image.name: np.random.default_rng(0).random(image.shape, np.float32)}
    session.run(None, feed)
    float_times, csim_times = [], []
    for _ in range(given.runs):  # in turn, so that other load on the machine meets both
        begun = time.process_time()
        session.run(None, feed)
        float_times.append(time.process_time() - begun)
        csim_times.append(csim_seconds(build))
    facts = {
        "build": given.build.name,
        "onnxruntime_fp32_cpu_s": round(statistics.median(float_times), 4),
        "csim_cpu_s": round(statistics.median(csim_times), 4),
        "ratio": round(statistics.median(csim_times) / statistics.median(float_times), 2),
        "cpus": os.cpu_count(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
