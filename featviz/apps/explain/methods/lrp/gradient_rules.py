"""LRP as gradient times input: run functions as they are, with another gradient.

Each rule returns the output of one call. Its gradient, multiplied by the inputs, is the relevance that the call gives
them. So autograd propagates relevance, through attention, normalisation and time steps alike. To give a function a
rule, add it to `gradient_rules`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from featviz.apps.explain.methods.lrp.catalogue import MATRIX_PRODUCTS, signal_of
from featviz.apps.explain.methods.lrp.compositions import COMPOSED
from featviz.apps.explain.methods.lrp.relevance import FunctionCall
from featviz.apps.shared.operations.attention_functions import fused_weights, mixed_values
from featviz.apps.shared.operations.normalisations import NORMALISATIONS
from featviz.apps.shared.operations.torch_functions import PRODUCTS, QUOTIENTS, functions_named

MIN_INPUT = 1e-6
"""Magnitude to which the input of an activation function is raised before the output is divided by it."""
ROW_TOLERANCE = 1e-2
"""Largest deviation of the sum of a query's attention weights from 1. In bfloat16 they are that inexact."""

ACTIVATIONS = functions_named(
    """
    arctan atan celu elu erf expm1 gelu hardshrink hardswish hardtanh log1p mish relu6 selu silu sinh softshrink
    softsign tanh tanhshrink
    """
)
"""Functions of one value with f(0) = 0. ReLU and its leaky variants are missing: their gradient is f(x) / x already."""
STATISTICS = functions_named("reciprocal rsqrt std std_mean var var_mean")
"""Functions whose output only scales a value, as in a normalisation that is written out. They count as constant."""
POWERS = functions_named("float_power pow __pow__")

Replacement = Callable[[FunctionCall], Any]
"""Returns the output of a call, with the gradient of a rule."""


@dataclass(frozen=True)
class GradientRules:
    """Which relevance the factors of a product get, and how weighted sums distribute theirs.

    Args:
        halves: Give each of two factors half of the relevance of their product, as AttnLRP does. If false, attention
            weights and other gates count as constant, as in CP-LRP, and the signal gets everything.
        gamma: Extra weight of the contributions that have the sign of a weighted sum, >= 0.
        epsilon: Added to the magnitudes of weighted sums, as a fraction of their root mean square, >= 0.
    """

    halves: bool
    gamma: float = 0.0
    epsilon: float = 0.0


class GradientMode(TorchFunctionMode):
    """Replace functions by ones with the same output, whose gradient times input is relevance.

    Args:
        rules: What to do where there is a choice.
    """

    def __init__(self, rules: GradientRules) -> None:
        super().__init__()
        self.replaced, self.composed = gradient_rules(rules), COMPOSED

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or what replaces it where an argument depends on the image."""
        call = FunctionCall(func, args, kwargs or {})
        if not torch.is_grad_enabled() or (func not in self.replaced and func not in self.composed) or not call.live:
            return func(*args, **call.kwargs)
        if func in self.composed:
            with self:  # the functions that it is composed of have rules of their own
                return self.composed[func](*args, **call.kwargs)
        return _written_back(call, self.replaced[func]) if _may_write(func) else self.replaced[func](call)


@cache
def _may_write(function: Callable[..., Any]) -> bool:
    """Whether a function can write to its first argument: it is named so, or has an argument `inplace`."""
    name = function.__name__
    if name.startswith("__i") or (name.endswith("_") and not name.endswith("__")):
        return True
    try:
        return inspect.isfunction(function) and "inplace" in inspect.signature(function).parameters
    except ValueError:  # a wrapped builtin without a signature, such as `Tensor.__pow__`
        return False


def _written_back(call: FunctionCall, rule: Replacement) -> Any:
    """Return the result of a rule. If the call is in place, also write it to the caller's tensor."""
    first = call.args[0] if call.args else None
    if not isinstance(first, Tensor):
        return rule(call)
    # The version counter of a copy tells whether the call writes, be it relu6_, *= or an argument `inplace`.
    probe, copy = first.detach().clone(), first.clone()
    before = probe._version
    with torch.no_grad():
        call.function(probe, *call.args[1:], **call.kwargs)
    if probe._version == before:
        return rule(call)
    return first.copy_(rule(FunctionCall(call.function, (copy, *call.args[1:]), call.kwargs)))


