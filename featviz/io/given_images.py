"""Images as users have them: files, folders, Pillow images, arrays and tensors, alone or in lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from PIL.Image import Image
from torch import Tensor

from featviz.errors import SettingError
from featviz.io.array import as_tensor
from featviz.io.files import is_folder
from featviz.io.folders import images_in
from featviz.io.image_source import check_unit_range
from featviz.io.images import LUMA, pillow_pixels, read_image

GivenImage = Any
"""A path, a Pillow image, or an array or tensor (h, w), (h, w, c) or (c, h, w).

Numbers are whole ones in 0…255 or floats in [0, 1]."""

ACCEPTED = "a file, a Pillow image, or numbers of shape (h, w, c) or (c, h, w), or a list of them"


def load_given_images(given: GivenImage, channels: int) -> list[Float[Tensor, "c h w"]]:
    """Load images that a user gives, whatever they are.

    Args:
        given: A `GivenImage`, a sequence of them, a folder, or a batch (n, c, h, w) or (n, h, w, c).
        channels: Number of channels to which the images are converted.

    Returns:
        The images in [0, 1], one or more.

    Raises:
        OutputError: A file cannot be read, or a folder holds no image.
        SettingError: The numbers are out of their range or have another shape, or there is no image.
    """
    several = separate_images(given)
    return [load_given_image(each, channels) for each in ([given] if several is None else several)]


def separate_images(given: GivenImage) -> list[GivenImage] | None:
    """Return the images of a folder, a batch (n, c, h, w) or (n, h, w, c), or a sequence.

    Returns:
        The images; `None` for a single image or a batch of one.

    Raises:
        OutputError: A folder holds no image.
        SettingError: There is no image.
    """
    if isinstance(given, str | Path) and is_folder(given):
        return list(images_in(given))
    is_batch = isinstance(given, np.ndarray | Tensor) and given.ndim == 4 and len(given) != 1
    if not is_batch and not isinstance(given, list | tuple):
        return None
    if not len(given):
        raise SettingError(f"there is no image in the list; give {ACCEPTED}")
    return list(given)


def load_given_image(given: GivenImage, channels: int) -> Float[Tensor, "c h w"]:
    """Load one image that a user gives.

    Args:
        given: A path, a Pillow image, or an array or tensor (h, w), (h, w, c) or (c, h, w). Whole numbers count up to
            255, floats are in [0, 1]. A fourth channel of an RGB image is its alpha.
        channels: Number of channels to which the image is converted. Transparent images are laid over white, unless
            alpha is the last channel wanted.

    Returns:
        The image in [0, 1].

    Raises:
        OutputError: The file cannot be read.
        SettingError: The numbers are out of their range, or have another shape.
    """
    if isinstance(given, str | Path):
        return torch.from_numpy(read_image(given, channels))
    if isinstance(given, Image):
        return torch.from_numpy(pillow_pixels(given, channels))
    if not isinstance(given, np.ndarray | Tensor):
        raise SettingError(f"an image must be {ACCEPTED}, got {type(given).__name__}")
    image = _channels_first(as_tensor("an image", given), channels)
    if not image.is_floating_point():
        numbers = image.double()  # uint16 has no minimum
        if not image.numel() or numbers.min() < 0 or numbers.max() > 255:
            found = f"{numbers.min().item():g}…{numbers.max().item():g}" if image.numel() else "none"
            raise SettingError(f"whole numbers of an image must be in 0…255, got {found}")
        image = image.float() / (1 if image.dtype == torch.bool else 255)
    check_unit_range(image, "the image")
    return _with_channels(image.float(), channels)


def _channels_first(image: Tensor, channels: int) -> Shaped[Tensor, "c h w"]:
    """Return an image with its channels first. Where both ends could be channels, they are first already."""
    known = (channels, 1, 3, 4)
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim == 2:
        return image[None]
    if image.ndim == 3 and image.shape[0] in known and (image.shape[0] == channels or image.shape[2] != channels):
        return image
    if image.ndim == 3 and image.shape[2] in known:
        return image.permute(2, 0, 1)
    color = 3 if channels == 4 else channels  # alpha is optional
    expected = f"({color}, h, w), (h, w, {color}) or (h, w)"
    raise SettingError(f"the image must have shape {expected}, got {tuple(image.shape)}")


def _with_channels(image: Float[Tensor, "c h w"], channels: int) -> Float[Tensor, "c2 h w"]:
    """Convert between grey, RGB and RGBA as an image file would be."""
    if len(image) == channels:
        return image
    if len(image) == 4 and channels in (1, 3):
        image = image[:3] * image[3:] + 1 - image[3:]  # over white
    if len(image) == channels:
        return image
    if len(image) == 1 and channels in (3, 4):
        image = image.expand(3, -1, -1)
    if len(image) == 3 and channels == 1:
        return (image * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    if len(image) == 3 and channels == 4:
        return torch.cat([image, torch.ones_like(image[:1])])
    if len(image) == channels:
        return image
    raise SettingError(f"the image must have {channels} channels, got {len(image)}")
