"""Checks of the arguments of transforms."""

from __future__ import annotations

from featviz.errors import SettingError
from featviz.transforms.distributions import Distribution, OneOf, Uniform


def check_positive(name: str, value: Distribution | float) -> None:
    """Check that a number, or every number that may be drawn, is > 0. Other distributions are not checked.

    Args:
        name: Name of the argument, for the message.
        value: A number or a distribution.

    Raises:
        SettingError: It may be 0 or less.
    """
    match value:
        case Uniform(low=low, high=high):
            smallest = min(low, high)
        case OneOf(values=values):
            smallest = min(values)
        case Distribution():
            return
        case _:
            smallest = value
    if not smallest > 0:
        raise SettingError(f"{name} must be > 0, got {value} (1 changes nothing)")


def check_px(name: str, px: int) -> None:
    """Check that a distance is a whole number of pixels >= 0.

    Args:
        name: Name of the argument, for the message.
        px: The distance.

    Raises:
        SettingError: It is negative or not a whole number.
    """
    if px < 0 or px != int(px):
        raise SettingError(f"{name} must be a whole number >= 0, got {px}")
