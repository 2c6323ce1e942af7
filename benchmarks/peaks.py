"""Peak memory, stage by stage."""

import sys
from pathlib import Path

from rich.console import Console

from hlsgen.progress import Terminal


class Peaks(Terminal):
    """Progress, and by stage this process' largest resident memory in GB, 10^9 bytes (Linux's VmHWM, set back by clear_refs)."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.gb: dict[str, float] = {}
        self.name = ""

    def stage(self, name: str, text: str) -> None:
        self.close()
        self.name = name
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        super().stage(name, text)

    def close(self) -> None:
        """Notes the peak of the stage under way."""
        if self.name:
            status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
            self.gb[self.name] = round(peak * 1024 / 1e9, 2)
            print(f"{self.name}: {self.gb[self.name]} GB at most", file=sys.stderr, flush=True)
