"""The exception tree of featviz, and helpers that format messages.

FeatvizError               base class of all errors
├── AddressError           the network has no such layer, channel, position or class, or text cannot be parsed
│   └── UndeclaredLayerError  an objective reads a layer that it does not declare (also a KeyError)
├── ModelError             a model cannot be built, or does not accept its input
├── WeightsError           weights cannot be read, or do not fit the model
├── SettingError           an argument is invalid (also a ValueError)
├── RenderError            a render or an attribution fails: no gradient, scores not finite, too little memory
├── RecipeError            an image has no recipe, or its recipe cannot be replayed as it is
└── OutputError            a file cannot be written or read
FeatvizWarning             the result is usable, but a part failed, was left out, or may not be what was meant
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import warnings
from collections.abc import Iterable

MAX_SHOWN = 80
"""Number of characters of the longest repr that a message shows."""
_PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120
_DECORATORS = (f"{os.sep}contextlib.py", f"{os.sep}_contextlib.py", f"jaxtyping{os.sep}_decorator.py")
"""Ends of the names of files whose decorators may be around a function: of Python, PyTorch and jaxtyping."""


class FeatvizError(Exception):
    """Base class of the errors that featviz raises. The message says what must hold, what was given and what to do."""


class AddressError(FeatvizError):
    """The network has no such layer, channel, position or class, or text cannot be parsed."""


class ModelError(FeatvizError):
    """A model cannot be built, or does not accept its input."""


class WeightsError(FeatvizError):
    """Weights cannot be read, or do not fit the model."""


class UndeclaredLayerError(AddressError, KeyError):
    """An objective reads a layer that it does not declare. Also a `KeyError`, as for any mapping."""

    def __str__(self) -> str:
        """Return the message, where a `KeyError` would return its repr."""
        return str(self.args[0])


class SettingError(FeatvizError, ValueError):
    """An argument is invalid."""


class RenderError(FeatvizError):
    """A render or an attribution fails: no gradient, scores that are not finite, or too little memory."""


class RecipeError(FeatvizError):
    """An image has no recipe, or its recipe cannot be replayed as it is."""


class OutputError(FeatvizError):
    """A file cannot be written or read."""


class FeatvizWarning(UserWarning):
    """The result is usable, but some part of it failed, was left out, or may not be what was meant."""


def warn(message: str) -> None:
    """Warn with a `FeatvizWarning` at the line that called featviz from outside.

    Args:
        message: What is wrong, and what to do.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, FeatvizWarning, stacklevel=level)


def _is_inside(file: str) -> bool:
    """Return whether code of this file is not the caller's."""
    return file.startswith(_PACKAGE) or file.endswith(_DECORATORS)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its type if it has no message.

    >>> first_line(ValueError("too long" + chr(10) + "by far")), first_line(KeyError())
    ('too long', 'KeyError')
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """Return the type of an error, and the first line of its message if it has one.

    >>> kind_and_line(ValueError("too long")), kind_and_line(KeyError())
    ('ValueError: too long', 'KeyError')
    """
    line = first_line(error)
    return line if line == type(error).__name__ else f"{type(error).__name__}: {line}"


def plain_spelling(name: str) -> str:
    """Return a name in lower case, without hyphens, underscores and spaces, to find it in any spelling.

    >>> plain_spelling("Grad-CAM"), plain_spelling("spiral_galaxy")
    ('gradcam', 'spiralgalaxy')
    """
    return re.sub(r"[-_ ]", "", name.lower())


def nearest(name: str, among: Iterable[str], most: int = 3) -> str:
    """Return a suffix for an error message that lists the most similar names.

    Args:
        name: The name that was not found.
        among: The names that exist.
        most: Number of names to list at most.

    Returns:
        Text that starts with `"; nearest: "`; empty if no name is similar.

    >>> nearest("mixed4q", ["mixed4a", "stem"])
    "; nearest: 'mixed4a'"
    """
    lowered = {known.lower(): known for known in among}
    close = difflib.get_close_matches(name.lower(), lowered, n=most, cutoff=0.4)
    return "; nearest: " + ", ".join(repr(lowered[match]) for match in close) if close else ""


def shown(value: object) -> str:
    """Return a value for an error message: its repr if that is short, else its type.

    >>> shown("a"), shown(list(range(100)))
    ("'a'", 'list')
    """
    try:
        text = repr(value)
    except Exception:  # of lists that hold themselves, and of anything whose own repr fails
        return type(value).__name__
    return text if len(text) <= MAX_SHOWN and "\n" not in text else type(value).__name__


def pluralize(count: int, noun: str) -> str:
    """Return a number with its noun in singular or plural.

    >>> pluralize(1, "layer"), pluralize(2, "layer")
    ('1 layer', '2 layers')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def caret(text: str, column: int) -> str:
    """Return the text and a caret below one of its columns, as two indented lines.

    Args:
        text: One line of text.
        column: Column of the caret, from 0.

    >>> print(caret("a:b", 2))
    <BLANKLINE>
      a:b
        ^
    """
    return f"\n  {text}\n  {' ' * column}^"


def caret_column(message: str) -> tuple[str, int | None]:
    """Return the first line of a message, and the column that `caret` marks below it.

    Args:
        message: A message that may end in what `caret` returns.

    Returns:
        The line, and the column from 0; `None` where no caret is in the message.

    >>> caret_column("cannot parse it" + caret("a:b", 2))
    ('cannot parse it', 2)
    >>> caret_column("no such layer")
    ('no such layer', None)
    """
    first, *rest = message.split("\n")
    marked = len(rest) >= 2 and rest[-1].strip() == "^"
    return first, len(rest[-1]) - 3 if marked else None
