"""SAM ViT-B at 1024 x 1024, whole: the build by its stages, its C-simulation against PyTorch's float32, memory, and the estimate.

    python -m benchmarks.sam_vit_b [--model sam] [--part xczu9eg] [--scheme affine] [--images 4] [--threads 2] [--out FOLDER]

Random weights, for cost and exactness. All in one run on one machine; prints a table, and the same as JSON with --json.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

MOST_RATIO, MOST_MINUTES, MOST_GB = 10.0, 15.0, 6.0  # what is aimed at


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sam")
    parser.add_argument("--part", default="xczu9eg")
    parser.add_argument("--scheme", default="affine")
    parser.add_argument("--images", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/sam_vit_b"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    facts = measured(options)
    if options.json:
        print(json.dumps(facts, indent=1))
    else:
        print_table(facts)
    return 0 if facts["verdict"] == "exact" else 1


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in one run."""
    from rich.console import Console

    from benchmarks.peaks import Peaks
    from hlsgen.build import BuildOptions, run

    plain = float32_seconds(options.model, options.threads)
    begun = time.perf_counter()
    build = BuildOptions(
        options.model, options.part, options.out, weights="random", images=options.images, scheme=options.scheme
    )
    with Peaks(Console(stderr=True)) as progress:
        report = run(build, progress)
        progress.close()
    whole = time.perf_counter() - begun
    csim, estimate = report["csim"], report["estimate"]
    return {
        "model": report["model"],
        "part": report["part"],
        "scheme": report["scheme"],
        "threads": options.threads,
        "float32_seconds": round(plain, 2),
        "csim_seconds": csim["seconds"],
        "csim_over_float32": round(csim["seconds"] / plain, 2),
        "verdict": report["verdict"],
        "integers_compared": csim["elements"],
        "build_minutes": round(whole / 60, 2),
        "stage_seconds": report["stages"],
        "peak_gb": {**progress.gb, "compiler and C-simulation": progress.children},
        "estimate": {
            key: estimate[key] for key in ("clock_mhz", "cores", "fps", "latency_ms", "mac_utilization", "fits")
        },
    }


def float32_seconds(model: str, threads: int) -> float:
    """PyTorch's time for the encoder's forward pass, the best of three."""
    import torch

    from hlsgen.models.sam.load import load
    from hlsgen.models.sam.network import encoder_network

    torch.set_num_threads(threads)
    held = load(model, "random")
    network = encoder_network(held.config, held.state)
    image = torch.rand(1, 3, held.config.img_size, held.config.img_size)
    with torch.inference_mode():
        return min(timed(lambda: network(image), f"float32, run {i + 1} of 3") for i in range(3))


def timed(call: Any, what: str) -> float:
    begun = time.perf_counter()
    call()
    seconds = time.perf_counter() - begun
    print(f"{what}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def print_table(facts: dict[str, Any]) -> None:
    estimate, peak = facts["estimate"], max(facts["peak_gb"].values())
    rows = [
        ("verdict", f"{facts['verdict']}, {facts['integers_compared']:,} integers compared", ""),
        ("float32 forward", f"{facts['float32_seconds']} s, {facts['threads']} threads, best of 3", ""),
        ("C-simulation", f"{facts['csim_seconds']:.1f} s", ""),
        ("C-simulation / float32", f"{facts['csim_over_float32']}", f"{MOST_RATIO:g} at most"),
        ("whole build", f"{facts['build_minutes']} min", f"{MOST_MINUTES:g} at most"),
        ("peak memory", f"{peak} GB", f"{MOST_GB:g} at most"),
        (
            "estimated",
            f"{1 / estimate['fps']:.3f} s an image over {estimate['cores']} cores, latency {estimate['latency_ms'] / 1e3:.2f} s, "
            f"MACs busy {estimate['mac_utilization']:.0%}",
            "",
        ),
    ]
    rows += [
        (f"stage {name}", f"{seconds:.1f} s, {facts['peak_gb'][name]} GB", "")
        for name, seconds in facts["stage_seconds"].items()
    ]
    print(f"| {facts['model']} on {facts['part']} | measured | aimed at |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    sys.exit(main())
