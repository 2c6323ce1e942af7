"""Relative positions as longer queries and keys, against their definition; constant maps in the vocabulary."""

import pytest
import torch
from torch import fx, nn

from hlsgen.errors import HlsgenError
from hlsgen.models.attention import attention_scores, windows
from hlsgen.models.network import check
from hlsgen.models.relative import place_map, table_map


@pytest.mark.parametrize("axis", [0, 1])
def test_terms_are_the_table_s_products(axis: int) -> None:
    n, d, heads, size = 3, 4, 2, (6, 9)
    table, q = torch.randn(2 * n - 1, d), torch.randn(1, heads * d, *size)
    line = (1, n) if axis == 0 else (n, 1)
    found = attention_scores(q, table_map(table, heads, size, axis), heads, line)
    for y, x, h, key in ((0, 0, 0, 2), (4, 7, 1, 0), (5, 2, 0, 1), (2, 8, 1, 2)):
        place = (y if axis == 0 else x) % n
        wanted = q[0, h * d : (h + 1) * d, y, x] @ table[place - key + n - 1]
        torch.testing.assert_close(found[0, h * n + key, y, x], wanted)


@pytest.mark.parametrize("axis", [0, 1])
def test_places_are_the_window_s_rows_and_columns(axis: int) -> None:
    cells = windows(place_map(3, (6, 9), axis), (3, 3))
    assert cells.shape == (6, 3, 3, 3)
    assert all(
        torch.equal(
            cell.argmax(0), torch.arange(3)[:, None].expand(3, 3) if axis == 0 else torch.arange(3).expand(3, 3)
        )
        for cell in cells
    )
    assert torch.equal(cells.sum(1), torch.ones(6, 3, 3))


def test_a_constant_is_a_map() -> None:
    root, graph = nn.Module(), fx.Graph()
    image = graph.placeholder("image")
    root.register_buffer("flat", torch.zeros(3, 4))
    graph.output((graph.call_function(torch.add, (image, graph.get_attr("flat"))),))
    with pytest.raises(HlsgenError, match=r"constant flat expects a map \[1, C, H, W\], got \[3, 4\]"):
        check(fx.GraphModule(root, graph))
