"""Project activations to the plane, similar ones near each other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch

import featviz as fv
from featviz.apps.shared.activations.ranks import ranks

METHODS = ("umap", "pca", "tsne")
FITTED = 10_000
"""Number of activations that the method itself lays out; the others are placed beside their nearest neighbours."""
NEIGHBOURS = 5
"""Number of nearest neighbours beside which an activation is placed."""
SHARPNESS = 20.0
"""Factor of the cosine similarity in the softmax weights of these neighbours."""
CHUNK = 20_000
"""Number of rows that are read from the disk at once."""
COMPARED = 2_000
"""Number of rows that are compared at once with all fitted ones."""
OUTLIER_PERCENT = 0.5
"""Percentage at each edge that is clipped, since a few outliers would leave little room for the rest."""
RANK_WEIGHT = 0.6
"""Weight of the rank of each coordinate, in [0, 1]. Without it, dense clusters leave most of a page empty."""
PLACE_DIGITS = 5
"""Digits of a coordinate by which its rank is told."""
AXES = 64
"""Number of principal axes along which similarity is measured."""
PURITY_SAMPLE = 5000
"""Number of activations, drawn at random, from which purity is estimated."""


class Rows(Protocol):
    """Rows of numbers that are read when they are indexed."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read some of them."""


def lay_out(vectors: Rows, method: str, seed: int) -> np.ndarray:
    """Lay activations out in the unit square.

    At most `FITTED` activations are laid out by the method, by cosine distance along their principal axes. The others
    are placed at the weighted mean position of their nearest neighbours among these. Coordinates are then clipped at
    outliers and moved towards their ranks, which spreads dense clusters.

    Args:
        vectors: The activations, (rows, channels), in memory or on the disk.
        method: One of `METHODS`.
        seed: Seed of the layout, in [0, 2**32).

    Returns:
        Position of each activation, (rows, 2), in [0, 1].

    Raises:
        SettingError: There is no such method, or it is not installed.
    """
    check_method(method)
    rows = len(vectors)
    generator = np.random.default_rng(seed)
    sample = np.sort(generator.choice(rows, FITTED, replace=False)) if rows > FITTED else np.arange(rows)
    axes = _principal_axes(_normalise(np.asarray(vectors[sample], np.float32)))
    fitted = _normalise(np.asarray(vectors[sample], np.float32)) @ axes
    plane = _fit(fitted, method, seed)
    if rows > FITTED:
        placed = np.empty((rows, 2), np.float32)
        for first in range(0, rows, CHUNK):
            chunk = _normalise(np.asarray(vectors[first : first + CHUNK], np.float32)) @ axes
            placed[first : first + CHUNK] = _place_beside(chunk, fitted, plane)
        placed[sample] = plane
        plane = placed
    low, high = np.percentile(plane, [OUTLIER_PERCENT, 100 - OUTLIER_PERCENT], axis=0)
    plane = ((plane - low) / np.maximum(high - low, 1e-9)).clip(0, 1)
    # Rounded, so that equal activations have one rank, and lie at one place.
    places = (ranks(torch.from_numpy(plane.round(PLACE_DIGITS))) - 1).numpy() / max(1, rows - 1)
    return (plane + RANK_WEIGHT * (places - plane)).astype(np.float32)


def check_method(method: str) -> None:
    """Check that a layout method exists and is installed.

    Args:
        method: Name of the method.

    Raises:
        SettingError: There is no such method, or a package that it needs is not installed.
    """
    if method not in METHODS:
        raise fv.SettingError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if find_spec({"umap": "umap", "tsne": "sklearn"}.get(method, "numpy")) is None:
        raise fv.SettingError(f"method {method!r} is not installed; run: pip install 'featviz[atlas]', or give 'pca'")


def purity(plane: np.ndarray, labels: np.ndarray, numbers: np.ndarray) -> float | None:
    """Return how often the nearest neighbour in the plane has the same label.

    Args:
        plane: Positions, (rows, 2).
        labels: Label of each row.
        numbers: Index of each row's photograph. Rows of the same photograph do not count as neighbours.

    Returns:
        The share, in [0, 1], estimated from at most `PURITY_SAMPLE` rows; `None` for one photograph.
    """
    sample = np.random.default_rng(0).permutation(len(plane))[:PURITY_SAMPLE]
    plane, labels, numbers = plane[sample], labels[sample], numbers[sample]
    same = count = 0
    for first in range(0, len(plane), 1000):
        distances = ((plane[first : first + 1000, None] - plane[None]) ** 2).sum(2)
        distances[numbers[first : first + 1000, None] == numbers[None]] = np.inf
        has_neighbour = np.isfinite(distances.min(1))
        same += (has_neighbour & (labels[distances.argmin(1)] == labels[first : first + 1000])).sum()
        count += has_neighbour.sum()
    return float(same) / count if count else None


def _fit(vectors: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Lay vectors out by a method. Too few of them are laid out along their first two axes."""
    if method == "pca" or len(vectors) < 4 or vectors.shape[1] < 2:
        plane = np.zeros((len(vectors), 2), np.float32)
        plane[:, : min(2, vectors.shape[1])] = vectors[:, :2]
        return plane
    if method == "tsne":
        from sklearn.manifold import TSNE

        tsne = TSNE(perplexity=min(30, (len(vectors) - 1) / 3), init="pca", random_state=seed)
        return np.asarray(tsne.fit_transform(vectors), np.float32)
    with _undisturbed_process():
        import umap

        # n_jobs=1: in parallel UMAP is not reproducible.
        model = umap.UMAP(min(20, len(vectors) - 1), min_dist=0.3, metric="cosine", random_state=seed, n_jobs=1)
        return np.asarray(model.fit_transform(vectors), np.float32)


@contextmanager
def _undisturbed_process() -> Iterator[None]:
    """Keep PyTorch's number of threads, and the state of Python's random numbers.

    Numba, which UMAP uses, sets the number of OpenMP threads of the whole process. With more threads than were allowed,
    everything that follows takes several times as long beside other work. Importing UMAP draws random numbers.
    """
    threads, state = torch.get_num_threads(), random.getstate()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)


def _normalise(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of unit norm."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _principal_axes(vectors: np.ndarray) -> np.ndarray:
    """Return the eigenvectors of the covariance with the largest eigenvalues, (channels, axes)."""
    covariance = np.cov(vectors, rowvar=False).reshape(vectors.shape[1], vectors.shape[1])
    return np.linalg.eigh(covariance)[1][:, ::-1][:, :AXES].astype(np.float32)


def _place_beside(vectors: np.ndarray, fitted: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Place vectors at the mean position of their nearest neighbours by cosine similarity, weighted by softmax."""
    placed = np.empty((len(vectors), 2), np.float32)
    known, positions = torch.from_numpy(_normalise(fitted)).T, torch.from_numpy(plane)
    for first in range(0, len(vectors), COMPARED):
        similarity = torch.from_numpy(_normalise(vectors[first : first + COMPARED])) @ known
        nearest = similarity.topk(min(NEIGHBOURS, len(fitted)), dim=1)
        weights = (SHARPNESS * (nearest.values - 1)).softmax(1)
        placed[first : first + COMPARED] = (positions[nearest.indices] * weights[..., None]).sum(1).numpy()
    return placed
