"""Layer-wise relevance propagation (LRP): the score is distributed backwards, layer by layer, without loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import featviz as fv
from featviz.apps.explain.request import AttributionMap, AttributionRequest
from featviz.network import OUTPUT, Rectifying

RULES = (
    "epsilon", "gamma", "zplus", "alphabeta", "flat", "deep_taylor",
    "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat",
)  # fmt: skip
UNSUPPORTED_MODULES = (nn.LayerNorm, nn.MultiheadAttention, nn.GroupNorm)
"""Modules for which there is no rule."""
SUMS = frozenset((torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__))
MEANS = frozenset((torch.mean, Tensor.mean, torch.sum, Tensor.sum, F.avg_pool2d, F.adaptive_avg_pool2d))
PRODUCTS = frozenset(
    (
        torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__imul__, Tensor.__rmul__, torch.div, Tensor.div,
        Tensor.__truediv__,
    )
)  # fmt: skip
IN_PLACE = frozenset((Tensor.add_, Tensor.__iadd__, Tensor.mul_, Tensor.__imul__))
MIN_MAGNITUDE = 1e-6
"""Added to magnitudes before they are divided by their sum."""


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation: distribute the score backwards, layer by layer, without loss.

    Each layer distributes the relevance R_j of its output j over its inputs i by their contributions z_ij = a_i w_ij,
    with z_j = Σ_i z_ij. Good for signed maps at pixel resolution that add up to the score, in networks without
    attention and layer normalisation. `zplus`, `gamma` and `deep_taylor` depend little on the classifier's weights.

    - `epsilon`: R_i = Σ_j z_ij / (z_j + ε sign z_j) R_j. Faithful but noisy; ε absorbs relevance.
    - `gamma`: the same with w + gamma max(w, 0) for w. Prefers positive contributions.
    - `zplus`: R_i = Σ_j max(z_ij, 0) / Σ_i max(z_ij, 0) R_j. Positive contributions only; smooth.
    - `alphabeta`: 2 of the shares of positive contributions, minus 1 of those of negative ones.
    - `flat`: R_i = Σ_j R_j / (number of inputs of j). Tells where a layer looks.
    - `deep_taylor`: `zplus`, and in the first layer the z-box rule for inputs in a known range.

    Sums, as of a residual connection, distribute relevance by the magnitudes of the terms. A product passes it to the
    signal and not to the gate, which is the factor with fewer elements or within [0, 1]. Batch normalisation is folded
    into the preceding convolution. Depthwise kernels may be all negative, so every rule except `epsilon` uses `flat`
    there.

    Args:
        rule: A rule for all linear layers, as above; or a composite of zennit, which uses another rule in fully
            connected layers (`epsilon`), in convolutions and in the first layer (`flat` or z-box): `epsilon_plus`,
            `epsilon_plus_flat`, `epsilon_gamma_box`, `epsilon_alpha2_beta1` or `epsilon_alpha2_beta1_flat`.
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
        """Return the relevance of each pixel, and how far its sum misses the relevance at the target."""
        _check_supported(request)
        network = request.network
        low, high = (_first_layer_bound(network, images, value) for value in (0.0, 1.0))
        with request.open() as scorer, torch.no_grad():
            scorer(images)  # so that everything that is measured once per network is, before its modules get hooks
        # zennit's hooks, and the functions below, replace the gradient of each layer by relevance: autograd then
        # carries relevance from the target to the images.
        with self._composite(low, high).context(network.module), request.open() as scorer, torch.enable_grad():
            with _RelevanceFunctions(), Rectifying(_pass_through):
                acts = scorer.activations(images.requires_grad_())
            leaves = {layer: acts[layer].detach().requires_grad_() for layer in acts}
            score = scorer.scores(acts.replaced(leaves))[:, 0]
            gradients = torch.autograd.grad(score.sum(), list(leaves.values()))
            relevance = [
                leaf.detach().abs() * gradient for leaf, gradient in zip(leaves.values(), gradients, strict=True)
            ]
            (arrived,) = torch.autograd.grad([acts[layer] for layer in leaves], images, relevance)
        # The normalisation of the input has no rule, so autograd has divided by the standard deviation; undo it.
        per_channel = arrived * torch.tensor(network.input.std, device=arrived.device).view(-1, 1, 1)
        total = torch.stack([part.flatten(1).sum(1) for part in relevance]).sum(0)
        delta = (per_channel.sum((1, 2, 3)) - total) / total.abs().clamp(min=1e-12)
        return AttributionMap(per_channel.sum(1), per_channel, delta=delta)

    def _composite(self, low: Tensor, high: Tensor) -> Any:
        """Return zennit's assignment of rules to modules.

        Args:
            low: Smallest input of the first layer, for the z-box rule.
            high: Largest input of the first layer.

        Raises:
            SettingError: zennit is not installed.
        """
        try:
            from zennit import composites, core, rules, types
        except ImportError as error:
            raise fv.SettingError("zennit is not installed; run: pip install 'featviz[explain]'") from error
        zero = {} if self.bias else {"zero_params": ["bias"]}
        stabilizer = core.Stabilizer(self.epsilon, norm_scale=True)
        linear_rules: Mapping[str, Callable[[], Any]] = {
            "epsilon": lambda: rules.Epsilon(stabilizer, **zero),
            "gamma": lambda: rules.Gamma(self.gamma, stabilizer, **zero),
            "zplus": lambda: rules.ZPlus(**zero),
            "alphabeta": lambda: rules.AlphaBeta(2, 1, **zero),
            "flat": lambda: rules.Flat(**zero),
            "deep_taylor": lambda: rules.ZPlus(**zero),
        }
        if self.rule in linear_rules:
            linear = types.Convolution, nn.Linear
            layers = [*composites.layer_map_base(), (linear, linear_rules[self.rule]())]
            first = [(linear, rules.ZBox(low, high, **zero))] if self.rule == "deep_taylor" else []
            composite = composites.SpecialFirstLayerMapComposite(layers, first)
        else:
            given = {"epsilon": stabilizer, **zero}
            if self.rule == "epsilon_gamma_box":
                given |= {"low": low, "high": high, "gamma": self.gamma, "stabilizer": stabilizer}
            composite = composites.COMPOSITES[self.rule](**given)

        def rule_of(context: dict[str, Any], name: str, module: nn.Module) -> Any:
            rule = composite.module_map(context, name, module)  # always called: it keeps track of the first layer
            if isinstance(module, types.AvgPool):
                return None  # `_RelevanceFunctions` covers means, both modules and functions
            # A depthwise output has the inputs of one kernel only. If all its weights are negative, zplus and its kin
            # would divide by 0.
            depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
            return rules.Flat(**zero) if depthwise and self.rule != "epsilon" else rule

        return core.Composite(rule_of)


def _check_supported(request: AttributionRequest) -> None:
    """Check that every module has a rule, and that the target is about one network.

    Raises:
        SettingError: One has none, or it is not.
    """
    network = request.network
    modules = (module for module in network.module.modules() if isinstance(module, UNSUPPORTED_MODULES))
    unsupported = next((type(module).__name__ for module in modules), None)
    if unsupported:
        raise fv.SettingError(f"LRP has no rule for {unsupported} in {network.label}; use GradCAM or Gradient")
    if OUTPUT not in network.heads:
        raise fv.SettingError(f"LRP takes a single network, got {', '.join(network.heads)}; pass each on its own")
    if not request.target.layers:
        raise fv.SettingError(f"LRP needs a target that reads a layer, got {request.target}")


def _pass_through(x: Tensor, rectifier: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a rectifier's output that passes relevance back unchanged: the added difference is 0, its derivative 1."""
    return rectifier(x.detach().clone()) + (x - x.detach())


