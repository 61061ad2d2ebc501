"""Compute the codes of a dictionary from activations, and activations from codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

MOST_ITERATIONS, LAST_ITERATIONS = 300, 12
"""Largest number of iterations of non-negative least squares without a gradient, and those that the gradient passes.

Near the solution each iteration changes little, so the gradient through the last ones is close to that of the solution.
"""
CHECK_INTERVAL, SETTLED = 10, 1e-6
"""Iterations end when one changes no code by more than this fraction of the largest at its position."""


@dataclass(frozen=True, eq=False)
class Codec:
    """The numbers of a dictionary on one device, and the formulas that use them.

    With `pre = encoder · x + bias`, the code of a feature is `gain · pre + shift` where `pre` exceeds its limit, else
    0. The limit is the threshold of the feature and, with `k`, also the (k + 1)-th largest `pre` at this position.

    Args:
        encoder: One row per feature.
        decoder: One row per feature: what a code of 1 adds to the activations.
        bias: Added to the product with the encoder.
        offset: Activations whose codes are all 0 after decoding.
        gain: Factor of each code.
        shift: Added to each code.
        threshold: Smallest `pre` of each feature, exclusive.
        k: Largest number of codes above 0 at a position; `None` for any number.
        is_linear: Codes have either sign and no limit.
        is_nonnegative: Codes solve `min ‖x - offset - codes · decoder‖²` with codes >= 0; the encoder is not used.
    """

    encoder: Float[Tensor, "features channels"]
    decoder: Float[Tensor, "features channels"]
    bias: Float[Tensor, " features"]
    offset: Float[Tensor, " channels"]
    gain: Float[Tensor, " features"]
    shift: Float[Tensor, " features"]
    threshold: Float[Tensor, " features"]
    k: int | None = None
    is_linear: bool = False
    is_nonnegative: bool = False

    @cached_property
    def _gram(self) -> tuple[Float[Tensor, "features features"], Tensor]:
        """Products of the rows of the decoder, and 1 / their largest singular value, the rate of the steps."""
        gram = self.decoder @ self.decoder.T
        return gram, 1 / torch.linalg.matrix_norm(gram, 2).clamp(min=torch.finfo(gram.dtype).tiny)

    def encode(self, x: Float[Tensor, "*n channels"]) -> Float[Tensor, "*n features"]:
        """Return the codes of activations."""
        if self.is_nonnegative:
            return nonnegative_codes(x - self.offset, self.decoder, *self._gram)
        pre = F.linear(x, self.encoder, self.bias)
        if self.is_linear:
            return pre
        limit = self.threshold.expand_as(pre)
        if self.k is None or self.k >= pre.shape[-1]:
            return above_limit(pre - limit, pre, limit, self.gain, self.shift)
        smallest_kept, largest_left_out = pre.topk(self.k + 1, dim=-1).values[..., -2:].split(1, dim=-1)
        limit = torch.maximum(limit, largest_left_out.detach())
        # A feature that is off has no gradient of its own. A redirected one has to raise it above the smallest that is
        # kept: its `pre` alone would raise those of similar features as much, so that none of them ever overtakes.
        to_pass = torch.where(pre > limit, limit, torch.maximum(self.threshold, smallest_kept))
        return above_limit(pre - to_pass, pre, limit, self.gain, self.shift)

    def decode(self, codes: Float[Tensor, "*n features"]) -> Float[Tensor, "*n channels"]:
        """Return the activations that codes stand for."""
        return self.change(codes) + self.offset

    def change(self, codes: Float[Tensor, "*n features"]) -> Float[Tensor, "*n channels"]:
        """Return the change of the activations for a change of the codes."""
        return codes @ self.decoder


def above_limit(margin: Tensor, pre: Tensor, limit: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Return the codes of features whose `pre` exceeds the limit by a margin > 0, and 0 for the others.

    It is a rectifier of the margin. Like PyTorch's activation functions it can be replaced while a context is open, so
    that a feature that is off gets a gradient in the first steps of a render: see `redirect_gradients`.

    Args:
        margin: `pre - limit`, whose gradient may be redirected.
        pre: The values before the limit. Used by linearised networks only, where a code has the gradient of
            `gain * pre`.
        limit: The limit, a constant.
        gain: Factor of each code.
        shift: Added to each code.
    """
    if has_torch_function((margin,)):
        return handle_torch_function(above_limit, (margin,), margin, pre, limit, gain, shift)  # type: ignore[no-any-return]
    return torch.where(margin > 0, gain * (margin + limit) + shift, margin.new_zeros(()))


def nonnegative_codes(
    x: Float[Tensor, "*n channels"],
    decoder: Float[Tensor, "features channels"],
    gram: Float[Tensor, "features features"],
    rate: Tensor,
) -> Float[Tensor, "*n features"]:
    """Return the codes >= 0 with which a dictionary approximates activations best, by accelerated projected gradient.

    Args:
        x: Activations without the offset.
        decoder: One row per feature.
        gram: Products of these rows.
        rate: Rate of the steps, at most 1 / the largest singular value of `gram`.

    Source: Beck and Teboulle 2009, https://doi.org/10.1137/080716542, FISTA, with a projection as the proximal step;
        O'Donoghue and Candès 2015, https://doi.org/10.1007/s10208-013-9150-3, gradient scheme of restarts.
    Differs: the acceleration of each position starts again on its own.
    """
    target = x @ decoder.T
    with torch.no_grad():
        codes = _iterate(target, gram, rate)
    before = codes
    for i in range(1, LAST_ITERATIONS + 1):
        ahead = codes + (i - 1) / (i + 2) * (codes - before)
        before, codes = codes, F.relu(ahead - rate * (ahead @ gram - target))
    return codes


def _iterate(
    target: Float[Tensor, "*n features"], gram: Float[Tensor, "features features"], rate: Tensor
) -> Float[Tensor, "*n features"]:
    """Return codes that the iterations change no more, or those after `MOST_ITERATIONS`."""
    codes = ahead = torch.zeros_like(target)
    age = torch.zeros_like(target[..., :1])  # number of iterations since the acceleration of a position started
    for i in range(1, MOST_ITERATIONS + 1):
        before, codes = codes, F.relu(ahead - rate * (ahead @ gram - target))
        moved_by = codes - before
        is_uphill = ((ahead - codes) * moved_by).sum(-1, keepdim=True) > 0
        age = torch.where(is_uphill, 0, age + 1)
        ahead = codes + age / (age + 3) * moved_by
        if i % CHECK_INTERVAL == 0 and bool((moved_by.abs() <= SETTLED * codes.abs().amax(-1, keepdim=True)).all()):
            break
    return codes
