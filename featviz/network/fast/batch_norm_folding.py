"""Fold batch normalisation into the preceding convolution: the same results for less work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featviz.network.fast.trial import Recording
from featviz.network.working_copy import working_copy


@dataclass(frozen=True)
class Pair:
    """A convolution and the batch normalisation of its output.

    Args:
        conv: Name of the convolution. Once folded, it outputs the normalised values.
        norm: Name of the normalisation. Once folded, it returns its input.
        hidden: Names of the layers whose output is the convolution's own, which cannot be captured once folded.
    """

    conv: str
    norm: str
    hidden: frozenset[str]


def foldable(module: nn.Module, images: Tensor) -> tuple[Pair, ...]:
    """Find the convolutions with a batch normalisation that can be folded into them.

    A module does not show what else its `forward` does with a convolution's output, such as adding it to a shortcut.
    Therefore all pairs are folded on trial, and every other layer must have the same output as before. In the trial the
    normalisations have other statistics and weights than their own: an untrained one changes nothing, so that any
    folding would pass, and would be wrong after training.

    Args:
        module: The network.
        images: Any images, normalised as the network expects.

    Returns:
        The pairs; none if folding them changes another output, or if the network is not in single precision.
    """
    if images.dtype != torch.float32 or not any(type(part) is nn.BatchNorm2d for part in module.modules()):
        return ()
    varied = working_copy(module)
    _vary_norms(varied)
    recorded = Recording.of(varied, images)
    pairs = _pairs(varied, recorded)
    folded = working_copy(varied)
    fold(folded, pairs)
    hidden = frozenset().union(*(pair.hidden for pair in pairs))
    return pairs if recorded.is_repeated_by(folded, images, hidden) else ()


def _vary_norms(module: nn.Module) -> None:
    """Change the statistics and weights of the normalisations of a working copy, whose memory is shared.

    The same numbers are drawn each time.
    """
    rng = torch.Generator().manual_seed(0)

    def random(like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty(like.shape).uniform_(low, high, generator=rng).to(like)

    for norm in module.modules():
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or norm.running_var is None:
            continue
        spread = norm.running_var.clamp(min=0).sqrt()
        norm.running_mean = norm.running_mean + spread * random(spread, -0.5, 0.5)
        norm.running_var = norm.running_var * random(spread, 0.5, 1.5)
        if "weight" in norm._parameters and norm.weight is not None:
            changed = norm.weight.detach() * random(spread, 0.7, 1.3) + random(spread, 0.1, 0.3)
            norm.weight = nn.Parameter(changed, requires_grad=False)
        if "bias" in norm._parameters and norm.bias is not None:
            norm.bias = nn.Parameter(norm.bias.detach() + random(spread, -0.3, 0.3), requires_grad=False)


def _pairs(module: nn.Module, recorded: Recording) -> tuple[Pair, ...]:
    """Return convolutions and normalisations that run once each, one on the output of the other."""
    pairs = []
    for name, norm in module.named_modules():
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or recorded.calls.count(name) != 1:
            continue
        # Someone else's wrapper around the normalisation, which folding would bypass; or weights that are computed from
        # others before each call, as in pruning.
        if "forward" in vars(norm) or not {"weight", "bias"} <= norm._parameters.keys():
            continue
        hidden = frozenset(other for other, tensor in recorded.outputs.items() if tensor is recorded.inputs.get(name))
        for other in hidden:
            conv = module.get_submodule(other)
            # A weight that is no parameter is computed from others before each call.
            if type(conv) is nn.Conv2d and recorded.calls.count(other) == 1 and "weight" in conv._parameters:
                pairs.append(Pair(other, name, hidden))
    return tuple(pairs)


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
    conv.weight = nn.Parameter(conv.weight.detach() * scale.view(-1, 1, 1, 1), requires_grad=False)  # it may be shared
    conv.bias = nn.Parameter(shift, requires_grad=False)
    norm.forward = _identity  # type: ignore[assignment,method-assign]


def _identity(x: Tensor) -> Tensor:
    return x
