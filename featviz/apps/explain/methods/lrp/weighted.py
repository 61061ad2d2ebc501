"""LRP rules of weighted sums, by zennit: convolutions, and products with a constant matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

import featviz as fv
from featviz.apps.explain.methods.lrp.relevance import Share, share_of, walk

Kind = Literal["convolution", "dense"]


@dataclass(frozen=True)
class Composite:
    """Which rule each weighted sum gets.

    Args:
        convolution: Rule of convolutions.
        dense: Rule of fully connected layers and other matrix products.
        first_convolution: Rule of convolutions that read the image; `None` for that of the others.
        first_dense: Rule of fully connected layers that read the image; `None` for that of the others.
    """

    convolution: str
    dense: str
    first_convolution: str | None = None
    first_dense: str | None = None

    def rule(self, kind: Kind, *, first: bool) -> str:
        """Return the name of the rule of one weighted sum."""
        special = self.first_convolution if kind == "convolution" else self.first_dense
        usual = self.convolution if kind == "convolution" else self.dense
        return special if first and special else usual

    def keeps_sign(self, *, dense: bool) -> bool:
        """Return whether inputs with a positive contribution to a negative output get positive relevance.

        With relevance R_j = z_j, those rules give R_i = z_ij z_j / z_j. The others divide by a sum of another sign.

        Args:
            dense: Whether the output is that of a fully connected layer instead of a convolution.
        """
        return (self.dense if dense else self.convolution) in ("epsilon", "gamma")

    @property
    def needs_bounds(self) -> bool:
        """Whether a rule needs to know the range of the first layer's input."""
        return "box" in f"{self.first_convolution} {self.first_dense}"


COMPOSITES = {
    "epsilon": Composite("epsilon", "epsilon"),
    "gamma": Composite("gamma", "gamma"),
    "zplus": Composite("zplus", "zplus"),
    "alphabeta": Composite("alphabeta", "alphabeta"),
    "flat": Composite("flat", "flat"),
    "deep_taylor": Composite("zplus", "zplus", "box", "box"),
    "epsilon_plus": Composite("zplus", "epsilon"),
    "epsilon_plus_flat": Composite("zplus", "epsilon", "flat", "flat"),
    "epsilon_gamma_box": Composite("gamma", "epsilon", "epsilon_box"),
    "epsilon_alpha2_beta1": Composite("alphabeta", "epsilon"),
    "epsilon_alpha2_beta1_flat": Composite("alphabeta", "epsilon", "flat", "flat"),
}
"""The rules and composites by name. Source: `zennit.composites`."""
RULES = tuple(COMPOSITES)

STABILIZER = 1e-6
"""Added to the denominators of rules that conserve relevance, as a fraction of their root mean square."""

Bounds = tuple[Tensor, Tensor]
"""Smallest and largest input of a first layer, in its shape."""


