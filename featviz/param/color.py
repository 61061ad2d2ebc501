"""Colour parts: how a canvas of unbounded numbers becomes an image in [0, 1], and back."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor

from featviz.checks import check_number
from featviz.errors import SettingError
from featviz.interfaces import Color
from featviz.network.neutral_state import neutral_state
from featviz.param.prior import LOGIT_MARGIN, Prior, UsesPrior

IMAGENET_COLOR_CORRELATION = (
    (0.26 / 0.461952, 0.09 / 0.461952, 0.02 / 0.461952),
    (0.27 / 0.461952, 0.00 / 0.461952, -0.05 / 0.461952),
    (0.27 / 0.461952, -0.09 / 0.461952, 0.03 / 0.461952),
)
"""Matrix square root of the colour covariance of ImageNet, divided by its largest column norm.

Source: Lucid, lucid/optvis/param/color.py, `color_correlation_svd_sqrt`.
"""


MIN_POWER = 1e-12
"""Mean square of a canvas below which it is not scaled up further."""


@dataclass(frozen=True)
class Plain:
    """A sigmoid for each channel; for any number of channels.

    >>> Plain().image(torch.zeros(1, 4, 1, 1)).flatten().tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def image(self, canvas: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Apply the sigmoid."""
        return canvas.sigmoid()

    def canvas(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Invert `image`. Values nearer than 1/512 to 0 or 1 are clamped, because the inverse is infinite there."""
        return image.clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN).logit()


