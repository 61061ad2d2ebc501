"""Resize images."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size


def resize(images: Float[Tensor, "n c h w"], size: Size) -> Float[Tensor, "n c h2 w2"]:
    """Resize images bilinearly, with antialiasing. The aspect ratio may change.

    Args:
        images: Images or masks.
        size: Height and width of the result in px.

    Returns:
        The resized images; the given ones where they already have that size. Rounding can lead out of [0, 1], to
        1.0000001 for white.
    """
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)