def _signal_rank(factor: Tensor) -> tuple[int, bool]:
    """Rank the factors of a product: a gate has fewer elements than the signal, or lies within [0, 1]."""
    return factor.numel(), bool(factor.min() < 0 or factor.max() > 1)


def _first_layer_bound(network: fv.Network, images: Tensor, value: float) -> Float[Tensor, "1 c 1 1"]:
    """Return what the network's first layer gets for an image of one value: one number for each channel."""
    mean, std = (torch.tensor(one, device=images.device) for one in (network.input.mean, network.input.std))
    bound = (value - mean) / std
    return (bound.flip(0) if network.input.channel_order == "BGR" else bound).view(1, -1, 1, 1)


class _RelevanceFunctions(TorchFunctionMode):
    """Gives sums, means and products a backward pass that distributes relevance.

    zennit hooks modules only, but residual connections, pooling and gates are often plain functions. Each is replaced
    by its detached value plus a term that is 0 and whose derivative is the share of each input:

    - sums and means of terms a_i: share |a_i| / Σ |a|, the derivative of Σ |a_i| (1 + a_i - sg(a_i)) / Σ |a|, where sg
      stops the gradient;
    - products: share 1 for the signal, 0 for the gate.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace sums, means and products, and call any other function."""
        kwargs = kwargs or {}
        live = [arg for arg in args if isinstance(arg, Tensor) and arg.requires_grad]
        if func not in SUMS | MEANS | PRODUCTS or len(live) < (2 if func in SUMS else 1):
            return func(*args, **kwargs)  # also the sum of a signal and a constant: all relevance goes to the signal
        out = func(*(arg.detach().clone() if isinstance(arg, Tensor) else arg for arg in args), **kwargs)
        if func in PRODUCTS:
            signal = max(live, key=_signal_rank)
            shared = out + (signal - signal.detach())
        else:
            sizes = [arg.detach().abs() + MIN_MAGNITUDE if isinstance(arg, Tensor) else arg for arg in args]
            parts = [
                size * (1 + arg - arg.detach()) if isinstance(arg, Tensor) else arg
                for size, arg in zip(sizes, args, strict=True)
            ]
            # The same function of the magnitudes: it sums or averages them as it does the terms.
            total = (torch.add if func in IN_PLACE else func)(*parts, **kwargs)
            shared = out + (total - total.detach()) / total.detach()
        return args[0].copy_(shared) if func in IN_PLACE else shared
