"""Gaussian blur, used by transforms, objectives and optimizers."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.network.neutral_state import neutral_state

MIN_STD = 1e-3
"""Smallest standard deviation of a kernel in px, so that it is defined."""


def gaussian_blur(images: Float[Tensor, "n c *size"], std: float) -> Float[Tensor, "n c *size"]:
    """Blur images with a Gaussian, mirrored at their edges.

    The kernel is cut off at 3 standard deviations, or where mirroring would need more px than the image has.

    Args:
        images: Any number of images.
        std: Standard deviation in px; values below 1/6 change nothing, as the kernel is one pixel wide then.

    Returns:
        The blurred images.
    """
    if images.ndim != 4:
        return _blur_axes(images, std)
    from kornia.filters import filter2d_separable  # slow to import

    vertical, horizontal = (_kernel(side, std, images.device, images.dtype) for side in images.shape[2:])
    return filter2d_separable(images, horizontal, vertical, border_type="reflect")


def _blur_axes(images: Float[Tensor, "n c *size"], std: float) -> Float[Tensor, "n c *size"]:
    """Blur signals or volumes along one axis after another."""
    for axis in range(2, images.ndim):
        side = images.shape[axis]
        kernel = _kernel(side, std, images.device, images.dtype)
        lines = images.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, side), [kernel.shape[1] // 2] * 2, mode="reflect")
        images = F.conv1d(padded, kernel[None]).view(lines.shape).movedim(-1, axis)
    return images


@lru_cache(maxsize=64)
@neutral_state()
def _kernel(length: int, std: float, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "1 side"]:
    """Return a Gaussian of three standard deviations to each side, or fewer if the padded axis is shorter.

    Args:
        length: Length of the axis in px.
        std: Standard deviation in px.
        device: Where it is made.
        dtype: Its floating-point type.
    """
    from kornia.filters import get_gaussian_kernel1d

    side = min(2 * round(3 * std) + 1, 2 * length - 1)
    return get_gaussian_kernel1d(side, max(std, MIN_STD), device=device, dtype=dtype)
