"""Catalogue of LRP rules by function, used by `RelevanceMode`.

To give a function a rule, add it to `rules_of`; a rule tells how one call shares out its relevance. Functions that have
none are in `REFUSED`, with the name that the message gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from featviz.apps.explain.methods.lrp.relevance import FunctionCall, Rule, Share
from featviz.apps.explain.methods.lrp.weighted import Weighted, WeightedRules, biased, folded, source
from featviz.apps.shared.operations.torch_functions import PRODUCTS, QUOTIENTS, functions_named
from featviz.network.dictionaries import above_limit

MIN_MAGNITUDE = 1e-6
"""Added to magnitudes before they are divided by their sum, as a fraction of the largest one of the image."""
TINY = 1e-30
"""Added instead where all magnitudes are 0."""


ELEMENTWISE = [
    *functions_named(
        """
    abs absolute arctan atan celu clamp clamp_max clamp_min clip elu erf exp exp2 expm1 float_power gelu hardshrink
    hardsigmoid hardswish hardtanh leaky_relu log log10 log1p log2 logsigmoid mish nan_to_num neg negative positive pow
    prelu reciprocal relu relu6 rrelu rsqrt selu sigmoid silu sinh softplus softshrink softsign sqrt square tanh
    tanhshrink threshold __abs__ __ipow__ __neg__ __pos__ __pow__ __rdiv__ __rpow__ __rtruediv__
    """
    ),
    above_limit,
]
"""Functions of one value, such as the rectifier of dictionaries. They pass all relevance to their input."""
NORMALISING = functions_named("local_response_norm normalize batch_norm softmax log_softmax")
"""Functions that divide by a statistic which counts as constant, so that each value keeps its relevance.

