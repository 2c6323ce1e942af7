"""What the package's commands have in common: the package opened, its self-test, exit status and JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable

from .accelerator import Accelerator
from .devices import DEVICES, open_device
from .errors import DriverError, WrongResultError
from .package import Package


def positive(text: str) -> float:
    """Seconds or images: above 0."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def common(parser: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: what the package has a bitstream for")
    parser.add_argument("--self-test", action="store_true", help="run the golden input and compare every tensor")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to draw (default: the current folder)")
    parser.add_argument("--timeout", type=positive, help="seconds one image may take (default: the device's)")
    parser.add_argument("--json", action="store_true", help="print facts as JSON on stdout, nothing else")


def self_test(accelerator: Accelerator, given: argparse.Namespace) -> dict[str, Any]:
    """The self-test's facts."""
    begun = time.perf_counter()
    said: dict[str, Any] = dict(accelerator.self_test())
    said["seconds"] = round(time.perf_counter() - begun, 3)
    if not given.json:
        print(
            "EXACT     self-test: all {integers:,} integers of {tensors} tensors on {cores} core(s) are what the INT8 model "
            "computes, {seconds:.2f} s".format(**said)
        )
    return said


def folder(given: argparse.Namespace) -> Path:
    """Where to draw, made where it is missing."""
    out: Path = given.out or Path(".")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DriverError(f"{out} cannot be made ({error.strerror}); give --out another folder") from error
    return out


def run(
    name: str,
    package: Path,
    given: argparse.Namespace,
    work: Callable[[Accelerator, argparse.Namespace], dict[str, Any]] | None,
) -> int:
    """Open the accelerator of `package`, self-test it where that is asked for, do `work` (None: nothing), print the facts.

    Returns:
        the exit status: 0; 1 where the self-test finds a wrong result; 2 for anything else that is wrong; 130 when interrupted.
    """
    try:
        held = Package(package)
        with Accelerator(held, open_device(held, given.device), given.timeout) as accelerator:
            polling = getattr(accelerator.device, "polling", [])
            if polling:
                print("note      no interrupt from {}: polling instead".format(", ".join(polling)), file=sys.stderr)
            said: dict[str, Any] = {"model": held.network.model, "device": accelerator.device.name}
            if given.self_test:
                said["self_test"] = self_test(accelerator, given)
            if work is not None:
                said.update(work(accelerator, given))
        if given.json:
            print(json.dumps(said, indent=1))
    except DriverError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, WrongResultError) else 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader went away; keep the interpreter's last flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
