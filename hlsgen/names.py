"""Names that are safe in C++, Tcl and paths."""

import re

from hlsgen.errors import HlsgenError

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def identifier(name: str, what: str) -> str:
    """`name` itself where it is a plain identifier; raises HlsgenError where it is not."""
    if not IDENTIFIER.fullmatch(name):
        raise HlsgenError(f"{what} expects a name of letters, digits and underscores, got {name[:60]!r}; rename it")
    return name
