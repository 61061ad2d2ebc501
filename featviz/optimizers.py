"""How the picture follows its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from featviz.errors import SettingError
from featviz.protocols import Leaves, Stepper


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
