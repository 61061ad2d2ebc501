"""Make the gradients of a network those of its linearisation; outputs stay the same.

Between two layers a linearised network is a matrix, whose rows are the expanded weights of the units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from featviz.apps.shared.attention_functions import SOFTMAXES, multi_head_attention
from featviz.network import Rectifying
from featviz.network.gradients import LEAKY_RECTIFIERS, RECTIFIERS

Function = Callable[..., Any]

TANHS: Set[Function] = frozenset((torch.tanh, Tensor.tanh, F.tanh))
IDENTITIES: Set[Function] = (RECTIFIERS | LEAKY_RECTIFIERS | TANHS) - {F.hardsigmoid}
"""Activation functions whose gradient is replaced by that of the identity."""
GATES: Set[Function] = frozenset((torch.sigmoid, Tensor.sigmoid, F.sigmoid, F.hardsigmoid))
"""Functions that are constants where another value is multiplied by them, as in squeeze-and-excitation."""
PRODUCTS: Set[Function] = frozenset(
    (torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__)
)
MAX_POOLS: Set[Function] = frozenset(
    (F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
)
ADAPTIVE_MAX_POOLS: Set[Function] = frozenset((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d))
POOL_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


@contextmanager
def linearised() -> Iterator[None]:
    """Make the gradients of all passes within a context those of the linearised network.

    - Activation functions have the gradient of the identity, max pools that of average pools.
    - Attention weights, gates by a sigmoid and the standard deviation of a layer normalisation are constants, as they
      are for the given image.
    - Everything else in evaluation mode is linear: batch normalisation is folded by the chain rule.

    Source: Voss et al. 2021, https://doi.org/10.23915/distill.00024.006, "Expanded Weights".
    Differs: gates, attention and layer normalisation, which InceptionV1 does not have, are constants.
    """
    with Rectifying(lambda x, rectifier: _with_gradient_of(rectifier(x.detach()), x), IDENTITIES), _Linearise():
        yield


class _Linearise(TorchFunctionMode):
    """Replaces the gradients of pools, gates, attention and layer normalisation while the context is open."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: list[Tensor] = []  # kept, so that no other tensor gets their memory

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace a function of the catalogue, and call any other one."""
        kwargs = kwargs or {}
        if func in MAX_POOLS:
            return _with_average_gradient(func, args, kwargs)
        if func in ADAPTIVE_MAX_POOLS:
            pooled = func(*args, **kwargs)
            return _with_gradient_of(pooled, _adaptive_average(args[0], pooled.shape[2:]))
        if func in SOFTMAXES:
            return func(*args, **kwargs).detach()
        if func in GATES:
            self._gates.append(func(*args, **kwargs))
            return self._gates[-1]
        if func in PRODUCTS:
            return func(*(self._constant(each, len(args)) for each in args), **kwargs)
        if func is F.layer_norm:
            return _layer_norm(*args, **kwargs)
        if func is F.group_norm:
            return _group_norm(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            query, key, *rest = args
            return func(query.detach(), key.detach(), *rest, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:  # its parts are replaced
                return multi_head_attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _constant(self, value: Any, count: int) -> Any:
        """Return a gate without its gradient, and any other factor unchanged."""
        return value.detach() if count == 2 and any(value is gate for gate in self._gates) else value


def _with_gradient_of(value: Tensor, linear: Tensor) -> Tensor:
    """Return a value with the gradient of another tensor of the same shape (straight-through estimator)."""
    return linear + (value - linear).detach()


def _with_average_gradient(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    pooled = func(*args, **kwargs)
    given = dict(zip(POOL_ARGUMENTS, args[1:], strict=False)) | kwargs
    if not isinstance(pooled, Tensor) or given.pop("dilation", 1) not in (1, (1,), (1, 1), (1, 1, 1)):
        return pooled  # average pooling has no dilation
    given.pop("return_indices", None)
    average: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[pooled.ndim - 2]
    return _with_gradient_of(pooled, average(args[0], **given))


def _adaptive_average(x: Tensor, size: Sequence[int]) -> Tensor:
    average: Any = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}[x.ndim - 2]
    return average(x, size)  # type: ignore[no-any-return]


def _layer_norm(x: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Normalise by a standard deviation that is a constant."""
    dims = tuple(range(-len(shape), 0))
    std = (x.detach().var(dims, correction=0, keepdim=True) + eps).sqrt()
    out = (x - x.mean(dims, keepdim=True)) / std
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _group_norm(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Normalise groups of channels by a standard deviation that is a constant."""
    parts = x.unflatten(1, (groups, -1))
    out = _layer_norm(parts, parts.shape[2:], eps=eps).view_as(x)
    shape = (1, -1, *[1] * (x.ndim - 2))
    out = out if weight is None else out * weight.view(shape)
    return out if bias is None else out + bias.view(shape)
