"""Name units by labels of the photographs that they respond to, and by combinations of two labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featviz.apps.units.labels import MIN_PHOTOGRAPHS, Labels
from featviz.apps.units.statistics import auroc, combined

CANDIDATES = 8
"""Number of labels with the largest and with the smallest AUROC that are combined in pairs."""
MIN_GAIN = 0.015
"""A combination of two labels must have an AUROC that is larger by this than that of the best single label.

A unit that responds to two of 27 equally frequent labels alike gains 0.018 by their OR; of more labels, it gains less
and keeps the name of one.
"""
MAX_CHANCE = 0.05
"""Largest probability that a unit that responds at random gets a name."""
MIN_NOT_GAIN = 0.05
"""As `MIN_GAIN`, for the NOT of a label, which describes almost all photographs and says little about the unit."""


@dataclass(frozen=True)
class Name:
    """A label, or a combination of two, that tells which photographs a unit responds to.

    Args:
        text: The label, `NOT label`, or two labels joined by `AND`, `OR` or `AND NOT`.
        auroc: Probability that a photograph that it describes gets a larger response than another, in [0, 1].
        count: Number of photographs that it describes.
        labels: Index of the label, or of the two labels.
        how: `""` for a label, `"NOT"`, `"AND"`, `"OR"` or `"AND NOT"`.
    """

    text: str
    auroc: float
    count: int
    labels: tuple[int, ...]
    how: str = ""

    def members(self, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which photographs it describes.

        Args:
            labels: Labels of the photographs.
        """
        first = labels.members[self.labels[0]]
        if len(self.labels) == 2:
            return combined(labels.members, *self.labels, self.how)
        return ~first if self.how == "NOT" else first


def unit_names(ranked: Float[Tensor, "n units"], labels: Labels, shown: int = 5) -> list[list[Name]]:
    """Return names of each unit: the best one first, then the single labels with the largest AUROC.

    The best one is a single label, unless a combination has an AUROC that is clearly larger.

    Args:
        ranked: Ranks of the photographs, from `ranks`.
        labels: Labels of the photographs.
        shown: Largest number of names of a unit.

    Returns:
        The names; none where there are no labels, or so few photographs that the best name may be due to chance.

    Source: INVERT, Bykov et al. 2023, https://arxiv.org/abs/2311.13594, AUROC of logical combinations of labels.
    Differs: at most two labels, and a combination must gain a fixed amount.
    """
    if not labels.names:
        return [[] for _ in range(ranked.shape[1])]
    areas = auroc(ranked, labels.members)
    return [_names(ranked[:, unit], areas[:, unit], labels, shown) for unit in range(ranked.shape[1])]


def _names(ranked: Float[Tensor, " n"], areas: Float[Tensor, " labels"], labels: Labels, shown: int) -> list[Name]:
    """Return the names of one unit; see `unit_names`."""
    counts = labels.members.sum(1).tolist()
    order = areas.argsort(descending=True, stable=True).tolist()
    single = [Name(labels.names[i], areas[i].item(), counts[i], (i,)) for i in order[:shown]]
    last = order[-1]
    best = single[0]
    if 1 - areas[last].item() > best.auroc + MIN_NOT_GAIN:
        text, others = f"NOT {labels.names[last]}", len(ranked) - counts[last]
        best = Name(text, 1 - areas[last].item(), others, (last,), "NOT")
    pair = _best_pair(ranked, order, labels)
    if pair is not None and pair.auroc > best.auroc + MIN_GAIN:
        best = pair
    # Bonferroni: single labels with their NOT, and pairs, are two families of tests; each gets half of the chance.
    tried = 2 * len(labels.names) if len(best.labels) == 1 else len(_pairs(order))
    if not _is_sure(best, len(ranked), 2 * tried):
        return []
    return [best, *(name for name in single if name != best)][:shown]


def _is_sure(name: Name, photographs: int, tried: int) -> bool:
    """Whether the AUROC of a name is larger than by chance, given how many names were tried (Bonferroni).

    Of photographs in random order, the AUROC of m among n is about normally distributed around 1/2, with a variance of
    (n + 1) / (12 m (n - m)), as the Mann-Whitney U.
    """
    others = photographs - name.count
    if not name.count or not others:
        return False
    deviation = math.sqrt((photographs + 1) / (12 * name.count * others))
    chance = math.erfc((name.auroc - 0.5) / deviation / math.sqrt(2)) / 2
    return chance * tried < MAX_CHANCE


def _pairs(order: list[int]) -> list[tuple[int, int, str]]:
    """Return the combinations of two labels that are tried, given the labels by descending AUROC."""
    high, low = order[:CANDIDATES], order[-CANDIDATES:]
    pairs = [(one, other, how) for i, one in enumerate(high) for other in high[i + 1 :] for how in ("AND", "OR")]
    return pairs + [(one, other, "AND NOT") for one in high for other in dict.fromkeys([*high, *low]) if one != other]


def _best_pair(ranked: Float[Tensor, " n"], order: list[int], labels: Labels) -> Name | None:
    """Return the combination of two labels with the largest AUROC; `None` where there is none."""
    pairs = _pairs(order)
    if not pairs:
        return None
    members = torch.stack([combined(labels.members, *pair) for pair in pairs])
    counts = members.sum(1)
    own = labels.members.sum(1)[torch.tensor([pair[:2] for pair in pairs])]
    usable = (counts >= MIN_PHOTOGRAPHS) & (counts <= len(ranked) - MIN_PHOTOGRAPHS)
    usable &= (counts[:, None] != own).all(1)  # else the combination is one of the labels
    if not usable.any():
        return None
    areas = auroc(ranked[:, None], members[usable])[:, 0]
    best = int(areas.argmax())
    one, other, how = pairs[usable.nonzero().flatten()[best]]
    text = f"{labels.names[one]} {how} {labels.names[other]}"
    return Name(text, areas[best].item(), int(counts[usable][best]), (one, other), how)
