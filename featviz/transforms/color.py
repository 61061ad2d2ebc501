"""Transforms that change colours and move nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Shape, TransformTraits
from featviz.random import Generators

Draw = tuple[Float[Tensor, "n c 1 1"], Float[Tensor, "n c 1 1"]]


@dataclass(frozen=True)
class ColorShift:
    """Multiply each channel and add to it, so that a picture cannot live from one exact colour.

    Args:
        amount: how far at most a channel is moved, in [0, 1] pixel units, and by which share it grows or shrinks.

    Source: Ghiasi et al. 2022, https://arxiv.org/abs/2212.06727, section 3, "ColorShift".
    Differs: even instead of normal and log-normal, so that no view is lost to an extreme.
    """

    amount: float

    @property
    def traits(self) -> TransformTraits:
        """Changes each pixel on its own."""
        return TransformTraits(pointwise=True)

    def draw(self, rng: Generators, shape: Shape) -> Draw:
        """Draw a gain and a shift for each channel of each image."""
        spread = self.amount * (2 * rng.uniform(2, shape[0], 1, 1) - 1)
        return 1 + spread[:, 0], spread[:, 1]

    def apply(self, images: Float[Tensor, "n c h w"], draw: Draw) -> Float[Tensor, "n c h w"]:
        """Multiply and add."""
        gain, shift = draw
        return torch.addcmul(shift.to(images, non_blocking=True), images, gain.to(images, non_blocking=True))


@dataclass(frozen=True)
class Contrast:
    """Move every pixel away from the image's mean, or towards it.

    Args:
        amount: by which share of its distance at most, from 0 to 1.

    Source: torchvision, `transforms.v2.ColorJitter(contrast=...)`.
    Differs: about the mean of each channel.
    """

    amount: float

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n 1 1 1"]:
        """Draw the gain of each image."""
        return 1 + self.amount * (2 * rng.uniform(1, 1, 1) - 1)

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c h w"]:
        """Stretch about the mean."""
        return torch.lerp(images.mean((2, 3), keepdim=True), images, draw.to(images, non_blocking=True))
