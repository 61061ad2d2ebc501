"""Checks of values: whole messages."""

import math

import pytest

import featviz as fv
from featviz.checks import check_kind, check_number, check_position, check_size


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (-1, {"above": 0, "note": "(default 2)"}, "x must be > 0, got -1 (default 2)"),
        (2, {"at_least": 0, "at_most": 1}, "x must be in [0, 1], got 2"),
        (0, {"above": 0, "at_most": 9}, "x must be > 0 and at most 9, got 0"),
        (math.nan, {"at_least": 0}, "x must be a finite number >= 0, got nan"),
        ("a", {}, "x must be a finite number, got 'a'"),
        (True, {}, "x must be a finite number, got True"),
        (10**400, {}, "x must be at most 1e+15 in size, got int"),
        (-1e16, {}, "x must be at most 1e+15 in size, got -1e+16"),
        (1.5, {"whole": True, "at_least": 1}, "x must be a whole number >= 1, got 1.5"),
    ],
)
def test_numbers(value, bounds, message):
    with pytest.raises(fv.SettingError) as caught:
        check_number("x", value, **bounds)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [0, 1, 0.5, 1e15, -3])
def test_numbers_that_are_right(value):
    check_number("x", value, at_least=-3)


def test_sizes_positions_and_kinds():
    assert (check_size("s", 3), check_size("s", (70000,))) == ((3, 3), (70000,)) and check_position("p", [1, 2]) == (
        1,
        2,
    )
    for call, message in (
        (
            lambda: check_size("s", (1, 2, 3, 4)),
            "s must be one side or (height, width) in px, or 1 to 3 lengths, got (1, 2, 3, 4)",
        ),
        (lambda: check_size("s", 10**6), "s must be at most 65536 px on each side, got 1000000"),
        (lambda: check_position("p", 3), 'p must be (row, column), "center", "cls" or "reg0", got 3'),
        (
            lambda: check_kind("k", 3, fv.param.Image, "use param.Image()"),
            "k must be an image, got 3; use param.Image()",
        ),
    ):
        with pytest.raises(fv.SettingError) as caught:
            call()
        assert str(caught.value) == message
