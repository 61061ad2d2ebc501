"""Regularizers: amounts measured on the image itself, before any transform. Subtract one to reduce it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import MAX_SIDE, check_flag, check_number
from featviz.network.activations import Activations
from featviz.objectives.algebra import Objective
from featviz.transforms.blur import gaussian_blur

BLUR_STD, GREY_WEIGHT = 2.5, 0.8
"""Of `BoundaryComplexity`: standard deviation of the blur in px, and weight of the squared distance from grey.

Source: Lucid, lucid/optvis/objectives.py, `penalize_boundary_complexity`.
"""


class _Regularizer(Objective):
    """An objective about the image alone. Of several optimised inputs, its score is the mean over them."""

    layers = frozenset()
    ignores_alpha: ClassVar[bool] = False

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the score of each image."""
        is_cut = self.ignores_alpha and acts.has_alpha
        scores = [self.score(image[:, :-1] if is_cut else image) for image in acts.each_input]
        return scores[0] if len(scores) == 1 else torch.stack(scores).mean(0)

    def score(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, " n"]:
        """Return the score of the images of one input.

        Args:
            image: In [0, 1].
        """
        raise NotImplementedError

    @property
    def fused_key(self) -> Hashable:
        """The regularizer itself: equal ones are scored together."""
        return self


@dataclass(frozen=True)
class TotalVariation(_Regularizer):
    """The total variation of the image: mean absolute difference of vertical plus that of horizontal neighbours.

    Signals and volumes have neighbours along each of their axes.

    The score of an image is in [0, 2]. Usual weights are -1 to -20.

    Source: Mahendran and Vedaldi 2014, https://arxiv.org/abs/1412.0035, section 3.2.
    Differs: a mean instead of a sum, so that a weight suits images of any size.
    """

    text_name = "tv"

    def score(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, " n"]:
        """Return the total variation; a side of 1 px has none."""
        steps = [image.diff(dim=axis).abs() for axis in range(2, image.ndim)]
        means = (step.flatten(1).mean(1) for step in steps if step.numel())
        return sum(means, image.new_zeros(len(image)))


@dataclass(frozen=True)
class L1(_Regularizer):
    """The mean absolute difference between pixels and a grey level. Alpha is left out.

    The score is in [0, 1].

    Args:
        grey: The grey level, in [0, 1].

    Raises:
        SettingError: `grey` is out of its range.

    Source: Lucid, lucid/optvis/objectives.py, `L1`.
    """

    grey: float = 0.5
    text_name = "l1"
    ignores_alpha = True

    def __post_init__(self) -> None:
        """Check the grey."""
        check_number("grey of L1", self.grey, at_least=0, at_most=1, note=f"(default {L1.grey})")

    def score(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, " n"]:
        """Return the mean absolute difference."""
        return (image - self.grey).abs().flatten(1).mean(1)


@dataclass(frozen=True)
class L2(_Regularizer):
    """The mean squared difference between pixels and a grey level. Alpha is left out.

    The score is in [0, 1].

    Args:
        grey: The grey level, in [0, 1].

    Raises:
        SettingError: `grey` is out of its range.

    Source: Lucid, lucid/optvis/objectives.py, `L2`.
    Differs: no square root, whose gradient is infinite for a grey image.
    """

    grey: float = 0.5
    text_name = "l2"
    ignores_alpha = True

    def __post_init__(self) -> None:
        """Check the grey."""
        check_number("grey of L2", self.grey, at_least=0, at_most=1, note=f"(default {L2.grey})")

    def score(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, " n"]:
        """Return the mean squared difference."""
        return (image - self.grey).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Blur(_Regularizer):
    """The high frequencies of the image: half the mean squared difference from the blurred image.

    The score is in [0, 0.5]. Subtracting it blurs the image a little in every step.

    Args:
        std: Standard deviation of the Gaussian blur, in px, > 0.

    Raises:
        SettingError: `std` is not > 0.

    Source: Lucid, lucid/optvis/objectives.py, `blur_input_each_step`.
    """

    std: float = 1.0
    text_name = "blur"

    def __post_init__(self) -> None:
        """Check the standard deviation."""
        check_number("std of Blur", self.std, above=0, note="(default 1 px)")

    def score(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, " n"]:
        """Return half the mean squared difference from the blurred image."""
        # With the blurred image held constant, the gradient is image - blurred, so descending it blurs the image.
        return (image - gaussian_blur(image, self.std).detach()).square().flatten(1).mean(1) / 2


@dataclass(frozen=True)
class BoundaryComplexity(_Regularizer):
    """The structure near the borders of the image; subtract it to keep the subject in the centre. Alpha is left out.

    The score is the mean over the border of (image - blurred)² + 0.8 · (image - grey)². It is >= 0.

    Args:
        px: Width of the border, in px, >= 1.
        grey: Grey level towards which the border is pulled, in [0, 1].

    Raises:
        SettingError: `px` is less than 1.

    Source: Lucid, lucid/optvis/objectives.py, `penalize_boundary_complexity`.
    Differs: a mean over the border instead of a sum.
    """

    px: int = 20
    grey: float = 0.5
    text_name = "boundary"
    ignores_alpha = True

    def __post_init__(self) -> None:
        """Check the fields."""
        check_number("px of BoundaryComplexity", self.px, at_least=1, at_most=MAX_SIDE, whole=True, note="(default 20)")
        check_number(
            "grey of BoundaryComplexity", self.grey, at_least=0, at_most=1, note=f"(default {BoundaryComplexity.grey})"
        )

    def score(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, " n"]:
        """Return the mean over the border."""
        border = torch.ones_like(image[:1, :1])
        inside: tuple[Any, ...] = (..., *[slice(self.px, -self.px)] * (image.ndim - 2))
        border[inside] = 0
        complexity = (image - gaussian_blur(image, BLUR_STD)).square() + GREY_WEIGHT * (image - self.grey).square()
        return (complexity * border).flatten(1).mean(1) / border.mean()  # a mean over the border alone


@dataclass(frozen=True)
class Opacity(_Regularizer):
    """The mean of the alpha channel; subtract it to make transparent what does not contribute to the score.

    The score is in [0, 1]. The image needs an alpha channel: use `param.Alpha()`.

    Args:
        middle: Measure only the middle half of each side, which keeps the subject from growing.

    Raises:
        SettingError: `middle` is no truth value.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Semi-Transparent Patterns".
    """

    middle: bool = False
    text_name = "opacity"

    def __post_init__(self) -> None:
        """Check the flag."""
        check_flag("middle of Opacity", self.middle)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean of the alpha channel.

        Raises:
            SettingError: The image has no alpha channel.
        """
        alpha = acts.alpha
        if self.middle:
            for axis, side in enumerate(alpha.shape[2:], 2):
                alpha = alpha.narrow(axis, side // 4, side - 2 * (side // 4))
        return alpha.flatten(1).mean(1)
