"""Photographs on pages."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
from torch import Tensor

import featviz as fv
from featviz.io import images_in, read_photograph

SIDE = 128
"""Px of photographs of a class."""


def webp(image: Tensor) -> bytes:
    """Compress an image (channels, h, w) in [0, 1] for a page; of channels that are no colours, the first."""
    image = image if len(image) == 3 else image[:1]
    pixels = (255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).expand(-1, -1, 3).numpy()
    return iio.imwrite("<bytes>", pixels, extension=".webp", quality=85)


def of_classes(names: Sequence[str], folder: str | Path, channels: int = 3, most: int = 3) -> dict[str, list[Tensor]]:
    """Find photographs of classes: those whose file, or folder, is called like the class, but for numbers.

    Args:
        names: of the classes.
        folder: of photographs; those that cannot be read are left out.
        channels: as for `photographs`.
        most: how many of each.
    """
    known = {_plain(name): name for name in names if _plain(name)} | {name.lower(): name for name in names}
    found: dict[str, list[Tensor]] = {}
    for file in images_in(folder):
        called = (file.stem.lower(), _plain(file.stem), file.parent.name.lower(), _plain(file.parent.name))
        name = next((known[words] for words in called if words in known), None)
        if name is not None and len(found.get(name, ())) < most:
            with contextlib.suppress(fv.FeatvizError):
                found.setdefault(name, []).append(read_photograph(file, size=SIDE, channels=channels))
    return found


def _plain(name: str) -> str:
    words = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in name.lower()).split()
    return " ".join(word for word in words if not word.isdecimal())
