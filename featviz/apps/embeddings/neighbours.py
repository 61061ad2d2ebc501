"""Nearest neighbours by cosine similarity, and the table that shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.apps.shared.pages.text import printable

CHUNK = 65_536
"""Number of rows that are compared with a query at once."""
COMPARED = 1024
"""Number of rows that are compared at once with all rows."""
MAX_NAME = 60
"""Number of characters of a name that a table shows."""


@dataclass(frozen=True)
class Neighbours:
    """The names nearest to a query, the most similar first. `print` shows them as a table.

    Args:
        query: The query as text.
        names: The names.
        similarities: Cosine similarity of each, in [-1, 1].
    """

    query: str
    names: tuple[str, ...]
    similarities: tuple[float, ...]

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Iterate over pairs of a name and its similarity."""
        return iter(zip(self.names, self.similarities, strict=True))

    def __str__(self) -> str:
        """Return a table: one line for each name with its similarity."""
        if not self.names:
            return f"{printable(self.query, most=MAX_NAME)}: no other names"
        names = [printable(name, most=MAX_NAME) for name in self.names]
        width = max(map(len, names))
        rows = [f"  {name:{width}}  {value:6.3f}" for name, value in zip(names, self.similarities, strict=True)]
        return "\n".join([f"{printable(self.query, most=MAX_NAME)}:", *rows])


def unit(vector: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Return vectors of unit norm; those without a direction become 0.

    Args:
        vector: Any vectors, along the last dimension.
    """
    largest = vector.abs().amax(-1, keepdim=True)
    scaled = vector / torch.where(largest > 0, largest, 1)  # squares of very large or small numbers leave the range
    length = scaled.norm(dim=-1, keepdim=True)
    return scaled / torch.where(length > 0, length, 1)


def lengths_of(vectors: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the length of each row, in double precision.

    Args:
        vectors: The rows.
    """
    return torch.cat([rows.double().norm(dim=1) for rows in vectors.split(CHUNK)])


def similarities(
    vectors: Float[Tensor, "n d"], lengths: Float[Tensor, " n"], query: Float[Tensor, " d"]
) -> Float[Tensor, " n"]:
    """Return the cosine similarity of each row to a query.

    Args:
        vectors: The rows.
        lengths: Their lengths, of `lengths_of`.
        query: The query.
    """
    direction = unit(query.double())
    parts = [
        rows.double() @ direction / torch.where(length > 0, length, 1)
        for rows, length in zip(vectors.split(CHUNK), lengths.split(CHUNK), strict=True)
    ]
    return torch.cat(parts).clamp(-1, 1)


def most_similar(similarity: Float[Tensor, " n"], count: int, leave_out: Collection[int]) -> Int[Tensor, " count"]:
    """Return the rows with the highest similarity, the first row first where several are equal.

    Args:
        similarity: The similarity of each row.
        count: Number of rows, >= 1.
        leave_out: Rows to leave out.
    """
    some = min(len(similarity), count + len(leave_out))
    # `topk` does not say which of equal values it takes: all that reach the last value are sorted by hand.
    least = similarity.topk(some).values[-1]
    candidates = (similarity >= least).nonzero().flatten()
    order = candidates[similarity[candidates].argsort(descending=True, stable=True)]
    kept = [row for row in order[: count + len(leave_out)].tolist() if row not in leave_out]
    return torch.tensor(kept[:count], dtype=torch.long)


def neighbour_lists(
    vectors: Float[Tensor, "n d"], count: int
) -> tuple[Int[Tensor, "n count"], Float[Tensor, "n count"]]:
    """Return the nearest rows of each row, without itself, and their cosine similarity.

    Args:
        vectors: The rows.
        count: Number of neighbours; fewer if there are fewer rows.
    """
    directions, count = unit(vectors), min(count, len(vectors) - 1)
    rows, values = [], []
    for first in range(0, len(directions), COMPARED):
        similarity = directions[first : first + COMPARED] @ directions.T
        own = torch.arange(len(similarity))
        similarity[own, own + first] = -torch.inf
        found = similarity.topk(count, dim=1)
        rows.append(found.indices)
        values.append(found.values.clamp(-1, 1))
    return torch.cat(rows), torch.cat(values)
