"""Where activations lie in the plane: like ones near one another."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch

import featviz as fv

METHODS = ("umap", "pca", "tsne")
FITTED = 10_000
"""So many activations are laid out; the rest are put beside those that they are most like."""
NEIGHBOURS = 5
"""Beside so many."""
CHUNK = 20_000
"""Rows that are worked on at once."""
COMPARED = 2_000
"""Rows that are compared with all that are laid out at once."""
OUTLIERS = 0.5
"""Per cent at each edge that are clipped to it: a few far ones would leave the rest no room."""
EVEN = 0.6
"""How far each coordinate is moved towards its rank: tight clumps would leave most of the page empty."""
AXES = 64
"""Main axes along which likeness is measured."""


class Rows(Protocol):
    """Rows of numbers, read when they are asked for."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, which: Any) -> np.ndarray:
        """Read some of them."""


def lay_out(vectors: Rows, method: str, seed: int) -> np.ndarray:
    """Lay activations out in the unit square.

    Args:
        vectors: (rows, channels), on the disk if need be.
        method: one of `METHODS`.
        seed: of chance in the layout.

    Returns:
        (rows, 2) in [0, 1].

    Raises:
        SettingError: there is no such method, or it is not installed.
    """
    check_method(method)
    rows = len(vectors)
    chance = np.random.default_rng(seed)
    some = np.sort(chance.choice(rows, FITTED, replace=False)) if rows > FITTED else np.arange(rows)
    axes = _axes(_unit(np.asarray(vectors[some], np.float32)))
    fitted = _unit(np.asarray(vectors[some], np.float32)) @ axes
    plane = _fit(fitted, method, seed)
    if rows > FITTED:
        placed = np.empty((rows, 2), np.float32)
        for first in range(0, rows, CHUNK):
            chunk = _unit(np.asarray(vectors[first : first + CHUNK], np.float32)) @ axes
            placed[first : first + CHUNK] = _beside(chunk, fitted, plane)
        placed[some] = plane
        plane = placed
    low, high = np.percentile(plane, [OUTLIERS, 100 - OUTLIERS], axis=0)
    plane = ((plane - low) / np.maximum(high - low, 1e-9)).clip(0, 1)
    ranks = plane.argsort(0, kind="stable").argsort(0, kind="stable") / max(1, rows - 1)
    return (plane + EVEN * (ranks - plane)).astype(np.float32)


def check_method(method: str) -> None:
    """Make sure that there is such a layout, and what it needs.

    Raises:
        SettingError: there is not.
    """
    if method not in METHODS:
        raise fv.SettingError(f"no layout {method!r}; give {', '.join(METHODS)}")
    if find_spec({"umap": "umap", "tsne": "sklearn"}.get(method, "numpy")) is None:
        raise fv.SettingError(f"{method} is not installed; run: pip install 'featviz[atlas]', or give pca")


def purity(plane: np.ndarray, labels: np.ndarray, numbers: np.ndarray, most: int = 5000) -> float:
    """Return how often the nearest neighbour in the plane has the same label, as a share.

    Args:
        plane: where they lie.
        labels: their labels.
        numbers: of what they are from; what is from the same is no neighbour.
        most: so many, drawn by lot, are looked at.
    """
    some = np.random.default_rng(0).permutation(len(plane))[:most]
    plane, labels, numbers = plane[some], labels[some], numbers[some]
    right = 0
    for first in range(0, len(plane), 1000):
        far = ((plane[first : first + 1000, None] - plane[None]) ** 2).sum(2)
        far[numbers[first : first + 1000, None] == numbers[None]] = np.inf
        right += (labels[far.argmin(1)] == labels[first : first + 1000]).sum()
    return float(right) / max(1, len(plane))


def _fit(vectors: np.ndarray, method: str, seed: int) -> np.ndarray:
    if method == "pca" or len(vectors) < 4 or vectors.shape[1] < 2:
        plane = np.zeros((len(vectors), 2), np.float32)
        plane[:, : min(2, vectors.shape[1])] = vectors[:, :2]
        return plane
    if method == "tsne":
        from sklearn.manifold import TSNE

        found = TSNE(perplexity=min(30, (len(vectors) - 1) / 3), init="pca", random_state=seed)
        return np.asarray(found.fit_transform(vectors), np.float32)
    import umap

    found = umap.UMAP(n_neighbors=min(20, len(vectors) - 1), min_dist=0.3, metric="cosine", random_state=seed, n_jobs=1)
    return np.asarray(found.fit_transform(vectors), np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _axes(vectors: np.ndarray) -> np.ndarray:
    """Return the main axes of what is not the same in all."""
    moment = np.cov(vectors, rowvar=False).reshape(vectors.shape[1], vectors.shape[1])
    return np.linalg.eigh(moment)[1][:, ::-1][:, :AXES].astype(np.float32)


def _beside(vectors: np.ndarray, known: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Put each where those that it is most like are, nearer to the more alike."""
    found = np.empty((len(vectors), 2), np.float32)
    among, where = torch.from_numpy(_unit(known)).T, torch.from_numpy(plane)
    for first in range(0, len(vectors), COMPARED):
        alike = torch.from_numpy(_unit(vectors[first : first + COMPARED])) @ among
        nearest = alike.topk(min(NEIGHBOURS, len(known)), dim=1)
        weights = (20 * (nearest.values - 1)).softmax(1)
        found[first : first + COMPARED] = (where[nearest.indices] * weights[..., None]).sum(1).numpy()
    return found
