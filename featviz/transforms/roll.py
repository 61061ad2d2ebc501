"""A shift that loses nothing: what leaves on one side comes back on the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Shape
from featviz.random import Generators


@dataclass(frozen=True)
class Roll:
    """Roll the image in whole pixels, so that no place lies always at the same place of the network's grid or tiles.

    Args:
        px: how far at most, either way.

    Raises:
        SettingError: below 0 px.

    Source: google/deepdream, dream.ipynb, `make_step`.
    """

    px: int

    def __post_init__(self) -> None:
        """Check the distance."""
        if self.px < 0:
            raise SettingError(f"{self} is below 0 px; give 0 or more")

    def draw(self, rng: Generators, shape: Shape) -> Int64[Tensor, "n 2"]:
        """Draw how far each image rolls, down and along."""
        return (rng.uniform(2) * (2 * self.px + 1)).floor().long() - self.px

    def apply(self, images: Float[Tensor, "n c h w"], draw: Int64[Tensor, "n 2"]) -> Float[Tensor, "n c h w"]:
        """Roll each image."""
        rolled = [image.roll(shift, (2, 3)) for image, shift in zip(images.split(1), draw.tolist(), strict=True)]
        return torch.cat(rolled)

    def move(self, masks: Float[Tensor, "n c h w"], draw: Int64[Tensor, "n 2"]) -> Float[Tensor, "n c h w"]:
        """Roll masks as the images were rolled."""
        return self.apply(masks, draw)
