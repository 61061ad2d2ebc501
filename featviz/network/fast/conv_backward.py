"""Faster input gradients for the convolutions whose backward pass is slowest on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featviz.interfaces import Size

MAX_IMAGE_CHANNELS = 4
"""Largest number of input channels of a convolution that is treated as one that reads images."""

InputGradient = Callable[[Tensor, Tensor, nn.Conv2d, Size], Tensor]
"""(output gradient, weight, convolution, height and width of its input in px) → input gradient."""


def speed_up_backward(module: nn.Module) -> None:
    """Compute input gradients of some convolutions by a plain convolution, where that is faster on a CPU.

    These are strided convolutions that read images, strided depthwise ones in bfloat16, and dilated depthwise ones.
    Outputs are unchanged; gradients change by rounding only. The weights get no gradient.

    Args:
        module: A working copy of the network, whose convolutions are changed.

    Source: measured by `benchmarks/overhead.py`, which times a pass with and without it.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and (input_gradient := _faster_backward(conv)):
            conv.forward = partial(_forward, conv, input_gradient)  # type: ignore[method-assign]


def plain_backward(module: nn.Module) -> None:
    """Undo `speed_up_backward`: the convolutions call `torch.conv2d` again, where its backward pass can be replaced.

    Args:
        module: A working copy of the network, whose convolutions are changed.
    """
    for conv in module.modules():
        forward = vars(conv).get("forward")
        if isinstance(forward, partial) and forward.func is _forward:
            del conv.forward


def _faster_backward(conv: nn.Conv2d) -> InputGradient | None:
    """Choose the function that computes the input gradient; `None` where the library's own is the fastest."""
    square = all(pair[0] == pair[1] for pair in (conv.stride, conv.kernel_size, conv.dilation))
    plain = type(conv) is nn.Conv2d and "forward" not in conv.__dict__ and conv.padding_mode == "zeros"
    if not (plain and square and conv.weight.device.type == "cpu") or isinstance(conv.padding, str):
        return None
    if conv.in_channels <= MAX_IMAGE_CHANNELS and conv.groups == 1 and conv.stride[0] > 1 and conv.dilation[0] == 1:
        return strided_input_gradient
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    slow = conv.dilation[0] > 1 or (conv.stride[0] > 1 and conv.weight.dtype == torch.bfloat16)
    return depthwise_input_gradient if depthwise and slow and max(conv.padding) <= _max_offset(conv) else None


def _max_offset(conv: nn.Conv2d) -> int:
    """Return the distance in px of the first and the last weight of the kernel."""
    return conv.dilation[0] * (conv.kernel_size[0] - 1)


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(conv.padding, str)
    return conv.padding


def _forward(conv: nn.Conv2d, input_gradient: InputGradient, inputs: Tensor) -> Tensor:
    if torch._C._are_functorch_transforms_active():  # which need more of an autograd function
        return nn.Conv2d.forward(conv, inputs)
    return _ConvWithFastBackward.apply(inputs, conv.weight, conv, input_gradient)  # type: ignore[no-untyped-call,no-any-return]


class _ConvWithFastBackward(torch.autograd.Function):
    """The convolution as it is, with another backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, conv: nn.Conv2d, input_gradient: InputGradient) -> Tensor:
        # The weight is saved, not read from `conv` later: LRP rules replace it for the forward pass only.
        ctx.save_for_backward(weight)
        ctx.conv, ctx.input_gradient, ctx.inputs = conv, input_gradient, (inputs.shape[2:], inputs.dtype)
        return nn.Conv2d.forward(conv, inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,), (size, dtype) = ctx.saved_tensors, ctx.inputs
        return ctx.input_gradient(gradient, weight.to(gradient.dtype), ctx.conv, size).to(dtype), None, None, None


def strided_input_gradient(
    gradient: Float[Tensor, "n out h2 w2"], weight: Float[Tensor, "out c k k"], conv: nn.Conv2d, size: Size
) -> Float[Tensor, "n c h w"]:
    """Return the input gradient of a strided convolution with few input channels.

    All stride² phases of the input are computed by one convolution with flipped, subsampled kernels, and interleaved
    by a pixel shuffle. Library kernels pad 3 input channels to a vector of 16; here the phases fill the vector.

    Args:
        gradient: Gradient of the output.
        weight: Weight of the forward pass.
        conv: The convolution: square kernel and stride, no dilation, one group, zero padding.
        size: Height and width of the input in px.

    Returns:
        The gradient of the input.
    """
    # In one dimension, with stride s, a padded input pixel x gets the sum of gradient[i] * weight[k] over all i and k
    # with i * s + k = x. Write x = q * s + r, where r < s is the phase. Then k = j * s + r and i = q - j: pixels of
    # one phase are reached only by every s-th weight, starting at the r-th, and their gradient is
    #     sum over j of gradient[q - j] * weight[j * s + r],
    # which is a plain full convolution. Since conv2d is a cross-correlation, the kernels are flipped. The phases are
    # independent of each other, so they are further output channels: channel c * s² + r_y * s + r_x holds pixels
    # (q_y * s + r_y, q_x * s + r_x), the order that `pixel_shuffle` interleaves.
    stride = conv.stride[0]
    out, channels, side, _ = weight.shape
    taps = -(-side // stride)  # weights per phase and dimension, after zero padding to a multiple of the stride
    padded = F.pad(weight, (0, taps * stride - side) * 2).view(out, channels, taps, stride, taps, stride)
    kernels = padded.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(channels * stride**2, out, taps, taps)
    phases = F.conv2d(gradient, kernels.contiguous(memory_format=torch.channels_last), padding=taps - 1)
    # Cut off the padding of the forward pass. Pixels after the last position of the kernel have no gradient.
    (top, left), (height, width) = _padding(conv), size
    inside = F.pixel_shuffle(phases, stride)[:, :, top : top + height, left : left + width]
    return F.pad(inside, (0, width - inside.shape[3], 0, height - inside.shape[2]))


def depthwise_input_gradient(
    gradient: Float[Tensor, "n c h2 w2"], weight: Float[Tensor, "c 1 k k"], conv: nn.Conv2d, size: Size
) -> Float[Tensor, "n c h w"]:
    """Return the input gradient of a strided or dilated depthwise convolution.

    It is the definition of a transposed convolution, carried out: write the gradient on a grid of the input's
    resolution with `stride - 1` zeros in between, and convolve it with the flipped kernel. This is faster than the
    library's transposed convolution, which is slow for these cases.

    Args:
        gradient: Gradient of the output.
        weight: Weight of the forward pass.
        conv: The convolution: depthwise, square kernel and stride, padding at most `dilation * (kernel size - 1)`.
        size: Height and width of the input in px.

    Returns:
        The gradient of the input.
    """
    stride, max_offset = conv.stride[0], _max_offset(conv)
    rows, columns = (side + 2 * pad - max_offset for side, pad in zip(size, _padding(conv), strict=True))
    spread = gradient
    if stride > 1:
        spread = gradient.new_zeros(len(gradient), rows, columns, len(weight)).permute(0, 3, 1, 2)  # channels last
        spread[:, :, ::stride, ::stride] = gradient
    pads = [max_offset - pad for pad in _padding(conv)]
    return F.conv2d(spread, weight.flip(2, 3), padding=pads, dilation=conv.dilation, groups=conv.groups)
