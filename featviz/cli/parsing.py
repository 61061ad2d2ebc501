"""How the text of options is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import featviz as fv
from featviz.errors import first_line, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featviz.interfaces import Size
    from featviz.network.execution import Precision

TABLES = (".csv", ".tsv")
"""Endings of tables, whose lines are more than a name."""
MAX_DIGITS = 12
"""Largest number of digits of a size or channel."""
MAX_CHANNELS = 1_000_000
"""Largest number of channels in a range; no layer has as many."""


def read_size(text: str | None) -> int | Size | None:
    """Read a size in px.

    Args:
        text: One side, as `224`; height and width, as `160x320`; or the three lengths of a volume or a clip, as
            `16x64x64`. `None` stays `None`.

    Returns:
        One side, which is that of every axis of the network's input, or the length of each axis.

    Raises:
        SettingError: The text is neither.
    """
    from featviz.interfaces import MAX_AXES

    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > MAX_AXES or not all(_is_number(side) for side in sides):
        raise fv.SettingError(
            "a size must be px as 224, height and width as 160x320, or three lengths as 16x64x64, got " + shown(text)
        )
    return int(text) if len(sides) == 1 else tuple(map(int, sides))


def read_image_size(text: str | None) -> int | tuple[int, int] | None:
    """Read a size in px for a command that works on images only.

    Args:
        text: As for `read_size`, but not three lengths.

    Raises:
        SettingError: The text is no size of an image.
    """
    size = read_size(text)
    if size is None or isinstance(size, int):
        return size
    if len(size) != 2:
        raise fv.SettingError(f"the size of an image must be px as 224, or height and width as 160x320, got {text!r}")
    return size[0], size[1]


def read_range(text: str | None) -> tuple[float, float] | None:
    """Read a range of values.

    Args:
        text: The lowest and the highest value, as `-1,1`; `None` stays `None`.

    Raises:
        SettingError: The text is something else.
    """
    numbers = read_numbers(text)
    if numbers is None:
        return None
    if len(numbers) != 2:
        raise fv.SettingError(f"a range must be the lowest and the highest value, as -1,1, got {shown(text)}")
    return numbers[0], numbers[1]


def read_numbers(text: str | None) -> tuple[float, ...] | None:
    """Read numbers separated by commas.

    Args:
        text: Such as `0.5,0.5,0.5`; `None` stays `None`.

    Raises:
        SettingError: A part is not a number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise fv.SettingError(f"numbers must be separated by commas, as 0.5,0.5,0.5, got {text!r}") from error


def read_precision(text: str) -> Precision | None:
    """Read the value of --precision.

    Args:
        text: A precision in which a network can run, or auto.

    Returns:
        The precision; `None` for auto.

    Raises:
        SettingError: There is no such precision.
    """
    from featviz.network import PRECISIONS

    for precision in PRECISIONS:
        if text == precision:
            return precision
    if text != "auto":
        raise fv.SettingError(f"--precision must be auto, {' or '.join(PRECISIONS)}, got {shown(text)}")
    return None


def read_channels(text: str) -> list[int]:
    """Read channel numbers and ranges.

    Args:
        text: Such as `0-15,40`. Ranges include both ends.

    Raises:
        SettingError: A part is neither, or a range is reversed.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise fv.SettingError(f"cannot read the channels {shown(text)}; give numbers as 0-15,40, or all")
        if last and int(last) < int(first):
            raise fv.SettingError(
                f"cannot read the channels {text!r}; give the smaller number first, as {last}-{first}"
            )
        span = range(int(first), int(last or first) + 1)
        if span.stop - span.start > MAX_CHANNELS:
            raise fv.SettingError(f"cannot read the channels {text!r}; a range may have at most {MAX_CHANNELS}")
        found += span
    return found


def read_class_names(file: Path) -> list[str] | dict[int, str]:
    """Read class names in output order: one per line, or a JSON list, or a JSON object of names by index.

    Args:
        file: A text or JSON file.

    Raises:
        SettingError: The file is missing or a table, holds no names or an index twice, or a name is empty.
    """
    is_json = file.suffix.lower() == ".json"
    if file.suffix.lower() in TABLES:
        raise fv.SettingError(f"{file} is a table; give class names as one name per line (.txt), or as JSON")
    try:
        text = file.read_text(encoding="utf-8-sig")
        # Not `splitlines`, which splits at form feeds and other signs that names may hold.
        lines = text.rstrip().split("\n") if text.strip() else []
        found = json.loads(text, object_pairs_hook=_once) if is_json else lines
    except (OSError, ValueError, RecursionError) as error:
        raise fv.SettingError(
            f"cannot read class names from {file}: {_why_no_names(file, error)}; give a file with one name per line"
        ) from error
    names = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    if not names or not found:
        raise fv.SettingError(f"{file} must hold one class name per line, or a JSON list of names")
    for place, name in names:
        if not isinstance(name, str) or not name.strip():
            where = f"the name of class {place}" if is_json else f"line {place + 1}"
            if isinstance(found, dict) and isinstance(name, int):
                raise fv.SettingError(f'{file} must hold names by index, {{"0": "cat"}}, and holds indices by name')
            raise fv.SettingError(f"{where} in {file} must be a class name, got {shown(name)}")
    if isinstance(found, dict):
        return {key: name.strip() for key, name in found.items()}
    return [name.strip() for name in found]


def _why_no_names(file: Path, error: Exception) -> str:
    """Return why a file of class names cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not in UTF-8"
    if isinstance(error, OSError):
        return "it is a folder" if file.is_dir() else (error.strerror or str(error)).lower()
    return "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys are all different."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _is_number(text: str) -> bool:
    """Return whether text is a whole number that a size or channel may have."""
    return text.isdecimal() and len(text) <= MAX_DIGITS


def find_own(places: Sequence[str] | None) -> dict[str, Any]:
    """Import the user's own values.

    Args:
        places: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`; `None` for none.

    Returns:
        The values by name.

    Raises:
        ModelError: There is no such file, module or name.
    """
    from featviz.network import find

    return {place.rpartition(":")[2]: find(place) for place in places or []}


def find_classes(network: fv.Network, names: Sequence[str] | None) -> list[fv.objectives.Logit]:
    """Return an objective for each class.

    Args:
        network: The network that knows the classes.
        names: Class names; a number that is not a class name is an index. `None` for none.
    """
    from featviz.apps.shared.arguments.classes import as_class

    return [fv.objectives.Logit(as_class(network, name)) for name in names or []]
