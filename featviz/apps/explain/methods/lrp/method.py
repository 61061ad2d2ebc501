"""Layer-wise relevance propagation: the method, from the target to the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.gradients import mean_color
from featviz.apps.explain.methods.lrp.catalogue import REFUSED, rules_of
from featviz.apps.explain.methods.lrp.gradient_rules import GradientMode, GradientRules
from featviz.apps.explain.methods.lrp.relevance import RelevanceMode, without_rule
from featviz.apps.explain.methods.lrp.weighted import (
    COMPOSITES,
    RULES,
    Bounds,
    Composite,
    WeightedRules,
    bounds_between,
    zennit,
)
from featviz.apps.explain.request import AttributionMap, AttributionRequest
from featviz.checks import check_choice, check_flag, check_number
from featviz.engine import Scorer
from featviz.network import OUTPUT, Activations, plain_backward

HALVES = {"cp_lrp": False, "attn_lrp": True}
"""The rules for attention and recurrence, and whether both factors of a product get relevance."""
WEIGHTED_STRENGTHS = (0.25, 0.25)
"""gamma and epsilon of the rules for convolutional networks."""
GRADIENT_STRENGTHS = (0.0, 0.3)
"""gamma and epsilon of `attn_lrp` and `cp_lrp`.

On 60 mosaics, with the weights of motifvit before 2026-11-28, `attn_lrp` had a share of 0.61 and points of 0.78. gamma
0.05 with epsilon 0.1 had 0.60 and 0.82, and needs five weighted sums in place of one.
"""
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
    with z_j = Σ_i z_ij. Good for signed maps at pixel resolution. `zplus`, `gamma` and `deep_taylor` depend little on
    the classifier's weights. Rules for convolutional networks:

    - `epsilon`: R_i = Σ_j z_ij / (z_j + ε sign z_j) R_j. Faithful but noisy; ε absorbs relevance.
    - `gamma`: the same with w + gamma max(w, 0) for w. Prefers positive contributions; ε absorbs relevance.
    - `zplus`: R_i = Σ_j max(z_ij, 0) / Σ_i max(z_ij, 0) R_j. Positive contributions only; smooth.
    - `alphabeta`: 2 of the shares of positive contributions, minus 1 of those of negative ones.
    - `flat`: R_i = Σ_j R_j / (number of inputs of j). Tells where a layer looks.
    - `deep_taylor`: `zplus`, and in the layers that read the image the z-box rule for inputs in a known range.

    Rules for transformers, recurrent networks and texts, which are computed as gradient times input:

    - `attn_lrp`: AttnLRP. Each factor of a product gets half of its relevance; so do attention weights and values.
    - `cp_lrp`: CP-LRP. Attention weights and gates are constants, so that the signal gets everything.

    In both, the statistics of layer, group, instance and RMS normalisation are constants, an activation function such
    as GELU passes all relevance on, and weighted sums use `gamma` and `epsilon` together. In LSTM, GRU and simple
    recurrent layers, the gates are constants and the signal gets everything, which is LRP-all. Functions without a rule
    keep their gradient. Where the network cuts the image into patches, the map has one number per patch. With epsilon
    0 and without biases, `cp_lrp` conserves relevance.

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
        epsilon: ε as a fraction of the root mean square of z, >= 0; `None` for 0.25, and 0.3 in `attn_lrp` and
            `cp_lrp`. With 0, `epsilon` and `gamma` explode in deep networks.
        gamma: Extra weight of positive weights in the rule `gamma`, and in `attn_lrp` and `cp_lrp` of contributions
            with the sign of z, >= 0; `None` for 0.25, and 0 in these two.
        bias: Let biases absorb their share of the relevance. If false, all of it goes to the inputs; in `attn_lrp` and
            `cp_lrp` biases always absorb their share.

    Raises:
        SettingError: There is no such rule, or `epsilon` or `gamma` is < 0.

    Source: Bach et al. 2015, https://doi.org/10.1371/journal.pone.0130140; Montavon et al. 2019,
        https://doi.org/10.1007/978-3-030-28954-6_10; the rules are those of zennit. Ali et al. 2022,
        https://arxiv.org/abs/2202.07304, for CP-LRP; Achtibat et al. 2024, https://arxiv.org/abs/2402.05602, for
        AttnLRP; Arras et al. 2017, https://arxiv.org/abs/1706.07206, for recurrent layers.
    Differs: where the rule of the target's layer divides by a sum of one sign (`zplus`, `alphabeta`, `flat`,
        `deep_taylor`), propagation starts with the magnitude of its activations, so that positive relevance raises the
        score of a class with a negative logit, too.
    """

    rule: str = "epsilon_plus"
    epsilon: float | None = None
    gamma: float | None = None
    bias: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        check_choice("rule", self.rule, [*RULES, *HALVES])
        for name in ("epsilon", "gamma"):
            if getattr(self, name) is not None:
                check_number(f"{name} of LRP", getattr(self, name), at_least=0)
        check_flag("bias of LRP", self.bias)

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the relevance of each pixel, and how far its sum misses the relevance at the target.

        Raises:
            SettingError: An operation between the image and the target has no rule, the target reads no layer or
                several networks, or the rule needs the range of the input and the network reads text.
        """
        _check_target(request)
        if self.rule in HALVES:
            return self._by_gradient(request, images)
        if COMPOSITES[self.rule].needs_bounds and request.network.tokens is not None:
            raise fv.SettingError(
                f"{self.rule} needs the range of the input, which embeddings of text do not have; use LRP('cp_lrp')"
            )
        zennit()  # raises an error if it is not installed
        with request.open() as scorer, torch.no_grad():
            scorer(images)  # measures what is measured once per network before a pass is recorded
        bounds = self._bounds(request, images) if COMPOSITES[self.rule].needs_bounds else None
        with request.open() as scorer, torch.enable_grad():
            acts, _ = self._run(scorer, images.requires_grad_(), bounds)
            _check_rules(request, list(acts.values()))
            relevance = _relevance_of_target(scorer, acts, COMPOSITES[self.rule])
            (per_channel,) = torch.autograd.grad([acts[layer] for layer in relevance], images, [*relevance.values()])
        total = torch.stack([part.flatten(1).sum(1) for part in relevance.values()]).sum(0)
        delta = (per_channel.sum(tuple(range(1, per_channel.ndim))) - total) / total.abs().clamp(min=1e-12)
        remedy = None if self.bias else REMEDIES.get(self.rule)
        return AttributionMap(per_channel.sum(1), per_channel, delta=delta, remedy=remedy)

    def _strengths(self) -> tuple[float, float]:
        """Return gamma and epsilon, or their defaults for the rule."""
        gamma, epsilon = GRADIENT_STRENGTHS if self.rule in HALVES else WEIGHTED_STRENGTHS
        return gamma if self.gamma is None else self.gamma, epsilon if self.epsilon is None else self.epsilon

    def _by_gradient(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return gradient times input, where the gradient is that of the rules."""
        rules = GradientRules(HALVES[self.rule], *self._strengths())
        maps, totals = [], []
        with request.open() as scorer, torch.enable_grad():
            plain_backward(scorer.forward.module)
            # One after the other, because the rules scale epsilon by all values of an operation.
            for image in images.detach().split(1):
                with GradientMode(rules):
                    acts = scorer.activations(image.requires_grad_())
                gradients = _gradients_of_target(scorer, acts)
                live = {layer: one for layer, one in gradients.items() if acts[layer].requires_grad}
                if not live:
                    raise fv.SettingError(f"{request.target} has no relevance in the image; use GradCAM or Gradient")
                (gradient,) = torch.autograd.grad([acts[layer] for layer in live], image, [*live.values()])
                maps.append(gradient * (image.detach() - mean_color(request.network, image)))
                parts = [(acts[layer].detach() * one).sum() for layer, one in gradients.items()]
                totals.append(torch.stack(parts).sum())
        per_channel, total = torch.cat(maps), torch.stack(totals)
        delta = (per_channel.sum(tuple(range(1, per_channel.ndim))) - total) / total.abs().clamp(min=1e-12)
        return AttributionMap(_on_patches(request, per_channel.sum(1)), per_channel, delta=delta)

    def _run(
        self, scorer: Scorer, images: Tensor, bounds: Sequence[Bounds] | None = None
    ) -> tuple[Activations, list[Tensor]]:
        """Return the activations, whose backward pass distributes relevance, and the inputs of the first layers."""
        plain_backward(scorer.forward.module)
        gamma, epsilon = self._strengths()
        weighted = WeightedRules(self.rule, epsilon, gamma, self.bias, bounds)
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
        SettingError: The network is combined of several, or the target reads no layer.
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
        raise fv.SettingError(f"LRP has no rule for {named} in {request.network.label}; use LRP('attn_lrp') or GradCAM")


