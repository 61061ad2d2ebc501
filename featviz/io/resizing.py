"""Resize images."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size


def linear_mode(images: Tensor) -> str:
    """Return the name of the linear interpolation of `torch.nn.functional.interpolate` for images of 1 to 3 axes.

    Args:
        images: Images or masks, `(n, c, *size)`.
    """
    return ("linear", "bilinear", "trilinear")[images.ndim - 3]


def resize(images: Float[Tensor, "n c *size"], size: Size) -> Float[Tensor, "n c *size2"]:
    """Resize images bilinearly, with antialiasing; signals and volumes linearly, without. The aspect ratio may change.

    Args:
        images: Images or masks.
        size: Length of each axis of the result in px.

    Returns:
        The resized images; the given ones where they already have that size. Rounding can lead out of [0, 1], to
        1.0000001 for white.
    """
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode=linear_mode(images), antialias=images.ndim == 4)
