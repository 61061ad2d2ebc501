"""Objectives that look across the pictures of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Traits
from featviz.network.activations import Activations
from featviz.objectives.algebra import Composite, Objective
from featviz.objectives.parser import as_objective

REACH = 4
"""How many neighbours on each side a picture is aligned with. Source: Lucid, objectives.py, `alignment`."""


@dataclass(frozen=True, repr=False)
class Interpolate(Composite):
    """From one objective to another along the batch: the first picture has the one, the last the other.

    Args:
        first: what the first picture of the batch maximises.
        last: what the last maximises.

    Source: Lucid, lucid/optvis/objectives.py, `channel_interpolate`.
    Differs: any two objectives instead of two channels.
    """

    first: Objective
    last: Objective
    term = "interpolate"

    def __post_init__(self) -> None:
        """Take text, too."""
        object.__setattr__(self, "first", as_objective(self.first))
        object.__setattr__(self, "last", as_objective(self.last))

    @property
    def parts(self) -> tuple[Objective, ...]:
        """Both."""
        return self.first, self.last

    @property
    def traits(self) -> Traits:
        """Compares the images of a batch."""
        return super().traits | Traits(compares_images=True)

    def shown_unit(self, place: float = 0.0) -> Objective | None:
        """Return what the picture at that place of the batch shows: a mixture, between the ends."""
        first, last = self.first.shown_unit() or self.first, self.last.shown_unit() or self.last
        if place in (0, 1):
            return first if place == 0 else last
        return (1 - place) * first + place * last

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Mix both scores, the shares falling and rising evenly along the batch."""
        first, last = self.first(acts), self.last(acts)
        return torch.lerp(first, last, torch.linspace(0, 1, len(first), device=first.device, dtype=first.dtype))

    def __repr__(self) -> str:
        """Write the call."""
        return f"Interpolate({self.first!r}, {self.last!r})"

    def __str__(self) -> str:
        """Write the term."""
        return f"interpolate({self.first}, {self.last})"


@dataclass(frozen=True)
class Alignment(Objective):
    """How alike neighbours of the batch are in a layer: above all 0 where they are the same, below it otherwise.

    Add it to an interpolation, so that the same thing stays in the same place.

    Args:
        layer: dotted module name.
        decay: how much less each farther neighbour counts.

    Source: Lucid, lucid/optvis/objectives.py, `alignment`.
    """

    layer: str
    decay: float = 2.0
    term = "alignment"

    @property
    def traits(self) -> Traits:
        """Compares the images of a batch."""
        return Traits(compares_images=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return for each picture minus half of its weighed mean squared differences from its neighbours."""
        units = acts.channels_first(self.layer).flatten(1)
        score = units.new_zeros(len(units))
        for distance in range(1, min(REACH, len(units) - 1) + 1):
            apart = (units[distance:] - units[:-distance]).square().mean(1) / (2 * self.decay**distance)
            score = score - F.pad(apart, (0, distance)) - F.pad(apart, (distance, 0))
        return score


@dataclass(frozen=True)
class Diversity(Objective):
    """How unlike the others of the batch a picture is in a layer: more of it makes them differ.

    From -1, where all have the same features in the same proportions, to 0, where they share none. Add it:
    `stage2:5 + 10*diversity(stage2)`.

    Args:
        layer: dotted module name.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Diversity"; Lucid, objectives.py, `diversity`.
    Differs: a mean over the others, so that a weight means the same in batches of any size.
    """

    layer: str
    term = "diversity"

    @property
    def traits(self) -> Traits:
        """Compares the images of a batch."""
        return Traits(compares_images=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return minus the mean cosine between a picture's Gram matrix and the others'."""
        units = acts.channels_first(self.layer).unsqueeze(-1).flatten(2)
        style = F.normalize((units @ units.mT).flatten(1), dim=1, eps=1e-10)
        alike = style @ style.T
        return (alike.diagonal() - alike.sum(1)) / max(1, len(units) - 1)
