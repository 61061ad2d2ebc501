"""Statistics of the responses of units to photographs: ranks, AUROC, interpretability, clarity, polysemanticity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from featviz.apps.shared.activations.ranks import ranks

REFERENCES = 9
"""Number of positive and of negative references of a choice."""
MIN_MEMBERS = 2
"""Smallest number of photographs of a facet. A single one is an outlier."""
MAX_ROUNDS = 50
"""Largest number of rounds of k-means."""
COMPARED_ALONE = 10
"""Number of photographs that are compared with the mean where one of the two clusters is an outlier."""


def percentiles(responses: Float[Tensor, "n units"]) -> Float[Tensor, "n units"]:
    """Return, for each photograph, the share of the others to which each unit responds less; ties count half.

    >>> percentiles(torch.tensor([[3.0], [1.0], [3.0]])).flatten().tolist()
    [0.75, 0.0, 0.75]
    """
    return (ranks(responses) - 1) / max(1, len(responses) - 1)


def auroc(ranked: Float[Tensor, "n units"], members: Bool[Tensor, "labels n"]) -> Float[Tensor, "labels units"]:
    """Return how well the response of each unit tells the photographs of a label from all others.

    This is the area under the ROC curve: the probability that a photograph with the label gets a larger response than
    one without, where ties count half.

    Args:
        ranked: Ranks of the photographs, from `ranks`.
        members: Which photographs have each label. At least one must have it, and one not.

    Returns:
        The areas, in [0, 1]; 0.5 is chance.

    Source: Mann and Whitney 1947: the sum of ranks gives the area.
    """
    having = members.sum(1, keepdim=True).double()
    total = members.double() @ ranked.double()
    return ((total - having * (having + 1) / 2) / (having * (len(ranked) - having))).float()


def interpretability(strongest: Float[Tensor, "k features"], weakest: Float[Tensor, "k features"]) -> float:
    """Return the machine interpretability score (MIS): accuracy in choosing the strong one of two photographs.

    Each choice is between one of the strongest photographs and one of the weakest, with the others as references. The
    machine takes the one that is more similar to the strong references than to the weak ones. There is a choice for
    each pair.

    Args:
        strongest: Features of the photographs with the largest responses, k >= 2: one query and k - 1 references.
        weakest: Features of those with the smallest.

    Returns:
        The share of right choices, in [0, 1]; ties count half, and 0.5 is chance.

    Source: Zimmermann et al. 2024, https://arxiv.org/abs/2405.08366, and the human task of Zimmermann et al. 2021.
    Differs: a choice counts 0, 1/2 or 1 instead of a sigmoid that was fitted to answers of humans.
    """
    both = normalize(torch.cat([strongest, weakest]).double(), dim=1)
    similar, k = both @ both.T, len(strongest)
    # Similarity of each photograph to all k of a side, of which the query itself, and nothing else, is left out.
    to_strong, to_weak = similar[:, :k].sum(1), similar[:, k:].sum(1)
    own = similar.diagonal()
    near_strong = (to_strong[:k] - own[:k]) / (k - 1)  # of each strong query, to the strong references
    near_weak = (to_weak[k:] - own[k:]) / (k - 1)
    # The other query of a choice is no reference, either.
    cross = similar[:k, k:]
    strong_to_weak = (to_weak[:k, None] - cross) / (k - 1)
    weak_to_strong = (to_strong[None, k:] - cross) / (k - 1)
    lead = (near_strong[:, None] - strong_to_weak) - (weak_to_strong - near_weak[None])
    lead = torch.where(lead.abs() < 1e-9, 0.0, lead)  # equal photographs differ by rounding
    return ((lead.sign() + 1) / 2).mean().item()


def clarity(vectors: Float[Tensor, "n features"]) -> float:
    """Return how alike vectors are: the mean cosine of all pairs, in [-1 / (n - 1), 1].

    Args:
        vectors: At least two.

    Source: SemanticLens, semanticlens/scores.py, `clarity_score` (Dreyer et al. 2025,
        https://doi.org/10.1038/s42256-025-01084-w).
    """
    # The squared length of the mean is the mean of all n² cosines, of which n are 1.
    units, n = normalize(vectors.double(), dim=1), len(vectors)
    return ((units.mean(0).square().sum() - 1 / n) * n / (n - 1)).item()


def two_clusters(vectors: Float[Tensor, "n features"]) -> Bool[Tensor, " n"]:
    """Split vectors in two by k-means of their directions, and return which belong to the cluster of the first one.

    k-means starts once from each vector and the one that is least similar to it; the split with the smallest squared
    distances is returned. Nothing is random.

    Args:
        vectors: At least two.
    """
    points = normalize(vectors.double(), dim=1)
    similar = points @ points.T
    best, least = torch.ones(len(points), dtype=torch.bool), float("inf")
    for first, other in enumerate(similar.argmin(1).tolist()):
        centers = points[[first, other]]
        assigned = torch.cdist(points, centers).argmin(1)
        for _ in range(MAX_ROUNDS):
            present = [points[assigned == k] for k in (0, 1)]
            centers = torch.stack([some.mean(0) if len(some) else centers[k] for k, some in enumerate(present)])
            before, assigned = assigned, torch.cdist(points, centers).argmin(1)
            if torch.equal(before, assigned):
                break
        distance = (points - centers[assigned]).square().sum().item()
        if distance < least - 1e-12:
            best, least = assigned == assigned[0], distance
    return best


def polysemanticity(vectors: Float[Tensor, "n features"], first: Bool[Tensor, " n"]) -> float:
    """Return how unlike the two clusters of a unit's strongest photographs are: 1 - cosine of their centres.

    Where a cluster has one photograph only, there is one meaning and an outlier: the score is then 1 - the mean cosine
    of the centre of all photographs and each of the first ten.

    Args:
        vectors: Features of the photographs, at least two.
        first: Which vectors are in the first cluster, from `two_clusters`.

    Returns:
        0 for one meaning, 1 for two that have nothing in common, at most 2.

    Source: SemanticLens, semanticlens/scores.py, `polysemanticity_score`. The clarity of two vectors is their cosine.
    Differs: vectors have unit length before they are clustered, and k-means is not random.
    """
    points = normalize(vectors.double(), dim=1)
    if min(int(first.sum()), int((~first).sum())) < MIN_MEMBERS:
        center = points.mean(0)
        some = points[:COMPARED_ALONE]
        return 1 - sum(clarity(torch.stack([center, point])) for point in some) / len(some)
    return 1 - clarity(torch.stack([points[first].mean(0), points[~first].mean(0)]))


def combined(members: Bool[Tensor, "labels n"], one: int, other: int, how: str) -> Bool[Tensor, " n"]:
    """Return which photographs a combination of two labels describes.

    Args:
        members: Which photographs have each label.
        one: Index of the first label.
        other: Index of the second label.
        how: `"AND"`, `"OR"` or `"AND NOT"`.
    """
    if how == "OR":
        return members[one] | members[other]
    return members[one] & (members[other] if how == "AND" else ~members[other])


def split_order(order: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Return the first and the last of a ranking, at most half of it each.

    >>> split_order([4, 2, 0, 1, 3], 9)
    ([4, 2], [1, 3])
    """
    count = min(count, len(order) // 2)
    return list(order[:count]), list(order[len(order) - count :])


def order_of(responses: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return the photographs from the largest to the smallest response; ties in the order of the folder."""
    return responses.argsort(descending=True, stable=True)
