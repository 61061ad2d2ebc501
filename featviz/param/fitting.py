"""Fit leaf tensors to given images by gradient descent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Leaves


def fit_leaves(
    leaves: Leaves,
    images: Callable[[Leaves], Float[Tensor, "n c *size"]],
    target: Float[Tensor, "n c *size"],
    *,
    steps: int,
    lr: float,
) -> Leaves:
    """Minimise the squared error of images with Adam, whose rate falls to 0 by a cosine.

    Args:
        leaves: Tensors to start from; they are not changed.
        images: Returns the images of leaf tensors, differentiably.
        target: What they should be.
        steps: Number of steps.
        lr: Initial learning rate.

    Returns:
        The fitted tensors.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
        optimizer = torch.optim.Adam(leaves, lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            # Mean per image, sum over images: the gradient of an image does not depend on the batch size.
            (images(leaves) - target).square().flatten(1).mean(1).sum().backward()
            optimizer.step()
            schedule.step()
    return [leaf.detach() for leaf in leaves]
