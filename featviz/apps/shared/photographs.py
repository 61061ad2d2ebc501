"""Photographs on pages: find those of a class, and compress them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import imageio.v3 as iio
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.io import images_in, read_whole_photograph

WHOLE_SIDE = 256
"""Longer side in px to which whole photographs are reduced for a page."""


def encode_webp(image: Float[Tensor, "c h w"]) -> bytes:
    """Compress an image for a page.

    Args:
        image: In [0, 1]. Of an image that is not RGB, the first channel is shown in grey.

    Returns:
        The bytes of a .webp file.
    """
    image = image if len(image) == 3 else image[:1]
    pixels = (255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).expand(-1, -1, 3).numpy()
    return iio.imwrite("<bytes>", pixels, extension=".webp", quality=85)


def photographs_of_classes(
    classes: Sequence[str], folder: str | Path, *, channels: int = 3, limit: int = 3
) -> dict[str, list[Float[Tensor, "c h w"]]]:
    """Find photographs whose file or folder is named after a class, apart from numbers and punctuation.

    Args:
        classes: Class names.
        folder: Folder of photographs. Files that cannot be read are skipped.
        channels: Number of channels of the images.
        limit: Maximum number of photographs per class.

    Returns:
        Photographs by class, uncropped; classes without one are left out.

    Raises:
        OutputError: The folder is missing or has no image.
    """
    known = known_names(classes)
    found: dict[str, list[Tensor]] = {}
    for file in images_in(folder):
        name = class_of_file(known, file)
        if name is not None and len(found.get(name, ())) < limit:
            with contextlib.suppress(fv.FeatvizError):
                image = read_whole_photograph(file, longer_side=WHOLE_SIDE, channels=channels)
                found.setdefault(name, []).append(image)
    return found


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