class Weighted(nn.Module):
    """A weighted sum with weight and bias of its own, in the form that zennit's rules change and run again.

    Args:
        function: Returns the output, given the input, the weight and the bias.
        weight: The weight.
        bias: The bias; `None` for none.
    """

    def __init__(
        self, function: Callable[[Tensor, Tensor, Tensor | None], Tensor], weight: Tensor, bias: Tensor | None
    ) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sums."""
        return self.function(x, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Operation:
    """One call of a weighted sum.

    Args:
        x: Its input.
        module: What it computes.
        kind: Convolution or matrix product.
        rule: Name of its rule.
        bounds: Range of the input, where it reads the image and the range is known.
        outputs: Dimension of the weight that counts output channels; `None` where a normalisation of the output's
            dimension 1 cannot be folded into the weight.
    """

    x: Tensor
    module: Weighted
    kind: Kind
    rule: str
    bounds: Bounds | None = None
    outputs: int | None = None


class WeightedRules:
    """The rules of all weighted sums in one pass.

    Args:
        composite: Name of a composite in `COMPOSITES`.
        epsilon: ε as a fraction of the root mean square of the outputs.
        gamma: Extra weight of positive weights.
        bias: Let biases absorb their share.
        bounds: Range of the input of each first layer, in execution order; `None` to only note the inputs.
    """

    def __init__(
        self, composite: str, epsilon: float, gamma: float, bias: bool, bounds: Sequence[Bounds] | None = None
    ) -> None:
        self.composite, self.epsilon, self.gamma, self.bias = COMPOSITES[composite], epsilon, gamma, bias
        self.bounds = bounds
        self.first_inputs: list[Tensor] = []
        """Inputs of the first layers of this pass."""

    def operation(self, x: Tensor, module: Weighted, kind: Kind, *, depthwise: bool, outputs: int | None) -> Operation:
        """Choose the rule of a weighted sum.

        Args:
            x: Its input.
            module: What it computes.
            kind: Convolution or matrix product.
            depthwise: Whether each output has the inputs of one channel only.
            outputs: Dimension of the weight that counts output channels, if a normalisation can be folded into it.
        """
        bounds = None
        first = not any(isinstance(_source(node), Operation) for node in walk([x]))
        if first:
            number = len(self.first_inputs)
            self.first_inputs.append(x.detach())
            bounds = self.bounds[number] if self.bounds and number < len(self.bounds) else None
        rule = self.composite.rule(kind, first=first)
        # A depthwise output has the inputs of one kernel only. If all its weights are negative, zplus and its kin
        # would divide by 0.
        if depthwise and self.composite != COMPOSITES["epsilon"]:
            rule = "flat"
        return Operation(x, module, kind, rule, bounds, outputs)

    def share(self, operation: Operation) -> Share:
        """Return how a weighted sum distributes relevance."""
        dtype = operation.module.weight.dtype  # the input has another one where a module uses autocast
        x = operation.x.detach().to(dtype)

        def backward(relevance: Tensor) -> tuple[Tensor]:
            hook = self._hook(operation.rule, operation.bounds or (x, x))
            # What zennit's hooks do on a module, without hooks: give the rule the input, and ask for its relevance.
            hook.stored_tensors["input"] = (x,)
            (found,) = hook.backward(operation.module, (x,), (relevance.to(dtype),))
            return (found.to(operation.x.dtype),)

        return Share((operation.x,), backward, operation)

    def _hook(self, rule: str, bounds: Bounds) -> Any:
        rules, core = zennit()
        zero = {} if self.bias else {"zero_params": ["bias"]}
        stabilizer = core.Stabilizer(self.epsilon, norm_scale=True)
        known: Mapping[str, Callable[[], Any]] = {
            "epsilon": lambda: rules.Epsilon(stabilizer, **zero),
            "gamma": lambda: rules.Gamma(self.gamma, stabilizer, **zero),
            "zplus": lambda: rules.ZPlus(_stabilized, **zero),
            "alphabeta": lambda: rules.AlphaBeta(2, 1, _stabilized, **zero),
            "flat": lambda: rules.Flat(**zero),
            "box": lambda: rules.ZBox(*bounds, _stabilized, **zero),
            "epsilon_box": lambda: rules.ZBox(*bounds, stabilizer, **zero),
        }
        return known[rule]()


def _stabilized(z: Tensor) -> Tensor:
    """Return denominators that are not 0. A fixed summand would absorb relevance where activations are small."""
    scale = z.square().mean(tuple(range(1, z.ndim)), keepdim=True).sqrt()
    return z + torch.where(z < 0, -1, 1) * (STABILIZER * scale + torch.finfo(z.dtype).tiny)


def folded(operation: Operation, scale: Tensor, shift: Tensor) -> Operation:
    """Return a weighted sum whose output is also multiplied by `scale` and increased by `shift`, per channel.

    `scale * (W x + b) + shift` is the weighted sum `(scale * W) x + (scale * b + shift)`: the rule sees both as one.

    Args:
        operation: The weighted sum, whose `outputs` is known.
        scale: One number per output channel.
        shift: One number per output channel.
    """
    module = operation.module
    shape = [-1 if dim == operation.outputs else 1 for dim in range(module.weight.ndim)]
    bias = shift if module.bias is None else scale * module.bias + shift
    return replace(operation, module=Weighted(module.function, scale.view(shape) * module.weight, bias))


def biased(operation: Operation, bias: Tensor) -> Operation:
    """Return a weighted sum without a bias as one with a bias.

    Args:
        operation: The weighted sum.
        bias: A constant, which is broadcast.
    """
    function = operation.module.function

    def added(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return function(x, weight, None) if bias is None else function(x, weight, None) + bias

    return replace(operation, module=Weighted(added, operation.module.weight, bias), outputs=None)


def source(x: Tensor) -> Operation | None:
    """Return the weighted sum whose output a tensor is; `None` if it is not one."""
    found = _source(x.grad_fn)
    return found if isinstance(found, Operation) else None


def _source(node: Any) -> object:
    share = share_of(node)
    return share and share.source


def bounds_between(low: Sequence[Tensor], high: Sequence[Tensor]) -> list[Bounds]:
    """Return the range of each first layer's input, given the inputs for black and for white images.

    Args:
        low: Inputs of the first layers for black images.
        high: Inputs of the first layers for white images.
    """
    return [(torch.minimum(one, other), torch.maximum(one, other)) for one, other in zip(low, high, strict=True)]


def zennit() -> tuple[Any, Any]:
    """Import the rules of zennit and what they are made of.

    Raises:
        SettingError: zennit is not installed.
    """
    try:
        from zennit import core, rules
    except ImportError as error:
        raise fv.SettingError("zennit is not installed; run: pip install 'featviz[explain]'") from error
    return rules, core