@dataclass(frozen=True)
class Clamped:
    """Clamp values to [0, 1] and change nothing else, so that a photograph is reproduced exactly.

    Where a value is clamped, a gradient that leads back into the range passes, so no pixel stays saturated.

    Source: google/deepdream, dream.ipynb, `make_step`, which clamps after every step.

    >>> Clamped().image(torch.tensor([[[[-1.0, 0.25, 2.0]]]])).flatten().tolist()
    [0.0, 0.25, 1.0]
    """

    def image(self, canvas: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Clamp to [0, 1]."""
        return _Clamp.apply(canvas)  # type: ignore[no-untyped-call,no-any-return]

    def canvas(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Return the image unchanged."""
        return image


class _Clamp(torch.autograd.Function):
    """Clamp to [0, 1]; in the backward pass block only the gradients that lead further out of the range."""

    @staticmethod
    def forward(ctx: Any, canvas: Tensor) -> Tensor:
        ctx.save_for_backward(canvas)
        return canvas.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (canvas,) = ctx.saved_tensors
        # Optimizers step against the gradient, so a positive gradient at 0 leads outwards.
        outward = ((canvas <= 0) & (gradient > 0)) | ((canvas >= 1) & (gradient < 0))
        return gradient.masked_fill(outward, 0)


@dataclass(frozen=True)
class Standardized:
    """Rescale the canvas to a root mean square between two limits, then apply a sigmoid to each channel.

    With bounded values, the optimal signal of a linear unit is the sign of its weights, a square wave. With bounded
    power, it is proportional to the weights, a matched filter. The lower limit rules out a flat signal, which networks
    of z-scored data have never seen. Canvases within both limits do not change.

    Args:
        least: Smallest root mean square of the canvas over all channels and positions, >= 0.
        most: Largest one, > 0 and not below `least`. The slope of the sigmoid is 1/4, so with the default range of 4
            standard deviations on both sides of the mean, 0.5 is about 1 standard deviation.

    Raises:
        SettingError: A value is out of its range.

    Source: North 1943, "An analysis of the factors which determine signal/noise discrimination", for matched filters.
        The limits are measured; `make axes-bench`.

    >>> Standardized().image(torch.full((1, 1, 4), 9.0)).sub(0.5).mul(8).round().flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    least: float = 0.25
    most: float = 0.75

    def __post_init__(self) -> None:
        """Check the limits."""
        check_number("least of Standardized", self.least, at_least=0, note="(default 0.25)")
        check_number("most of Standardized", self.most, above=0, at_least=self.least, note="(default 0.75)")

    def image(self, canvas: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Scale each canvas into the limits and apply the sigmoid."""
        found = canvas.square().mean(tuple(range(1, canvas.ndim)), keepdim=True).clamp(min=MIN_POWER).sqrt()
        return (canvas * (found.clamp(self.least, self.most) / found)).sigmoid()

    def canvas(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Invert the sigmoid. `image` then gives the same image if its canvas is within the limits."""
        return Plain().canvas(image)


@dataclass(frozen=True)
class Decorrelated(UsesPrior):
    """Axes along which natural colours vary independently, mixed into channels, then a sigmoid.

    A step of the same size changes lightness more than hue, as lightness varies more in photographs.

    Args:
        prior: Path of a file from `fit_prior`, whose axes and mean colour to use, for any number of channels; `None`
            for the constants of ImageNet, for RGB.

    Raises:
        SettingError: `prior` is not a path.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Preconditioning".
    """

    prior: str | Path | None = None

    def image(self, canvas: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Mix the axes into channels, add the mean colour and apply the sigmoid.

        Args:
            canvas: Unbounded numbers, one channel per axis.

        Returns:
            Images in [0, 1].

        Raises:
            SettingError: The canvas has another number of channels than the axes.
        """
        matrix, mean = _axes(self.loaded_prior, canvas.device)
        mixed = _mix(canvas, matrix)
        return (mixed if mean is None else mixed + _per_channel(mean, mixed)).sigmoid()

    def canvas(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Invert `image`. Values nearer than 1/512 to 0 or 1 are clamped, because the inverse is infinite there."""
        matrix, mean = _axes(self.loaded_prior, image.device)
        mixed = Plain().canvas(image)
        return _mix(mixed if mean is None else mixed - _per_channel(mean, mixed), torch.linalg.pinv(matrix))


def default_color(channels: int, prior: str | None = None, axes: int = 2) -> Color:
    """Return the default colour part.

    Args:
        channels: Number of channels of the images.
        prior: Path of a prior for such images; `None` for none.
        axes: Number of their spatial axes.

    Returns:
        `Decorrelated` for RGB and with a prior, `Plain` otherwise, because the axes are unknown. The three channels of
        a signal are no colours.
    """
    return Decorrelated(prior) if (channels == 3 and axes > 1) or prior else Plain()


@lru_cache(maxsize=16)
@neutral_state()
def _axes(prior: Prior | None, device: torch.device) -> tuple[Float[Tensor, "c c"], Float[Tensor, " c"] | None]:
    """Return the matrix from axes to channels, and the mean colour; `None` for a mean of 0."""
    if prior is None:
        return torch.tensor(IMAGENET_COLOR_CORRELATION, device=device), None
    return torch.tensor(prior.correlation, device=device), torch.tensor(prior.mean, device=device)


def _per_channel(mean: Float[Tensor, " c"], canvas: Tensor) -> Tensor:
    return mean.view(-1, *[1] * (canvas.ndim - 2))


def _mix(canvas: Tensor, matrix: Tensor) -> Tensor:
    if canvas.shape[1] != len(matrix):
        raise SettingError(
            f"Decorrelated mixes {len(matrix)} channels, and the canvas has {canvas.shape[1]}; use color=Plain(), or a "
            "prior fitted to images with as many channels"
        )
    return _Mix.apply(canvas, matrix.to(canvas.dtype))  # type: ignore[no-untyped-call,no-any-return]


class _Mix(torch.autograd.Function):
    """A product with a constant matrix along the channels; on a CPU 30 times as fast as a 1x1 convolution.

    PyTorch's own backward pass takes twice as long on a GPU, because the transposed matrix is not contiguous.
    """

    @staticmethod
    def forward(ctx: Any, canvas: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return torch.matmul(matrix, canvas.flatten(2)).view_as(canvas)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (matrix,) = ctx.saved_tensors
        return torch.matmul(matrix.T.contiguous(), gradient.flatten(2)).view_as(gradient), None


def collapse_channels(maps: Real[Tensor, "*more channel y x"]) -> Float[Tensor, "*more 3 y x"]:
    """Show many channels as one RGB image: one hue per channel, brighter where it is stronger, grey where many overlap.

    The hues are spaced evenly on the colour circle, starting with red. If any value is negative, the channels share
    one half of the circle, and negative values get the opposite hue.

    Args:
        maps: Channels with any values; at least one channel.

    Returns:
        Images in [0, 1]. The brightest pixel of all images has its largest component at 1.

    Raises:
        SettingError: There are no channels.

    Source: Lucid, lucid/misc/io/collapse_channels.py.
    Differs: images are scaled to the brightest pixel, so they need no scaling later; the hues are those of HSV, without
        the correction that moves them away from red, green and blue.

    >>> collapse_channels(torch.eye(3)[:, :, None])[:, :, 0].tolist()  # three channels, each active at one position
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if not maps.shape[-3]:
        raise SettingError(f"maps must have at least one channel, got shape {tuple(maps.shape)}")
    maps = maps if maps.is_floating_point() else maps.float()
    parts = (torch.cat([maps, -maps], -3) if (maps < 0).any() else maps).relu().movedim(-3, -1)
    count = parts.shape[-1]
    hues = F.normalize(torch.tensor([hsv_to_rgb(i / count, 1, 1) for i in range(count)]), dim=1).to(maps)
    # All channels but the strongest add grey, so that overlaps lose saturation. The length of the activation vector
    # sets the brightness, whatever the hue is.
    grey = parts.sum(-1, keepdim=True) - parts.amax(-1, keepdim=True)
    mixed = F.normalize(parts @ hues + grey, dim=-1) * parts.norm(dim=-1, keepdim=True)
    return (mixed / mixed.amax().clamp(min=1e-12)).movedim(-1, -3)
