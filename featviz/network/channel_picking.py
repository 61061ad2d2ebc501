"""Pick one channel of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def pick_channels(values: Float[Tensor, "n channel *position"], indices: Sequence[int]) -> Float[Tensor, "n *position"]:
    """Return one channel of each image. Its gradient is laid out in memory as the values are.

    Args:
        values: Any values.
        indices: Index of the channel of each image.
    """
    rows, channels = torch.arange(len(indices)), torch.tensor(indices)
    on_device = (each.to(values.device, non_blocking=True) for each in (rows, channels))
    return _ChannelOfEach.apply(values, *on_device)  # type: ignore[no-untyped-call,no-any-return]


class _ChannelOfEach(torch.autograd.Function):
    """Indexing with a backward pass of one operation: no index occurs twice, so nothing has to be added up."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, channels: Tensor) -> Tensor:
        ctx.save_for_backward(rows, channels)
        ctx.gradient = torch.zeros_like(values)
        return values[rows, channels]

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient.index_put_(ctx.saved_tensors, gradient), None, None
