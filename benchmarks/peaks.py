"""Peak memory, stage by stage."""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from hlsgen.progress import Terminal


class Peaks(Terminal):
    """Progress, and by stage this process' largest resident memory in GB, 10^9 bytes (Linux's VmHWM, set back by clear_refs)."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.gb: dict[str, float] = {}
        self.name = ""
        self.children = 0.0
        """Of any program that this process ran, compiler and C-simulation, as far as looking every half second sees."""
        threading.Thread(target=self._watch, daemon=True).start()

    def stage(self, name: str, text: str) -> None:
        self.close()
        self.name = name
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        super().stage(name, text)

    def close(self) -> None:
        """Notes the peak of the stage under way."""
        if self.name:
            self.gb[self.name] = peak("self")
            print(f"{self.name}: {self.gb[self.name]} GB at most", file=sys.stderr, flush=True)

    def _watch(self) -> None:
        parents = {os.getpid()}
        while True:
            time.sleep(0.5)
            found = {int(path.name) for path in Path("/proc").glob("[0-9]*") if parent(path.name) in parents}
            begun = [
                pid for pid in found if _program(pid) != _program(os.getpid())
            ]  # until then it is a copy of this one
            self.children = max([self.children, *(peak(str(pid)) for pid in begun)])
            parents |= found


def peak(pid: str) -> float:
    """The largest resident memory of a process so far, in GB; 0 where it has gone."""
    return round(int(_status(pid).get("VmHWM", "0 kB").split()[0]) * 1024 / 1e9, 2)


def parent(pid: str) -> int:
    """The process that started it, 0 where it has gone."""
    return int(_status(pid).get("PPid", "0"))


def _program(pid: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")
    return ""


def _status(pid: str) -> dict[str, str]:
    with suppress(OSError):
        lines = (Path("/proc") / pid / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {}
