"""Whether a render gets anywhere: its scores, and the two ways in which it can fail."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import FeatvizWarning, RenderError
from featviz.protocols import Leaves

LISTEN = (1, 2, 4, 8, 16)
"""Steps after which to ask whether a gradient has arrived; after the last, a batch without any is given up.

Source: Lucid, lucid/optvis/overrides/redirected_relu_grad.py, which helps dead units for 16 steps.
"""
LOOK = 64
"""Steps between looks at whether the scores are still numbers: each look waits for the device."""

DEAD = "no gradient reaches the picture, the unit is off; give another seed, or a louder start: param Fourier(sd=0.1)"
NOT_FINITE = "the score stopped being a number; give a smaller learning rate, or check the network's mean and std"


class Health:
    """The scores of every step, and what went wrong with which picture.

    Args:
        names: what each picture shows.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._scores: list[Tensor] = []
        self._alive = torch.zeros(len(names), dtype=torch.bool)

    @property
    def steps(self) -> int:
        """How many steps were noted."""
        return len(self._scores)

    def note(self, scores: Float[Tensor, " n"], leaves: Leaves) -> None:
        """Take down a step, after its backward pass.

        Raises:
            RenderError: no picture of the batch can succeed any more.
        """
        self._scores.append(scores.detach())
        if self.steps in LISTEN:
            self._alive = self._alive.to(scores.device)
            for leaf in leaves:
                if leaf.grad is not None:
                    self._alive |= leaf.grad.flatten(1).any(1)
        if self.steps == LISTEN[-1] and not self._alive.any():
            raise RenderError(DEAD)
        if self.steps % LOOK == 0 and not scores.isfinite().any():
            raise RenderError(NOT_FINITE)

    def history(self, steps: int) -> Float[Tensor, "steps n"]:
        """Return the scores of the first so many steps."""
        return torch.stack(self._scores[:steps]).cpu() if steps else torch.empty(0, len(self.names))

    def verdict(self) -> dict[int, str]:
        """Say which pictures failed, and warn.

        Raises:
            RenderError: all of them stopped being numbers.
        """
        if not self._scores:
            return {}
        finite = self._scores[-1].isfinite().cpu()
        dead = ~self._alive.cpu()
        if not finite.any():
            raise RenderError(NOT_FINITE)
        problems = {i: DEAD if finite[i] else NOT_FINITE for i in (dead | ~finite).nonzero().flatten().tolist()}
        for i, problem in problems.items():
            warnings.warn(f"{self.names[i]}: {problem}", FeatvizWarning, stacklevel=3)
        return problems
