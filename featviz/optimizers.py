"""How the picture follows its gradient, and what may be done to the gradient first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Leaves, Optimizer, Stepper
from featviz.transforms.blur import gaussian_blur

__all__ = ["Adam", "Ascent", "Clipped", "LaplacianNormalized", "Normalized", "Smoothed"]


@dataclass(frozen=True)
class Adam:
    """Adam, its rate falling along half a cosine, so that the last steps autotune what the first ones found.

    A step also takes the picture back towards where it began by a small share of the way. What the network keeps open_scorer
    for stays; the rest fades, so that more steps make a picture clearer and not ever harsher.

    Args:
        lr: the first step's rate; what it does depends on how loud the param's start is.
        final_lr_ratio: the last step's rate as a share of the first.
        anchor_decay: that share, per unit of the rate; 0 pulls nothing back.

    Raises:
        SettingError: a rate that is not above 0, or a anchor_decay that is below 0 or goes back all the way.

    Source: Lucid, lucid/optvis/render.py, Adam at .05; Li et al. 2018, https://arxiv.org/abs/1802.01483, the anchor_decay,
        apart from Adam as weight decay is in Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101.
    Differs: the rate falls; the anchor_decay.
    """

    lr: float = 0.05
    final_lr_ratio: float = 0.2
    anchor_decay: float = 0.1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.lr > 0:
            raise SettingError(f"learning rate {self.lr} does not move; give one above 0, 0.05 is usual")
        if not 0 <= self.lr * self.anchor_decay < 1:
            raise SettingError(
                f"a anchor_decay of {self.anchor_decay} at a rate of {self.lr} goes nowhere; give 0 or more, 0.1 is usual"
            )

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""
        optimizer = torch.optim.Adam(leaves, lr=self.lr, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps), self.lr * self.final_lr_ratio)
        begun = [leaf.detach().clone() for leaf in leaves] if self.anchor_decay else []
        return _Falling(optimizer, schedule, leaves, begun, self.anchor_decay)


@dataclass(frozen=True)
class _Falling:
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    leaves: Leaves
    begun: Leaves
    anchor_decay: float

    @torch.no_grad()
    def step(self) -> None:
        self.optimizer.step()
        share = self.anchor_decay * float(self.schedule.get_last_lr()[0])
        for leaf, begun in zip(self.leaves, self.begun, strict=False):  # none where nothing is pulled back
            leaf.lerp_(begun, share)
        self.schedule.step()
        self.optimizer.zero_grad()


@dataclass(frozen=True)
class Ascent:
    """Plain gradient ascent: a step is the gradient times the rate.

    Args:
        lr: the rate, the same at every step.

    Raises:
        SettingError: a rate that is not above 0.
    """

    lr: float = 1.0

    def __post_init__(self) -> None:
        """Check the rate."""
        if not self.lr > 0:
            raise SettingError(f"learning rate {self.lr} does not move; give one above 0")

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""
        return _Plain(torch.optim.SGD(leaves, lr=self.lr))


@dataclass(frozen=True)
class Normalized:
    """Another optimizer, given gradients whose root mean square is 1 in each picture: the rate alone says how far.

    What a batch shares counts as a picture of its own.

    Args:
        optimizer: what then follows them.

    Source: google/deepdream, dream.ipynb, `make_step`.
    Differs: the root mean square instead of the mean magnitude.
    """

    optimizer: Optimizer = Ascent()

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""
        return _Changed(self.optimizer.begin(leaves, steps), leaves, lambda length: 1 / length.clamp(min=TINY))


@dataclass(frozen=True)
class Clipped:
    """Another optimizer, given gradients whose root mean square is at most so much in each picture.

    Args:
        most: the largest root mean square that passes; longer gradients are shortened, never turned.
        optimizer: what then follows them.

    Raises:
        SettingError: it is not above 0.
    """

    most: float
    optimizer: Optimizer = Ascent()

    def __post_init__(self) -> None:
        """Check the bound."""
        if not self.most > 0:
            raise SettingError(f"gradients clipped at {self.most} do not move; give a bound above 0")

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""
        stepper = self.optimizer.begin(leaves, steps)
        return _Changed(stepper, leaves, lambda length: (self.most / length.clamp(min=TINY)).clamp(max=1))


@dataclass(frozen=True)
class Smoothed:
    """Another optimizer, given gradients that are blurred, which leaves the fine grain out of a picture held as pixels.

    Args:
        std: of the Gaussian, in px.
        optimizer: what then follows them.

    Raises:
        SettingError: a width that is not above 0; or, at `begin`, leaves that are no pixels.

    Source: ProGamerGov, neural-dream, and other descendants of google/deepdream.
    """

    std: float
    optimizer: Optimizer = Normalized()

    def __post_init__(self) -> None:
        """Check the width."""
        if not self.std > 0:
            raise SettingError(f"a blur of {self.std} px does nothing; give a deviation above 0")

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""
        return _Filtered(self.optimizer.begin(leaves, steps), _pixels(self, leaves), self._blur)

    def _blur(self, gradient: Tensor) -> Tensor:
        return gaussian_blur(gradient, self.std)


@dataclass(frozen=True)
class LaplacianNormalized:
    """Another optimizer, given gradients whose every octave of detail is equally strong: low frequencies come out, too.

    Args:
        levels: how many octaves are taken apart, the rest below them being one more.
        optimizer: what then follows them.

    Raises:
        SettingError: fewer than one level; or, at `begin`, leaves that are no pixels.

    Source: TensorFlow's deepdream tutorial, deepdream.ipynb, "Laplacian Pyramid Gradient Normalization".
    """

    levels: int = 4
    optimizer: Optimizer = Normalized()

    def __post_init__(self) -> None:
        """Check the levels."""
        if self.levels < 1:
            raise SettingError(f"{self.levels} levels take nothing apart; give 1 or more, 4 is usual")

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""
        return _Filtered(self.optimizer.begin(leaves, steps), _pixels(self, leaves), self._even)

    def _even(self, gradient: Tensor) -> Tensor:
        bands, rest = [], gradient
        for _ in range(self.levels):
            if min(rest.shape[2:]) < 2:
                break
            low = F.interpolate(rest, scale_factor=0.5, mode="bilinear", antialias=True)
            bands.append(rest - F.interpolate(low, rest.shape[2:], mode="bilinear"))
            rest = low
        even = _unit(rest)
        for band in reversed(bands):
            even = F.interpolate(even, band.shape[2:], mode="bilinear") + _unit(band)
        return even


def _unit(band: Tensor) -> Tensor:
    return band / band.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=TINY)


def _pixels(optimizer: Optimizer, leaves: Leaves) -> Leaves:
    moving = [leaf for leaf in leaves if leaf.requires_grad]
    if any(leaf.ndim != 4 or leaf.is_complex() for leaf in moving):
        raise SettingError(f"{optimizer} filters the gradients of pixels; give param.Image(spatial=param.Pixel())")
    return moving


TINY = 1e-12
"""Gradients shorter than this are nothing."""


@dataclass(frozen=True)
class _Plain:
    optimizer: torch.optim.Optimizer

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


@dataclass(frozen=True)
class _Filtered:
    stepper: Stepper
    leaves: Leaves
    change: Callable[[Tensor], Tensor]

    def step(self) -> None:
        for leaf in self.leaves:
            if leaf.grad is not None:
                leaf.grad.copy_(self.change(leaf.grad))
        self.stepper.step()


@dataclass(frozen=True)
class _Changed:
    stepper: Stepper
    leaves: Leaves
    factor: Callable[[Tensor], Tensor]

    def step(self) -> None:
        for leaves in self._groups():
            power = torch.stack([leaf.grad.flatten(1).square().sum(1) for leaf in leaves]).sum(0)
            factor = self.factor((power / sum(leaf[0].numel() for leaf in leaves)).sqrt())
            for leaf in leaves:
                leaf.grad.mul_(factor.view(-1, *[1] * (leaf.ndim - 1)))
        self.stepper.step()

    def _groups(self) -> list[list[Any]]:
        """Return the leaves of the pictures, and apart from them those that pictures share."""
        moving = [leaf for leaf in self.leaves if leaf.grad is not None]
        return [[leaf for leaf in moving if len(leaf) == count] for count in {len(leaf) for leaf in moving}]
