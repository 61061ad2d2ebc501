"""Measure dictionaries: explained variance, sparsity, dead features and stability."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

import featviz as fv
from featviz.apps.dictionaries.activations import CollectedActivations

CHUNK = 4096
"""Number of rows that are encoded at once."""
ZERO = 1e-6
"""Codes up to this fraction of the largest absolute value of their position count as 0."""


@torch.no_grad()
def measured(dictionary: fv.Dictionary, data: CollectedActivations, first_held_out: int) -> dict[str, float]:
    """Measure explained variance, L0 and the share of dead features.

    Args:
        dictionary: The dictionary.
        data: Activations of its layer.
        first_held_out: Index of the first row that it was not fitted to; with none left, all rows are used.

    Returns:
        `explained_variance`: 1 - squared error / variance, on rows that it was not fitted to; 1 is perfect. It is 0 for
        activations that are all equal.
        `l0`: mean number of codes that are not 0 at a position. `dead`: share of features that are 0 in all rows.
    """
    held_out = range(first_held_out if first_held_out < data.rows else 0, data.rows)
    mean = torch.stack([rows.double().sum(0) for rows in _chunks(data, held_out)]).sum(0) / len(held_out)
    error = variance = active = 0.0
    for rows in _chunks(data, held_out):
        codes = dictionary.encode(rows)
        error += (dictionary.decode(codes) - rows).double().square().sum().item()
        variance += (rows - mean).double().square().sum().item()
        active += _is_active(codes).sum().item()
    alive = torch.zeros(dictionary.features, dtype=torch.bool)
    for rows in _chunks(data, range(data.rows)):
        alive |= _is_active(dictionary.encode(rows)).any(0)
        if bool(alive.all()):
            break
    return {
        "explained_variance": 1 - error / variance if variance else 0.0,
        "l0": active / len(held_out),
        "dead": 1 - alive.float().mean().item(),
    }


def stability(one: fv.Dictionary, other: fv.Dictionary) -> float:
    """Return how alike the atoms of two dictionaries are: the mean cosine of the best one-to-one pairs, taken greedily.

    Args:
        one: A dictionary.
        other: Another one with as many features, such as one with another seed.

    Source: Fel et al. 2025, https://arxiv.org/abs/2502.12892, section 3, stability.
    Differs: pairs are chosen greedily instead of by the Hungarian algorithm, which gives a lower bound.
    """
    cosines = _directions(one) @ _directions(other).T
    found = []
    for _ in range(len(cosines)):
        row, column = divmod(int(cosines.argmax()), cosines.shape[1])
        found.append(cosines[row, column].item())
        cosines[row], cosines[:, column] = -2.0, -2.0
    return sum(found) / len(found)


def _directions(dictionary: fv.Dictionary) -> Float[Tensor, "features channels"]:
    """Return the atoms with length 1."""
    assert dictionary.decoder is not None, "every dictionary has one once it is made"
    return F.normalize(dictionary.decoder, dim=1)


def _is_active(codes: Float[Tensor, "n features"]) -> Bool[Tensor, "n features"]:
    return codes.abs() > ZERO * codes.abs().amax(1, keepdim=True)


def _chunks(data: CollectedActivations, rows: range) -> Iterator[Float[Tensor, "n channels"]]:
    for start in range(rows.start, rows.stop, CHUNK):
        yield data.take(torch.arange(start, min(start + CHUNK, rows.stop)))
