"""Photographs on pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
from torch import Tensor

import featviz as fv

SIDE = 128
"""Px of photographs of a class."""


def webp(image: Tensor) -> bytes:
    """Compress an image (3 or 1, h, w) in [0, 1] for a page."""
    pixels = (255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).expand(-1, -1, 3).numpy()
    return iio.imwrite("<bytes>", pixels, extension=".webp", quality=85)


def of_classes(names: Sequence[str], folder: str | Path, most: int = 3) -> dict[str, list[Tensor]]:
    """Find photographs of classes: those whose file, or folder, is called like the class, but for numbers.

    Args:
        names: of the classes.
        folder: of photographs.
        most: how many of each.
    """
    known = {_plain(name): name for name in names}
    found: dict[str, list[Tensor]] = {}
    for file, image in fv.photographs(folder, size=SIDE):
        name = known.get(_plain(file.stem)) or known.get(_plain(file.parent.name))
        if name and len(found.setdefault(name, [])) < most:
            found[name].append(image)
    return found


def _plain(name: str) -> str:
    words = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in name.lower()).split()
    return " ".join(word for word in words if not word.isdigit())
