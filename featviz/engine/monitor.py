"""Watch a render: its scores, and how an image can fail: no gradient, a NaN score, or one that stays constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featviz.errors import RenderError

REDIRECT_STEPS = 32
"""Initial steps with redirected gradients; at most half of all steps.

Source: Lucid, lucid/optvis/overrides/redirected_relu_grad.py.
Differs: 32 instead of 16. A unit whose image starts flat and grey, as that of `param.CPPN` does, may need them.
"""
CHECK_STEPS = (1, 2, 4, 8, 16)
"""Steps after the redirected ones at which gradients are checked. After the last, a dead batch raises an error."""
FINITE_EVERY = 64
"""Steps between checks for NaN scores. Each check waits for the device."""

DEAD = (
    "no gradient reaches the image, not even one that is redirected through inactive units; try another seed, a start "
    "with more contrast (the param Fourier(std=0.25)), or another objective, such as a logit instead of its probability"
)
MINIMISED = "; a unit after a ReLU is never below 0, so there may be no image that shows its opposite"
"""Added to `DEAD` for an objective with a negative sign."""
FEW_STEPS = (
    f"; gradients are redirected in the first half of the steps only, so give steps={2 * REDIRECT_STEPS} or more"
)
"""Added to `DEAD` for a render of fewer steps."""
BLOCKED = (
    "no gradient passes through the transforms to the image; leave out the one that is not differentiable, such as "
    "rounding"
)
NOT_DIFFERENTIABLE = (
    "the score has no gradient: the layer does not depend on the image, or the network or the objective computes it "
    "under torch.no_grad, in numpy or with argmax; choose another layer, or compute it with differentiable operations"
)
CONSTANT = (
    "the score stayed at {score:.3g} up to rounding in all {steps} steps: it does not depend on the image, such as "
    "the mean of a channel after an instance normalisation or a probability that has reached 1; use a neuron "
    "(LAYER:CHANNEL@y,x), the whole layer (LAYER) or a logit instead"
)
MIN_STEPS_OF_CONSTANT = 16
"""Smallest number of steps after which a constant score is reported."""
ROUNDING = 1e-6
"""Largest change of a constant score, relative to the score."""
MAX_ROUNDING = 1e-5
"""Largest change at which a score that does not rise counts as constant, relative to the score or to 1, whichever is
larger."""
CLEAR = 0.1
"""Change of a score relative to the score, above which it is no rounding if the score keeps its sign."""
TREND, TREND_SCORES = 3.0, 128
"""Smallest trend that is no coincidence, in standard deviations of the statistic, and most scores that are compared."""
NOT_FINITE = "the score became NaN or infinite; use a smaller learning rate, or check the network's mean and std"
NOT_FINITE_AT_START = (
    "the score is NaN or infinite from the first step; check the network's weights, mean and std, and the numbers in "
    "the objective and the param"
)


@dataclass(frozen=True)
class Gradients:
    """Which images of a batch got a gradient in a backward pass.

    Args:
        images: Images with a gradient that is not 0.
        views: Images whose view has a gradient that is not 0, so that it came through the network.
    """

    images: Bool[Tensor, " n"]
    views: Bool[Tensor, " n"]

    @classmethod
    def of(cls, images: Tensor, views: Tensor) -> Gradients:
        """Read them from the `.grad` of images and views after a backward pass. This waits for the device."""
        return cls(_has_gradient(images), _has_gradient(views))

    @classmethod
    def joined(cls, several: Sequence[Gradients]) -> Gradients:
        """Concatenate those of consecutive chunks."""
        return cls(torch.cat([each.images for each in several]), torch.cat([each.views for each in several]))


def _has_gradient(images: Tensor) -> Bool[Tensor, " n"]:
    if images.grad is None:
        return torch.zeros(len(images), dtype=torch.bool)
    return images.grad.flatten(1).any(1).cpu()


def check_differentiable(tensor: Tensor, message: str) -> Tensor:
    """Return a tensor that has a gradient.

    Args:
        tensor: Views or scores.
        message: `BLOCKED` or `NOT_DIFFERENTIABLE`.

    Raises:
        RenderError: The tensor has no gradient.
    """
    if not tensor.requires_grad:
        raise RenderError(message)
    return tensor


class Monitor:
    """The scores of every step, and which images receive gradients.

    An image is alive once a gradient has reached it through the network (through anything, for an objective without
    layers). Gradients are redirected through inactive units for images that are not alive yet, in the first steps.

    Args:
        names: What each image shows.
        steps: Number of steps of the render.
        uses_network: For each image, whether its objective has layers.
        zero_steps: Number of initial steps during which the objective may have no gradient.
        minimises: For each image, whether its objective has a negative sign; empty for none.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        steps: int,
        uses_network: Sequence[bool],
        zero_steps: int = 0,
        minimises: Sequence[bool] = (),
    ) -> None:
        self.names, self._minimises = names, minimises or [False] * len(names)
        self._redirect_steps, self._zero_steps = min(REDIRECT_STEPS, steps // 2), zero_steps
        self._last_check = max(self._redirect_steps, zero_steps) + CHECK_STEPS[-1]
        # Checks wait for the device, so they get rarer: 1, 2, 4, 8 and 16 steps after gradients are the network's own.
        starts = (self._redirect_steps, max(self._redirect_steps, zero_steps))
        self._checks = {1, steps, *(start + step for start in starts for step in CHECK_STEPS)}
        self._uses_network = torch.tensor(uses_network)
        self._alive = torch.zeros(len(names), dtype=torch.bool)
        # Stored, not computed when asked for: recorded steps compare `redirect` by identity.
        self._all_alive, self._dead = False, ~self._alive
        self._scores: list[Tensor] = []
        self._flag: Tensor | None = None  # whether any score of the last checked step was finite
        self._flag_copied: torch.cuda.Event | None = None

    def _no_gradient(self, minimises: bool) -> str:
        """Return what is wrong with an image that gets no gradient."""
        few = "" if self._redirect_steps == REDIRECT_STEPS else FEW_STEPS
        return f"{DEAD}{few}{MINIMISED if minimises else ''}"

    @property
    def steps(self) -> int:
        """Number of recorded steps."""
        return len(self._scores)

    @property
    def wants_gradients(self) -> bool:
        """Whether the coming step has to report which images receive gradients."""
        return self.steps + 1 in self._checks and not self._all_alive

    @property
    def redirect(self) -> Bool[Tensor, " n"] | None:
        """Images whose gradients the coming step redirects through inactive units; `None` for none of them.

        The first step runs with the network's own gradients, so an image that is alive keeps them.
        """
        return self._dead if 0 < self.steps < self._redirect_steps and not self._all_alive else None

    def record(
        self,
        scores: Float[Tensor, " n"],
        gradients: Gradients | None = None,
    ) -> None:
        """Record a step.

        Args:
            scores: The score of each image.
            gradients: Which images and views got a gradient; `None` if that was not wanted.

        Raises:
            RenderError: No image of the batch can succeed any more.
        """
        self._scores.append(scores)
        if gradients is not None:
            # A regularizer alone gives the image a gradient, but not its view: such an image's unit is still dead.
            self._alive |= gradients.images & (gradients.views | ~self._uses_network)
            self._all_alive, self._dead = bool(self._alive.all()), ~self._alive
            if self.steps == self._last_check and not self._alive.any():
                raise RenderError(self._no_gradient(all(self._minimises)))
        if self.steps % FINITE_EVERY == 0:
            self._check_finite(scores)

    def _check_finite(self, scores: Float[Tensor, " n"]) -> None:
        """Check the scores on the CPU now; those on a GPU at the next call, when they have long been computed.

        Raises:
            RenderError: None of them is finite.
        """
        flag, self._flag = self._flag, scores.isfinite().any().to("cpu", non_blocking=scores.is_cuda)
        if not scores.is_cuda:
            flag = self._flag
        else:
            event, self._flag_copied = self._flag_copied, torch.cuda.Event()
            self._flag_copied.record()
            if event is not None:
                event.synchronize()
        if flag is not None and not flag:
            raise RenderError(self._not_finite(slice(None)))

    def _not_finite(self, images: int | slice) -> str:
        """Return what is wrong with images whose scores are not finite."""
        return NOT_FINITE if self._scores[0][images].isfinite().any() else NOT_FINITE_AT_START

    def history(self, steps: int) -> Float[Tensor, "steps n"]:
        """Return the scores of the first steps."""
        return torch.stack(self._scores[:steps]).cpu() if steps else torch.empty(0, len(self.names))

    def _is_constant(self, scores: Float[Tensor, "steps n"]) -> Bool[Tensor, " n"]:
        """Whether the score of each image stayed the same up to rounding."""
        if self.steps < MIN_STEPS_OF_CONSTANT:
            return torch.zeros(len(self.names), dtype=torch.bool)
        spread, largest = scores.amax(0) - scores.amin(0), scores.abs().amax(0)
        # Scores that are 0 up to rounding mostly change their sign and have no trend. Tiny ones keep theirs, or rise.
        same_sign = ((scores >= 0).all(0) | (scores <= 0).all(0)) & (spread > CLEAR * largest)
        is_rounding = (spread <= MAX_ROUNDING * largest.clamp(min=1)) & ~same_sign & ~_rises(scores)
        return ((spread <= ROUNDING * largest) | is_rounding).cpu()

    def problems(self, moved: Bool[Tensor, " n"] | None = None) -> dict[int, str]:
        """Return what failed, by image.

        Args:
            moved: Images that differ clearly from the start; `None` for all of them. The score of one that hardly
                moves may stay the same for that reason.

        Raises:
            RenderError: The scores of all images are NaN or infinite.
        """
        if not self._scores:
            return {}
        finite = self._scores[-1].isfinite().cpu()
        if not finite.any():
            raise RenderError(self._not_finite(slice(None)))
        scores = torch.stack(self._scores)
        constant, is_zero_allowed = (scores == scores[0]).all(0).cpu(), self.steps <= self._zero_steps
        dead = ~self._alive & (constant | (self.steps > self._redirect_steps))  # the others may still wake up
        dead &= not is_zero_allowed
        problems = {
            i: self._no_gradient(self._minimises[i]) if finite[i] else self._not_finite(i)
            for i in (dead | ~finite).nonzero().flatten().tolist()
        }
        suspect = ~dead & finite & (not is_zero_allowed)
        if moved is not None:
            suspect &= moved
        for i in (self._is_constant(scores) & suspect).nonzero().flatten().tolist():
            problems[i] = CONSTANT.format(score=scores[-1, i].item(), steps=self.steps)
        return problems


def _rises(scores: Float[Tensor, "steps n"]) -> Bool[Tensor, " n"]:
    """Whether the scores of each image have an upward trend, by the Mann-Kendall test.

    Source: Mann 1945, https://doi.org/10.2307/1907187; its statistic counts the pairs of steps that are in order.
    """
    some = scores[:: -(-len(scores) // TREND_SCORES)]
    count = len(some)
    pairs = torch.sign(some[None] - some[:, None])  # (earlier, later, n)
    earlier = torch.ones(count, count, device=scores.device).triu(1)[..., None]
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return (pairs * earlier).sum((0, 1)) > TREND * deviation
