"""A SAM small enough for tests: every kind of block, padded windows, random weights that are no trivial case."""

import torch

from hlsgen.models.sam.checkpoint import Checkpoint, expected_shapes
from hlsgen.models.sam.config import SamConfig

MICRO = SamConfig("micro", 32, 8, 24, 2, 3, 3, (1,), 16, 2, 32, 16)
"""4 x 4 tokens, a block of windows of 3 (so 4 is padded to 6) and a global one."""


def micro(seed: int = 0, config: SamConfig = MICRO) -> Checkpoint:
    """Random weights of a size that keeps activations near one."""
    made = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(config).items():
        value = torch.randn(shape, generator=made)
        inputs = value[0].numel() if len(shape) > 1 else 1
        if len(shape) == 1:
            value = value * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        elif len(shape) in (2, 4) and "embed" not in name and "token" not in name and "gaussian" not in name:
            value = value * inputs**-0.5
        state[name] = value
    return Checkpoint(config, state)
