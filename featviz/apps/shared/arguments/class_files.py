"""Classes after which files and folders of photographs are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def known_names(classes: Sequence[str]) -> dict[str, str]:
    """Return class names by the spellings in which files and folders may be named after them, for `class_of_file`.

    Args:
        classes: Class names.
    """
    return {_words(name): name for name in classes if _words(name)} | {name.lower(): name for name in classes}


def class_of_file(known: Mapping[str, str], file: Path) -> str | None:
    """Return the class after which a file or its folder is named, apart from numbers and punctuation.

    Args:
        known: From `known_names`.
        file: Path of a photograph.

    Returns:
        The class name; `None` if it is named after none.
    """
    candidates = (file.stem.lower(), _words(file.stem), file.parent.name.lower(), _words(file.parent.name))
    return next((known[candidate] for candidate in candidates if candidate in known), None)


def _words(name: str) -> str:
    """Return the words of a name in lower case, without numbers and punctuation."""
    words = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in name.lower()).split()
    return " ".join(word for word in words if not word.isdecimal())
