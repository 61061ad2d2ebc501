"""Folders of images: find the files, and read them one after another, cropped and resized to one size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import FeatvizError, OutputError, SettingError, warn
from featviz.interfaces import Size, as_size
from featviz.io.files import is_folder
from featviz.io.image_source import center_crop, check_unit_range
from featviz.io.images import read_image
from featviz.io.npy import read_npy
from featviz.io.resizing import resize

READABLE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".npy")
"""File endings that count as images in a folder. A .npy file holds floating-point (channels, h, w) in [0, 1]."""


def read_photographs(
    folder: str | Path,
    *,
    size: int | Size = 224,
    channels: int = 3,
    skipped: Callable[[Path, str], None] | None = None,
) -> Iterator[tuple[Path, Float[Tensor, "c h w"]]]:
    """Read the images of a folder and of its subfolders, in the order of `images_in`, one at a time.

    Args:
        folder: The folder.
        size: Height and width in px, or one side, to which the centre of each image is cropped and resized.
        channels: 1 or 3, or any number for .npy files.
        skipped: Called with each file that cannot be used, and why; `None` to raise the error of the first one.

    Returns:
        An iterator over the files and their images in [0, 1], (channels, h, w).

    Raises:
        OutputError: The folder is missing or has no images, or a file cannot be read.
        SettingError: An image has another number of channels, or values outside of [0, 1].
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


def warn_of_skipped(file: Path, reason: str) -> None:
    """Warn of a file that is skipped; for `skipped` of `read_photographs`."""
    warn(f"skipped {file}: {reason}")


def read_photograph(file: str | Path, *, size: int | Size = 224, channels: int = 3) -> Float[Tensor, "c h w"]:
    """Read one image as `read_photographs` does.

    Args:
        file: An image file, or a .npy file.
        size: Height and width in px, or one side, to which the centre is cropped and resized.
        channels: 1 or 3, or any number for .npy files.

    Returns:
        The image in [0, 1], (channels, h, w).

    Raises:
        OutputError: The file cannot be read.
        SettingError: The image has another number of channels, or values outside of [0, 1].
    """
    return middle(_read(file, channels), channels, as_size(size))


def read_whole_photograph(file: str | Path, *, longer_side: int, channels: int = 3) -> Float[Tensor, "c h w"]:
    """Read one image uncropped, and reduce it if it is larger than a page needs.

    Args:
        file: An image file, or a .npy file.
        longer_side: Maximum length of the longer side in px, >= 1.
        channels: 1 or 3, or any number for .npy files.

    Returns:
        The image in [0, 1], (channels, h, w).

    Raises:
        OutputError: The file cannot be read.
        SettingError: The image has another number of channels, or values outside of [0, 1].
    """
    image = _read(file, channels)
    _check_channels(image, channels)
    check_unit_range(image, "an image")
    shrink = min(1.0, longer_side / max(image.shape[1:]))
    # To a width of 1 px, torch.nn.functional.interpolate with antialiasing repeats one row (seen in 2.14.1).
    height, width = (max(2, round(shrink * side)) for side in image.shape[1:])
    return resize(image[None].float(), (height, width))[0].clamp(0, 1)


def _read(file: str | Path, channels: int) -> Tensor:
    """Read an image file or a .npy file.

    Raises:
        OutputError: The file cannot be read.
    """
    if Path(file).suffix.lower() != ".npy":
        return torch.from_numpy(read_image(file, channels))
    try:
        return torch.from_numpy(read_npy(file))
    except TypeError as error:  # an array of text
        raise OutputError(f"cannot read {file} as an array; was it copied completely?") from error


def images_in(folder: str | Path) -> Iterator[Path]:
    """Find the image files of a folder and of its subfolders, sorted by name within each folder.

    Args:
        folder: The folder.

    Returns:
        An iterator over the files: first those of a folder, then those of its subfolders.

    Raises:
        OutputError: The folder is missing or has no images.
    """
    return files_in(folder, READABLE_ENDINGS)


def files_in(folder: str | Path, endings: tuple[str, ...], noun: str = "images") -> Iterator[Path]:
    """Find the files of a folder and of its subfolders that have certain endings, in the order of `images_in`.

    Args:
        folder: The folder.
        endings: File endings in lower case.
        noun: What they are called in messages, in the plural.

    Raises:
        OutputError: The folder is missing or has no such files.
    """
    if not is_folder(folder):
        raise OutputError(f"no folder {folder}; give a folder of {noun}")
    found = False
    for parent, subfolders, names in os.walk(folder):
        subfolders.sort()
        for name in sorted(names):
            if name.lower().endswith(endings):
                found = True
                yield Path(parent, name)
    if not found:
        raise OutputError(f"no {noun} in {folder}; it needs files that end in {', '.join(endings)}")


def check_outside(output: str | Path, *folders: str | Path | None) -> None:
    """Check that results are not written into a folder of photographs that is read.

    Args:
        output: A file, a folder or a URL.
        folders: The folders of photographs; `None` for none.

    Raises:
        OutputError: The output is one of the folders or lies in it.
    """
    for folder in folders:
        if folder is None or "://" in str(output) or not Path(output).resolve().is_relative_to(Path(folder).resolve()):
            continue
        raise OutputError(f"{output} lies in {folder}, and would be taken for photographs; give an output elsewhere")


def middle(image: Tensor, channels: int, size: Size) -> Float[Tensor, "c h2 w2"]:
    """Crop the largest centred part with the aspect ratio of `size`, and resize it.

    Args:
        image: (channels, h, w) in [0, 1].
        channels: Number of channels that the image must have.
        size: Height and width of the result in px.

    Returns:
        The resized image in [0, 1], in single precision.

    Raises:
        SettingError: The image has another number of channels, or values outside of [0, 1].
    """
    _check_channels(image, channels)
    check_unit_range(image, "an image")
    # This rounds twice (the ratio of the sides, then its product), `load_image_source` once. For some pairs of sizes
    # that are not square, the two crops differ by a pixel. Neither can take the other's rounding: measurements on
    # photographs depend on this one, and replays of recipes on the other.
    shrink = min(image.shape[1] / size[0], image.shape[2] / size[1])
    height, width = (max(1, round(side * shrink)) for side in size)
    return center_crop(image.float(), (height, width), size)


def _check_channels(image: Tensor, channels: int) -> None:
    """Check the number of dimensions and channels of an image.

    Raises:
        SettingError: The image has others.
    """
    if image.ndim != 3 or image.shape[0] != channels:
        raise SettingError(
            f"images must have shape ({channels}, h, w), got {tuple(image.shape)}; give channels= to read others"
        )
