"""The attention functions of PyTorch; fused ones composed of functions that can be recorded and given rules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError

SOFTMAXES = frozenset((torch.softmax, Tensor.softmax, F.softmax, torch.special.softmax))
"""The functions that compute a softmax."""
FUSED_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
"""Names of the arguments of `F.scaled_dot_product_attention`."""


def fused_logits(
    query: Float[Tensor, "*n queries d"],
    key: Float[Tensor, "*m tokens d"],
    value: Tensor,  # noqa: ARG001
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "*n queries tokens"]:
    """Return the logits whose softmax `F.scaled_dot_product_attention` computes; negative infinity where hidden.

    Args:
        query: The queries.
        key: The keys.
        value: The values, which do not matter.
        attn_mask: Boolean, true where a query may read; or numbers that are added to the logits.
        dropout_p: Ignored; it is 0 in eval mode.
        is_causal: Let each query read the tokens up to its own index only.
        scale: Factor of the products; `None` for 1 / √d.
        enable_gqa: Let several heads of queries share one head of keys.

    Source: the documentation of `torch.nn.functional.scaled_dot_product_attention`.
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is None:
        return logits
    return logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask


def fused_weights(*args: Any, **kwargs: Any) -> Float[Tensor, "*n queries tokens"]:
    """Return the weights that `F.scaled_dot_product_attention` computes and does not return.

    Args:
        args: The positional arguments of the function.
        kwargs: Its keyword arguments.
    """
    logits = fused_logits(*args, **kwargs)
    # A query that may read nothing reads nothing, where a softmax would be NaN.
    return logits.softmax(-1).masked_fill(logits.isneginf().all(-1, keepdim=True), 0)


def mixed_values(weights: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return the output of `F.scaled_dot_product_attention`, given the weights.

    Args:
        weights: The attention weights, from `fused_weights`.
        args: The positional arguments of the function.
        kwargs: Its keyword arguments.
    """
    given = dict(zip(FUSED_ARGUMENTS, args, strict=False)) | kwargs
    value = given["value"]
    if given.get("enable_gqa"):
        value = value.repeat_interleave(weights.shape[-3] // value.shape[-3], -3)
    return torch.matmul(weights, value)


def _arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def multi_head_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """Compute `F.multi_head_attention_forward` by linear layers and fused attention.

    Raises:
        SettingError: The function adds keys and values of its own (`bias_k`, `add_zero_attn` or `static_k`).
    """
    given = _arguments(args, kwargs)
    if given["bias_k"] is not None or given["add_zero_attn"] or given["static_k"] is not None:
        raise SettingError("attention that adds keys and values of its own cannot be followed; use GradCAM or Gradient")
    heads, single = given["num_heads"], given["query"].ndim == 2  # (tokens, channels) without a batch
    query, key, value = (
        _heads_first(F.linear(given[name][:, None] if single else given[name], weight, bias), heads)
        for name, (weight, bias) in zip(("query", "key", "value"), _projections(given), strict=True)
    )
    mask = _mask(given, query, key)
    mixed = F.scaled_dot_product_attention(query, key, value, mask)
    out = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
    with torch.no_grad(), torch._C.DisableTorchFunction():  # so that no mode sees the same softmax twice
        weights = fused_weights(query, key, value, mask) if given["need_weights"] else None
    if weights is not None and given["average_attn_weights"]:
        weights = weights.mean(1)
    return (out[:, 0], None if weights is None else weights[0]) if single else (out, weights)


def _projections(given: Mapping[str, Any]) -> list[tuple[Tensor, Tensor | None]]:
    """Return weight and bias of the queries, keys and values."""
    if given["use_separate_proj_weight"]:
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    biases = [None] * 3 if given["in_proj_bias"] is None else list(given["in_proj_bias"].chunk(3))
    return list(zip(weights, biases, strict=True))


def _heads_first(tokens: Tensor, heads: int) -> Tensor:
    """Turn (tokens, n, channels) into (n, heads, tokens, channels of a head)."""
    return tokens.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)


def _mask(given: Mapping[str, Any], query: Tensor, key: Tensor) -> Tensor | None:
    """Return the bias of the attention logits, (n, heads, queries, tokens)."""
    shape = (*query.shape[:2], query.shape[2], key.shape[2])
    mask, padding = given["attn_mask"], given["key_padding_mask"]
    found = None
    if mask is not None:
        mask = mask.unflatten(0, shape[:2]) if mask.ndim == 3 else mask
        found = _as_logits(mask, query).expand(shape)
    if padding is not None:
        padding = _as_logits(padding, query).view(-1, 1, 1, shape[-1])
        found = padding.expand(shape) if found is None else found + padding
    return found


def _as_logits(mask: Tensor, like: Tensor) -> Tensor:
    """Return a boolean mask, true where a token is hidden, as numbers to add to logits."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, -torch.inf)
