"""Photographs that images are matched to: a folder, or a sequence of files or images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from featviz.errors import SettingError, shown
from featviz.io.array import Array
from featviz.io.files import is_folder
from featviz.io.folders import images_in
from featviz.io.image_source import as_image_source
from featviz.objectives.algebra import Objective, quote_name

Photographs = Any
"""What `as_photographs` accepts: a folder, or a sequence of files or images. Values store a tuple."""

MAX_PHOTOGRAPHS = 1000
"""Largest number of photographs: a recipe lists them all, and each is read before the render."""


class OfPhotographs(Objective):
    """An objective that reads photographs before a render."""

    photographs: Photographs

    def __post_init__(self) -> None:
        """List the folder, and convert the photographs to values that a recipe can hold."""
        super().__post_init__()
        object.__setattr__(self, "photographs", as_photographs(self.photographs))

    @property
    def files(self) -> tuple[str, ...]:
        """The photographs that are files."""
        return files_among(self.photographs)


def as_photographs(source: Photographs) -> tuple[str | Array, ...]:
    """Convert photographs to values that a recipe can hold.

    Args:
        source: A folder, or a sequence of files or images in [0, 1].

    Returns:
        Paths and arrays. A path that is no folder stays as it is: it is read when a render starts.

    Raises:
        SettingError: There is no photograph, or there are too many, or one is neither a file nor numbers in [0, 1].
        OutputError: The folder has no images.
    """
    if isinstance(source, str | Path):
        listed: Sequence[Any] | Tensor = list(images_in(source)) if is_folder(source) else [source]
    elif isinstance(source, Sequence) or (isinstance(source, Tensor) and source.ndim == 4):
        listed = source
    else:
        raise SettingError(f"photographs must be a folder, or a sequence of files or images, got {shown(source)}")
    found = tuple(map(as_image_source, listed[: MAX_PHOTOGRAPHS + 1]))
    if not found:
        raise SettingError("there is no photograph to match; give a folder or a sequence of files")
    if len(found) > MAX_PHOTOGRAPHS:
        raise SettingError(
            f"photographs must be at most {MAX_PHOTOGRAPHS}, got {len(listed)}; give about 50 that show the unit"
        )
    return found


def files_among(photographs: Sequence[str | Array]) -> tuple[str, ...]:
    """Return the paths of the photographs that are files.

    Args:
        photographs: Paths and arrays.
    """
    return tuple(each for each in photographs if isinstance(each, str))


def show_photographs(photographs: Sequence[str | Array]) -> str:
    """Return the path of one file, quoted as the text of an objective needs it, or else how many photographs there are.

    Args:
        photographs: Paths and arrays.
    """
    files = files_among(photographs)
    return quote_name(files[0]) if len(photographs) == len(files) == 1 else f"{len(photographs)} photographs"
