"""Check values when they are created, so that invalid ones raise immediately."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from featviz.errors import SettingError, pluralize, shown
from featviz.interfaces import Position, Size, as_position, as_size, show_size

MAX_NUMBER = 1e15
"""Largest number; beyond, tensors of single precision soon overflow."""
MAX_SIDE = 65536
"""Largest side of an image, and largest distance in one, in px."""
MAX_LENGTH = 2**24
"""Largest length of a signal, in samples."""


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    whole: bool = False,
    note: str = "",
) -> None:
    """Check that a value is a number in a range, and at most `MAX_NUMBER` in size.

    Args:
        name: Name of the value, for the message.
        value: The value.
        above: What the number must exceed; `None` for no such bound.
        at_least: The smallest allowed number; `None` for none.
        at_most: The largest allowed number; `None` for none.
        whole: Whether it must be a whole number.
        note: Text appended to the message, such as the default in brackets.

    Raises:
        SettingError: `value` is not a number, or is out of its range.

    >>> check_number("lr", -1, above=0, note="(default 0.12)")
    Traceback (most recent call last):
    featviz.errors.SettingError: lr must be > 0, got -1 (default 0.12)
    """
    is_number = _is_whole(value) if whole else _is_finite(value)
    low, high = -math.inf if at_least is None else at_least, math.inf if at_most is None else at_most
    if is_number and abs(value) > MAX_NUMBER:
        raise SettingError(f"{name} must be at most {MAX_NUMBER:g} in size, got {shown(value)}")
    if is_number and low <= value <= high and (above is None or value > above):
        return
    if at_most is not None and at_least is not None:
        bounds = [f"in [{at_least:g}, {at_most:g}]"]
    else:
        given = (("> ", above), (">= ", at_least), ("at most ", at_most))
        bounds = [f"{sign}{bound:g}" for sign, bound in given if bound is not None]
    kind = "a whole number " if whole else "a finite number " if not is_number else ""
    wanted = f"{kind}{' and '.join(bounds)}".rstrip()
    raise SettingError(f"{name} must be {wanted}, got {shown(value)} {note}".rstrip())


def check_flag(name: str, value: Any) -> None:
    """Check that a value is `True` or `False`.

    Raises:
        SettingError: `value` is not a truth value.
    """
    if not isinstance(value, bool):
        raise SettingError(f"{name} must be True or False, got {shown(value)}")


def check_text(name: str, value: Any) -> None:
    """Check that a value is text.

    Raises:
        SettingError: `value` is not text.
    """
    if not isinstance(value, str):
        raise SettingError(f"{name} must be text, got {shown(value)}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a value is one of some names.

    Args:
        name: Name of the value, for the message.
        value: The value.
        choices: Two or more names.

    Raises:
        SettingError: `value` is not one of the names.

    >>> check_choice("kind", "pca", ("nmf", "kmeans"))
    Traceback (most recent call last):
    featviz.errors.SettingError: kind must be nmf or kmeans, got 'pca'
    """
    if not isinstance(value, str) or value not in choices:
        raise SettingError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, got {shown(value)}")


def as_whole(name: str, value: Any) -> int:
    """Return a whole number of Python, numpy or torch as one of Python.

    Args:
        name: Name of the value, for the message.
        value: The value.

    Raises:
        SettingError: `value` is not a whole number.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(f"{name} must be a whole number, got {shown(value)}") from error


def check_position(name: str, at: Any) -> Position:
    """Return a position with whole numbers of Python.

    Args:
        name: Name of the position, for the message.
        at: Index along each axis, as row and column, from 0; or the name of a position, such as `"center"`.

    Raises:
        SettingError: `at` is not a position.
    """
    try:
        return as_position(at)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(f'{name} must be (row, column), "center", "cls" or "reg0", got {shown(at)}') from error


def check_size(name: str, size: Any, axes: int = 2) -> Size:
    """Return a size as the length of each axis.

    Args:
        name: Name of the size, for the message.
        size: One side, which all axes get; or height and width of an image, the length of a signal, or the three sides
            of a volume, in px.
        axes: Number of axes for one side.

    Raises:
        SettingError: `size` is not one side or 1 to 3 lengths, or one is not in [1, `MAX_SIDE`]; a signal may have
            `MAX_LENGTH`.
    """
    try:
        if isinstance(size, bool | str):
            raise TypeError
        sides = as_size(size, axes)
    except (TypeError, ValueError) as error:
        more = ", or 1 to 3 lengths" if isinstance(size, tuple | list) else ""
        raise SettingError(f"{name} must be one side or (height, width) in px{more}, got {shown(size)}") from error
    if min(sides) < 1:
        raise SettingError(f"{name} must be at least 1 px on each side, got {show_size(sides)}")
    most = MAX_LENGTH if len(sides) == 1 else MAX_SIDE
    if max(sides) > most:
        raise SettingError(f"{name} must be at most {most} px on each side, got {shown(max(sides))}")
    return sides


def check_seed(seed: Any) -> None:
    """Check the seed of a fit, which must be in the range of scikit-learn and NumPy.

    Raises:
        SettingError: `seed` is not a whole number in [0, 2^32).
    """
    if not 0 <= as_whole("seed", seed) < 2**32:
        raise SettingError(f"seed must be in [0, 2**32), got {seed}")


def check_axes(size: Size, axes: int, source: str = "the images", name: str = "size") -> None:
    """Check that a size has one number for each axis of what it is for.

    Args:
        size: The size.
        axes: Number of axes.
        source: What has these axes, for the message.
        name: Name of the argument, for the message.

    Raises:
        SettingError: `size` has more or fewer numbers.
    """
    if len(size) != axes:
        raise SettingError(f"{name} must have {pluralize(axes, 'number')}, as {source}, got {size}")


def check_two_axes(what: object, size: Size, instead: str) -> None:
    """Check that images have a height and a width.

    Args:
        what: Part that works on images only, for the message.
        size: Length of each axis of the images.
        instead: What to do otherwise, for the message.

    Raises:
        SettingError: The images have fewer axes, as signals, or more.
    """
    if len(size) != 2:
        raise SettingError(f"{what} needs images with two axes, got {len(size)}; {instead}")


def is_made(value: Any, *kinds: type) -> bool:
    """Return whether a value is an object of one of these classes or protocols.

    `isinstance` alone takes a class, such as `param.Pixel` without brackets, for an object with its methods.
    """
    return isinstance(value, kinds) and not isinstance(value, type)


def check_kind(name: str, value: Any, kind: type, instead: str) -> None:
    """Check that a value is of a class, or has the methods of a protocol.

    Args:
        name: Name of the value, for the message.
        value: The value.
        kind: The class or protocol.
        instead: What to give, such as `"use e.g. param.Pixel()"`.

    Raises:
        SettingError: `value` is of another class.
    """
    if not is_made(value, kind):
        noun = kind.__name__.lower()
        article = "an" if noun[0] in "aeiou" else "a"
        raise SettingError(f"{name} must be {article} {noun}, got {shown(value)}; {instead}")


def _is_finite(value: Any) -> bool:
    try:
        known = isinstance(value, int | float | np.integer | np.floating)  # tensors refuse a `Fraction`
        return known and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold, which is finite
        return True


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
