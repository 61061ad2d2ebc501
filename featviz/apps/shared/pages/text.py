"""Text of unknown origin, made safe to show."""

from __future__ import annotations


def printable(text: str, replacement: str = "\ufffd", *, most: int | None = None) -> str:
    r"""Return text without characters that would move the cursor of a terminal or that have no glyph.

    Args:
        text: Any text, possibly from a file of unknown origin.
        replacement: Takes the place of each such character.
        most: Maximum number of characters, >= 1; longer text ends in an ellipsis. `None` for no maximum.

    >>> printable("a\x1b[2Jb")
    'a�[2Jb'
    """
    clean = "".join(letter if letter.isprintable() else replacement for letter in text)
    return clean if most is None or len(clean) <= most else f"{clean[: most - 1]}…"
