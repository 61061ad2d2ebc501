"""The result of a comparison of two networks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.apps.diff.classes import ClassChange
from featviz.apps.diff.matches import STATUSES, UNCHANGED, Status, UnitMatch
from featviz.apps.diff.training import CheckpointMatches
from featviz.apps.shared.rendering.album import Pages

MIN_CHANGE = 0.01
"""Change of a class's image, in bits, from which the class counts as changed."""


@dataclass(frozen=True, eq=False)
class NetworkDiff:
    """How two networks differ over a folder of photographs.

    Args:
        titles: Names of both networks.
        layers: Names of the layers of both that were compared.
        units: All units: matched and lost ones in the order of the first network, then new ones.
        similarity: Linear CKA of each layer of the first network with each of the second, in [0, 1].
        classes: The classes of both networks, those that changed most first: by the transfer loss of their images, or
            else by the correlation of their logits.
        photographs: Number of photographs.
        checkpoints: How each checkpoint, the first network included, compares to the second network; empty for two.
        pages: The page; `None` without an output folder.
    """

    titles: tuple[str, str]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    units: tuple[UnitMatch, ...]
    similarity: Float[Tensor, "first second"]
    classes: tuple[ClassChange, ...]
    photographs: int
    checkpoints: tuple[CheckpointMatches, ...] = ()
    pages: Pages | None = None

    def of(self, status: Status) -> list[UnitMatch]:
        """Return the units of one status.

        Args:
            status: `"shared"`, `"moved"`, `"lost"` or `"new"`.
        """
        return [match for match in self.units if match.status == status]

    @property
    def changed(self) -> list[UnitMatch]:
        """The units that moved, are lost or new, or whose activations are correlated less than 0.999."""
        return [match for match in self.units if match.is_changed]

    def __str__(self) -> str:
        """Return a few lines of text: numbers of units, similarity of layers, and the classes that changed most."""
        counts = Counter(match.status for match in self.units)
        unchanged = sum(not match.is_changed for match in self.units)
        numbers = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
        lines = [f"{self.titles[0]} and {self.titles[1]}, {self.photographs} images"]
        lines.append(f"units: {numbers}; {unchanged} are unchanged")
        names = [name or "logit" for name in self.layers[0]]
        best = self.similarity.max(1)
        pairs = zip(names, best.indices.tolist(), best.values.tolist(), strict=True)
        similar = [f"{name} {value:.2f} ({self.layers[1][k] or 'logit'})" for name, k, value in pairs]
        lines.append(f"linear CKA with the most similar layer: {', '.join(similar)}")
        changed = [each for each in self.classes if is_changed_class(each)][:5]
        if self.classes:
            listed = ", ".join(map(_class_line, changed)) or "none"
            lines.append(f"classes that changed most: {listed}")
        return "\n".join(lines)

    __repr__ = __str__


def _class_line(change: ClassChange) -> str:
    measured = f"r {change.correlation:.2f}" if change.change is None else f"{change.change:.2f}"
    return f"{change.title} {measured}"


def is_changed_class(change: ClassChange) -> bool:
    """Return whether the logit or the image of a class changed.

    Args:
        change: The class.
    """
    return change.correlation < UNCHANGED or (change.change or 0.0) >= MIN_CHANGE
