"""Crops of an image of any size, as the input of a judge."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size
from featviz.io import resize

SCALES = (1.0, 1.1, 1.2)
"""Sizes to which an image is resized before cropping, as multiples of the smallest that covers the judge's input."""
POSITIONS = (0.0, 0.5, 1.0)
"""Positions of the crops: 0 is the top left, 0.5 the centre, 1 the bottom right."""


def crops(image: Float[Tensor, "c h w"], size: Size) -> Float[Tensor, "n c h2 w2"]:
    """Return nine crops of an image: three scales, three positions along the diagonal.

    The aspect ratio is kept, so the positions follow the longer side.

    Args:
        image: In [0, 1], of any size.
        size: Height and width of the crops in px.

    Returns:
        The crops, `(9, c, *size)`.
    """
    scaled = [resize_to_cover(image, size, scale) for scale in SCALES]
    return torch.cat([_crop(images, size, position) for images in scaled for position in POSITIONS])


def resize_to_cover(image: Float[Tensor, "c h w"], size: Size, scale: float = 1.0) -> Float[Tensor, "1 c h2 w2"]:
    """Resize an image, keeping its aspect ratio, to the smallest size that covers another.

    Args:
        image: In [0, 1].
        size: Height and width in px to cover.
        scale: Factor, >= 1, by which the result is larger than needed.

    Returns:
        A batch of one image.
    """
    sides = image.shape[-2:]
    factor = scale * max(wanted / side for wanted, side in zip(size, sides, strict=True))
    height, width = (max(wanted, round(side * factor)) for wanted, side in zip(size, sides, strict=True))
    return resize(image[None], (height, width))


def _crop(images: Float[Tensor, "n c h w"], size: Size, position: float) -> Float[Tensor, "n c h2 w2"]:
    """Crop images at a position from 0 (top left) to 1 (bottom right)."""
    top, left = (round(position * (side - wanted)) for side, wanted in zip(images.shape[-2:], size, strict=True))
    return images[..., top : top + size[0], left : left + size[1]]
