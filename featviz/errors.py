"""Everything that featviz raises or warns about.

FeatvizError               catch this one to catch them all
├── AddressError           an address that a network does not have, or text that is no objective
├── ModelError             a model that cannot be built, or does not take this input
├── WeightsError           weights that cannot be read, or do not fit
├── SettingError           an argument out of its range (also a ValueError)
├── RenderError            a render that cannot succeed: no gradient, or a score that is not a number
├── RecipeError            a picture without a recipe, or a recipe that needs something given
└── OutputError            a file that cannot be written or read
FeatvizWarning             some pictures of a batch failed, or a replay may differ; what there is can be used
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FeatvizError(Exception):
    """What featviz raises; its text says what was asked, what was found and what to do."""


class AddressError(FeatvizError):
    """The network has no such layer, channel, position or class, or the text is no objective."""


class ModelError(FeatvizError):
    """The model cannot be built, or does not take this input."""


class WeightsError(FeatvizError):
    """The weights cannot be read, or do not fit the model."""


class SettingError(FeatvizError, ValueError):
    """An argument is out of its range."""


class RenderError(FeatvizError):
    """The render cannot succeed."""


class RecipeError(FeatvizError):
    """The picture holds no recipe, or its recipe needs something given by hand."""


class OutputError(FeatvizError):
    """The file cannot be written or read."""


class FeatvizWarning(UserWarning):
    """Some pictures of a batch failed, or a replay may differ; what there is can be used."""


def nearest(name: str, among: Iterable[str], most: int = 3) -> str:
    """List the closest names, ready to end a message.

    >>> nearest("mixed4q", ["mixed4a", "stem"])
    "; nearest: 'mixed4a'"
    """
    lowered = {known.lower(): known for known in among}
    close = difflib.get_close_matches(name.lower(), lowered, n=most, cutoff=0.4)
    return "; nearest: " + ", ".join(repr(lowered[match]) for match in close) if close else ""


def caret(text: str, place: int) -> str:
    """Show `text` with a caret under `place`, on lines of their own.

    >>> print(caret("a:b", 2))
    <BLANKLINE>
      a:b
        ^
    """
    return f"\n  {text}\n  {' ' * place}^"
