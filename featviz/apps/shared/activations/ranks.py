"""Ranks of numbers, of which ties share the mean."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def ranks(responses: Float[Tensor, "n units"]) -> Float[Tensor, "n units"]:
    """Return the rank of each photograph for each unit, from 1 for the lowest response. Ties share their mean rank.

    >>> ranks(torch.tensor([[3.0], [1.0], [3.0]])).flatten().tolist()
    [2.5, 1.0, 2.5]
    """
    columns = responses.T.contiguous()
    ordered = columns.sort(1).values
    below = torch.searchsorted(ordered, columns)
    not_above = torch.searchsorted(ordered, columns, right=True)
    return ((below + not_above + 1) / 2).T
