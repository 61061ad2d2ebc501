"""Transforms that change colours and move no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.interfaces import Shape, TransformTraits
from featviz.random import Generators

GainAndShift = tuple[Float[Tensor, "n c *ones"], Float[Tensor, "n c *ones"]]


@dataclass(frozen=True)
class ColorShift:
    """Multiply each channel by a random gain and add a random shift, so that an image cannot rely on exact colours.

    Args:
        amount: Largest shift, in units of [0, 1] images, and largest difference of the gain from 1, >= 0.

    Raises:
        SettingError: `amount` is out of its range.

    Source: Ghiasi et al. 2022, https://arxiv.org/abs/2212.06727, section 3, "ColorShift".
    Differs: uniform instead of normal and log-normal distributions, because extreme values make a view useless.
    """

    amount: float

    def __post_init__(self) -> None:
        """Check the amount."""
        check_number("amount of ColorShift", self.amount, at_least=0)

    @property
    def traits(self) -> TransformTraits:
        """Changes each pixel on its own."""
        return TransformTraits(pointwise=True)

    def draw(self, rng: Generators, shape: Shape) -> GainAndShift:
        """Draw a gain and a shift for each channel of each image."""
        change = self.amount * (2 * rng.uniform(2, shape[0], *[1] * (len(shape) - 1)) - 1)
        return 1 + change[:, 0], change[:, 1]

    def apply(self, images: Float[Tensor, "n c *size"], draw: GainAndShift) -> Float[Tensor, "n c *size"]:
        """Multiply and add."""
        gain, shift = draw
        return torch.addcmul(shift.to(images, non_blocking=True), images, gain.to(images, non_blocking=True))


@dataclass(frozen=True)
class Contrast:
    """Multiply the difference of every pixel from its channel's mean by a random gain.

    This changes the contrast of an image, or the amplitude of a signal.

    Args:
        amount: Largest difference of the gain from 1, in [0, 1].

    Raises:
        SettingError: `amount` is out of its range.

    Source: torchvision, `transforms.v2.ColorJitter(contrast=...)`.
    Differs: the mean is that of each channel, not that of the grey image.
    """

    amount: float

    def __post_init__(self) -> None:
        """Check the amount."""
        check_number("amount of Contrast", self.amount, at_least=0, at_most=1)

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n *ones"]:
        """Draw the gain of each image."""
        return 1 + self.amount * (2 * rng.uniform(*[1] * len(shape)) - 1)

    def apply(self, images: Float[Tensor, "n c *size"], draw: Float[Tensor, "n *ones"]) -> Float[Tensor, "n c *size"]:
        """Change the contrast about the mean of each channel."""
        return torch.lerp(
            images.mean(tuple(range(2, images.ndim)), keepdim=True), images, draw.to(images, non_blocking=True)
        )
