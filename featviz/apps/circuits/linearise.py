"""Make the gradients of a network those of its linearisation; outputs stay the same.

Between two layers a linearised network is a matrix, whose rows are the expanded weights of the units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from featviz.apps.shared.operations.attention_functions import FUSED_ARGUMENTS, SOFTMAXES, multi_head_attention
from featviz.apps.shared.operations.normalisations import BATCH_NORMALISATIONS, LENGTHS, NORMALISATIONS
from featviz.apps.shared.operations.torch_functions import PRODUCTS, QUOTIENTS, functions_named
from featviz.network import Rectifying
from featviz.network.dictionaries import above_limit
from featviz.network.gradients import LEAKY_RECTIFIERS, RECTIFIERS

Function = Callable[..., Any]

TANHS: Set[Function] = frozenset((torch.tanh, Tensor.tanh, F.tanh))
IDENTITIES: Set[Function] = (RECTIFIERS | LEAKY_RECTIFIERS | TANHS) - {F.hardsigmoid, above_limit}
"""Activation functions whose gradient is replaced by that of the identity."""
GATES: Set[Function] = frozenset((torch.sigmoid, Tensor.sigmoid, F.sigmoid, F.hardsigmoid))
"""Functions that are constants where another value is multiplied by them, as in squeeze-and-excitation."""
RESHAPES: Set[Function] = frozenset(
    functions_named(
        """
    view view_as reshape reshape_as expand expand_as broadcast_to unsqueeze squeeze flatten unflatten permute transpose
    movedim repeat repeat_interleave tile contiguous clone to type_as float double half bfloat16 interpolate dropout
    __getitem__ chunk split unbind select narrow
    """
    )
)
"""Functions after which a gate is still a gate."""
RECIPROCALS: Set[Function] = frozenset(functions_named("reciprocal rsqrt __rtruediv__ __rdiv__"))
"""Functions whose results are constants, since they normalise other values."""
MAX_POOLS: Set[Function] = frozenset(
    (F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
)
ADAPTIVE_MAX_POOLS: Set[Function] = frozenset((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d))
POWERS: Set[Function] = frozenset(functions_named("pow float_power __pow__"))
"""Functions whose results are constants where the exponent is negative."""
CONSTANT_DENOMINATORS: Mapping[Function, Function] = {**NORMALISATIONS, **BATCH_NORMALISATIONS, **LENGTHS}
POOL_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


@contextmanager
def linearised() -> Iterator[None]:
    """Make the gradients of all passes within a context those of the linearised network.

    - Activation functions have the gradient of the identity, max pools that of average pools.
    - Attention weights, gates by a sigmoid, and the denominators of quotients, negative powers and PyTorch's
      normalisations are constants, as they are for the given image.
    - Codes of dictionaries have the gradient of features that are on.
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
        self._gates: dict[int, Tensor] = {}  # by identity; kept, so that no other tensor gets it

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
        if func in SOFTMAXES or func in RECIPROCALS or (func in POWERS and _is_negative(args, kwargs)):
            return func(*args, **kwargs).detach()
        if func in GATES or (func in RESHAPES and args and self._is_gate(args[0])):
            return self._as_gate(func(*args, **kwargs))
        if func in PRODUCTS and (len(args) == 2 or "other" in kwargs):
            return self._product(func, args if len(args) == 2 else (*args, kwargs["other"]))
        if func in QUOTIENTS and len(args) == 2 and isinstance(args[1], Tensor):
            return func(args[0], args[1].detach(), **kwargs)
        if func in CONSTANT_DENOMINATORS:
            return CONSTANT_DENOMINATORS[func](*args, **kwargs)
        if func is F.glu:
            return _gated(*args, **kwargs)
        if func is above_limit:
            _, pre, _, gain, _ = args
            return _with_gradient_of(func(*args).detach(), gain * pre)
        if func is F.scaled_dot_product_attention:
            given = dict(zip(FUSED_ARGUMENTS, args, strict=False)) | kwargs
            return func(**given | {"query": given["query"].detach(), "key": given["key"].detach()})
        if func is F.multi_head_attention_forward:
            with self:  # its parts are replaced
                return multi_head_attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _is_gate(self, value: Any) -> bool:
        return id(value) in self._gates

    def _as_gate(self, value: Any) -> Any:
        """Note a gate, or the parts of one."""
        for each in value if isinstance(value, tuple | list) else [value]:
            self._gates[id(each)] = each
        return value

    def _product(self, func: Function, args: tuple[Any, ...]) -> Any:
        """Multiply a value by a gate that is a constant. The product of two gates is a gate."""
        gates = [self._is_gate(each) for each in args]
        if all(gates):
            return self._as_gate(func(*args))
        return func(*(each.detach() if gate else each for each, gate in zip(args, gates, strict=True)))


def _is_negative(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a power divides by its base."""
    exponent = args[1] if len(args) > 1 else kwargs.get("exponent")
    return isinstance(exponent, int | float) and exponent < 0


def _gated(input: Tensor, dim: int = -1) -> Tensor:  # noqa: A002  (PyTorch's name)
    """Compute `F.glu` with a constant gate."""
    half, gate = input.chunk(2, dim)
    return half * gate.sigmoid().detach()


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
