"""Folders of images, one after another, cut to one size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import FeatvizError, OutputError, SettingError
from featviz.interfaces import Size, as_size
from featviz.io.image_source import check_unit_range
from featviz.io.images import read_image

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".npy")
"""What counts as an image in a folder; a .npy file holds (channels, h, w) in [0, 1]."""


def read_photographs(
    folder: str | Path,
    *,
    size: int | Size = 224,
    channels: int = 3,
    skipped: Callable[[Path, str], None] | None = None,
) -> Iterator[tuple[Path, Float[Tensor, "c h w"]]]:
    """Go through a folder of images and all that is below it, sorted by name, one in memory at a time.

    Args:
        folder: where they are.
        size: height and width in px to which the middle of each is cut and brought.
        channels: 1 or 3, or whatever .npy files hold.
        skipped: called with each file that cannot be read, and why; `None` means that the first such file ends it.

    Returns:
        Each one's file, and itself in [0, 1].

    Raises:
        OutputError: the folder is missing or holds no image, or one cannot be read.
        SettingError: an image has other channels, or numbers that are not in [0, 1].
    """
    for file in images_in(folder):
        try:
            image = read_photograph(file, size=size, channels=channels)
        except FeatvizError as error:
            if skipped is None:
                raise
            skipped(file, str(error))
            continue
        yield file, image


def read_photograph(file: str | Path, *, size: int | Size = 224, channels: int = 3) -> Float[Tensor, "c h w"]:
    """Read the middle of one image, as `photographs` does.

    Raises:
        OutputError: it cannot be read.
        SettingError: it has other channels, or numbers that are not in [0, 1].
    """
    if Path(file).suffix.lower() == ".npy":
        try:
            image = torch.from_numpy(np.load(file, allow_pickle=False))
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise OutputError(f"cannot read {file} as an array; was it copied whole?") from error
    else:
        image = torch.from_numpy(read_image(file, channels))
    return middle(image, channels, as_size(size))


def images_in(folder: str | Path) -> Iterator[Path]:
    """Go through the names of a folder's images and of all that is below it, sorted within each folder.

    Raises:
        OutputError: the folder is missing or holds no image.
    """
    if not Path(folder).is_dir():
        raise OutputError(f"no folder {folder}")
    found = False
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(ENDINGS):
                found = True
                yield Path(below, name)
    if not found:
        raise OutputError(f"no images in {folder}; it needs files that end in {', '.join(ENDINGS)}")


def check_outside(output: str | Path, folder: str | Path) -> None:
    """Make sure that what is written does not land among the photographs that are read.

    Args:
        output: a file, a folder or a URL.
        folder: of photographs.

    Raises:
        OutputError: it would.
    """
    if "://" not in str(output) and Path(output).resolve().is_relative_to(Path(folder).resolve()):
        raise OutputError(f"{output} lies in {folder}, and would be taken for photographs; give an output elsewhere")


def middle(image: Float[Tensor, "c h w"], channels: int, size: Size) -> Float[Tensor, "c h2 w2"]:
    """Cut as much of the middle as has the shape, and bring it to the size.

    Raises:
        SettingError: it has other channels, or numbers that are not in [0, 1].
    """
    if image.ndim != 3 or image.shape[0] != channels:
        raise SettingError(
            f"an image of shape {tuple(image.shape)} among images of {channels} channels; give channels="
        )
    check_unit_range(image, "an image")
    shrink = min(image.shape[1] / size[0], image.shape[2] / size[1])
    sides = [max(1, round(side * shrink)) for side in size]
    top, left = (image.shape[1] - sides[0]) // 2, (image.shape[2] - sides[1]) // 2
    cut = image[None, :, top : top + sides[0], left : left + sides[1]].float()
    resized = F.interpolate(cut, size, mode="bilinear", antialias=True)[0]
    return resized.clamp(0, 1)  # white comes out as 1.0000001
