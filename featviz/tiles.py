"""A large view in tiles: what a network cannot see at once it sees piece by piece, and no seam shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

OVERLAP = 64
"""How far neighbours overlap at least, in px, less a little for being aligned; half of smaller tiles."""
ALIGN = 32
"""Tiles begin at multiples of this many px where they can, so that a network's own strides fall as on the whole."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A piece of a view.

    Args:
        rows: which.
        columns: which.
        weights: how much of the gradient of each pixel comes from this tile; those of all tiles sum to 1.
    """

    rows: slice
    columns: slice
    weights: Float[Tensor, "h w"]

    def cut(self, views: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Cut it out."""
        return views[..., self.rows, self.columns]


def tile_size(view: tuple[int, int], largest: int | tuple[int, int] | None) -> tuple[int, int]:
    """Say how large the tiles of a view are: all alike, and no larger than they have to be.

    Args:
        view: height and width in px.
        largest: side in px that a tile may have; or the exact height and width of each; `None` for the whole view.
    """
    if largest is None:
        return view
    if isinstance(largest, tuple):
        return largest
    return tuple(min(side, _least(side, max(largest, 2 * OVERLAP))) for side in view)  # type: ignore[return-value]


def tiles(view: tuple[int, int], tile: tuple[int, int]) -> list[Tile]:
    """Cover a view with tiles of one size."""
    down, along = (_spans(side, length) for side, length in zip(view, tile, strict=True))
    return [
        Tile(slice(top, top + tile[0]), slice(left, left + tile[1]), column[:, None] * row)
        for top, column in down
        for left, row in along
    ]


def _overlap(length: int) -> int:
    return min(OVERLAP, length // 2)


def _count(side: int, length: int) -> int:
    overlap = _overlap(length)
    return 1 if length >= side else -(-(side - overlap) // (length - overlap))


def _least(side: int, largest: int) -> int:
    """Return the smallest length with which as many tiles as are needed cover a side, a multiple of `ALIGN`."""
    count = _count(side, largest)
    return min(largest, -(-(side + (count - 1) * OVERLAP) // (count * ALIGN)) * ALIGN)


def _spans(side: int, length: int) -> list[tuple[int, Float[Tensor, " length"]]]:
    """Say where each tile begins, and how much each of its pixels counts: less and less where another takes over."""
    count = _count(side, length)
    if count == 1:
        return [(0, torch.ones(side))]
    overlap = _overlap(length)
    align = min(ALIGN, overlap)
    starts = [min(round(i * (side - length) / (count - 1) / align) * align, side - length) for i in range(count)]
    starts[-1] = side - length
    shares = torch.zeros(count, side)
    for share, start in zip(shares, starts, strict=True):
        ramp = torch.arange(1, length + 1)
        rising = ramp if start else torch.full_like(ramp, overlap)
        falling = ramp.flip(0) if start + length < side else torch.full_like(ramp, overlap)
        share[start : start + length] = torch.minimum(rising, falling).clamp(max=overlap)
    shares /= shares.sum(0)
    return [(start, share[start : start + length]) for share, start in zip(shares, starts, strict=True)]
