"""How the picture follows its gradient, and what may be done to the gradient first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featviz.errors import SettingError
from featviz.protocols import Leaves, Optimizer, Stepper

__all__ = ["Adam", "Ascent", "Clipped", "Normalized"]


@dataclass(frozen=True)
class Adam:
    """Adam, its rate falling along half a cosine, so that the last steps settle what the first ones found.

    Args:
        lr: the first step's rate; what it does depends on how loud the param's start is.
        fall: the last step's rate as a share of the first.

    Raises:
        SettingError: a rate that is not above 0.

    Source: Lucid, lucid/optvis/render.py, Adam at .05.
    Differs: the rate falls.
    """

    lr: float = 0.05
    fall: float = 0.2

    def __post_init__(self) -> None:
        """Check the rate."""
        if not self.lr > 0:
            raise SettingError(f"learning rate {self.lr} does not move; give one above 0, 0.05 is usual")

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""
        optimizer = torch.optim.Adam(leaves, lr=self.lr, fused=True)
        return _Falling(
            optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps), self.lr * self.fall)
        )


@dataclass(frozen=True)
class _Falling:
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def step(self) -> None:
        self.optimizer.step()
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


TINY = 1e-12
"""Gradients shorter than this are nothing."""


@dataclass(frozen=True)
class _Plain:
    optimizer: torch.optim.Optimizer

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


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
