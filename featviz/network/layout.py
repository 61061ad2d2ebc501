"""Meaning of the dimensions of a layer's output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from featviz.interfaces import Size


@dataclass(frozen=True)
class Layout:
    """Meaning of the dimensions of a layer's output.

    Args:
        kind: A feature map, a sequence of tokens, or one vector per image. Complex numbers, whatever their dimensions,
            are a kind of their own, which has no channels and positions to address.
        channel: Index of the channel dimension.
        patch: Height and width in px of the patch of one token; `None` where tokens are not on a grid.
        prefix: Number of tokens before the patch grid, such as the class token and registers.
        special: Names and indices of the tokens that are not on the grid: `"cls"`, and `"reg0"`, `"reg1"` … for
            registers, distillation and detection tokens. Indices of tokens after the grid count from the end.
        order: Index of each cell's token among those of the grid, row by row; `None` if they are in this order.
        transposed: Whether a feature map's columns come before its rows.
        size: Height and width in px to which the layer's network resizes its images; `None` if it does not.
        batch: Index of the batch dimension in the layer's output. In captured activations it is always 0.
        axes: Number of spatial axes of the network's input. With 2, outputs (n, c, length) are maps (n, c, 1, length).
    """

    kind: Literal["map", "tokens", "vector", "complex"]
    channel: int = 1
    patch: tuple[int, int] | None = None
    prefix: int = 0
    size: Size | None = None
    batch: int = 0
    special: tuple[tuple[str, int], ...] = ()
    order: tuple[int, ...] | None = None
    transposed: bool = False
    axes: int = 2

    def grid(self, size: Size) -> tuple[int, int] | None:
        """Return the number of rows and columns of the patch grid; `None` where tokens are not on a grid.

        Args:
            size: Height and width in px of the network's input.
        """
        if self.patch is None:
            return None
        height, width = self.size or size
        return height // self.patch[0], width // self.patch[1]

    def cell(self, token: int, size: Size) -> tuple[int, int] | None:
        """Return the row and column of a token on the patch grid; `None` for a token that is not on it.

        Args:
            token: Index of the token among all of its sequence, >= 0.
            size: Height and width in px of the network's input.
        """
        grid, index = self.grid(size), token - self.prefix
        if grid is None or not 0 <= index < math.prod(grid):
            return None
        row, column = divmod(index if self.order is None else self.order.index(index), grid[1])
        return row, column

    @property
    def described(self) -> str:
        """The kind, for messages."""
        return {
            "map": "a feature map",
            "tokens": "tokens that are not on a grid",
            "vector": "one vector",
            "complex": "complex numbers",
        }[self.kind]
