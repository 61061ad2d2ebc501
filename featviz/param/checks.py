"""Checks of the arguments of params."""

from __future__ import annotations

from featviz.errors import SettingError


def check_std(owner: str, std: float, default: float) -> None:
    """Check that a standard deviation is >= 0.

    Args:
        owner: Name of the class, for the message.
        std: The standard deviation.
        default: Its default, for the message.

    Raises:
        SettingError: It is negative or NaN.
    """
    if not std >= 0:
        raise SettingError(f"std of {owner} must be >= 0, got {std} (default {default})")
