"""Follow units over training: the unit of each checkpoint that corresponds to one of the last network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.apps.diff.layers import Layers
from featviz.apps.diff.matches import UnitMatch, match_units
from featviz.apps.diff.moments import Moments
from featviz.apps.diff.similarity import correlations, linear_cka
from featviz.objectives import Channel


@dataclass(frozen=True, eq=False)
class CheckpointMatches:
    """How a checkpoint compares to the last network.

    Args:
        title: Name of the checkpoint.
        layers: Its layers, and those of the last network.
        matches: Its units and those of the last network.
        correlation: Of each of its units with each of the last network.
        similarity: Linear CKA of each of its layers with the layer of the same name, else with the most similar one.
    """

    title: str
    layers: tuple[Layers, Layers]
    matches: tuple[UnitMatch, ...]
    correlation: Float[Tensor, "p q"]
    similarity: tuple[float, ...]

    @property
    def matched(self) -> int:
        """Number of units that have a match in the last network."""
        return sum(match.status in ("shared", "moved") for match in self.matches)


def match_checkpoints(
    titles: Sequence[str], layers: Sequence[Layers], moments: Sequence[Moments], threshold: float
) -> list[CheckpointMatches]:
    """Match the units of each checkpoint with those of the last network.

    Args:
        titles: Name of each checkpoint.
        layers: Layers of each checkpoint, and of the last network.
        moments: Covariances of the units of each checkpoint with those of the last network.
        threshold: Smallest correlation of a match.
    """
    found = []
    for title, own, each in zip(titles, layers, moments, strict=False):
        pair, cka = (own, layers[-1]), linear_cka(each)
        similarity = cka.diagonal() if own.names == layers[-1].names else cka.max(1).values
        matches = tuple(match_units(each, pair, threshold))
        found.append(CheckpointMatches(title, pair, matches, correlations(each), tuple(similarity.tolist())))
    return found


def follow_units(checkpoints: Sequence[CheckpointMatches], units: Sequence[Channel]) -> list[list[UnitMatch]]:
    """Return for each unit of the last network the one that corresponds to it in each checkpoint.

    It is the unit's match, else the unit at the same address, else the one that is most correlated.

    Args:
        checkpoints: The checkpoints.
        units: Units of the last network.
    """
    return [[_corresponding(checkpoint, unit) for checkpoint in checkpoints] for unit in units]


def spread_units(layers: Layers, most: int) -> list[Channel]:
    """Choose units of all layers, the same number of each as far as possible.

    Args:
        layers: The layers.
        most: Largest number of units.
    """
    per_layer = -(-most // len(layers.names))
    pairs = [(name, size, min(per_layer, size)) for name, size in zip(layers.names, layers.sizes, strict=True)]
    chosen = [Channel(name, i * size // count) for name, size, count in pairs for i in range(count)]
    count = min(most, len(chosen))
    return [chosen[i * len(chosen) // count] for i in range(count)]


def _corresponding(checkpoint: CheckpointMatches, unit: Channel) -> UnitMatch:
    for match in checkpoint.matches:
        if match.second == unit and match.status in ("shared", "moved"):
            return match
    own, last = (layers.units for layers in checkpoint.layers)
    column = checkpoint.correlation[:, last.index(unit)]
    i = own.index(unit) if unit in own else int(column.argmax())
    return UnitMatch("new", own[i], unit, float(column[i]), (1.0, 1.0))
