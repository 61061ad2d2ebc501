"""Layer-wise relevance propagation: the method, from the target to the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.lrp.catalogue import REFUSED, rules_of
from featviz.apps.explain.methods.lrp.relevance import RelevanceMode, without_rule
from featviz.apps.explain.methods.lrp.weighted import (
    COMPOSITES,
    RULES,
    Bounds,
    WeightedRules,
    bounds_between,
    zennit,
)
from featviz.apps.explain.request import AttributionMap, AttributionRequest
from featviz.engine import Scorer
from featviz.network import OUTPUT, Activations, plain_backward

MAX_NAMED = 3
"""Number of operations without a rule that a message names at most."""
REMEDIES = {
    "zplus": "outputs without positive contributions pass no relevance on; use LRP('flat')",
    "alphabeta": "outputs whose contributions have one sign get up to twice their relevance; use LRP('zplus')",
    "flat": "relevance is lost in padding; use LRP('zplus')",
    "deep_taylor": "outputs without positive contributions pass no relevance on; use LRP('flat')",
}
"""The rules that conserve relevance, and what to do where they do not."""


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation: distribute the score backwards, operation by operation.

    Each layer distributes the relevance R_j of its output j over its inputs i by their contributions z_ij = a_i w_ij,
    with z_j = Σ_i z_ij. Good for signed maps at pixel resolution, in networks without attention and layer
    normalisation. `zplus`, `gamma` and `deep_taylor` depend little on the classifier's weights.

    - `epsilon`: R_i = Σ_j z_ij / (z_j + ε sign z_j) R_j. Faithful but noisy; ε absorbs relevance.
    - `gamma`: the same with w + gamma max(w, 0) for w. Prefers positive contributions; ε absorbs relevance.
    - `zplus`: R_i = Σ_j max(z_ij, 0) / Σ_i max(z_ij, 0) R_j. Positive contributions only; smooth.
    - `alphabeta`: 2 of the shares of positive contributions, minus 1 of those of negative ones.
    - `flat`: R_i = Σ_j R_j / (number of inputs of j). Tells where a layer looks.
    - `deep_taylor`: `zplus`, and in the layers that read the image the z-box rule for inputs in a known range.

    Rules belong to functions, not to modules, so it does not matter how a network is written. Sums, as of a residual
    connection, distribute relevance by the magnitudes of the terms. A product passes it to the signal and not to the
    gate, which is the factor with fewer elements or within [0, 1]; a quotient to the numerator. Functions of one value,
    such as activation functions, batch normalisation and softmax pass it on. Batch normalisation of a weighted sum is
    folded into it. Depthwise kernels may be all negative, so every rule except `epsilon` uses `flat` there.

    `zplus`, `alphabeta`, `flat` and `deep_taylor` with `bias=False` conserve relevance: the map adds up to that of the
    target, and a warning tells where it misses it by more than 5 %. The other rules absorb relevance, so their maps add
    up to less.

    Args:
        rule: A rule for all linear layers, as above; or a composite of zennit, which uses another rule in fully
            connected layers (`epsilon`), in convolutions and in layers that read the image (`flat` or z-box):
            `epsilon_plus`, `epsilon_plus_flat`, `epsilon_gamma_box`, `epsilon_alpha2_beta1` or
            `epsilon_alpha2_beta1_flat`.
        epsilon: ε as a fraction of the root mean square of z. With 0, `epsilon` and `gamma` explode in deep networks.
        gamma: Extra weight of positive weights in the rule `gamma`, >= 0.
        bias: Let biases absorb their share of the relevance. If false, all of it goes to the inputs.

    Raises:
        SettingError: There is no such rule.

    Source: Bach et al. 2015, https://doi.org/10.1371/journal.pone.0130140; Montavon et al. 2019,
        https://doi.org/10.1007/978-3-030-28954-6_10; the rules are those of zennit.
    Differs: propagation starts with the magnitude of the activations that the target reads, so that positive relevance
        raises the score of a class with a negative logit, too.
    """

    rule: str = "epsilon_plus"
    epsilon: float = 0.25
    gamma: float = 0.25
    bias: bool = False

    def __post_init__(self) -> None:
        """Check the rule."""
        if self.rule not in RULES:
            raise fv.SettingError(f"rule must be {', '.join(RULES[:-1])} or {RULES[-1]}, got {self.rule!r}")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c h w"]) -> AttributionMap:
        """Return the relevance of each pixel, and how far its sum misses the relevance at the target.

        Raises:
            SettingError: An operation between the image and the target has no rule, or the target reads no layer or
                several networks.
        """
        _check_target(request)
        zennit()  # raises an error if it is not installed
        with request.open() as scorer, torch.no_grad():
            scorer(images)  # so that everything that is measured once per network is
        bounds = self._bounds(request, images) if COMPOSITES[self.rule].needs_bounds else None
        with request.open() as scorer, torch.enable_grad():
            acts, _ = self._run(scorer, images.requires_grad_(), bounds)
            _check_rules(request, list(acts.values()))
            relevance = _relevance_of_target(scorer, acts)
            (per_channel,) = torch.autograd.grad([acts[layer] for layer in relevance], images, [*relevance.values()])
        total = torch.stack([part.flatten(1).sum(1) for part in relevance.values()]).sum(0)
        delta = (per_channel.sum((1, 2, 3)) - total) / total.abs().clamp(min=1e-12)
        remedy = None if self.bias else REMEDIES.get(self.rule)
        return AttributionMap(per_channel.sum(1), per_channel, delta=delta, remedy=remedy)

    def _run(
        self, scorer: Scorer, images: Tensor, bounds: Sequence[Bounds] | None = None
    ) -> tuple[Activations, list[Tensor]]:
        """Return the activations, whose backward pass distributes relevance, and the inputs of the first layers."""
        plain_backward(scorer.forward.module)
        weighted = WeightedRules(self.rule, self.epsilon, self.gamma, self.bias, bounds)
        with RelevanceMode(rules_of(weighted), REFUSED):
            acts = scorer.activations(images)
        return acts, weighted.first_inputs

    def _bounds(self, request: AttributionRequest, images: Tensor) -> list[Bounds]:
        """Return the range of the inputs of the layers that read the image: what they get for black and for white."""
        with request.open() as scorer, torch.enable_grad():
            low, high = (
                self._run(scorer, torch.full_like(images, value, requires_grad=True))[1] for value in (0.0, 1.0)
            )
        return bounds_between(low, high)


