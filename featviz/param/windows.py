"""Window functions and outer products."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size


def outer(vectors: Sequence[Tensor]) -> Float[Tensor, "*size"]:
    """Return the outer product of any number of vectors."""
    return reduce(lambda product, vector: product[..., None] * vector, vectors)


def hann_window(size: Size, device: torch.device | None = None) -> Float[Tensor, "*size"]:
    """Return a Hann window over all axes, so that the jump between opposite ends does not leak into all frequencies.

    Args:
        size: Length of each axis.
        device: Where it is made; `None` for the CPU.
    """
    return outer([torch.hann_window(side, device=device) for side in size])
