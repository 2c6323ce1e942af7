"""Decomposed relative positions (Li et al., MViTv2, 2022, eq. 4) in the network's vocabulary.

Scores with relative positions are products of longer queries and keys. Each query is joined by what it thinks of every row
and every column of keys, each key by a 1 at its own row and its own column:

    [rh, rw, q] . [onehot(row), onehot(column), k] = q . k + rh[row] + rw[column]

And rh is a product of queries and keys too: within a row of a window, the n "keys" of a query at row y are the table's rows for
y less 0 .. n - 1, constants. rw likewise, within a column.
"""

import torch
from torch import Tensor


def table_map(table: Tensor, heads: int, size: tuple[int, int], axis: int) -> Tensor:
    """The table as keys of `attention_scores` in windows of 1 row of n columns (axis 0), or of n rows of 1 column (axis 1).

    Args:
        table: float32 [2 * n - 1, d], by the query's row (or column) less the key's, plus n - 1.
        heads: they share the table.
        size: height and width of the map; n divides what the windows cut.
        axis: 0 for rows, 1 for columns.

    Returns:
        float32 [1, heads * d, height, width].
    """
    n = (len(table) + 1) // 2
    y, x = (torch.arange(s) % n for s in size)
    ahead = y[:, None] - x[None, :]  # the query's place less the key's
    found = table[(ahead if axis == 0 else -ahead) + n - 1]  # [height, width, d]
    return found.permute(2, 0, 1).repeat(heads, 1, 1)[None].contiguous()


def place_map(n: int, size: tuple[int, int], axis: int) -> Tensor:
    """A 1 in the channel of each token's row (axis 0) or column (axis 1) in windows of n x n: float32 [1, n, height, width]."""
    y, x = (torch.arange(s) % n for s in size)
    places = (y[:, None] if axis == 0 else x[None, :]).expand(size)
    return (torch.arange(n)[:, None, None] == places).float()[None]
