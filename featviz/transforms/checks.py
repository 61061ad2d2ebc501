"""Checks of the arguments of transforms."""

from __future__ import annotations

from featviz.errors import SettingError
from featviz.transforms.distributions import Distribution, smallest_of


def check_positive(name: str, value: Distribution | float) -> None:
    """Check that a number, or every number that may be drawn, is > 0.

    Args:
        name: Name of the argument, for the message.
        value: A number or a distribution. A distribution without a property `smallest` is not checked.

    Raises:
        SettingError: It may be 0 or less.
    """
    smallest = smallest_of(value)
    if smallest is not None and not smallest > 0:
        raise SettingError(f"{name} must be > 0, got {value} (1 changes nothing)")


def check_at_least_one(name: str, value: Distribution | float) -> None:
    """Check that a number, or every number that may be drawn, is >= 1.

    Args:
        name: Name of the argument, for the message.
        value: A number or a distribution. A distribution without a property `smallest` is not checked.

    Raises:
        SettingError: It may be less than 1.
    """
    smallest = smallest_of(value)
    if smallest is not None and not smallest >= 1:
        raise SettingError(f"{name} must be >= 1, got {value} (1 changes nothing)")


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


def check_fill(name: str, fill: float | None) -> None:
    """Check that the value of a padding is in [0, 1], or `None`.

    Args:
        name: Name of the argument, for the message.
        fill: Value of the padding; `None` to mirror the image.

    Raises:
        SettingError: It is out of its range.
    """
    if fill is not None and not 0 <= fill <= 1:
        raise SettingError(f"{name} must be in [0, 1], or None to mirror the image, got {fill} (default 0.5)")
