"""Streaming histograms: nothing is lost when the range grows, whatever the order of the values."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hlsgen.quantize.calibrate import BINS, Histogram

CHUNKS = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(-12, 12), st.booleans()), min_size=1, max_size=6)


def chunk(seed: int, magnitude: float, positive: bool) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal((1, 2, 9, 7)).astype(np.float32) * np.float32(2.0**magnitude)
    return torch.from_numpy(np.abs(values) if positive else values)


def seen(values: torch.Tensor) -> Histogram:
    found = Histogram()
    found.update(values, torch.ones_like(values))
    return found


@settings(max_examples=50, deadline=None)
@given(chunks=CHUNKS, merged=st.booleans())
def test_counts_survive_growth(chunks: list[tuple[int, float, bool]], merged: bool) -> None:
    everything = [chunk(*c) for c in chunks]
    histogram = Histogram()
    for values in everything:
        if merged:
            histogram.merge(seen(values))
        else:
            histogram.update(values, torch.ones_like(values))
    flat = torch.cat(everything).numpy().ravel().astype(np.float64)
    assert histogram.counts.sum() == flat.size
    assert histogram.minimum == min(flat.min(), 0)
    assert histogram.maximum == max(flat.max(), 0)
    assert histogram.low <= histogram.minimum
    assert histogram.maximum <= histogram.low + BINS * histogram.width
    # no value is counted further than one bin from where it belongs
    below = np.searchsorted(np.sort(flat), histogram.centers + 1.5 * histogram.width)
    counted = np.cumsum(histogram.counts)
    assert (counted <= below + 1e-9).all()


def test_weights_count() -> None:
    values = torch.tensor([[[[-1.0, 0.25, 0.25, 2.0]]]])
    histogram = Histogram()
    histogram.update(values, torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]))
    used = histogram.counts > 0
    np.testing.assert_array_equal(histogram.counts[used], [1, 5, 4])
    np.testing.assert_allclose(histogram.centers[used], [-1, 0.25, 2], atol=histogram.width)


def test_zeros_have_no_range() -> None:
    histogram = seen(torch.zeros(1, 1, 3, 3))
    assert (histogram.minimum, histogram.maximum, histogram.width, histogram.counts.sum()) == (0, 0, 0, 0)
    histogram.merge(seen(torch.zeros(1, 1, 2, 2)))
    histogram.update(torch.full((1, 1, 2, 2), 3.0), torch.ones(1, 1, 2, 2))
    assert histogram.counts.sum() == 4
    assert histogram.maximum == 3
