"""Transforms that take fine detail away, or hide it under noise, so that a picture cannot live from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.protocols import Shape
from featviz.random import Generators
from featviz.transforms.spread import Spread, sample


@dataclass(frozen=True)
class GaussianBlur:
    """Blur the image, mirrored at its edges.

    Args:
        sd: of the Gaussian, in px; a spread gives each image its own.

    Raises:
        SettingError: a number that is not above 0.
    """

    sd: Spread | float

    def __post_init__(self) -> None:
        """Check the width."""
        if isinstance(self.sd, int | float) and not self.sd > 0:
            raise SettingError(f"a blur of {self.sd} px does nothing; give a deviation above 0")

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, " n"]:
        """Draw the deviation of each image."""
        return sample(self.sd, rng)

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Blur each image as wide as its own deviation asks for and its sides allow."""
        from kornia.filters import gaussian_blur2d  # slow to import

        def blurred(part: Tensor, sd: float) -> Tensor:
            sides = [min(2 * round(3 * sd) + 1, 2 * side - 1) for side in images.shape[2:]]
            return gaussian_blur2d(part, (sides[0], sides[1]), (max(sd, 1e-3),) * 2, border_type="reflect")

        sds = draw.tolist()
        if len(set(sds)) == 1:
            return blurred(images, sds[0])
        return torch.cat([blurred(image, sd) for image, sd in zip(images.split(1), sds, strict=True)])


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise to every pixel.

    Args:
        sd: its deviation, in [0, 1] pixel units.

    Source: Ghiasi et al. 2022, https://arxiv.org/abs/2212.06727, section 3, "Gaussian Smoothing".
    """

    sd: float

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c h w"]:
        """Draw a number for each pixel."""
        return self.sd * rng.normal(*shape)

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Add it."""
        return images + draw.to(images, non_blocking=True)


@dataclass(frozen=True)
class UniformNoise:
    """Add even noise to every pixel.

    Args:
        amount: how far at most a pixel moves either way, in [0, 1] pixel units.

    Source: Fel et al. 2023, https://arxiv.org/abs/2306.06805, section 4, the noise added to each crop.
    """

    amount: float

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c h w"]:
        """Draw a number for each pixel."""
        return self.amount * (2 * rng.uniform(*shape) - 1)

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Add it."""
        return images + draw.to(images, non_blocking=True)
