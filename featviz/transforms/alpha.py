"""Random backgrounds behind images with an alpha channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Shape, TransformTraits
from featviz.param.color import default_color
from featviz.param.spectrum import inverse_fft, natural_amplitudes
from featviz.random import Generators

BACKGROUND_STD, BACKGROUND_MEAN_STD = 1.2, 1.0
"""Standard deviations, before the sigmoid, of a background about its mean colour and of this mean colour."""


Spectrum = tuple[Float[Tensor, "n c *half 2"], Float[Tensor, "n c *ones"]]
"""Coefficients of the background of each image, and its mean colour."""


@dataclass(frozen=True)
class CompositeAlpha:
    """Lay the image over random noise with the spectrum of natural images; the last channel of the image is alpha.

    The background differs in every view, so an image cannot rely on it. For params with an alpha channel it is applied
    before the other transforms, unless one of these composites alpha itself.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Semi-Transparent Patterns";
        Lucid, lucid/optvis/transform.py, `collapse_alpha_random`.
    Differs: RGB is composited as linear light, not as gamma-encoded values.
    """

    @property
    def traits(self) -> TransformTraits:
        """Takes images with alpha and returns images without it."""
        return TransformTraits(consumes_alpha=True)

    def draw(self, rng: Generators, shape: Shape) -> Spectrum:
        """Draw the spectrum of each background, and its mean colour.

        Raises:
            SettingError: The images have one channel, so that nothing is left without alpha.
        """
        channels, size = shape[0] - 1, shape[1:]
        if channels < 1:
            raise SettingError("CompositeAlpha() removes a channel and needs param.Alpha(), --param alpha")
        # Real and imaginary parts of variance 1/2 give complex coefficients of variance 1.
        noise = rng.normal(channels, *size[:-1], size[-1] // 2 + 1, 2) * 0.5**0.5
        return noise, BACKGROUND_MEAN_STD * rng.normal(channels, *[1] * len(size))

    def apply(self, images: Float[Tensor, "n c1 *size"], draw: Spectrum) -> Float[Tensor, "n c *size"]:
        """Composite the images over their backgrounds."""
        from kornia.color import linear_rgb_to_rgb, rgb_to_linear_rgb  # slow to import

        color, alpha, background = images[:, :-1], images[:, -1:], _background(images, draw)
        if color.shape[1] != 3 or color.ndim == 3:  # the gamma curve is that of sRGB, and unknown for other channels
            return torch.lerp(background, color, alpha)
        # kornia expects height and width: the first axes of video and volumes are laid out one below the other.
        background, rgb, opacity = (each.flatten(2, -2) for each in (background, color, alpha))
        mixed = torch.lerp(rgb_to_linear_rgb(background), rgb_to_linear_rgb(rgb), opacity)
        return linear_rgb_to_rgb(mixed).view_as(color)


def _background(images: Float[Tensor, "n c1 *size"], draw: Spectrum) -> Float[Tensor, "n c *size"]:
    """Return noise with the spectrum of natural images."""
    noise, mean = (each.to(images, non_blocking=True) for each in draw)
    size = tuple(images.shape[2:])
    canvas = inverse_fft(noise * natural_amplitudes(size, images.device)[..., None], size)
    return default_color(canvas.shape[1], axes=len(size)).image(BACKGROUND_STD * canvas + mean)
