"""Layer-wise relevance propagation: the score, handed back layer by layer so that none gets lost."""

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
from featviz.apps.explain.request import Found, Question
from featviz.network import Rectifying

RULES = (
    "epsilon", "gamma", "zplus", "alphabeta", "flat", "deep_taylor",
    "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat",
)  # fmt: skip
UNSUITED = (nn.LayerNorm, nn.MultiheadAttention, nn.GroupNorm)
"""Modules that no rule goes through."""
SUMS = frozenset((torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__))
MEANS = frozenset((torch.mean, Tensor.mean, torch.sum, Tensor.sum, F.avg_pool2d, F.adaptive_avg_pool2d))
PRODUCTS = frozenset(
    (
        torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__imul__, Tensor.__rmul__, torch.div, Tensor.div,
        Tensor.__truediv__,
    )
)  # fmt: skip
IN_PLACE = frozenset((Tensor.add_, Tensor.__iadd__, Tensor.mul_, Tensor.__imul__))
TINY = 1e-6
"""Keeps divisions away from 0."""


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation.

    What is added up, as beside a shortcut, shares relevance by the parts' sizes; a product gives it to the signal, not
    to the gate, which is the smaller factor, or the one within [0, 1]. Batch normalisation is folded into the
    convolution before it. Depthwise convolutions have so few weights that all may be against; but for `epsilon` they
    spread relevance evenly. Attention and layer normalisation have no rule.

    Args:
        rule: one for all layers: `epsilon`, `gamma`, `zplus`, `alphabeta`, `flat`; or a composite: `deep_taylor`
            (z-box, then z-plus), `epsilon_plus`, `epsilon_plus_flat`, `epsilon_gamma_box`, `epsilon_alpha2_beta1`,
            `epsilon_alpha2_beta1_flat`.
        epsilon: how much relevance is kept back where parts cancel, as a share of a layer's root mean square; with
            none, the rules `epsilon` and `gamma` blow up in deep networks.
        gamma: how much more positive weights count.
        bias: let biases keep the relevance that is theirs; otherwise all of it reaches the pixels.

    Source: Bach et al. 2015, https://doi.org/10.1371/journal.pone.0130140; Montavon et al. 2019,
        https://doi.org/10.1007/978-3-030-28954-6_10; the rules are zennit's.
    Differs: it begins with the size of what the target reads, so that what is above 0 speaks for a class with a
        negative logit, too.
    """

    rule: str = "epsilon_plus"
    epsilon: float = 0.25
    gamma: float = 0.25
    bias: bool = False

    def __post_init__(self) -> None:
        """Check the rule."""
        if self.rule not in RULES:
            raise fv.SettingError(f"no LRP rule {self.rule!r}; give {', '.join(RULES)}")

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        network = question.network
        unsuited = next((type(part).__name__ for part in network.module.modules() if isinstance(part, UNSUITED)), None)
        if unsuited or "" not in network.heads or not question.target.layers:
            what = f"{unsuited} in {network.label}" if unsuited else f"{question.target} of {network.label}"
            raise fv.SettingError(f"LRP has no rule for {what}; GradCAM and IntegratedGradients go with any network")
        low, high = (_bound(network, images, value) for value in (0.0, 1.0))
        with question.open() as ask, torch.no_grad():
            ask(images)  # what has to be found out about a network is, before rules are hooked into it
        with self._composite(low, high).context(network.module), question.open() as ask, torch.enable_grad():
            with _Shared(), Rectifying(lambda x, unit: unit(x.detach().clone()) + (x - x.detach())):
                acts = ask.activations(images.requires_grad_())
            leaves = {layer: acts[layer].detach().requires_grad_() for layer in acts}
            score = ask.scores(acts.replaced(leaves))[:, 0]
            gradients = torch.autograd.grad(score.sum(), list(leaves.values()))
            relevance = [
                leaf.detach().abs() * gradient for leaf, gradient in zip(leaves.values(), gradients, strict=True)
            ]
            (back,) = torch.autograd.grad([acts[layer] for layer in leaves], images, relevance)
        channels = back * torch.tensor(network.input.std, device=back.device).view(-1, 1, 1)  # in what the network sees
        begun = torch.stack([part.flatten(1).sum(1) for part in relevance]).sum(0)
        delta = (channels.sum((1, 2, 3)) - begun) / begun.abs().clamp(min=1e-12)
        return Found(channels.sum(1), channels, delta=delta)

    def _composite(self, low: Tensor, high: Tensor) -> Any:
        try:
            from zennit import composites, core, rules, types
        except ImportError as error:
            raise fv.SettingError("zennit is not installed; run: pip install 'featviz[explain]'") from error
        zero = {} if self.bias else {"zero_params": ["bias"]}
        held = core.Stabilizer(self.epsilon, norm_scale=True)
        simple: Mapping[str, Callable[[], Any]] = {
            "epsilon": lambda: rules.Epsilon(held, **zero),
            "gamma": lambda: rules.Gamma(self.gamma, held, **zero),
            "zplus": lambda: rules.ZPlus(**zero),
            "alphabeta": lambda: rules.AlphaBeta(2, 1, **zero),
            "flat": lambda: rules.Flat(**zero),
            "deep_taylor": lambda: rules.ZPlus(**zero),
        }
        if self.rule not in simple:
            given = {"epsilon": held, **zero}
            if self.rule == "epsilon_gamma_box":
                given |= {"low": low, "high": high, "gamma": self.gamma, "stabilizer": held}
            whole = composites.COMPOSITES[self.rule](**given)
        else:
            linear = types.Convolution, nn.Linear
            layers = [*composites.layer_map_base(), (linear, simple[self.rule]())]
            first = [(linear, rules.ZBox(low, high, **zero))] if self.rule == "deep_taylor" else []
            whole = composites.SpecialFirstLayerMapComposite(layers, first)

        def rule_of(context: dict[str, Any], name: str, module: nn.Module) -> Any:
            rule = whole.module_map(context, name, module)
            if isinstance(module, types.AvgPool):
                return None  # means are shared below, also those that are no modules
            deep = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
            return rules.Flat(**zero) if deep and self.rule != "epsilon" else rule

        return core.Composite(rule_of)


def _like_a_signal(factor: Tensor) -> tuple[int, bool]:
    """Rank factors: a gate is smaller, or lies in [0, 1]."""
    return factor.numel(), bool(factor.min() < 0 or factor.max() > 1)


def _bound(network: fv.Network, images: Tensor, value: float) -> Tensor:
    """Return what the network's first convolution sees of a constant image, one number for each channel."""
    mean, std = (torch.tensor(one, device=images.device) for one in (network.input.mean, network.input.std))
    seen = (value - mean) / std
    return (seen.flip(0) if network.input.channel_order == "BGR" else seen).view(1, -1, 1, 1)


class _Shared(TorchFunctionMode):
    """Lets relevance be shared by what is added up or averaged, and go to the signal of a product."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Stand in for sums, means and products, and call any other function."""
        kwargs = kwargs or {}
        live = [arg for arg in args if isinstance(arg, Tensor) and arg.requires_grad]
        if func not in SUMS | MEANS | PRODUCTS or len(live) < (2 if func in SUMS else 1):
            return func(*args, **kwargs)
        out = func(*(arg.detach().clone() if isinstance(arg, Tensor) else arg for arg in args), **kwargs)
        if func in PRODUCTS:
            signal = max(live, key=_like_a_signal)
            shared = out + (signal - signal.detach())
        else:
            sizes = [arg.detach().abs() + TINY if isinstance(arg, Tensor) else arg for arg in args]
            parts = [
                size * (1 + arg - arg.detach()) if isinstance(arg, Tensor) else arg
                for size, arg in zip(sizes, args, strict=True)
            ]
            whole = (torch.add if func in IN_PLACE else func)(*parts, **kwargs)
            shared = out + (whole - whole.detach()) / whole.detach()
        return args[0].copy_(shared) if func in IN_PLACE else shared
