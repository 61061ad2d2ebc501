"""Fold batch normalisation into the preceding convolution: the same results for less work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from featviz.network.activations import first_tensor
from featviz.network.working_copy import uncompiled, working_copy
from featviz.random import Chance

TOLERANCE = 1e-3
"""Largest deviation of an output, relative to the layer's largest value. Rounding causes a hundredth of it."""

Hook = Callable[[str, tuple[object, ...], object], None]
"""Called with the name, inputs and output of every module that runs."""


@dataclass(frozen=True)
class Pair:
    """A convolution and the batch normalisation of its output.

    Args:
        conv: Name of the convolution. Once folded, it puts out the normalised values.
        norm: Name of the normalisation. Once folded, it returns its input.
        hidden: Names of the layers whose output is the convolution's own, which cannot be captured once folded.
    """

    conv: str
    norm: str
    hidden: frozenset[str]


def foldable(module: nn.Module, images: Tensor) -> tuple[Pair, ...]:
    """Find the convolutions with a batch normalisation that can be folded into them.

    A module does not tell what else its `forward` does with a convolution's output, such as adding it to a shortcut.
    Therefore all pairs are folded on trial, and every other layer must put out the same as before.

    Args:
        module: The network.
        images: Any images, normalised as the network expects.

    Returns:
        The pairs; none if folding them changes another output, or if the network is not in single precision.
    """
    if images.dtype != torch.float32 or not any(type(part) is nn.BatchNorm2d for part in module.modules()):
        return ()
    recorded = _Recording()
    _run(working_copy(module), images, recorded.add)
    pairs = _pairs(module, recorded)
    return pairs if _outputs_stay(module, images, pairs, recorded.copies) else ()


@dataclass
class _Recording:
    """One pass of a network.

    Tensors are compared by identity: a normalisation reads a convolution if its input *is* the convolution's output.
    Values are compared on copies, because later modules may overwrite an output in place.
    """

    calls: list[str] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    copies: list[Tensor | None] = field(default_factory=list)
    """A copy of the output of each call, in order; `None` for an output without tensors."""

    def add(self, name: str, inputs: tuple[object, ...], output: object) -> None:
        """Record one call of a module."""
        self.calls.append(name)
        given, tensor = first_tensor(inputs), first_tensor(output)
        self.copies.append(None if tensor is None else tensor.clone())
        if tensor is not None and given is not None:
            self.inputs[name], self.outputs[name] = given, tensor


def _pairs(module: nn.Module, recorded: _Recording) -> tuple[Pair, ...]:
    """Return convolutions and normalisations that run once each, one on the output of the other."""
    pairs = []
    for name, norm in module.named_modules():
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or recorded.calls.count(name) != 1:
            continue
        if "forward" in vars(norm):  # someone else's wrapper around the normalisation, which folding would bypass
            continue
        hidden = frozenset(other for other, tensor in recorded.outputs.items() if tensor is recorded.inputs.get(name))
        for other in hidden:
            conv = module.get_submodule(other)
            if type(conv) is nn.Conv2d and recorded.calls.count(other) == 1:
                pairs.append(Pair(other, name, hidden))
    return tuple(pairs)


def _outputs_stay(module: nn.Module, images: Tensor, pairs: Sequence[Pair], copies: Sequence[Tensor | None]) -> bool:
    """Whether all layers that are not hidden by the pairs put out the same values while these are folded."""
    hidden = frozenset().union(*(pair.hidden for pair in pairs))
    expected, same = iter(copies), True

    def compare(name: str, _: tuple[object, ...], output: object) -> None:
        nonlocal same
        before, tensor = next(expected, None), first_tensor(output)
        if before is not None and tensor is not None and name not in hidden:
            same &= _close(before, tensor)

    folded = working_copy(module)
    fold(folded, pairs)
    _run(folded, images, compare)
    return same


def _close(before: Tensor, tensor: Tensor) -> bool:
    if before.shape != tensor.shape or before.numel() == 0:
        return before.shape == tensor.shape
    if not (before.is_floating_point() or before.is_complex()):
        return torch.equal(before, tensor)
    return bool((tensor - before).abs().max() <= TOLERANCE * (before.abs().max() + TOLERANCE))


def _run(module: nn.Module, images: Tensor, call: Hook) -> None:
    """Run a working copy, calling back after every module."""
    for name, part in module.named_modules():
        part.register_forward_hook(lambda _, inputs, output, name=name: call(name, inputs, output))
    with Chance(images.device)(), torch.no_grad(), uncompiled():
        module(images)


def fold(module: nn.Module, pairs: Sequence[Pair]) -> None:
    """Fold pairs of a working copy.

    Args:
        module: The working copy, whose convolutions and normalisations are changed.
        pairs: What to fold.
    """
    for pair in pairs:
        _fold(module.get_submodule(pair.conv), module.get_submodule(pair.norm))  # type: ignore[arg-type]


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Put the normalisation into the weight and bias of the convolution.

    In eval mode, batch normalisation is an affine map with constant factors per channel:
    `norm(y) = scale * y + shift`, `scale = weight / sqrt(running_var + eps)`, `shift = bias - running_mean * scale`.
    With `y = W x + b` this is the convolution `(scale * W) x + (scale * b + shift)`.

    Source: as `torch.nn.utils.fusion.fuse_conv_bn_weights`.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach()
    shift = shift if conv.bias is None else shift + conv.bias.detach() * scale
    conv.weight.data = conv.weight.data * scale.view(-1, 1, 1, 1)
    conv.bias = nn.Parameter(shift, requires_grad=False)
    norm.forward = _identity  # type: ignore[assignment,method-assign]


def _identity(x: Tensor) -> Tensor:
    return x
