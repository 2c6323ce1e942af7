"""Where networks come from: checkpoints, names, downloads, the bundled demo.

`hlsgen.models.load` and `hlsgen.models.Loaded` are looked up on first use, so that `hlsgen.models.images` and
`hlsgen.models.boxes`, which need numpy only, do not import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hlsgen.models.zoo import Loaded, load

__all__ = ["Loaded", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from hlsgen.models import zoo

        return getattr(zoo, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
