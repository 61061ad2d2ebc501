"""How a picture with an alpha channel is seen: against something else every time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Shape, TransformTraits
from featviz.param.color import default_color
from featviz.param.spectrum import natural, waves
from featviz.random import Generators

SPREAD, HUE = 1.2, 1.0
"""Deviation of the background about its mean colour, and of that colour, both before the sigmoid."""


@dataclass(frozen=True)
class CompositeAlpha:
    """Lay the picture over noise with the spectrum of nature, which it cannot foresee; the last channel is alpha.

    Stacks that lack it get it as their first step when the picture has an alpha channel.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Semi-Transparent Patterns";
        Lucid, lucid/optvis/transform.py, `collapse_alpha_random`.
    Differs: light is mixed as light is, not as gamma-encoded numbers.
    """

    @property
    def traits(self) -> TransformTraits:
        """Takes images with alpha and returns images without it."""
        return TransformTraits(consumes_alpha=True)

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c h w"]:
        """Draw the backgrounds."""
        channels, size = shape[0] - 1, shape[1:]
        noise = rng.normal(channels, size[0], size[1] // 2 + 1, 2) * 0.5**0.5
        canvas = waves(noise * natural(size, noise.device)[..., None], size)
        canvas = SPREAD * canvas + HUE * rng.normal(channels, 1, 1)
        return default_color(channels).image(canvas)

    def apply(self, images: Float[Tensor, "n c1 h w"], draw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Mix picture and background."""
        from kornia.color import linear_rgb_to_rgb, rgb_to_linear_rgb  # slow to import

        picture, alpha, behind = images[:, :-1], images[:, -1:], draw.to(images, non_blocking=True)
        if picture.shape[1] != 3:
            return torch.lerp(behind, picture, alpha)
        return linear_rgb_to_rgb(torch.lerp(rgb_to_linear_rgb(behind), rgb_to_linear_rgb(picture), alpha))
