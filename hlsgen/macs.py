"""What counts as a multiply-accumulate, wherever they are counted: `load`, the report's layers, the Program, the estimate.

- A convolution or linear layer: each of its weights once a pixel. Padding of the map counts, lanes that fill up a block do not.
- Scores: each query meets each key of its window once a channel; attention: each weight meets each value once a channel.
- But channels of keys that are known to be zero do not count: relative positions are products with longer keys
  (`hlsgen.models.relative`), of which a key has one 1 among the constants that say its row, and one among those of its column.
"""

from typing import Any

import numpy as np
import numpy.typing as npt


def idle_channels(constant: npt.NDArray[Any], zero: int = 0) -> int:
    """Channels of a constant map [C, H, W] that are `zero` in every token, whichever: all but one of a map of places, else none."""
    told = np.count_nonzero(constant != zero, axis=0)
    return len(constant) - 1 if told.size and bool((told == 1).all()) else 0
