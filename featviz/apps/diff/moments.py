"""Accumulate the covariances of two sets of columns, batch by batch, in memory that does not depend on the rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class Moments:
    """Sums and products of the columns of two tables with the same rows.

    The columns of each table come in blocks. Products are kept within each block, and between all columns of one table
    and all of the other. Columns are shifted by the mean of the first batch before they are multiplied, since the
    variance of a column whose mean is large would otherwise be lost in rounding.

    Args:
        first: Number of columns in each block of the first table.
        second: Number of columns in each block of the second table.

    Source: Chan, Golub and LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115, shifted data.
    """

    def __init__(self, first: Sequence[int], second: Sequence[int]) -> None:
        self.blocks = tuple(first), tuple(second)
        self.rows = 0
        self._shifts: tuple[Tensor, Tensor] | None = None
        self._sums = [torch.zeros(sum(sizes), dtype=torch.float64) for sizes in self.blocks]
        self._own = [[torch.zeros(size, size, dtype=torch.float64) for size in sizes] for sizes in self.blocks]
        self._cross = torch.zeros(sum(first), sum(second), dtype=torch.float64)

    def add(self, first: Float[Tensor, "n p"], second: Float[Tensor, "n q"]) -> None:
        """Add rows.

        Args:
            first: Rows of the first table.
            second: Rows of the second table, in the same order.
        """
        given = [table.double().cpu() for table in (first, second)]
        if self._shifts is None:
            self._shifts = given[0].mean(0), given[1].mean(0)
        shifted = [table - shift for table, shift in zip(given, self._shifts, strict=True)]
        self.rows += len(first)
        self._cross += shifted[0].T @ shifted[1]
        for table, sums, own, sizes in zip(shifted, self._sums, self._own, self.blocks, strict=True):
            sums += table.sum(0)
            for products, block in zip(own, table.split(sizes, 1), strict=True):
                products += block.T @ block

    @property
    def cross(self) -> Float[Tensor, "p q"]:
        """Covariance of each column of the first table with each of the second."""
        first, second = self._sums
        return (self._cross - torch.outer(first, second) / self.rows) / self.rows

    def own(self, table: int) -> list[Float[Tensor, "block block"]]:
        """Return the covariances within each block of a table.

        Args:
            table: 0 for the first, 1 for the second.
        """
        sums = self._sums[table].split(self.blocks[table])
        pairs = zip(self._own[table], sums, strict=True)
        return [(products - torch.outer(each, each) / self.rows) / self.rows for products, each in pairs]

    def variance(self, table: int) -> Float[Tensor, " p"]:
        """Return the variance of each column of a table, >= 0.

        Args:
            table: 0 for the first, 1 for the second.
        """
        return torch.cat([block.diagonal() for block in self.own(table)]).clamp(min=0)
