"""What a shared library defines for others."""

import subprocess
from pathlib import Path


def exported(library: Path) -> set[str]:
    """The dynamic symbols of `library`, without the C++ standard library's."""
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    return {name for name in names if not name.startswith(("_ZNSt", "_ZNKSt"))}
