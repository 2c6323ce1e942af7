"""hls4ml's plugin contract: entry-point group `hls4ml.backends`, name `Hlsgen`, object `hlsgen.backend.plugin:register`

hls4ml calls `register(register_backend=..., register_writer=...)` while it is itself being imported, so nothing of
hls4ml may be imported at the top of this file.
"""

from collections.abc import Callable
from typing import Any

NAME = "Hlsgen"


def register(
    register_backend: Callable[[str, type], None] | None = None,
    register_writer: Callable[[str, type], None] | None = None,
) -> None:
    """Register backend, layers, passes and flows with hls4ml; a second call changes nothing.

    register_backend: hls4ml's function of that name (default: `hls4ml.backends.register_backend`). register_writer is
    part of the contract and unused: `HlsgenBackend.write` renders the project.
    """
    from hls4ml.backends.backend import backend_map
    from hls4ml.backends.backend import register_backend as hls4ml_register

    from hlsgen.backend.backend import HlsgenBackend

    registry: dict[str, Any] = backend_map
    if NAME.lower() not in registry:
        (register_backend or hls4ml_register)(NAME, HlsgenBackend)
