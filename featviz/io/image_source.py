"""Images given by the user inside an objective or a param: a file, or numbers in [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Size, show_size
from featviz.io.array import Array
from featviz.io.images import read_image
from featviz.io.resizing import linear_mode, resize

ROUNDING = 1e-5
"""How far pixels may lie outside of [0, 1]: resizing makes white 1.0000001."""

ImageSource = Any
"""What `as_image_source` accepts: a file, or (channels, h, w) in [0, 1]. Values store a `str` or an `Array`."""


def as_image_source(source: ImageSource) -> str | Array:
    """Convert an image to a value that a recipe can store.

    Args:
        source: A path, which is not read yet; or numbers in [0, 1], (channels, h, w); (channels, length) for signals,
            (channels, d, h, w) for volumes.

    Returns:
        The path as text, or the numbers as an `Array`.

    Raises:
        SettingError: The numbers have another shape, or values outside of [0, 1].
    """
    if isinstance(source, str | Path):
        return str(source)
    image = Array.of(source)
    if not 2 <= len(image.shape) <= 4 or 0 in image.shape:
        raise SettingError(f"an image must be a file, or numbers of shape (channels, h, w), got shape {image.shape}")
    check_unit_range(image.tensor, "the image")
    return image


def as_mask_source(mask: ImageSource) -> str | Array:
    """Convert a mask to a value that a recipe can store.

    Args:
        mask: A path, which is not read yet; or numbers in [0, 1], (h, w) or (1, h, w); (length,) for signals,
            (1, d, h, w) for volumes.

    Returns:
        The path as text, or the numbers as an `Array` of shape (1, h, w).

    Raises:
        SettingError: The numbers have another shape, or values outside of [0, 1].
    """
    if isinstance(mask, str | Path):
        return str(mask)
    numbers = Array.of(mask)
    shape = numbers.shape if len(numbers.shape) > 2 else (1, *numbers.shape)
    if not 2 <= len(shape) <= 4 or shape[0] != 1 or 0 in shape:
        raise SettingError(f"a mask must be a file, or numbers of shape (h, w) or (1, h, w), got shape {numbers.shape}")
    numbers = Array(shape, numbers.data)
    check_unit_range(numbers.tensor, "the mask")
    return numbers


def load_image_source(source: str | Array, channels: int, size: Size | None = None) -> Float[Tensor, "c *size"]:
    """Load an image, crop the largest centred part with the aspect ratio of `size`, and resize it.

    Args:
        source: The result of `as_image_source` or `as_mask_source`.
        channels: Number of channels that the image must have; a file is converted to 1, 3 or 4.
        size: Length of each axis in px, as height and width; `None` for the image as it is.

    Returns:
        The image in [0, 1], (channels, h, w). Do not modify it: it may share memory with the `Array`.

    Raises:
        OutputError: The file is missing or not an image.
        SettingError: The numbers have another number of channels.
    """
    image = torch.from_numpy(read_image(source, channels)) if isinstance(source, str) else source.tensor
    if image.shape[0] != channels:
        raise SettingError(f"the image must have {channels} channels, got {image.shape[0]}")
    if size is None:
        return image
    if len(size) != 2 or image.ndim != 3:
        return _resized_volume(image, size)
    # The rounding differs from that of `folders.middle`, which says how and why.
    height, width = image.shape[1:]
    crop_height = min(height, max(1, round(width * size[0] / size[1])))
    crop_width = min(width, max(1, round(height * size[1] / size[0])))
    return center_crop(image, (crop_height, crop_width), size)


def _resized_volume(image: Float[Tensor, "c *size"], size: Size) -> Float[Tensor, "c *size2"]:
    """Resize a signal or a volume along each axis; nothing is cropped.

    Raises:
        SettingError: The image has another number of axes.
    """
    image = image[:, 0] if image.ndim == 3 and image.shape[1] == 1 == len(size) else image  # a mask of one row
    if image.ndim != 1 + len(size):
        raise SettingError(
            f"the image must have {len(size)} axes after its channels, as the network's input of {show_size(size)} px, "
            f"got shape {tuple(image.shape)}"
        )
    return image if image.shape[1:] == size else F.interpolate(image[None], size, mode=linear_mode(image[None]))[0]


def center_crop(image: Float[Tensor, "c *size"], crop: Size, size: Size) -> Float[Tensor, "c *size2"]:
    """Crop the center of an image and resize it, with antialiasing.

    Args:
        image: In [0, 1].
        crop: Height and width of the part in px, no larger than the image.
        size: Height and width of the result in px.

    Returns:
        The resized image in [0, 1]. It shares memory with the given one where nothing had to change.
    """
    top, left = (image.shape[1] - crop[0]) // 2, (image.shape[2] - crop[1]) // 2
    part = image[:, top : top + crop[0], left : left + crop[1]]
    if crop == size:
        return part.contiguous()
    return resize(part[None], size)[0].clamp(0, 1)  # rounding turns white into 1.0000001


def check_unit_range(images: Tensor, name: str) -> None:
    """Check that images are floating-point numbers in [0, 1], up to the rounding of a resized image.

    Args:
        images: A tensor of any shape.
        name: What the message calls the images, such as `"the photograph"`.

    Raises:
        SettingError: There are no pixels, the numbers are integers, or some are outside of [0, 1] or NaN.
    """
    if not images.numel():
        raise SettingError(f"{name} of shape {tuple(images.shape)} has no pixels")
    if images.is_complex():
        raise SettingError(f"{name} holds {images.dtype}; give floating-point numbers in [0, 1]")
    numbers = images if images.is_floating_point() else images.double()  # uint16 has no minimum
    low, high = numbers.min().item(), numbers.max().item()
    if not images.is_floating_point() or not (low >= -ROUNDING and high <= 1 + ROUNDING):
        found = f"{images.dtype} from {low:g} to {high:g}"
        raise SettingError(f"{name} holds {found}; give floating-point numbers in [0, 1]")
