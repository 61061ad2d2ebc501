"""Faster ways back through convolutions: the gradients that the libraries are slowest at on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featviz.interfaces import Size

FEW = 4
"""Up to how many input channels a convolution counts as one that sees images."""

Way = Callable[[Tensor, Tensor, nn.Conv2d, Size], Tensor]
"""From the gradient in what a convolution put out, and its weights then, to that in its input, of so many px."""


@contextmanager
def fast_conv_backward(module: nn.Module) -> Iterator[None]:
    """Let convolutions find their input's gradient by a plain convolution where that is faster; then undo it.

    It is for strided ones that see images, for strided depthwise ones in bfloat16, and for dilated depthwise ones.

    Source: `benchmarks/overhead.py`, the quick pass beside the others.
    """
    ways = [(part, way) for part in module.modules() if isinstance(part, nn.Conv2d) and (way := _way(part))]
    try:
        for conv, way in ways:
            conv.forward = partial(_run, conv, way)  # type: ignore[method-assign]
        yield
    finally:
        for conv, _ in ways:
            conv.__dict__.pop("forward", None)


def _way(conv: nn.Conv2d) -> Way | None:
    """Say by which way back a convolution gains; `None` where its own is the fastest."""
    square = all(each[0] == each[1] for each in (conv.stride, conv.kernel_size, conv.dilation))
    plain = type(conv) is nn.Conv2d and "forward" not in conv.__dict__ and conv.padding_mode == "zeros"
    if not (plain and square and conv.weight.device.type == "cpu") or isinstance(conv.padding, str):
        return None
    if conv.in_channels <= FEW and conv.groups == 1 and conv.stride[0] > 1 and conv.dilation[0] == 1:
        return strided_input_gradient
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    slow = conv.dilation[0] > 1 or (conv.stride[0] > 1 and conv.weight.dtype == torch.bfloat16)
    return depthwise_input_gradient if depthwise and slow and max(conv.padding) <= _reach(conv) else None


def _reach(conv: nn.Conv2d) -> int:
    return conv.dilation[0] * (conv.kernel_size[0] - 1)


def _pads(conv: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(conv.padding, str)
    return conv.padding


def _run(conv: nn.Conv2d, way: Way, images: Tensor) -> Tensor:
    return _Quick.apply(images, conv.weight, conv, way)  # type: ignore[no-untyped-call,no-any-return]


class _Quick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, conv: nn.Conv2d, way: Way) -> Tensor:
        ctx.save_for_backward(weight)  # as they are now: rules of attribution change them for one pass
        ctx.conv, ctx.way, ctx.images = conv, way, (images.shape[2:], images.dtype)
        return nn.Conv2d.forward(conv, images)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,), (size, dtype) = ctx.saved_tensors, ctx.images
        return ctx.way(gradient, weight.to(gradient.dtype), ctx.conv, size).to(dtype), None, None, None


def strided_input_gradient(
    gradient: Float[Tensor, "n out h2 w2"], weight: Float[Tensor, "out c k k"], conv: nn.Conv2d, size: Size
) -> Float[Tensor, "n c h w"]:
    """Return the gradient in the input of a strided convolution of few channels.

    Kernels for it pad three channels to sixteen; here as many phases of the stride beside each other fill them. Pixels
    that lie the same way between two strides are reached by the same weights: for each of these phases it is an
    ordinary convolution of the gradient with every so-manieth weight, turned around.
    """
    stride = conv.stride[0]
    out, channels, side, _ = weight.shape
    reach = -(-side // stride)
    whole = F.pad(weight, (0, reach * stride - side) * 2).view(out, channels, reach, stride, reach, stride)
    turned = whole.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(channels * stride**2, out, reach, reach)
    phases = F.conv2d(gradient, turned.contiguous(memory_format=torch.channels_last), padding=reach - 1)
    (top, left), (height, width) = _pads(conv), size
    found = F.pixel_shuffle(phases, stride)[:, :, top : top + height, left : left + width]
    return F.pad(found, (0, width - found.shape[3], 0, height - found.shape[2]))


def depthwise_input_gradient(
    gradient: Float[Tensor, "n c h2 w2"], weight: Float[Tensor, "c 1 k k"], conv: nn.Conv2d, size: Size
) -> Float[Tensor, "n c h w"]:
    """Return the gradient in the input of a depthwise convolution, strided or dilated.

    Spread out by the stride, with zeros in the gaps, the gradient is convolved with the weights turned around.
    """
    stride, reach = conv.stride[0], _reach(conv)
    rows, columns = (side + 2 * pad - reach for side, pad in zip(size, _pads(conv), strict=True))
    spread = gradient
    if stride > 1:
        spread = gradient.new_zeros(len(gradient), rows, columns, len(weight)).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = gradient
    pads = [reach - pad for pad in _pads(conv)]
    return F.conv2d(spread, weight.flip(2, 3), padding=pads, dilation=conv.dilation, groups=conv.groups)
