"""Transforms that blur an image or add noise, so that it cannot rely on fine detail."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.interfaces import Shape
from featviz.random import Generators
from featviz.transforms.blur import gaussian_blur
from featviz.transforms.checks import check_draws
from featviz.transforms.distributions import Distribution, sample


@dataclass(frozen=True)
class GaussianBlur:
    """Blur the image with a Gaussian, mirrored at its edges.

    Args:
        std: Standard deviation in px, > 0; a number, or a distribution from which each image draws its own.

    Raises:
        SettingError: `std` may be 0 or less.
    """

    std: Distribution | float

    def __post_init__(self) -> None:
        """Check the standard deviation."""
        check_draws("std of GaussianBlur", self.std, above=0)

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, " n"]:
        """Draw the standard deviation of each image."""
        return sample(self.std, rng)

    def apply(self, images: Float[Tensor, "n c *size"], draw: Float[Tensor, " n"]) -> Float[Tensor, "n c *size"]:
        """Blur each image with its own standard deviation, as far as its sides allow."""
        stds = draw.tolist()
        if len(set(stds)) == 1:
            return gaussian_blur(images, stds[0])
        return torch.cat([gaussian_blur(image, std) for image, std in zip(images.split(1), stds, strict=True)])


class _Additive:
    """Base of the transforms that add what they have drawn."""

    def apply(self, images: Float[Tensor, "n c *size"], draw: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Add the noise."""
        return images + draw.to(images, non_blocking=True)


@dataclass(frozen=True)
class Noise(_Additive):
    """Add Gaussian noise to every pixel.

    Args:
        std: Standard deviation, in units of [0, 1] images, >= 0.

    Raises:
        SettingError: `std` is out of its range.

    Source: Ghiasi et al. 2022, https://arxiv.org/abs/2212.06727, section 3, "Gaussian Smoothing".
    """

    std: float

    def __post_init__(self) -> None:
        """Check the standard deviation."""
        check_number("std of Noise", self.std, at_least=0)

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c *size"]:
        """Draw the noise of each pixel."""
        return self.std * rng.normal(*shape)


@dataclass(frozen=True)
class UniformNoise(_Additive):
    """Add uniform noise to every pixel.

    Args:
        amount: Largest change of a pixel, in both directions, in units of [0, 1] images, >= 0.

    Raises:
        SettingError: `amount` is out of its range.

    Source: Fel et al. 2023, https://arxiv.org/abs/2306.06805, section 4, the noise added to each crop.
    """

    amount: float

    def __post_init__(self) -> None:
        """Check the amount."""
        check_number("amount of UniformNoise", self.amount, at_least=0)

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c *size"]:
        """Draw the noise of each pixel."""
        return self.amount * (2 * rng.uniform(*shape) - 1)
