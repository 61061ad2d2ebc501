"""Whether a render gets anywhere: its scores, and the two ways in which it can fail."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import FeatvizWarning, RenderError

WAKE = 32
"""How many of the first steps wake units that are off, but no more than half of all.

Source: Lucid, lucid/optvis/overrides/redirected_relu_grad.py.
Differs: 32 instead of 16, which a unit that begins with a flat grey picture, as `param.CPPN` does, may need.
"""
LISTEN = (1, 2, 4, 8, 16)
"""Which steps after those look for a gradient; where the last finds none in a whole batch, it is given up."""
LOOK = 64
"""Steps between looks at whether the scores are still numbers: each look waits for the device."""

DEAD = "no gradient reaches the picture, the unit is off; give another seed, or a louder start: param Fourier(sd=0.25)"
BLOCKED = "the transforms pass no gradient on to the picture, as rounding does not; leave the one that rounds out"
NOT_FINITE = "the score stopped being a number; give a smaller learning rate, or check the network's mean and std"


class Health:
    """The scores of every step, and what went wrong with which picture.

    Args:
        names: what each picture shows.
        steps: how many there will be.
        seen: for each picture, whether its objective asks the network anything; others are about the picture alone.
        silent: how many of the first steps may ask for nothing at all.
    """

    def __init__(self, names: tuple[str, ...], steps: int, seen: Sequence[bool], silent: int = 0) -> None:
        self.names = names
        self.wake: Tensor | None = None
        """For which pictures units that are off are to be woken in the next step; `None` means for none."""
        self._asleep = min(WAKE, steps // 2)
        self._last = max(self._asleep, silent) + LISTEN[-1]
        self._listen = {1, *(start + step for start in (self._asleep, max(self._asleep, silent)) for step in LISTEN)}
        self._scores: list[Tensor] = []
        self._seen = torch.tensor(seen)
        self._alive = torch.zeros(len(names), dtype=torch.bool)
        self._all_alive = False
        self._listening = False

    @property
    def steps(self) -> int:
        """How many steps were noted."""
        return len(self._scores)

    def listen(self, views: Float[Tensor, "n c h w"], images: Float[Tensor, "n c2 h2 w2"]) -> None:
        """Ask for the gradients of views and pictures, where the coming step is one to look for them.

        Raises:
            RenderError: nothing that changes the pictures could change the views.
        """
        self._listening = self.steps + 1 in self._listen and not self._all_alive
        if not views.requires_grad:
            raise RenderError(BLOCKED)
        if self._listening:
            views.retain_grad()
            images.retain_grad()

    def hear(self, some: slice, views: Float[Tensor, "n c h w"], images: Float[Tensor, "n c2 h2 w2"]) -> None:
        """Look for the gradients of some of the pictures, after their backward pass, if this is a step to do so."""
        if self._listening:
            self._alive[some] |= _any(images.grad) & (_any(views.grad) | ~self._seen[some])

    def note(self, scores: Float[Tensor, " n"]) -> None:
        """Take down a step.

        Raises:
            RenderError: no picture of the batch can succeed any more.
        """
        self._scores.append(scores)
        if self._listening:
            self._all_alive = bool(self._alive.all())
            if self.steps == self._last and not self._alive.any():
                raise RenderError(DEAD)
        self.wake = ~self._alive if self.steps < self._asleep and not self._all_alive else None
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
        scores = torch.stack(self._scores)
        still = (scores == scores[0]).all(0).cpu()
        dead = ~self._alive & (still | (self.steps > self._asleep))  # those still to be woken are not given up
        if not finite.any():
            raise RenderError(NOT_FINITE)
        problems = {i: DEAD if finite[i] else NOT_FINITE for i in (dead | ~finite).nonzero().flatten().tolist()}
        for i, problem in problems.items():
            warnings.warn(f"{self.names[i]}: {problem}", FeatvizWarning, stacklevel=3)
        return problems


def _any(gradient: Tensor | None) -> Tensor:
    """Say which images have any gradient."""
    return torch.tensor(False) if gradient is None else gradient.flatten(1).any(1).cpu()
