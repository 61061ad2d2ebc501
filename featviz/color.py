"""How a canvas of unbounded numbers becomes a picture in [0, 1], and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError

CORRELATION = (
    (0.26 / 0.461952, 0.09 / 0.461952, 0.02 / 0.461952),
    (0.27 / 0.461952, 0.00 / 0.461952, -0.05 / 0.461952),
    (0.27 / 0.461952, -0.09 / 0.461952, 0.03 / 0.461952),
)
"""Square root of the colour covariance of ImageNet, over its largest column norm.

Source: Lucid, lucid/optvis/param/color.py, `color_correlation_svd_sqrt`.
"""

ENDS = 1 / 512
"""How close to 0 and 1 a given image is taken: half a grey level of 8 bits, so a photograph survives the sigmoid."""


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
class Decorrelated:
    """RGB whose three axes are those along which natural colours vary independently, then a sigmoid.

    Equal steps along these axes change brightness most and hue least, as photographs do.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Preconditioning".
    """

    def image(self, canvas: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Correlate the axes into RGB and squash it into [0, 1].

        Raises:
            SettingError: there are not three channels.
        """
        return _mix(canvas, _matrix(canvas.device)).sigmoid()

    def canvas(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Undo `image`, as far as the sigmoid's ends allow."""
        return _mix(Plain().canvas(image), _matrix(image.device).inverse())


@lru_cache
@torch.inference_mode(False)
def _matrix(device: torch.device) -> Float[Tensor, "3 3"]:
    return torch.tensor(CORRELATION, device=device)


def _mix(canvas: Tensor, matrix: Tensor) -> Tensor:
    if canvas.shape[1] != 3:
        raise SettingError(f"decorrelated colour needs three channels, not {canvas.shape[1]}; use color=Plain()")
    return torch.matmul(matrix.to(canvas.dtype), canvas.flatten(2)).view_as(
        canvas
    )  # a 1x1 convolution takes 30 times as long here
