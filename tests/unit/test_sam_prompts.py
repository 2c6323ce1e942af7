"""Prompts from the command line, and what is wrong with them."""

import pytest

from hlsgen.errors import HlsgenError
from hlsgen.models.sam.prompts import Prompt, parse_prompt, scaled_size

SIZE = (480, 640)


def test_a_box_and_points() -> None:
    found = parse_prompt("100,80,400,420", ["250,260", "0,480"], SIZE, ["640, 0.5"])
    assert found == Prompt((100, 80, 400, 420), ((250, 260), (0, 480)), ((640, 0.5),))


def test_a_point_alone() -> None:
    assert parse_prompt(None, ["1.5,2"], SIZE) == Prompt(None, ((1.5, 2.0),))


@pytest.mark.parametrize(
    ("box", "points", "sentence"),
    [
        (None, [], "a prompt needs a box or a point in the object: give --box x0,y0,x1,y1 or --point x,y"),
        ("1,2,3", [], "--box expects x0,y0,x1,y1 in pixels, 4 numbers with commas between them; got '1,2,3'"),
        ("1,2,3,four", [], "--box expects x0,y0,x1,y1 in pixels; 'four' in '1,2,3,four' is no number"),
        ("1,2,nan,4", [], "--box expects x0,y0,x1,y1 in pixels; 'nan' in '1,2,nan,4' is not finite"),
        ("9,2,3,4", [], "--box 9,2,3,4: expected the top left corner, then the bottom right one"),
        ("1,4,3,4", [], "--box 1,4,3,4: expected the top left corner, then the bottom right one"),
        ("1,2,641,4", [], "--box 1,2,641,4 lies outside the picture: it is 640 wide and 480 high"),
        (None, ["-1,5"], "--point -1,5 lies outside the picture: it is 640 wide and 480 high, expected x of 0 to 640"),
        (None, ["5,481"], "--point 5,481 lies outside the picture"),
        (None, ["5"], "--point expects x,y in pixels, 2 numbers with commas between them; got '5'"),
        (None, ["1,1", "x,2"], "--point expects x,y in pixels; 'x' in 'x,2' is no number"),
    ],
)
def test_what_is_wrong_is_said(box: str | None, points: list[str], sentence: str) -> None:
    with pytest.raises(HlsgenError) as caught:
        parse_prompt(box, points, SIZE)
    assert str(caught.value).startswith(sentence)


def test_only_points_outside_the_object_say_nothing() -> None:
    with pytest.raises(HlsgenError, match="needs a box or a point in the object"):
        parse_prompt(None, [], SIZE, ["1,1"])


def test_a_long_thin_picture_keeps_a_pixel() -> None:
    assert scaled_size((1, 5000), 128) == (1, 128)
