"""Pictures that people hand over: a file, or numbers in [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Size
from featviz.io.array import Array
from featviz.io.images import read_image

ImageSource = Any
"""Whatever `as_image_source` takes: a file, or numbers in [0, 1], channels first. A value keeps a `str` or `Array`."""


def as_image_source(source: ImageSource) -> str | Array:
    """Make a path or an array of numbers in [0, 1] a value that can stand in a recipe.

    Raises:
        SettingError: it is neither.
    """
    if isinstance(source, str | Path):
        return str(source)
    picture = Array.of(source)
    if len(picture.shape) != 3 or 0 in picture.shape:
        raise SettingError(f"a picture of shape {picture.shape}; give a file, or (channels, h, w) in [0, 1]")
    low, high = picture.tensor.min().item(), picture.tensor.max().item()
    if low < 0 or high > 1:
        raise SettingError(f"a picture of numbers from {low:g} to {high:g}; give a file, or numbers in [0, 1]")
    return picture


def check_unit_range(images: Tensor, called: str) -> None:
    """Make sure that images are floating-point numbers in [0, 1].

    Args:
        images: of any shape.
        called: what to call them, as `the photograph`.

    Raises:
        SettingError: they are not.
    """
    if not images.numel():
        raise SettingError(f"{called} of shape {tuple(images.shape)} has no pixels")
    low, high = images.min().item(), images.max().item()
    if not images.is_floating_point() or not (low >= 0 and high <= 1):
        found = f"{images.dtype} from {low:g} to {high:g}"
        raise SettingError(f"{called} holds {found}; give floating-point numbers in [0, 1]")


def as_mask_source(mask: ImageSource) -> str | Array:
    """Make a mask a picture of one channel.

    Raises:
        SettingError: it is not one.
    """
    if not isinstance(mask, str | Path):
        mask = Array.of(mask)
        mask = mask.tensor[None] if len(mask.shape) == 2 else mask
    picture = as_image_source(mask)
    if not isinstance(picture, str) and picture.shape[0] != 1:
        raise SettingError(f"a mask of shape {picture.shape}; give one channel, or a file")
    return picture


def load_image_source(picture: str | Array, channels: int, size: Size | None = None) -> Float[Tensor, "c h w"]:
    """Read a picture, its middle cut to the shape of `size` and resized.

    Raises:
        OutputError: the file is missing or no picture.
        SettingError: it has other channels.
    """
    image = torch.from_numpy(read_image(picture, channels)) if isinstance(picture, str) else picture.tensor
    if image.shape[0] != channels:
        raise SettingError(f"a picture of {image.shape[0]} channels where {channels} are needed")
    if size is None:
        return image
    height, width = image.shape[1:]
    down, along = (
        min(height, max(1, round(width * size[0] / size[1]))),
        min(width, max(1, round(height * size[1] / size[0]))),
    )
    top, left = (height - down) // 2, (width - along) // 2
    cut = image[None, :, top : top + down, left : left + along]
    if cut.shape[2:] == size:
        return cut[0]
    return F.interpolate(cut, size, mode="bilinear", antialias=True).clamp(0, 1)[0]
