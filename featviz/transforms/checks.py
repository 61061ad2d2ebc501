"""Checks of the arguments of transforms that all transforms share: distributions, distances and paddings."""

from __future__ import annotations

from featviz.checks import MAX_SIDE, check_number
from featviz.errors import SettingError, shown
from featviz.transforms.distributions import Bounded, Distribution


def check_draws(
    name: str, value: Distribution | float, *, above: float | None = None, at_least: float | None = None, note: str = ""
) -> None:
    """Check that a number, or every number that may be drawn, is in a range.

    Args:
        name: Name of the argument, for the message.
        value: A number or a distribution. Of a distribution without a property `smallest` the range is not checked.
        above: What every number must exceed; `None` for no such bound.
        at_least: The smallest allowed number; `None` for none.
        note: Text appended to the message.

    Raises:
        SettingError: `value` is neither a number nor a distribution, or may be out of the range.
    """
    if not isinstance(value, Distribution):
        check_number(name, value, above=above, at_least=at_least, note=note)
    elif isinstance(value, Bounded):
        smallest = value.smallest
        if (above is not None and not smallest > above) or (at_least is not None and not smallest >= at_least):
            bound = f"> {above:g}" if above is not None else f">= {at_least:g}"
            raise SettingError(f"{name} must be {bound}, got {shown(value)}" + (f" {note}" if note else ""))


def check_px(name: str, px: int) -> None:
    """Check that a distance is a whole number of pixels >= 0.

    Args:
        name: Name of the argument, for the message.
        px: The distance.

    Raises:
        SettingError: `px` is negative, too large or not a whole number.
    """
    check_number(name, px, at_least=0, at_most=MAX_SIDE, whole=True)


def check_fill(name: str, fill: float | None) -> None:
    """Check that the value of a padding is in [0, 1], or `None`.

    Args:
        name: Name of the argument, for the message.
        fill: Value of the padding; `None` to mirror the image.

    Raises:
        SettingError: `fill` is out of its range.
    """
    if fill is not None:
        check_number(name, fill, at_least=0, at_most=1, note="(default 0.5; None mirrors the image)")
