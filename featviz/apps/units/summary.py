"""Summarise a unit by its responses: its name, how interpretable it is, and whether it has two meanings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import featviz as fv
from featviz.apps.shared.activations.ranks import ranks
from featviz.apps.units.labels import Labels, find_labels, read_labels
from featviz.apps.units.names import Name, unit_names
from featviz.apps.units.responses import Responses
from featviz.apps.units.statistics import (
    MIN_MEMBERS,
    REFERENCES,
    clarity,
    interpretability,
    order_of,
    polysemanticity,
    split_order,
    two_clusters,
)

STRONGEST = 20
"""Number of photographs with the largest responses by which clarity and polysemanticity are measured."""
LARGEST_SHARE = 0.125
"""Of few photographs, at most this share is used: more would include some to which the unit hardly responds."""
MIN_STRONGEST = 4
"""Smallest number of photographs that can be split into two facets."""
POLYSEMANTIC = 0.5
"""Polysemanticity from which a unit is said to have two meanings.

Source: `make features-bench`: the class logits of motifnet have at most 0.37, planted units of two motifs 0.82 or more.
"""
MIN_FACET = 0.25
"""Smallest share of the strongest photographs that make a facet; fewer are outliers of one meaning.

Source: `make features-bench`: planted units of one motif have up to 4 other drawings, and one of them 5, among the 20
strongest.
"""


@dataclass(frozen=True)
class Facet:
    """One of two groups of the photographs that a unit responds to most.

    Args:
        photographs: Indices of the photographs, the largest response first.
        label: The most frequent label of the group; empty without labels.
    """

    photographs: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class Summary:
    """Name and scores of a unit. Scores for which too few photographs excite the unit are `None`.

    Args:
        names: The best name first, then single labels.
        interpretability: Share of pairs of a strong and a weak photograph that are told apart by likeness, in [0, 1].
        clarity: Mean cosine of the strongest photographs, in [-1, 1].
        polysemanticity: 0 for one meaning, 1 for two that have nothing in common, up to 2 for opposites.
        facets: The strongest photographs in two groups, the group of the strongest one first; none for one meaning.
    """

    names: tuple[Name, ...]
    interpretability: float | None
    clarity: float | None
    polysemanticity: float | None
    facets: tuple[Facet, ...] = ()

    @property
    def name(self) -> str:
        """The best name; empty without labels."""
        return self.names[0].text if self.names else ""

    @property
    def is_polysemantic(self) -> bool:
        """Whether the unit responds to two unlike kinds of photographs."""
        return bool(self.facets)


def labels_of(network: fv.Network, responses: Responses, labels: str | Path | None) -> Labels:
    """Return the labels of the photographs.

    Args:
        network: The network.
        responses: Responses to the photographs.
        labels: A file of labels; `None` for none.

    Raises:
        SettingError: The file cannot be read.
    """
    given = None if labels is None else read_labels(labels, responses.names)
    return find_labels(network, responses.names, responses.predicted, given)


def summaries(responses: Responses, labels: Labels, units: Sequence[int]) -> dict[int, Summary]:
    """Return the names and scores of units.

    Args:
        responses: Responses to the photographs.
        labels: Labels of the photographs.
        units: Indices of the units.

    Returns:
        The summaries by unit.
    """
    values = responses.values[:, list(units)]
    names = unit_names(ranks(values), labels)
    return {unit: _summary(responses, labels, values[:, i], names[i]) for i, unit in enumerate(units)}


def _summary(responses: Responses, labels: Labels, values: torch.Tensor, names: Sequence[Name]) -> Summary:
    """Return the name and scores of one unit; none if it responds to all photographs alike."""
    if not bool((values != values[0]).any()):
        return Summary((), None, None, None)
    order = order_of(values).tolist()
    active = int((values > values.min()).sum())  # the others are tied, so that their order means nothing
    score = None
    if len(order) >= 2 * (REFERENCES + 1) and active > REFERENCES:
        strong, weak = split_order(order, REFERENCES + 1)
        score = interpretability(responses.judged[strong], responses.judged[weak])
    count = min(STRONGEST, int(LARGEST_SHARE * len(order)), active)
    if count < MIN_STRONGEST:
        return Summary(tuple(names), score, None, None)
    vectors = responses.judged[order[:count]]
    first = two_clusters(vectors)
    two = polysemanticity(vectors, first)
    facets: tuple[Facet, ...] = ()
    smaller = min(int(first.sum()), count - int(first.sum()))
    if two >= POLYSEMANTIC and smaller >= max(MIN_MEMBERS, MIN_FACET * count):
        facets = tuple(
            _facet([order[i] for i in some.nonzero().flatten().tolist()], labels) for some in (first, ~first)
        )
    return Summary(tuple(names), score, clarity(vectors), two, facets)


def _facet(photographs: Sequence[int], labels: Labels) -> Facet:
    """Return a facet, with the rarer of two labels that are equally frequent in it."""
    if not labels.names:
        return Facet(tuple(photographs), "")
    inside, everywhere = labels.members[:, list(photographs)].sum(1), labels.members.sum(1)
    best = max(range(len(labels.names)), key=lambda i: (int(inside[i]), -int(everywhere[i])))
    return Facet(tuple(photographs), labels.names[best] if inside[best] else "")
