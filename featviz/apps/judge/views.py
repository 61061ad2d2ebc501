"""How a judge looks at pictures of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GROWTHS = (1.0, 1.1, 1.2)
"""How much larger than its input a judge sees a picture, and then of it the first, the middle and the last part."""


def views(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what a judge of this size sees of an image (channels, h, w), as a batch."""
    large = [covering(image, size, growth) for growth in GROWTHS]
    return torch.cat([_cut(whole, size, share) for whole in large for share in (0.0, 0.5, 1.0)])


def covering(image: Tensor, size: tuple[int, int], growth: float = 1.0) -> Tensor:
    """Bring an image (channels, h, w), its shape kept, to where it covers a size so many times grown."""
    sides = image.shape[-2:]
    scale = growth * max(wanted / side for wanted, side in zip(size, sides, strict=True))
    to = [max(wanted, round(side * scale)) for wanted, side in zip(size, sides, strict=True)]
    return resized(image, to)


def resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """Bring an image (channels, h, w) to (1, channels, *size)."""
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)


def _cut(images: Tensor, size: tuple[int, int], share: float) -> Tensor:
    """Cut a window out: 0 is the first one, 0.5 the middle, 1 the last."""
    top, left = (round(share * (side - wanted)) for side, wanted in zip(images.shape[-2:], size, strict=True))
    return images[..., top : top + size[0], left : left + size[1]]