def _relevance_of_target(scorer: Scorer, acts: Activations, composite: Composite) -> dict[str, Tensor]:
    """Return the relevance at the layers that the target reads: value or magnitude, times the gradient of the score."""
    relevance = {}
    for layer, gradient in _gradients_of_target(scorer, acts).items():
        values = acts[layer].detach()
        signed = composite.keeps_sign(dense=acts.layouts[layer].kind != "map")
        relevance[layer] = (values if signed else values.abs()) * gradient
    return relevance


def _gradients_of_target(scorer: Scorer, acts: Activations) -> dict[str, Tensor]:
    """Return the gradients of the score in the layers that the target reads."""
    leaves = {layer: acts[layer].detach().requires_grad_() for layer in acts}
    score = scorer.scores(acts.replaced(leaves))[:, 0]
    return dict(zip(leaves, torch.autograd.grad(score.sum(), list(leaves.values())), strict=True))


def _on_patches(request: AttributionRequest, pixels: Float[Tensor, "n *size"]) -> Float[Tensor, "n *position"]:
    """Sum relevance over each patch, where the network cuts the image into patches first.

    Within a patch, which one linear layer reads, the signs of neighbouring pixels alternate.
    """
    layouts = [layer.layout for layer in request.network.table.values()]
    patch = next((layout.patch for layout in layouts if layout.kind == "tokens" and layout.patch), None)
    if patch is None or pixels.shape[-2] < patch[0] or pixels.shape[-1] < patch[1]:
        return pixels
    return F.avg_pool2d(pixels[:, None], patch, divisor_override=1)[:, 0]
