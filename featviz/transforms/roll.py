"""Random cyclic shifts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featviz.interfaces import Shape
from featviz.random import Generators
from featviz.transforms.checks import check_px


@dataclass(frozen=True)
class Roll:
    """Shift the image cyclically by whole pixels: what leaves on one side enters on the opposite side.

    The same pixel then never stays at the same position of the network's strides, or of the tiles of a large view.

    Args:
        px: Largest shift in px along each axis, in both directions, >= 0.

    Raises:
        SettingError: `px` is negative or not a whole number.

    Source: google/deepdream, dream.ipynb, `make_step`.
    """

    px: int

    def __post_init__(self) -> None:
        """Check the distance."""
        check_px("px of Roll", self.px)

    def draw(self, rng: Generators, shape: Shape) -> Int64[Tensor, "n axes"]:
        """Draw the shift of each image in px along each axis, as down and right."""
        return (rng.uniform(len(shape) - 1) * (2 * self.px + 1)).floor().long() - self.px

    def apply(self, images: Float[Tensor, "n c *size"], draw: Int64[Tensor, "n axes"]) -> Float[Tensor, "n c *size"]:
        """Roll each image."""
        axes = tuple(range(2, images.ndim))
        rolled = [image.roll(shift, axes) for image, shift in zip(images.split(1), draw.tolist(), strict=True)]
        return torch.cat(rolled)

    def move(self, masks: Float[Tensor, "n c *size"], draw: Int64[Tensor, "n axes"]) -> Float[Tensor, "n c *size"]:
        """Roll masks as the images were rolled."""
        return self.apply(masks, draw)