def gradient_rules(rules: GradientRules) -> dict[Any, Replacement]:
    """Return the rule of each function.

    Args:
        rules: What to do where there is a choice.
    """
    found: list[tuple[Replacement, Iterable[Any]]] = [
        (_activation, [*ACTIVATIONS, *functions_named("local_response_norm normalize")]),
        (_constant, STATISTICS),
        (_power, POWERS),
        (_quotient, QUOTIENTS),
        *((_replaced_by(constant), [function]) for function, constant in NORMALISATIONS.items()),
        (lambda call: _product(rules, call), PRODUCTS),
        (lambda call: _matrix_product(rules, call), [*MATRIX_PRODUCTS, torch.einsum]),
        (lambda call: _attention(rules, call), [F.scaled_dot_product_attention]),
    ]
    if rules.gamma or rules.epsilon:
        found.append((lambda call: _weighted_sum(rules, call), WEIGHTED_SUMS))
    return {function: rule for rule, functions in found for function in functions}


def _replaced_by(function: Callable[..., Tensor]) -> Replacement:
    """Return the rule of a function with the same arguments."""
    return lambda call: function(*call.args, **call.kwargs)


# ------------------------------------------------------------------------------------------------------ single values


def _activation(call: FunctionCall) -> Tensor:
    """Return x · (f(x) / x) with a constant factor, so that x gets all relevance of f(x)."""
    x = call.live[0]
    with torch.no_grad():
        out = _with_argument(call, x, x.clone())  # a copy, as the function may work in place
    # Near 0 both are small, so that the error of the factor is one of a small relevance.
    magnitude = torch.where(x.detach() < 0, -1, 1) * x.detach().abs().clamp(min=MIN_INPUT)
    return _Value.apply(x * (out / magnitude), out)  # type: ignore[no-any-return]


class _Value(torch.autograd.Function):
    """Identity for autograd that restores the value before rounding."""

    @staticmethod
    def forward(_: Any, made: Tensor, exact: Tensor) -> Tensor:  # noqa: ARG004
        return exact.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