A softmax over classes passes it to the logits. One within an attention is a gate, which gets none."""
SUMS = functions_named("add __add__ __iadd__ __radd__")
DIFFERENCES = functions_named("sub subtract rsub __sub__ __isub__ __rsub__")
MEANS = functions_named(
    """
    mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d fold
    """
)
WITH_CONSTANTS = functions_named("addcmul addcdiv lerp")
"""Sums of products, which have a rule where only one argument depends on the image."""
CONVOLUTIONS = functions_named("conv1d conv2d conv3d", [torch])
TRANSPOSED_CONVOLUTIONS = functions_named("conv_transpose1d conv_transpose2d conv_transpose3d", [torch])
MATRIX_PRODUCTS = functions_named("matmul mm bmm mv __matmul__", [torch, Tensor])
MATRIX_SUMS = functions_named("addmm baddbmm", [torch, Tensor])

_TWO = "matmul of two activations"
_REFUSED_NAMES = {
    **{name: name for name in ("layer_norm", "group_norm", "instance_norm", "rms_norm", "einsum", "bilinear")},
    **{name: name for name in ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell")},
    **dict.fromkeys(("scaled_dot_product_attention", "multi_head_attention_forward"), "attention"),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "__matmul__"), _TWO),
}
REFUSED: Mapping[Any, str] = {
    function: text for name, text in _REFUSED_NAMES.items() for function in functions_named(name)
}
"""Functions without a rule, and their names in messages."""


def rules_of(weighted: WeightedRules) -> dict[Any, Rule]:
    """Return the rule of each function.

    Args:
        weighted: The rules of weighted sums.
    """
    weighted_rules: dict[Callable[[WeightedRules, FunctionCall], Share | None], Iterable[Any]] = {
        _convolution: CONVOLUTIONS,
        _transposed_convolution: TRANSPOSED_CONVOLUTIONS,
        _linear: [F.linear],
        _matrix_product: MATRIX_PRODUCTS,
        _matrix_sum: MATRIX_SUMS,
        _einsum: [torch.einsum],
        _batch_norm: [F.batch_norm],
        _biased: SUMS,
    }
    others: dict[Rule, Iterable[Any]] = {
        _pass_first: [*ELEMENTWISE, *NORMALISING, *QUOTIENTS],
        _sum: DIFFERENCES,
        _mean: MEANS,
        _product: PRODUCTS,
        _pass_only: WITH_CONSTANTS,
        _glu: [F.glu],
    }
    found: dict[Any, Rule] = {function: rule for rule, functions in others.items() for function in functions}
    for one, functions in weighted_rules.items():
        found |= {function: lambda call, one=one: one(weighted, call) for function in functions}
    return found


# ---------------------------------------------------------------------------------------------- values, sums, products


def _pass_to(x: Tensor) -> Share:
    """Give all relevance to one tensor, which may have been broadcast."""
    shape = x.shape
    return Share((x,), lambda relevance: (relevance.sum_to_size(shape),))


def _pass_first(call: FunctionCall) -> Share | None:
    """Give all relevance to the first argument: the value, or the numerator."""
    first = next(iter([*call.args, *call.kwargs.values()]))
    live = call.live
    if isinstance(first, Tensor) and first.requires_grad:
        return _pass_to(first)
    return _pass_to(live[0]) if len(live) == 1 else None


def _pass_only(call: FunctionCall) -> Share | None:
    return _pass_to(call.live[0]) if len(call.live) == 1 else None


def _by_magnitude(function: Callable[..., Tensor], *terms: Tensor) -> Share:
    """Distribute relevance over terms a_i by their magnitudes: R_i = |a_i| / Σ |a| R.

    The derivative of a sum of magnitudes, of any shape and with any weights, tells which terms it consists of.
    """
    sizes = [term.detach().abs() for term in terms]
    largest = [size.amax(tuple(range(1, size.ndim)), keepdim=True) if size.ndim > 1 else size.max() for size in sizes]
    sizes = [
        size + torch.where(most > 0, MIN_MAGNITUDE * most, TINY) for size, most in zip(sizes, largest, strict=True)
    ]

    def backward(relevance: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            leaves = [size.clone().requires_grad_() for size in sizes]
            total = function(*leaves)
        gradients = torch.autograd.grad(total, leaves, relevance / total.detach())
        return [size * gradient for size, gradient in zip(sizes, gradients, strict=True)]

    return Share(terms, backward)


def _sum(call: FunctionCall) -> Share:
    """Distribute over the terms of a sum or difference. A constant term gets no relevance."""
    live = call.live
    if len(live) == 1:
        return _pass_to(live[0])
    alpha = abs(call.kwargs.get("alpha", 1))
    return _by_magnitude(lambda one, other: torch.add(one, other, alpha=alpha), *live[:2])


def _mean(call: FunctionCall) -> Share:
    """Distribute over the terms of a mean, a sum along dimensions, or an average pool."""
    (x,) = call.live

    def same(size: Tensor) -> Tensor:
        args, kwargs = tree_map(lambda arg: size if arg is x else arg, (call.args, dict(call.kwargs)))
        return call.function(*args, **kwargs)  # type: ignore[no-any-return]

    return _by_magnitude(same, x)


def _signal_rank(factor: Tensor) -> tuple[int, bool]:
    """Rank the factors of a product: a gate has fewer elements than the signal, or lies within [0, 1]."""
    return factor.numel(), factor.is_complex() or bool(factor.min() < 0 or factor.max() > 1)


def signal_of(factors: Sequence[Tensor]) -> Tensor:
    """Return which factor of a product is the signal; the others are gates.

    Args:
        factors: The factors that depend on the image.
    """
    return max(factors, key=lambda factor: _signal_rank(factor.detach()))


def _product(call: FunctionCall) -> Share:
    """Give all relevance to the signal, and none to the gate."""
    return _pass_to(signal_of(call.live))


def _glu(call: FunctionCall) -> Share:
    """Give all relevance to the first half of the channels; the second half is the gate."""
    given = call.given("input", "dim")
    x, dim = given["input"], given.get("dim", -1)
    return Share((x,), lambda relevance: (torch.cat([relevance, torch.zeros_like(relevance)], dim),))


# ------------------------------------------------------------------------------------------------------- weighted sums


def _convolution(rules: WeightedRules, call: FunctionCall, *, transposed: bool = False) -> Share | None:
    given = call.given("input", "weight", "bias")
    x, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
    if not x.requires_grad:  # the kernel only depends on the image
        return None
    rest = call.args[3:]
    module = Weighted(lambda y, w, b: call.function(y, w, b, *rest, **given), weight, bias)
    groups = given.get("groups", call.args[6] if len(call.args) > 6 else 1)
    depthwise = not transposed and weight.shape[1] == 1 and groups > 1
    # The weight of a transposed convolution counts input channels first, and output channels within each group.
    outputs = 0 if not transposed else 1 if groups == 1 else None
    return rules.share(rules.operation(x, module, "convolution", depthwise=depthwise, outputs=outputs))


def _transposed_convolution(rules: WeightedRules, call: FunctionCall) -> Share | None:
    return _convolution(rules, call, transposed=True)


def _dense(
    rules: WeightedRules,
    x: Tensor,
    function: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    weight: Tensor,
    bias: Tensor | None = None,
    outputs: int | None = None,
) -> Share:
    module = Weighted(function, weight, bias)
    return rules.share(rules.operation(x, module, "dense", depthwise=False, outputs=outputs))


def _linear(rules: WeightedRules, call: FunctionCall) -> Share | None:
    given = call.given("input", "weight", "bias")
    x = given["input"]
    if not x.requires_grad:
        return None
    return _dense(rules, x, F.linear, given["weight"], given.get("bias"), outputs=0 if x.ndim == 2 else None)


def _matrix_product(rules: WeightedRules, call: FunctionCall) -> Share | None:
    """Return the rule of a product with a constant matrix on either side; there is none for two activations."""
    one, other = [*call.args, *call.kwargs.values()]
    if one.requires_grad and other.requires_grad:
        return None
    if one.requires_grad:
        return _dense(rules, one, lambda y, w, _: torch.matmul(y, w), other)
    return _dense(rules, other, lambda y, w, _: torch.matmul(w, y), one)


def _matrix_sum(rules: WeightedRules, call: FunctionCall) -> Share | None:
    """Return the rule of a constant plus a product with a constant matrix."""
    given = call.given("input", "mat1", "mat2")
    bias, beta, alpha = given["input"], given.get("beta", 1), given.get("alpha", 1)
    one, other = (given[name] if name in given else given[f"batch{name[-1]}"] for name in ("mat1", "mat2"))
    if bias.requires_grad or (one.requires_grad and other.requires_grad):
        return None
    if one.requires_grad:
        return _dense(rules, one, lambda y, w, b: alpha * torch.matmul(y, w) + b, other, beta * bias)
    return _dense(rules, other, lambda y, w, b: alpha * torch.matmul(w, y) + b, one, beta * bias)


def _einsum(rules: WeightedRules, call: FunctionCall) -> Share | None:
    """Return the rule of a sum of products with a constant; there is none for two activations."""
    equation, *operands = call.args
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    if not isinstance(equation, str) or len(operands) != 2 or len(call.live) != 1:
        return None
    one, other = operands
    if one.requires_grad:
        return _dense(rules, one, lambda y, w, _: torch.einsum(equation, y, w), other)
    return _dense(rules, other, lambda y, w, _: torch.einsum(equation, w, y), one)


def _batch_norm(rules: WeightedRules, call: FunctionCall) -> Share | None:
    """Fold a normalisation by running statistics into the weighted sum that it follows; otherwise pass relevance on.

    The weighted sum's own output may be used elsewhere, too: relevance that comes from there takes its own rule.
    """
    given = call.given("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    x, operation = given["input"], source(given["input"])
    if operation is None or operation.outputs is None or given.get("training") or given["running_mean"] is None:
        return _pass_to(x)
    scale = (given["running_var"] + given.get("eps", 1e-5)).rsqrt()
    scale = scale if given.get("weight") is None else scale * given["weight"]
    shift = -given["running_mean"] * scale
    shift = shift if given.get("bias") is None else shift + given["bias"]
    return rules.share(folded(operation, scale, shift))


def _biased(rules: WeightedRules, call: FunctionCall) -> Share:
    """Take a constant that is added to a weighted sum without a bias for its bias; other sums share by magnitude."""
    terms = [*call.args, *call.kwargs.values()][:2]
    (x, *others) = call.live
    constant = next((term for term in terms if isinstance(term, Tensor) and not term.requires_grad), None)
    operation = source(x)
    if others or constant is None or operation is None or operation.module.bias is not None or "alpha" in call.kwargs:
        return _sum(call)
    return rules.share(biased(operation, constant))
