"""Normalisations whose denominator counts as constant, with the arguments of PyTorch's functions.

Outputs are those of the functions. Gradients are those of a linear map of the centred input.
"""

# ruff: noqa: A002  (`input` is PyTorch's name)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> Tensor:
    """Compute `F.layer_norm` with a constant standard deviation."""
    return _affine(_normalised(input, _last_dims(normalized_shape), eps), weight, bias)


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Compute `F.rms_norm` with a constant root mean square."""
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(_normalised(input, _last_dims(normalized_shape), eps, centred=False), weight, None)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> Tensor:
    """Compute `F.group_norm` with constant standard deviations."""
    grouped = input.unflatten(1, (num_groups, -1))
    normalised = _normalised(grouped, tuple(range(2, grouped.ndim)), eps).flatten(1, 2)
    return _affine_by_channel(normalised, weight, bias)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `F.instance_norm` with constant standard deviations. Running statistics are constants already."""
    if not use_input_stats:
        return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    normalised = _normalised(input, tuple(range(2, input.ndim)), eps)
    return _affine_by_channel(normalised, weight, bias)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `F.batch_norm` with constant standard deviations. Running statistics are constants already."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    normalised = _normalised(input, (0, *range(2, input.ndim)), eps)
    return _affine_by_channel(normalised, weight, bias)


def _normalised(x: Tensor, dims: tuple[int, ...], eps: float, *, centred: bool = True) -> Tensor:
    """Return (x - mean) / √(variance + eps) over some dimensions, where the denominator counts as constant."""
    mean = x.mean(dims, keepdim=True) if centred else torch.zeros((), dtype=x.dtype, device=x.device)
    variance = (x - mean).detach().square().mean(dims, keepdim=True)
    return (x - mean) * (variance + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _last_dims(shape: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-(1 if isinstance(shape, int) else len(shape)), 0))


def _affine_by_channel(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    shape = (-1, *[1] * (x.ndim - 2))
    return _affine(x, *(None if each is None else each.view(shape) for each in (weight, bias)))


def _in_order_of_torch(function: Callable[..., Tensor], flag: str) -> Callable[..., Tensor]:
    """Return a function with the order of arguments of `torch.batch_norm`, which is not that of `F.batch_norm`."""
    names = ("input", "weight", "bias", "running_mean", "running_var", flag, "momentum", "eps", "cudnn_enabled")

    def run(*args: Any, **kwargs: Any) -> Tensor:
        given = dict(zip(names, args, strict=False)) | kwargs
        given.pop("cudnn_enabled", None)
        return function(**given)

    return run


def normalize(
    input: Tensor,
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    out: Tensor | None = None,  # noqa: ARG001
) -> Tensor:
    """Compute `F.normalize` with a constant norm."""
    return input / input.detach().norm(p, dim, keepdim=True).clamp_min(eps)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Compute `F.local_response_norm` with a constant denominator."""
    squares = F.pad(input.detach().square().movedim(1, -1), (size // 2, (size - 1) // 2))
    means = squares.unfold(-1, size, 1).mean(-1).movedim(-1, 1)
    return input / (k + alpha * means) ** beta


NORMALISATIONS: Mapping[Callable[..., Any], Callable[..., Tensor]] = {
    F.layer_norm: layer_norm, torch.layer_norm: layer_norm, F.rms_norm: rms_norm, torch.rms_norm: rms_norm,
    F.group_norm: group_norm, torch.group_norm: group_norm,
    F.instance_norm: instance_norm, torch.instance_norm: _in_order_of_torch(instance_norm, "use_input_stats"),
}  # fmt: skip
"""The function of this module for each one of PyTorch, without batch normalisation."""
BATCH_NORMALISATIONS: Mapping[Callable[..., Any], Callable[..., Tensor]] = {
    F.batch_norm: batch_norm, torch.batch_norm: _in_order_of_torch(batch_norm, "training"),
}  # fmt: skip
"""As `NORMALISATIONS`, for batch normalisation."""
LENGTHS: Mapping[Callable[..., Any], Callable[..., Tensor]] = {
    F.normalize: normalize, F.local_response_norm: local_response_norm,
}  # fmt: skip
"""As `NORMALISATIONS`, for division by the length of a vector or of neighbouring channels."""
