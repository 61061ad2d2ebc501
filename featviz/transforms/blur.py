"""Gaussian blur, used by transforms, objectives and optimizers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def gaussian_blur(images: Float[Tensor, "n c h w"], std: float) -> Float[Tensor, "n c h w"]:
    """Blur images with a Gaussian, mirrored at their edges.

    The kernel is cut off at 3 standard deviations, or where mirroring would need more px than the image has.

    Args:
        images: Any number of images.
        std: Standard deviation in px; values below 0.001 change nothing.

    Returns:
        The blurred images.
    """
    from kornia.filters import gaussian_blur2d  # slow to import

    sides = [min(2 * round(3 * std) + 1, 2 * side - 1) for side in images.shape[2:]]
    return gaussian_blur2d(images, (sides[0], sides[1]), (max(std, 1e-3),) * 2, border_type="reflect")
