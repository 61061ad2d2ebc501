"""Cut a large view into overlapping tiles, and blend their gradients so that no seam shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size
from featviz.network.execution import MIN_TILE
from featviz.param.windows import outer

OVERLAP = MIN_TILE // 2
"""Smallest overlap of neighbouring tiles in px, before alignment; half of the tile for smaller tiles."""
ALIGN = 32
"""Tiles start at multiples of this many px where possible, so that strides fall as they would on the whole view."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A rectangle of a view; of a signal, an interval, and of a volume, a box.

    Args:
        part: Where it lies along each axis of the view, as rows and columns.
        weights: Weight of this tile's gradient at each pixel. The weights of all tiles add up to 1.
    """

    part: tuple[slice, ...]
    weights: Float[Tensor, "*size"]

    def cut(self, views: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size2"]:
        """Return this rectangle of the views."""
        whole: tuple[Any, ...] = (..., *self.part)
        return views[whole]


def tile_size(size: Size, max_tile: int | None) -> Size:
    """Return the size of the tiles of a view: all of one size, no larger than needed.

    Args:
        size: Length of each axis of the view in px, as height and width.
        max_tile: Largest side of a tile in px; `None` for the whole view.
    """
    if max_tile is None:
        return size
    return tuple(min(side, _shortest(side, max(max_tile, MIN_TILE))) for side in size)


def tiles(size: Size, tile: Size) -> list[Tile]:
    """Cover a view of a size with overlapping tiles of one size."""
    spans = [_spans(side, length) for side, length in zip(size, tile, strict=True)]
    # Columns change fastest.
    return [Tile(tuple(part for part, _ in along), outer([each for _, each in along])) for along in product(*spans)]


def _overlap(length: int) -> int:
    return min(OVERLAP, length // 2)


def _count(side: int, length: int) -> int:
    """Return how many tiles of a length cover a side."""
    overlap = _overlap(length)
    return 1 if length >= side else -(-(side - overlap) // (length - overlap))


def _shortest(side: int, max_length: int) -> int:
    """Return the shortest length, a multiple of `ALIGN`, that covers a side with the least number of tiles."""
    count = _count(side, max_length)
    return min(max_length, -(-(side + (count - 1) * OVERLAP) // (count * ALIGN)) * ALIGN)


def _spans(side: int, length: int) -> list[tuple[slice, Float[Tensor, " length"]]]:
    """Return where each tile lies along a side, and its weights: linear ramps over the overlaps.

    A single tile is the whole side, however long it is: transforms may draw the size of each view.
    """
    count = _count(side, length)
    if count == 1:
        return [(slice(None), torch.ones(side))]
    overlap = _overlap(length)
    align = min(ALIGN, overlap)
    # Evenly spaced, then rounded to the alignment; the last tile ends with the view.
    starts = [min(round(i * (side - length) / (count - 1) / align) * align, side - length) for i in range(count)]
    starts[-1] = side - length
    # Each tile's weight rises linearly over its overlap with the previous tile and falls over that with the next, so
    # gradients cross-fade and no seam shows. Dividing by the sum makes the weights of each pixel add up to 1, also
    # where alignment made an overlap wider than `overlap`.
    weights = torch.zeros(count, side)
    for row, start in zip(weights, starts, strict=True):
        ramp = torch.arange(1, length + 1)
        rising = ramp if start else torch.full_like(ramp, overlap)  # no ramp at the edges of the view
        falling = ramp.flip(0) if start + length < side else torch.full_like(ramp, overlap)
        row[start : start + length] = torch.minimum(rising, falling).clamp(max=overlap)
    weights /= weights.sum(0)
    parts = [slice(start, start + length) for start in starts]
    return [(part, row[part]) for row, part in zip(weights, parts, strict=True)]
