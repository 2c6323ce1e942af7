"""Figures as people read them."""

import pytest

from hlsgen.figures import duration, figure


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1271, "0.127"),
        (0.9996, "1.000"),
        (1.04, "1.04"),
        (7.864, "7.86"),
        (21.46, "21.5"),
        (12345.67, "12,345.7"),
        (0.0, "0.0"),
    ],
)
def test_three_digits_and_one_decimal_at_least(value: float, text: str) -> None:
    assert figure(value) == text


def test_no_decimals_where_none_are_wanted() -> None:
    assert [figure(v, 0) for v in (0.41, 4.1, 41.4, 414.4)] == ["0.410", "4.10", "41.4", "414"]


@pytest.mark.parametrize(
    ("ms", "text"), [(0.823, "0.823 ms"), (43.24, "43.2 ms"), (999.9, "999.9 ms"), (7864.82, "7.86 s")]
)
def test_seconds_from_one_on(ms: float, text: str) -> None:
    assert duration(ms) == text
