"""Static post-training quantization: calibration, scales, the executable INT8 references.

`quantize`, `load_reference` and `Reference` are looked up on first use, so that `hlsgen.quantize.spec`, which needs numpy
only, does not import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hlsgen.quantize.reference import Reference, load_reference, quantize

__all__ = ["Reference", "load_reference", "quantize"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from hlsgen.quantize import reference

        return getattr(reference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