def _check_target(request: AttributionRequest) -> None:
    """Check that the target is about layers of one network.

    Raises:
        SettingError: It is not.
    """
    network = request.network
    if OUTPUT not in network.heads:
        raise fv.SettingError(f"LRP takes a single network, got {', '.join(network.heads)}; pass each on its own")
    if not request.target.layers:
        raise fv.SettingError(f"LRP needs a target that reads a layer, got {request.target}")


def _check_rules(request: AttributionRequest, outputs: Sequence[Tensor]) -> None:
    """Check that every operation between the image and the target has a rule.

    Raises:
        SettingError: One has none.
    """
    if found := without_rule(outputs):
        named = ", ".join(found[:MAX_NAMED])
        raise fv.SettingError(f"LRP has no rule for {named} in {request.network.label}; use GradCAM or Gradient")


def _relevance_of_target(scorer: Scorer, acts: Activations) -> dict[str, Tensor]:
    """Return the relevance at the layers that the target reads: magnitude times the gradient of the score."""
    leaves = {layer: acts[layer].detach().requires_grad_() for layer in acts}
    score = scorer.scores(acts.replaced(leaves))[:, 0]
    gradients = torch.autograd.grad(score.sum(), list(leaves.values()))
    return {
        layer: leaf.detach().abs() * gradient for (layer, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }
