"""How much of each tensor's signal survives quantization."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from hlsgen.quantize.spec import TensorQ


def sqnr_by_tensor(
    network: fx.GraphModule,
    quantized: Mapping[str, npt.NDArray[Any]],
    tensors: Mapping[str, TensorQ],
    *given: npt.NDArray[np.float32],
) -> dict[str, float | None]:
    """10 log10(sum x^2 / sum (x - x')^2) in dB for every tensor that both sides hold, in order of computation.

    Args:
        network: the float network.
        quantized: the reference's integers by node name, any shape with as many elements as the float tensor.
        tensors: their quantization.
        given: the inputs, float32 [C, H, W] each, the image first.

    Returns:
        None for a tensor that is all zero or that quantization left as it was.
    """
    found: dict[str, float | None] = {}

    class Compare(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.name in quantized and n.name in tensors and isinstance(value, torch.Tensor):
                q = tensors[n.name]
                x = value.detach().numpy().astype(np.float64).reshape(-1)
                y = q.scale * (np.asarray(quantized[n.name]).astype(np.float64).reshape(-1) - q.zero_point)
                found[n.name] = _decibels(float(x @ x), float(((x - y) ** 2).sum()))
            return value

    with torch.inference_mode():
        Compare(network).run(*(torch.from_numpy(np.ascontiguousarray(x))[None] for x in given))
    return found


def _decibels(signal: float, noise: float) -> float | None:
    if signal <= 0 or noise <= 0:
        return None
    return round(10 * math.log10(signal / noise), 2)
