"""Replace the gradients of rectifiers and max pools while a context is open; outputs stay the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence, Set
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor
from torch.overrides import TorchFunctionMode

from featviz.network.dictionaries.codes import above_limit

RECTIFIERS: Set[Callable[..., Any]] = frozenset(
    (
        F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardtanh, F.hardtanh_, F.gelu, F.silu,
        F.hardswish, F.mish, F.elu, F.elu_, F.selu, F.selu_, F.celu, F.celu_, F.softplus, F.hardsigmoid, F.threshold,
        above_limit,
    )
)  # fmt: skip
"""Activation functions that are flat on at least one side, where they block gradients; also those of dictionaries."""
LEAKY_RECTIFIERS: Set[Callable[..., Any]] = frozenset(
    (F.leaky_relu, F.leaky_relu_, F.rrelu, F.rrelu_, F.prelu, torch.prelu)
)
"""Activation functions that are flat nowhere, so their gradients need no redirection."""
IN_PLACE: Set[Callable[..., Any]] = frozenset(
    (
        F.leaky_relu_, F.rrelu_, torch.relu_, Tensor.relu_, F.hardtanh_, F.elu_, F.selu_, F.celu_,
    )
)  # fmt: skip
"""Functions that always work in place. Others do so if `inplace` is given."""
BLOCKED_RATIO = 1e-4
"""An image's gradient counts as blocked if a rectifier passes less than this fraction of its norm."""
POOL_EPSILON = 1e-2
"""Added to the denominator of a smoothed pool. Source: Lucid, lucid/optvis/overrides/smoothed_maxpool_grad.py."""


class Rectifying(TorchFunctionMode):
    """Replace rectifiers while the context is open, whether they are modules, functions or in place.

    Only rectifiers whose input needs a gradient are replaced.

    Args:
        replacement: Returns the output, given the input and the activation function.
        functions: Activation functions to replace.
    """

    def __init__(
        self,
        replacement: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor],
        functions: Set[Callable[..., Any]] = RECTIFIERS | LEAKY_RECTIFIERS,
    ) -> None:
        super().__init__()
        self.replacement, self.functions = replacement, functions
        self.count = 0
        """Number of rectifier calls that were replaced."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace rectifiers, and call any other function."""
        kwargs = kwargs or {}
        if func not in self.functions or not args or not args[0].requires_grad or args[0].ndim < 2:
            return func(*args, **kwargs)
        self.count += 1
        # In-place rectifiers run on a copy, because the replacement's backward pass needs the input. The result is
        # then written back, since the caller may go on with its own tensor instead of the returned one.
        in_place = func in IN_PLACE
        if inspect.isfunction(func):
            given = inspect.signature(func).bind(*args, **kwargs)
            in_place |= given.arguments.pop("inplace", False)
            args, kwargs = given.args, given.kwargs
        x, *rest = args
        out = self.replacement(x.clone() if in_place else x, lambda y: func(y, *rest, **kwargs))
        return x.copy_(out) if in_place else out


def redirect_gradients(images: Bool[Tensor, " n"]) -> Rectifying:
    """Redirect gradients through rectifiers for images all of whose gradient is blocked.

    An image that activates no unit of a layer gets no gradient, and would never change. Its gradient then passes the
    rectifier as if that were the identity, except where it would push an inactive unit further away from the active
    range. As soon as one unit of the image passes a gradient, the image keeps its own.

    Args:
        images: Images whose gradients may be redirected. The gradients of others are never changed.

    Returns:
        A context manager. Rectifiers that run while it is open are replaced.

    Source: Lucid, lucid/optvis/overrides/redirected_relu_grad.py.
    Differs: redirects through all of `RECTIFIERS`, not only ReLU and ReLU6; in-place ones run on a copy.
    """
    return Rectifying(lambda x, rectifier: _Redirect.apply(x, rectifier, images), RECTIFIERS)  # type: ignore[no-any-return]


class _Redirect(torch.autograd.Function):
    """A rectifier whose gradient is redirected per image while all of it is blocked."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rectifier: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rectifier, ctx.images = rectifier, images.to(x.device, non_blocking=True)
        return rectifier(x.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            (own,) = torch.autograd.grad(ctx.rectifier(again.clone()), again, grad)
        dim = _dim_of_images(x, len(ctx.images))
        if dim is None:
            return own, None, None
        norms = [each.movedim(dim, 0).reshape(len(ctx.images), -1).norm(dim=1) for each in (own, grad)]
        blocked = (norms[0] <= BLOCKED_RATIO * norms[1]) & ctx.images
        # `grad` is that of a loss, so a unit rises where it is negative. A unit that is off at or below 0 may only
        # rise; one that is flat above 0, as ReLU6 above 6, may only fall.
        redirected = torch.where(x <= 0, grad.clamp(max=0), grad.clamp(min=0))
        rows = blocked.repeat_interleave(x.shape[dim] // len(blocked))
        rows = rows.view([-1 if i == dim else 1 for i in range(x.ndim)])
        return torch.where(rows, redirected, own), None, None


def _dim_of_images(x: Tensor, count: int) -> int | None:
    """Return the dimension of the images of a batch; `None` where it is unclear.

    It is the first, in which window attention has several rows per image, one after the other; or the second, where
    tokens come first.
    """
    if len(x) == count:
        return 0
    has_windows, has_tokens_first = len(x) % count == 0, x.ndim > 2 and x.shape[1] == count
    if has_windows == has_tokens_first:
        return None
    return 0 if has_windows else 1


class SmoothPools(TorchFunctionMode):
    """Spread the gradient of 2D max pooling over the whole window, which removes its grid pattern from images.

    Max pooling passes all of a gradient to the largest value of a window. Here each value of the window gets a share
    that grows with it: the gradient is that of `mean(x²) / mean(|x|)`, a soft maximum. Dilated pools keep their own.

    Source: Lucid, lucid/optvis/overrides/smoothed_maxpool_grad.py.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace the gradient of 2D max pooling, and call any other function."""
        kwargs = kwargs or {}
        pooled = func(*args, **kwargs)
        if func not in (F.max_pool2d, torch.max_pool2d) or not isinstance(pooled, Tensor) or not args[0].requires_grad:
            return pooled
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        given = dict(zip(names, args[1:], strict=False)) | kwargs
        if given.pop("dilation", 1) not in (1, (1, 1)):  # average pooling has no dilation
            return pooled
        given.pop("return_indices", None)
        smooth = F.avg_pool2d(args[0].square(), **given) / (POOL_EPSILON + F.avg_pool2d(args[0].abs(), **given))
        return smooth + (pooled - smooth).detach()  # the value of `pooled` with the gradient of `smooth`
