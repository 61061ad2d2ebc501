"""How a canvas of unbounded numbers becomes a picture in [0, 1], and back."""

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

from featviz.errors import SettingError
from featviz.interfaces import Color
from featviz.param.prior import ENDS, Prior, as_prior

CORRELATION = (
    (0.26 / 0.461952, 0.09 / 0.461952, 0.02 / 0.461952),
    (0.27 / 0.461952, 0.00 / 0.461952, -0.05 / 0.461952),
    (0.27 / 0.461952, -0.09 / 0.461952, 0.03 / 0.461952),
)
"""Square root of the colour covariance of ImageNet, over its largest column norm.

Source: Lucid, lucid/optvis/param/color.py, `color_correlation_svd_sqrt`.
"""


@dataclass(frozen=True)
class Plain:
    """A sigmoid for each channel, any number of them.

    >>> Plain().image(torch.zeros(1, 4, 1, 1)).flatten().tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def image(self, canvas: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Squash unbounded numbers into [0, 1]."""
        return canvas.sigmoid()

    def canvas(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Undo `image`, as far as the sigmoid's ends allow."""
        return image.clamp(ENDS, 1 - ENDS).logit()


@dataclass(frozen=True)
class Clamped:
    """Numbers as they are, cut off at 0 and 1: for pictures that begin as photographs and should not be changed by it.

    A gradient that leads back inside passes where the picture is cut off, so nothing stays stuck.

    Source: google/deepdream, dream.ipynb, `make_step`, which cuts off after every step.

    >>> Clamped().image(torch.tensor([[[[-1.0, 0.25, 2.0]]]])).flatten().tolist()
    [0.0, 0.25, 1.0]
    """

    def image(self, canvas: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Cut off."""
        return _Cut.apply(canvas)  # type: ignore[no-untyped-call,no-any-return]

    def canvas(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the image as it is."""
        return image


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, canvas: Tensor) -> Tensor:
        ctx.save_for_backward(canvas)
        return canvas.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (canvas,) = ctx.saved_tensors
        outward = ((canvas <= 0) & (gradient > 0)) | ((canvas >= 1) & (gradient < 0))  # steps go against it
        return gradient.masked_fill(outward, 0)


@dataclass(frozen=True)
class Decorrelated:
    """Channels whose axes are those along which natural colours vary independently, then a sigmoid.

    Equal steps along these axes change brightness most and hue least, as photographs do.

    Args:
        prior: a file from `fit_prior`, whose axes and mean colour to take, for any number of channels; `None` means
            Lucid's constants, which are ImageNet's, for RGB.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Preconditioning".
    """

    prior: str | Path | None = None

    def __post_init__(self) -> None:
        """Take paths, too."""
        object.__setattr__(self, "prior", as_prior(self.prior))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the prior, if there is one."""
        return () if self.prior is None else (str(self.prior),)

    def image(self, canvas: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Correlate the axes into channels and squash them into [0, 1].

        Raises:
            SettingError: there are other channels than the axes are for.
        """
        matrix, mean = _axes(self._known, canvas.device)
        mixed = _mix(canvas, matrix)
        return (mixed if mean is None else mixed + mean).sigmoid()

    def canvas(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Undo `image`, as far as the sigmoid's ends allow."""
        matrix, mean = _axes(self._known, image.device)
        mixed = Plain().canvas(image)
        return _mix(mixed if mean is None else mixed - mean, torch.linalg.pinv(matrix))

    @property
    def _known(self) -> Prior | None:
        return None if self.prior is None else Prior.load(self.prior)


def default_color(channels: int, prior: str | None = None) -> Color:
    """Return the colour to take where none is asked for: decorrelated where something is known of the channels."""
    return Decorrelated(prior) if channels == 3 or prior else Plain()


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _axes(prior: Prior | None, device: torch.device) -> tuple[Float[Tensor, "c c"], Float[Tensor, "c 1 1"] | None]:
    if prior is None:
        return torch.tensor(CORRELATION, device=device), None
    return torch.tensor(prior.correlation, device=device), torch.tensor(prior.mean, device=device).view(-1, 1, 1)


def collapse_channels(maps: Real[Tensor, "*more channel y x"]) -> Float[Tensor, "*more 3 y x"]:
    """Show many channels in one picture in [0, 1]: each has a hue, the louder the brighter, grey where many meet.

    The hues are spread evenly around the circle, red first. Where a number is below 0, they take half of the circle,
    and what is below 0 shows the opposite hue.

    Raises:
        SettingError: there are no channels.

    Source: Lucid, lucid/misc/io/collapse_channels.py.
    Differs: the brightest place is as bright as can be, so that there is nothing to scale afterwards; hues are those of
        HSV, not bent away from red, green and blue.

    >>> collapse_channels(torch.eye(3)[:, :, None])[:, :, 0].tolist()  # three channels, each alone at one place
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if not maps.shape[-3]:
        raise SettingError("there are no channels to show; give maps of one or more")
    maps = maps if maps.is_floating_point() else maps.float()
    parts = (torch.cat([maps, -maps], -3) if (maps < 0).any() else maps).relu().movedim(-3, -1)
    count = parts.shape[-1]
    alone = F.normalize(torch.tensor([hsv_to_rgb(i / count, 1, 1) for i in range(count)]), dim=1).to(maps)
    crowd = parts.sum(-1, keepdim=True) - parts.amax(-1, keepdim=True)
    mixed = F.normalize(parts @ alone + crowd, dim=-1) * parts.norm(dim=-1, keepdim=True)
    return (mixed / mixed.amax().clamp(min=1e-12)).movedim(-1, -3)


def _mix(canvas: Tensor, matrix: Tensor) -> Tensor:
    if canvas.shape[1] != len(matrix):
        what = f"decorrelated colour for {len(matrix)} channels where there are {canvas.shape[1]}"
        raise SettingError(f"{what}; use color=Plain(), or a prior fitted to such images")
    mixed = torch.matmul(matrix.to(canvas.dtype), canvas.flatten(2))  # a 1x1 convolution takes 30 times as long here
    return mixed.view_as(canvas)
