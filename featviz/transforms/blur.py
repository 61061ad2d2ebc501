"""Gaussian blur, used by transforms, objectives and optimizers."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.network.neutral_state import neutral_state


def gaussian_blur(images: Float[Tensor, "n c *size"], std: float) -> Float[Tensor, "n c *size"]:
    """Blur images with a Gaussian, mirrored at their edges.

    The kernel is cut off at 3 standard deviations, or where mirroring would need more px than the image has.

    Args:
        images: Any number of images.
        std: Standard deviation in px; values below 0.001 change nothing.

    Returns:
        The blurred images.
    """
    if images.ndim != 4:
        return _blur_axes(images, std)
    from kornia.filters import filter2d_separable  # slow to import

    sides = [min(2 * round(3 * std) + 1, 2 * side - 1) for side in images.shape[2:]]
    vertical, horizontal = (_kernel(side, max(std, 1e-3), images.device, images.dtype) for side in sides)
    return filter2d_separable(images, horizontal, vertical, border_type="reflect")


def _blur_axes(images: Float[Tensor, "n c *size"], std: float) -> Float[Tensor, "n c *size"]:
    """Blur signals or volumes along one axis after another."""
    for axis in range(2, images.ndim):
        side = images.shape[axis]
        kernel = _kernel(min(2 * round(3 * std) + 1, 2 * side - 1), max(std, 1e-3), images.device, images.dtype)
        lines = images.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, side), [kernel.shape[1] // 2] * 2, mode="reflect")
        images = F.conv1d(padded, kernel[None]).view(lines.shape).movedim(-1, axis)
    return images


@lru_cache(maxsize=64)
@neutral_state()
def _kernel(side: int, std: float, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "1 side"]:
    from kornia.filters import get_gaussian_kernel1d

    return get_gaussian_kernel1d(side, std, device=device, dtype=dtype)
