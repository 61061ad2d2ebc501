"""Factorise activations: principal components, k-means and non-negative matrix factorisation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.network.dictionaries import from_centres, from_components

ITERATIONS = 50
"""Largest number of iterations of k-means and of NMF."""
TOLERANCE = 1e-4
"""K-means ends when no centre moves by more than this fraction of the spread of the data."""
PAIRS = 1 << 24
"""Number of distances that are computed at once."""
Rows = Float[Tensor, "n channels"]


def principal_components(rows: Rows, count: int) -> fv.Dictionary:
    """Return the directions of the largest variance, of unit length.

    Args:
        rows: Activations.
        count: Number of components, at most the number of channels.
    """
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = vectors.flip(1).T[:count]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))  # the sign is arbitrary
    return from_components("pca", (components * largest.sign()).float(), mean.float())


def k_means(rows: Rows, count: int, seed: int) -> Float[Tensor, "count channels"]:
    """Return the centres of clusters, by Lloyd's algorithm from centres that are far apart.

    Args:
        rows: Activations.
        count: Number of centres, at most that of rows.
        seed: Seed of the first centres.

    Source: Arthur and Vassilvitskii 2007, k-means++.
    """
    mean = rows.mean(0)
    rows = rows - mean  # distances are differences of squares, which are inexact far from 0
    centres = _first_centres(rows, count, torch.Generator().manual_seed(seed))
    spread = rows.std(0).norm().clamp(min=1e-12)
    for _ in range(ITERATIONS):
        nearest, distance = _nearest(rows, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        sizes = torch.bincount(nearest, minlength=count)
        moved = sums / sizes.clamp(min=1)[:, None]
        empty = (sizes == 0).nonzero().flatten()
        if len(empty):  # an empty cluster starts again at the row that is farthest from its centre
            moved[empty] = rows[distance.topk(len(empty)).indices]
        change = (moved - centres).norm(dim=1).max()
        centres = moved
        if change <= TOLERANCE * spread:
            break
    return centres + mean


def cluster_dictionary(rows: Rows, count: int, seed: int) -> fv.Dictionary:
    """Return the dictionary of k-means."""
    return from_centres(k_means(rows, count, seed))


def nonnegative_factors(rows: Rows, count: int, seed: int) -> fv.Dictionary:
    """Return the atoms >= 0 of non-negative matrix factorisation, of unit length.

    Args:
        rows: Activations, >= 0.
        count: Number of atoms.
        seed: Seed of the first atoms.

    Source: Cichocki and Phan 2009, https://doi.org/10.1587/transfun.E92.A.708, hierarchical alternating least squares.
    """
    # Centres of clusters are a start that is close to the data and differs for each atom.
    atoms = k_means(rows, count, seed).clamp(min=0) + 1e-3 * rows.mean()
    codes = (rows @ atoms.T / atoms.square().sum(1)).clamp(min=0) / count
    for _ in range(ITERATIONS):
        codes = _least_squares_step(codes.T, atoms @ rows.T, atoms @ atoms.T).T
        atoms = _least_squares_step(atoms, codes.T @ rows, codes.T @ codes)
    return from_components("nmf", atoms / atoms.norm(dim=1, keepdim=True).clamp(min=1e-12))


def _least_squares_step(
    factors: Float[Tensor, "k m"], product: Float[Tensor, "k m"], gram: Float[Tensor, "k k"]
) -> Float[Tensor, "k m"]:
    """Set each factor in turn to the best one >= 0 for the others."""
    factors = factors.clone()
    for j in range(len(factors)):
        factors[j] += (product[j] - gram[j] @ factors) / gram[j, j].clamp(min=torch.finfo(gram.dtype).tiny)
        factors[j].clamp_(min=0)
    return factors


def _first_centres(rows: Rows, count: int, generator: torch.Generator) -> Float[Tensor, "count channels"]:
    """Draw centres, each with a probability that grows with the squared distance to those before it."""
    chosen = [int(torch.randint(len(rows), (), generator=generator))]
    distance = (rows - rows[chosen[0]]).square().sum(1)
    for _ in range(count - 1):
        weights = distance if bool(distance.sum() > 0) else torch.ones_like(distance)
        chosen.append(int(_draw(weights, generator)))
        distance = torch.minimum(distance, (rows - rows[chosen[-1]]).square().sum(1))
    return rows[chosen].clone()


def _draw(weights: Float[Tensor, " n"], generator: torch.Generator) -> Tensor:
    """Draw an index by its weight. Unlike `torch.multinomial`, it takes any number of weights."""
    total = weights.double().cumsum(0)
    point = torch.rand((), generator=generator, dtype=torch.float64) * total[-1]
    return torch.searchsorted(total, point, right=True).clamp(max=len(weights) - 1)


def _nearest(rows: Rows, centres: Float[Tensor, "k channels"]) -> tuple[Tensor, Tensor]:
    """Return the index of the nearest centre of each row, and the squared distance."""
    indices, distances = [], []
    for some in rows.split(max(1, PAIRS // len(centres))):
        squared = some.square().sum(1, keepdim=True) - 2 * some @ centres.T + centres.square().sum(1)
        found = squared.min(1)
        indices.append(found.indices)
        distances.append(found.values)
    return torch.cat(indices), torch.cat(distances)
