"""Gradients that differ from the network's own, for as long as a context lasts; what it puts out stays the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence, Set
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor
from torch.overrides import TorchFunctionMode

RECTIFIERS: Set[Callable[..., Any]] = frozenset(
    (
        F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardtanh, F.hardtanh_, F.gelu, F.silu,
        F.hardswish, F.mish, F.elu, F.elu_, F.selu, F.selu_, F.celu, F.celu_, F.softplus, F.hardsigmoid, F.threshold,
    )
)  # fmt: skip
"""Activation functions that are flat on one side, or on both: as a module, in place or called."""
LEAKY: Set[Callable[..., Any]] = frozenset((F.leaky_relu, F.leaky_relu_, F.rrelu, F.rrelu_, F.prelu, torch.prelu))
"""Those that are flat nowhere: they never need to be woken."""
IN_PLACE: Set[Callable[..., Any]] = frozenset(
    (
        F.leaky_relu_, F.rrelu_, torch.relu_, Tensor.relu_, F.hardtanh_, F.elu_, F.selu_, F.celu_,
    )
)  # fmt: skip
FLAT = 1e-4
"""A unit whose gradient is a smaller share than this of what arrives counts as off."""
AWAY = 1e-2
"""Kept away from 0 when dividing. Source: Lucid, lucid/optvis/overrides/smoothed_maxpool_grad.py."""


class Rectifying(TorchFunctionMode):
    """Does something else wherever a network rectifies, as a module, in place or by a function.

    Args:
        instead: given the input and the activation function, returns what stands in for its output.
        functions: what counts as a rectifier.
    """

    def __init__(
        self,
        instead: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor],
        functions: Set[Callable[..., Any]] = RECTIFIERS | LEAKY,
    ) -> None:
        super().__init__()
        self.instead, self.functions = instead, functions
        self.met = 0
        """How many rectifiers it has stood in for."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Stand in for the activation functions, and call any other."""
        kwargs = kwargs or {}
        if func not in self.functions or not args or not args[0].requires_grad or args[0].ndim < 2:
            return func(*args, **kwargs)
        self.met += 1
        in_place = func in IN_PLACE
        if inspect.isfunction(func):
            given = inspect.signature(func).bind(*args, **kwargs)
            in_place |= given.arguments.pop("inplace", False)
            args, kwargs = given.args, given.kwargs
        x, *rest = args
        out = self.instead(x.clone() if in_place else x, lambda y: func(y, *rest, **kwargs))
        return x.copy_(out) if in_place else out


def redirected(images: Bool[Tensor, " n"]) -> Rectifying:
    """Wake units that are off: where all of an image's gradient is blocked, what would switch them on goes through.

    Args:
        images: which of them may be helped; the others keep their own gradients.

    Source: Lucid, lucid/optvis/overrides/redirected_relu_grad.py.
    Differs: all of `RECTIFIERS`, not ReLU and ReLU6 alone; in-place ones run on a copy.
    """
    return Rectifying(lambda x, unit: _Redirect.apply(x, unit, images), RECTIFIERS)  # type: ignore[no-any-return]


class _Redirect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, unit: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.unit = unit
        ctx.helped = images.to(x.device).repeat_interleave(len(x) // len(images))  # windows of an image stay combine
        return unit(x.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            (own,) = torch.autograd.grad(ctx.unit(again.clone()), again, grad)
        blocked = own.flatten(1).norm(dim=1) <= FLAT * grad.flatten(1).norm(dim=1)
        if len(ctx.helped) == len(blocked):
            blocked &= ctx.helped
        waking = torch.where(x <= 0, grad.clamp(max=0), grad.clamp(min=0))  # a loss falls along minus its gradient
        return torch.where(blocked.view(-1, *[1] * (x.ndim - 1)), waking, own), None, None


class SmoothPools(TorchFunctionMode):
    """Gives every pixel under a maximum pool a share of its gradient, the larger the more, not the largest all.

    Source: Lucid, lucid/optvis/overrides/smoothed_maxpool_grad.py.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Stand in for the two-dimensional maximum pool, and call any other function."""
        kwargs = kwargs or {}
        pooled = func(*args, **kwargs)
        if func not in (F.max_pool2d, torch.max_pool2d) or not isinstance(pooled, Tensor) or not args[0].requires_grad:
            return pooled
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        given = dict(zip(names, args[1:], strict=False)) | kwargs
        if given.pop("dilation", 1) not in (1, (1, 1)):
            return pooled
        given.pop("return_indices", None)
        smooth = F.avg_pool2d(args[0].square(), **given) / (AWAY + F.avg_pool2d(args[0].abs(), **given))
        return smooth + (pooled - smooth).detach()