class _Scaled(torch.autograd.Function):
    """The identity, which multiplies the gradient by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float | Tensor) -> Tensor:
        ctx.factor = factor
        return x.clone()  # a view could not be changed in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.factor, None


def _scaled(x: Any, factor: float) -> Any:
    return _Scaled.apply(x, factor) if isinstance(x, Tensor) and x.requires_grad else x  # type: ignore[no-untyped-call]


def _constant(call: FunctionCall) -> Any:
    """Return the output as a constant."""
    with torch.no_grad():
        return call.function(*call.args, **call.kwargs)


def _power(call: FunctionCall) -> Any:
    """Return a negative power, such as 1 / √x, as a constant; another one as it is."""
    exponent = call.given("input", "exponent").get("exponent")
    if isinstance(exponent, int | float) and exponent < 0:
        return _constant(call)
    return call.function(*call.args, **call.kwargs)


def _with_argument(call: FunctionCall, argument: Tensor, instead: Tensor) -> Any:
    """Call the function with another tensor in place of one of its arguments."""
    args, kwargs = tree_map(lambda arg: instead if arg is argument else arg, (call.args, dict(call.kwargs)))
    return call.function(*args, **kwargs)


def _without_gradient(call: FunctionCall, constant: Tensor) -> Any:
    """Call the function with one of its arguments as a constant."""
    return _with_argument(call, constant, constant.detach())


# ------------------------------------------------------------------------------------------------- products, quotients


def _quotient(call: FunctionCall) -> Any:
    """Give the numerator all relevance: the denominator counts as constant."""
    numerator = next(iter([*call.args, *call.kwargs.values()]))
    _, denominator = [*call.args, *call.kwargs.values()][:2]
    if len(call.live) < 2 or numerator is denominator:
        return call.function(*call.args, **call.kwargs)
    return _without_gradient(call, denominator)


def _product(rules: GradientRules, call: FunctionCall) -> Any:
    """Give each of two factors half of the relevance, or the signal all of it."""
    if len(call.live) < 2:
        return call.function(*call.args, **call.kwargs)
    if rules.halves or call.live[0] is call.live[1]:
        return _halved(call)
    signal = signal_of(call.live)
    return _without_gradient(call, next(factor for factor in call.live if factor is not signal))


def _matrix_product(rules: GradientRules, call: FunctionCall) -> Any:
    """Give each of two factors half of the relevance. Attention weights may count as constant."""
    if len(call.live) < 2:
        return _constant_product(rules, call)
    if not rules.halves:
        weights = next((factor for factor in call.live if are_attention_weights(factor)), None)
        if weights is not None:
            return _without_gradient(call, weights)
    return _halved(call)


def _constant_product(rules: GradientRules, call: FunctionCall) -> Any:
    """Return a product with a constant matrix, which is a weighted sum."""
    x = call.live[0]
    factors = [arg for arg in tree_leaves((call.args, dict(call.kwargs))) if isinstance(arg, Tensor)]
    if len(factors) != 2:
        return call.function(*call.args, **call.kwargs)
    weight = factors[1] if factors[0] is x else factors[0]

    def summed(inputs: Tensor, weights: Tensor, _: Tensor | None = None) -> Tensor:
        def instead(arg: Any) -> Any:
            return inputs if arg is x else weights if arg is weight else arg

        args, kwargs = tree_map(instead, (call.args, dict(call.kwargs)))
        return call.function(*args, **kwargs)  # type: ignore[no-any-return]

    return _distributed(rules, summed, x, weight, None)


def _halved(call: FunctionCall) -> Any:
    args, kwargs = tree_map(lambda arg: _scaled(arg, 0.5), (call.args, dict(call.kwargs)))
    return call.function(*args, **kwargs)


def are_attention_weights(matrix: Tensor) -> bool:
    """Whether each row is >= 0 and adds up to 1, as the result of a softmax does.

    Args:
        matrix: Any tensor.
    """
    rows = matrix.detach()
    return rows.ndim > 1 and bool((rows >= 0).all()) and bool(((rows.sum(-1) - 1).abs() < ROW_TOLERANCE).all())


def _attention(rules: GradientRules, call: FunctionCall) -> Tensor:
    """Return fused attention whose weights count as constant, or get half of the relevance.

    The values get the other half. Queries and keys share that of the weights: a quarter each.
    """
    given = call.given("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    if rules.halves:
        given |= {name: _scaled(given[name], factor) for name, factor in (("query", 1 / 4), ("key", 1 / 4))}
        return F.scaled_dot_product_attention(**given | {"value": _scaled(given["value"], 1 / 2)})
    with torch.no_grad():
        weights = fused_weights(**given)
    return mixed_values(weights, **given)


# ------------------------------------------------------------------------------------------------------ weighted sums

WEIGHTED_SUMS = functions_named(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear", [torch, F]
)


def _weighted_sum(rules: GradientRules, call: FunctionCall) -> Tensor:
    """Return a linear layer or convolution whose inputs get relevance by the rules gamma and epsilon."""
    given = call.given("input", "weight", "bias")
    x, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
    rest = call.args[3:]
    if not x.requires_grad or weight.requires_grad:
        return call.function(*call.args, **call.kwargs)  # type: ignore[no-any-return]

    def summed(inputs: Tensor, weights: Tensor, offset: Tensor | None = None) -> Tensor:
        return call.function(inputs, weights, offset, *rest, **given)  # type: ignore[no-any-return]

    return _distributed(rules, summed, x, weight, bias)


def _distributed(
    rules: GradientRules,
    summed: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """Return a weighted sum whose inputs get relevance by the rules gamma and epsilon.

    R_i = Σ_j z_ij / (z_j + ε rms(z) sign(z_j)) R_j with z_j = Σ_i z_ij + b_j, where contributions z_ij and the bias b_j
    count 1 + gamma times if they have the sign of the sum.

    Source: Andéol et al. 2021, https://arxiv.org/abs/2106.13200, for gamma with inputs and outputs of any sign.
    """
    plain = summed(x, weight, bias)
    if not rules.gamma and not rules.epsilon:
        return plain
    boosted, gamma = plain, rules.gamma
    if gamma:
        above, below, up, down = x.clamp(min=0), x.clamp(max=0), weight.clamp(min=0), weight.clamp(max=0)
        positive = summed(above, up, None if bias is None else bias.clamp(min=0)) + summed(below, down, None)
        negative = summed(above, down, None if bias is None else bias.clamp(max=0)) + summed(below, up, None)
        boosted = plain + gamma * torch.where(plain > 0, positive, negative)
    with torch.no_grad():
        size = boosted.abs().to(torch.promote_types(boosted.dtype, torch.float32))  # the square could overflow
        stable = size + rules.epsilon * size.square().mean().sqrt() + torch.finfo(size.dtype).tiny
        share = (torch.where(boosted < 0, -1, 1) * plain / stable).to(plain.dtype)
    return _Value.apply(boosted * share, plain)  # type: ignore[no-any-return]
