"""Match the units of two networks: shared, moved, lost and new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.apps.diff.layers import Layers
from featviz.apps.diff.moments import Moments
from featviz.apps.diff.similarity import correlations, mutual, nearest, varying
from featviz.objectives import Channel

Status = Literal["shared", "moved", "lost", "new"]
STATUSES: tuple[Status, ...] = ("shared", "moved", "lost", "new")
"""The statuses of a unit, in the order of the page."""
UNCHANGED = 0.999
"""Correlation from which a matched unit counts as unchanged."""


@dataclass(frozen=True)
class UnitMatch:
    """A unit of one network and the most correlated unit of the other.

    Args:
        status: `"shared"`: matched at the same address; `"moved"`: matched at another address; `"lost"`: a unit of the
            first network without a match; `"new"`: a unit of the second network without a match.
        first: The unit of the first network; of a new unit, the one that is most correlated with it.
        second: The unit of the second network; of a lost unit, the one that is most correlated with it.
        correlation: Pearson's correlation of both over the positions of all photographs, in [-1, 1].
        deviations: Standard deviation of both.
    """

    status: Status
    first: Channel
    second: Channel
    correlation: float
    deviations: tuple[float, float]

    @property
    def is_changed(self) -> bool:
        """Whether the unit has moved, is lost or new, or is correlated less than `UNCHANGED`."""
        return self.status != "shared" or self.correlation < UNCHANGED

    def __str__(self) -> str:
        """Name both units, the status and the correlation."""
        return f"{self.first} -> {self.second}: {self.status}, r = {self.correlation:.2f}"


def match_units(moments: Moments, layers: tuple[Layers, Layers], threshold: float) -> list[UnitMatch]:
    """Match the units of two networks, as mutual nearest neighbours by correlation.

    Units that are constant over the photographs are left out.

    Args:
        moments: Covariances of their activations.
        layers: The layers of both.
        threshold: Smallest correlation of a match, in [0, 1].

    Returns:
        Matched and lost units in the order of the first network, then new ones in that of the second.
    """
    units = [each.units for each in layers]
    places = [{unit: i for i, unit in enumerate(some)} for some in units]
    same = [torch.tensor([places[1 - k].get(unit, -1) for unit in units[k]]) for k in (0, 1)]
    correlation = correlations(moments)
    (forward, best), (backward, best_back) = nearest(correlation, same[0]), nearest(correlation.T, same[1])
    deviations = [moments.variance(k).sqrt().tolist() for k in (0, 1)]
    varies = [varying(moments, k).tolist() for k in (0, 1)]
    matched = (mutual(forward, backward) & (best >= threshold)).tolist()
    found, taken = [], set()

    def add(status: Status, i: int, j: int, value: Float[Tensor, ""]) -> None:
        spread = deviations[0][i], deviations[1][j]
        found.append(UnitMatch(status, units[0][i], units[1][j], float(value), spread))

    for i, j in enumerate(forward.tolist()):
        if varies[0][i]:
            kept: Status = "shared" if j == same[0][i] else "moved"
            add(kept if matched[i] else "lost", i, j, best[i])
            taken |= {j} if matched[i] else set()
    for j, i in enumerate(backward.tolist()):
        if varies[1][j] and j not in taken:
            add("new", i, j, best_back[j])
    return found
