"""Images a second that the driver alone sustains on one core of this machine: packing and boxes, the device taking no time.

    python -m benchmarks.driver_throughput PACKAGE [PICTURE ...]

PACKAGE is a folder that `make package` made, of a detector. Its golden data stand in for the device: every image "computes"
the golden outputs at once, so that boxes are found as in a real picture. Without pictures it measures noise of the sizes
of common photographs. One thread, and its CPU time, which other load on
the machine does not count into; detect.py overlaps images on several.
"""

import os
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402 (after the variables above)

SIZES = ((480, 640), (640, 640), (427, 640), (720, 1280), (1080, 1920))
SECONDS = 3.0


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    from hlsgen_driver import Package
    from hlsgen_driver.boxes import Decoder
    from hlsgen_driver.images import Packer
    from hlsgen_driver.picture import read_picture

    package = Package(folder)
    network = package.network
    if network.head is None:
        sys.exit(f"{network.model} is no detector")
    packer, decoder = Packer(network), Decoder(network, network.head)
    expected = package.golden("expected.bin", network.expected_bytes)
    memory = np.zeros(network.feature_map_bytes, np.int8)
    for t in network.outputs:
        memory[t.address : t.address + t.bytes] = expected[t.expected : t.expected + t.bytes]
    given = [(str(path), read_picture(Path(path))) for path in sys.argv[2:]]
    random = np.random.default_rng(0)
    noise = [(f"noise {h}x{w}", random.integers(0, 256, (h, w, 3)).astype(np.uint8)) for h, w in SIZES]
    print(
        f"{network.model} at {network.size[0]}x{network.size[1]}, one thread; CPU time: ms an image (median), images/s (mean)"
    )
    print(f"{'picture':<40} {'pack':>7} {'copies':>7} {'boxes':>7} {'images/s':>9}  boxes found")
    for name, picture in given or noise:
        steps: list[tuple[float, float, float]] = []
        begun = time.thread_time()
        while time.thread_time() - begun < SECONDS or len(steps) < 5:
            at = [time.thread_time()]
            packed, place = packer.pack(picture)
            at.append(time.thread_time())
            image = network.image
            memory[image.address : image.address + image.bytes] = packed
            outputs = [memory[t.address : t.address + t.bytes].copy() for t in network.outputs]
            at.append(time.thread_time())
            found = decoder.detect(outputs)
            place.restore(found.boxes)
            at.append(time.thread_time())
            steps.append((at[1] - at[0], at[2] - at[1], at[3] - at[2]))
        rate = len(steps) / (time.thread_time() - begun)
        median = np.median(np.array(steps), axis=0) * 1000
        print(f"{name:<40} {median[0]:7.2f} {median[1]:7.2f} {median[2]:7.2f} {rate:9.1f}  {len(found.scores)}")


if __name__ == "__main__":
    main()
