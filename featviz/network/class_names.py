"""Class names in output order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from featviz.errors import SettingError, shown

MAX_INDEX = 10**6
"""Largest index of a class in a mapping: every smaller index takes a place in the list of names."""


def in_output_order(names: Sequence[str] | Mapping[int, str]) -> tuple[str, ...]:
    """Return class names in output order. Outputs that a mapping leaves out get empty names.

    Args:
        names: In output order, or by index from 0; the indices may be text, as in JSON.

    Raises:
        SettingError: A key is not a whole number in [0, 10^6].

    >>> in_output_order({"0": "ant", "2": "cat"})
    ('ant', '', 'cat')
    """
    if not isinstance(names, Mapping):
        return tuple(names)
    wrong = [key for key in names if not str(key).isdecimal() or int(key) > MAX_INDEX]
    if wrong:
        raise SettingError(f"class names must be by index, from 0 to {MAX_INDEX}, got the index {shown(wrong[0])}")
    by_index = {int(key): name for key, name in names.items()}
    return tuple(by_index.get(index, "") for index in range(max(by_index, default=-1) + 1))
