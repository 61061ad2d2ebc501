"""Collapse many inputs of a unit into few groups: one-sided non-negative matrix factorisation of its kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 400
"""Number of multiplicative updates."""
EPSILON = 1e-9
"""Added to denominators. Kernels are scaled to a norm of 1, so it is relative."""


@dataclass(frozen=True, eq=False)
class InputGroups:
    """Groups of inputs that a unit reads in the same way.

    The kernel of channel c is about the sum over groups g of `shares[g, c] * kernels[g]`.

    Args:
        shares: How much each channel belongs to each group, >= 0; the rows have length 1.
        kernels: Kernel of each group, of either sign.
        explained: 1 - squared error / sum of the squares of all kernels; 1 is perfect.
    """

    shares: Float[Tensor, "groups channel"]
    kernels: Float[Tensor, "groups rows columns"]
    explained: float


def group_inputs(kernels: Float[Tensor, "channel rows columns"], groups: int, steps: int = STEPS) -> InputGroups:
    """Factorise the kernels of a unit into groups of channels, by one-sided non-negative matrix factorisation.

    Only the shares of the channels are >= 0, so that a group adds up inputs and never cancels them; a kernel may
    excite in one place and inhibit in another.

    Args:
        kernels: The expanded weights of one unit.
        groups: Largest number of groups, >= 1.
        steps: Number of updates, >= 0.

    Returns:
        The groups, that with the largest kernel first. No group for kernels that are all 0.

    Source: Voss et al. 2021, https://doi.org/10.23915/distill.00024.006, "one-sided NMF"; the updates are those of
    semi-NMF, Ding et al. 2010, https://doi.org/10.1109/TPAMI.2008.277, equations 9 and 10.
    Differs: starts from k-means-like assignments to the strongest kernels instead of random ones, so that the result
    is always the same.
    """
    data = kernels.flatten(1).double()  # channels x positions
    size = data.norm()
    if not size:
        return InputGroups(kernels.new_zeros(0, len(data)), kernels.new_zeros(0, *kernels.shape[1:]), 0.0)
    data = data / size
    shares = _start(data, groups)
    for _ in range(steps):
        bases = torch.linalg.pinv(shares) @ data
        # The gradient is split into its negative part, `up`, and its positive part, `down`. Multiplying each share by
        # sqrt(up / down) keeps it >= 0 and never raises the error (Ding et al., theorem 4).
        toward, inner = data @ bases.T, bases @ bases.T
        up = toward.clamp(min=0) + shares @ (-inner).clamp(min=0)
        down = (-toward).clamp(min=0) + shares @ inner.clamp(min=0)
        shares = shares * (up / (down + EPSILON)).sqrt()
    length = shares.norm(dim=0).clamp(min=EPSILON)
    shares = shares / length
    bases = torch.linalg.pinv(shares) @ data
    order = bases.norm(dim=1).argsort(descending=True, stable=True)
    error = (data - shares @ bases).square().sum()
    found = size * bases[order].unflatten(1, kernels.shape[1:])
    return InputGroups(shares.T[order].to(kernels), found.to(kernels), 1 - error.item())


def _start(data: Float[Tensor, "channel positions"], groups: int) -> Float[Tensor, "channel groups"]:
    """Assign each channel to the most similar of some different kernels: the largest, then those least like the chosen.

    A fifth of the mean length is added to all shares, since multiplicative updates cannot leave 0.
    """
    unit = data / data.norm(dim=1, keepdim=True).clamp(min=EPSILON)
    chosen = [int(data.norm(dim=1).argmax())]
    # A kernel that no chosen one explains is one with a large part outside of their cosine similarity.
    unexplained = data.norm(dim=1)
    while len(chosen) < min(groups, int((data.norm(dim=1) > 0).sum())):
        unexplained = torch.minimum(unexplained, data.norm(dim=1) * (1 - unit @ unit[chosen[-1]]))
        unexplained[chosen] = 0
        chosen.append(int(unexplained.argmax()))
    similar = unit @ unit[chosen].T
    return (similar == similar.amax(1, keepdim=True)).double() * data.norm(dim=1, keepdim=True) + 0.2 * data.norm(
        dim=1
    ).mean()
