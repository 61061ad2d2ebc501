"""Cut a large view into overlapping tiles, and blend their gradients so that no seam shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size
from featviz.network.execution import MIN_TILE

OVERLAP = MIN_TILE // 2
"""Smallest overlap of neighbouring tiles in px, before alignment; half of the tile for smaller tiles."""
ALIGN = 32
"""Tiles start at multiples of this many px where possible, so that strides fall as they would on the whole view."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A rectangle of a view.

    Args:
        rows: Rows of the view.
        columns: Columns of the view.
        weights: Weight of this tile's gradient at each pixel. The weights of all tiles add up to 1.
    """

    rows: slice
    columns: slice
    weights: Float[Tensor, "h w"]

    def cut(self, views: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Return this rectangle of the views."""
        return views[..., self.rows, self.columns]


def tile_size(view: Size, max_tile: int | Size | None) -> Size:
    """Return the size of the tiles of a view: all of one size, no larger than needed.

    Args:
        view: Height and width of the view in px.
        max_tile: Largest side of a tile in px; or the exact height and width; `None` for the whole view.
    """
    if max_tile is None:
        return view
    if isinstance(max_tile, tuple):
        return max_tile
    return tuple(min(side, _shortest(side, max(max_tile, MIN_TILE))) for side in view)  # type: ignore[return-value]


def tiles(view: Size, tile: Size) -> list[Tile]:
    """Cover a view with overlapping tiles of one size."""
    vertical, horizontal = (_spans(side, length) for side, length in zip(view, tile, strict=True))
    return [
        Tile(slice(top, top + tile[0]), slice(left, left + tile[1]), column[:, None] * row)
        for top, column in vertical
        for left, row in horizontal
    ]


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


def _spans(side: int, length: int) -> list[tuple[int, Float[Tensor, " length"]]]:
    """Return the start of each tile along a side, and its weights: linear ramps over the overlaps."""
    count = _count(side, length)
    if count == 1:
        return [(0, torch.ones(side))]
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
    return [(start, row[start : start + length]) for row, start in zip(weights, starts, strict=True)]
