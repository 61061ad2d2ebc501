"""Divide the plane of an atlas into cells, and average the activations of each cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featviz.apps.atlas.collect import Collected
from featviz.apps.shared.activations.projection import CHUNK

CLASSES_PER_CELL = 5
"""Number of classes that are listed for a cell."""
PHOTOGRAPHS_PER_CELL = 60
"""Number of photographs that are stored for a cell, by which it is found in the atlas of another layer."""
CLASS_SAMPLE = 5000
"""Approximate number of activations of a cell from which its classes are estimated."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of a grid over the plane.

    Args:
        x: Its column.
        y: Its row.
        count: Number of activations in it.
        mean: Their mean, (channels,).
        classes: Index of the classes to which they contribute most, and their mean contribution to the logit.
        photographs: Indices of photographs that they are from, spread evenly over all of them.
    """

    x: int
    y: int
    count: int
    mean: np.ndarray
    classes: tuple[tuple[int, float], ...]
    photographs: tuple[int, ...]


def cells_of(collected: Collected, plane: np.ndarray, kept: np.ndarray, side: int, least: int) -> list[Cell]:
    """Return the cells of a grid that hold enough activations, the fullest first.

    Args:
        collected: The activations.
        plane: Position of each activation that is laid out, (rows, 2), in [0, 1].
        kept: Rows of these activations.
        side: Number of cells along a side of the grid, >= 1.
        least: Number of activations that a cell needs, >= 1.

    Returns:
        The cells.
    """
    columns_rows = np.minimum((plane * side).astype(np.int64), side - 1)
    index = columns_rows[:, 1] * side + columns_rows[:, 0]
    counts = np.bincount(index, minlength=side * side)
    sums = np.zeros((side * side, collected.channels))
    vectors = collected.vectors
    for first in range(0, len(kept), CHUNK):
        # `add.at` adds repeated indices one by one, where `sums[index] += …` would keep only the last of them.
        np.add.at(sums, index[first : first + CHUNK], np.asarray(vectors[kept[first : first + CHUNK]], np.float64))
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(side * side + 1))
    found = []
    for cell in np.argsort(-counts, kind="stable"):
        if counts[cell] < least:
            break
        rows = kept[order[starts[cell] : starts[cell + 1]]]
        sample = rows[:: max(1, len(rows) // CLASS_SAMPLE)]
        numbers = list(dict.fromkeys(np.asarray(collected.numbers[sample])[:, 0].tolist()))
        found.append(
            Cell(
                int(cell % side),
                int(cell // side),
                int(counts[cell]),
                np.ldexp(sums[cell] / counts[cell], collected.exponent).astype(np.float32),
                _top_classes(np.asarray(collected.labels[sample]), np.asarray(collected.shares[sample])),
                tuple(numbers[:: max(1, len(numbers) // PHOTOGRAPHS_PER_CELL)][:PHOTOGRAPHS_PER_CELL]),
            )
        )
    return found


def _top_classes(labels: np.ndarray, shares: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Return the classes with the highest mean contribution over rows, if positive, and that contribution."""
    if not labels.size:
        return ()
    means: dict[int, float] = {}
    for label in np.unique(labels):
        means[int(label)] = float(shares[labels == label].sum() / len(labels))
    top = sorted(means.items(), key=lambda pair: -pair[1])[:CLASSES_PER_CELL]
    return tuple((label, mean) for label, mean in top if mean > 0)
