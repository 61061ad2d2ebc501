"""What the picture itself is like, before any transform. Each is an amount: subtract it to have less."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.network.activations import Activations
from featviz.objectives.algebra import Objective
from featviz.transforms.blur import gaussian_blur

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TotalVariation(Objective):
    """How much neighbouring pixels differ: the mean absolute step down and along. Subtract 1 to 20 times it.

    Source: Mahendran and Vedaldi 2014, https://arxiv.org/abs/1412.0035, section 3.2.
    Differs: a mean instead of a sum, so that a weight means the same at any size.
    """

    term = "tv"
    layers = NOTHING

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean step."""
        image = acts.images
        down, along = image.diff(dim=2).abs(), image.diff(dim=3).abs()
        return sum((step.flatten(1).mean(1) for step in (down, along) if step.numel()), image.new_zeros(len(image)))


@dataclass(frozen=True)
class L1(Objective):
    """How far pixels are from a grey: the mean distance.

    Args:
        grey: in [0, 1].

    Source: Lucid, lucid/optvis/objectives.py, `L1`.
    """

    grey: float = 0.5
    term = "l1"
    layers = NOTHING

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean distance."""
        return (acts.images - self.grey).abs().flatten(1).mean(1)


@dataclass(frozen=True)
class L2(Objective):
    """How far pixels are from a grey: the mean squared distance.

    Args:
        grey: in [0, 1].

    Source: Lucid, lucid/optvis/objectives.py, `L2`.
    Differs: no root, whose gradient is infinite at a grey start.
    """

    grey: float = 0.5
    term = "l2"
    layers = NOTHING

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean squared distance."""
        return (acts.images - self.grey).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Blur(Objective):
    """How much of the picture a blur would take away: half the mean square of what is finer than it.

    Subtracting it blurs the picture a little at every step.

    Args:
        std: of the blur, in px.

    Raises:
        SettingError: it is not above 0.

    Source: Lucid, lucid/optvis/objectives.py, `blur_input_each_step`.
    """

    std: float = 1.0
    term = "blur"
    layers = NOTHING

    def __post_init__(self) -> None:
        """Check the width."""
        if not self.std > 0:
            raise SettingError(f"a blur of {self.std} px does nothing; give a deviation above 0")

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return half the mean square of the picture minus itself blurred, which is held still."""
        return (acts.images - gaussian_blur(acts.images, self.std).detach()).square().flatten(1).mean(1) / 2


@dataclass(frozen=True)
class BoundaryComplexity(Objective):
    """How much goes on near the picture's edge; subtract it, and what matters moves to the middle.

    Args:
        px: how far inwards the edge reaches.
        grey: what the edge should be, in [0, 1].

    Raises:
        SettingError: the edge is narrower than a pixel.

    Source: Lucid, lucid/optvis/objectives.py, `penalize_boundary_complexity`.
    Differs: a mean over the edge instead of a sum.
    """

    px: int = 20
    grey: float = 0.5
    term = "boundary"
    layers = NOTHING

    def __post_init__(self) -> None:
        """Check the width."""
        if self.px < 1:
            raise SettingError(f"an edge of {self.px} px is nothing; give 1 or more")

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the edge's mean squared distance from its own blur, plus .8 of that from the grey."""
        image = acts.images
        edge = torch.ones_like(image[:1, :1])
        edge[:, :, self.px : -self.px, self.px : -self.px] = 0
        uneven = (image - gaussian_blur(image, 2.5)).square() + 0.8 * (image - self.grey).square()
        return (uneven * edge).flatten(1).mean(1) / edge.mean()


@dataclass(frozen=True)
class Opacity(Objective):
    """How much of a picture with an alpha channel is opaque; subtract it, and only what matters stays.

    Args:
        middle: counts the middle half of each side alone, which keeps the subject from growing.

    Raises:
        SettingError: the picture has no alpha channel.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Semi-Transparent Patterns".
    """

    middle: bool = False
    term = "opacity"
    layers = NOTHING

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean of the alpha channel."""
        alpha = acts.alpha
        height, width = alpha.shape[2:]
        if self.middle:
            alpha = alpha[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
        return alpha.flatten(1).mean(1)
