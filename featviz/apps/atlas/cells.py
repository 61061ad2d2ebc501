"""A grid over the plane: what lies in each cell, on average."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featviz.apps.atlas.collect import Collected
from featviz.apps.atlas.layout import CHUNK

SHOWN = 5
"""Classes that are told of a cell."""
LINKED = 60
"""Photographs that are kept of a cell, to find it again in another layer."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the grid.

    Args:
        x: its column.
        y: its row.
        count: activations in it.
        mean: of them.
        classes: of those that their photographs were taken for, what they add most to, and how much on average.
        photographs: numbers of some that fell into it, spread over all of them.
    """

    x: int
    y: int
    count: int
    mean: np.ndarray
    classes: tuple[tuple[int, float], ...]
    photographs: tuple[int, ...]


def cells_of(collected: Collected, plane: np.ndarray, kept: np.ndarray, side: int, least: int) -> list[Cell]:
    """Find the cells that hold enough, the most populated first.

    Args:
        collected: the activations.
        plane: where the kept ones lie, in the unit square.
        kept: which rows those are.
        side: cells along a side of the grid.
        least: activations that a cell needs.
    """
    where = np.minimum((plane * side).astype(np.int64), side - 1)
    index = where[:, 1] * side + where[:, 0]
    counts = np.bincount(index, minlength=side * side)
    sums = np.zeros((side * side, collected.channels))
    vectors = collected.vectors
    for first in range(0, len(kept), CHUNK):
        np.add.at(sums, index[first : first + CHUNK], np.asarray(vectors[kept[first : first + CHUNK]], np.float64))
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(side * side + 1))
    found = []
    for cell in np.argsort(-counts, kind="stable"):
        if counts[cell] < least:
            break
        rows = kept[order[starts[cell] : starts[cell + 1]]]
        some = rows[:: max(1, len(rows) // 5000)]  # enough to tell classes by
        numbers = list(dict.fromkeys(np.asarray(collected.numbers[some])[:, 0].tolist()))
        found.append(
            Cell(
                int(cell % side),
                int(cell // side),
                int(counts[cell]),
                (sums[cell] / counts[cell]).astype(np.float32),
                _classes(np.asarray(collected.labels[some]), np.asarray(collected.shares[some])),
                tuple(numbers[:: max(1, len(numbers) // LINKED)][:LINKED]),
            )
        )
    return found


def _classes(labels: np.ndarray, shares: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Sum up what rows add to each class, and name those that get most."""
    if not labels.size:
        return ()
    totals: dict[int, float] = {}
    for label in np.unique(labels):
        totals[int(label)] = float(shares[labels == label].sum() / len(labels))
    first = sorted(totals.items(), key=lambda pair: -pair[1])[:SHOWN]
    return tuple((label, total) for label, total in first if total > 0)
