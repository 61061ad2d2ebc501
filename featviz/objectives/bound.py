"""An objective that has loaded its references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from featviz.network.activations import Activations
from featviz.objectives.algebra import Objective


@dataclass(frozen=True, eq=False)
class Bound(Objective):
    """An objective together with a score function that holds its references as tensors.

    `Objective.bind` returns it, so that images are read once per render.

    Args:
        objective: The objective, with its references as files.
        score: Returns one score per image.
    """

    objective: Objective
    score: Callable[[Activations], Tensor] = field(repr=False)

    @property
    def layers(self) -> frozenset[str]:
        """The layers that the objective reads."""
        return self.objective.layers

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return one score per image."""
        return self.score(acts)

    def __str__(self) -> str:
        return str(self.objective)
