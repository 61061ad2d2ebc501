"""Transforms that take fine detail away, or hide it under noise, so that a picture cannot live from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Shape
from featviz.random import Generators
from featviz.transforms.blur import gaussian_blur
from featviz.transforms.distributions import Spread, sample


@dataclass(frozen=True)
class GaussianBlur:
    """Blur the image, mirrored at its edges.

    Args:
        std: of the Gaussian, in px; a spread gives each image its own.

    Raises:
        SettingError: a number that is not above 0.
    """

    std: Spread | float

    def __post_init__(self) -> None:
        """Check the width."""
        if isinstance(self.std, int | float) and not self.std > 0:
            raise SettingError(f"a blur of {self.std} px does nothing; give a deviation above 0")

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, " n"]:
        """Draw the deviation of each image."""
        return sample(self.std, rng)

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Blur each image as wide as its own deviation asks for and its sides allow."""
        stds = draw.tolist()
        if len(set(stds)) == 1:
            return gaussian_blur(images, stds[0])
        return torch.cat([gaussian_blur(image, std) for image, std in zip(images.split(1), stds, strict=True)])


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise to every pixel.

    Args:
        std: its deviation, in [0, 1] pixel units.

    Source: Ghiasi et al. 2022, https://arxiv.org/abs/2212.06727, section 3, "Gaussian Smoothing".
    """

    std: float

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c h w"]:
        """Draw a number for each pixel."""
        return self.std * rng.normal(*shape)

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
