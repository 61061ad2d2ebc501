"""Follow attention through the layers of a transformer: rollout and class-specific rollout of recorded matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def rollout_steps(weights: Sequence[Float[Tensor, "heads l l"]]) -> list[Float[Tensor, "l l"]]:
    """Return how each layer mixes the tokens: 0.5 A + 0.5 I, where A is the mean attention of its heads.

    Args:
        weights: Attention weights of each layer, in execution order; each row adds up to 1.

    Source: Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928, section 3.
    """
    return [0.5 * attention.mean(0) + 0.5 * _identity(attention) for attention in weights]


def gradient_steps(
    weights: Sequence[Float[Tensor, "heads l l"]], gradients: Sequence[Float[Tensor, "heads l l"]]
) -> list[Float[Tensor, "l l"]]:
    """Return how each layer mixes the tokens with respect to a score: I + mean over heads of relu(∇A ⊙ A).

    Args:
        weights: Attention weights A of each layer, in execution order.
        gradients: Gradient ∇A of the score with respect to each of them.

    Source: Chefer et al. 2021, https://arxiv.org/abs/2103.15679, equations 5 and 6.
    """
    pairs = zip(weights, gradients, strict=True)
    return [(gradient * attention).relu().mean(0) + _identity(attention) for attention, gradient in pairs]


def rolled(steps: Sequence[Float[Tensor, "l l"]]) -> Float[Tensor, "l l"]:
    """Return the product of the steps, the last layer first: R ← step · R from the identity, in execution order.

    Args:
        steps: As `rollout_steps` or `gradient_steps` return them.

    Returns:
        Row i tells how much of each token at the start is in token i after the last layer.
    """
    product = _identity(steps[0])
    for step in steps:
        product = step @ product
    return product


def _identity(like: Float[Tensor, "*h l l"]) -> Float[Tensor, "l l"]:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
