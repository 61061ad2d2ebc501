"""Fold batch normalisation into the convolution before it: the same numbers for less work, and undone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featviz.network.activations import first_tensor
from featviz.network.module_state import frozen
from featviz.random import Chance

CLOSE = 1e-3
"""How far outputs may move, as a share of the layer's largest: rounding moves them by a hundredth of it."""


@dataclass(frozen=True)
class Pair:
    """A convolution and the normalisation that reads it.

    Args:
        conv: puts out something else while folded.
        norm: passes its input on while folded.
        hidden: names of layers that put out the convolution's own output; where one is captured, nothing is folded.
    """

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    hidden: frozenset[str]


def foldable(module: nn.Module, images: Tensor) -> tuple[Pair, ...]:
    """Find the pairs that can be folded, and make sure by folding them: every other layer has to put out the same.

    Args:
        module: the network.
        images: any, as the network wants them.
    """
    if images.dtype != torch.float32 or not any(type(part) is nn.BatchNorm2d for part in module.modules()):
        return ()
    kept: list[Tensor | None] = []  # what each call put out, before anything overwrites it
    put_out: dict[str, Tensor] = {}  # the same, as the very objects that were handed on
    read: dict[str, Tensor] = {}
    calls: list[str] = []

    def note(name: str, inputs: tuple[object, ...], output: object) -> None:
        calls.append(name)
        tensor, given = first_tensor(output), first_tensor(inputs)
        kept.append(None if tensor is None else tensor.clone())
        if tensor is not None and given is not None:
            put_out[name], read[name] = tensor, given

    _run(module, images, note)
    pairs = []
    for name, norm in module.named_modules():
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or calls.count(name) != 1:
            continue
        hidden = frozenset(other for other, tensor in put_out.items() if tensor is read.get(name))
        for other in hidden:
            conv = module.get_submodule(other)
            if type(conv) is nn.Conv2d and calls.count(other) == 1:
                pairs.append(Pair(conv, norm, hidden))
    hidden = frozenset().union(*(pair.hidden for pair in pairs))
    before, same = iter(kept), True

    def compare(name: str, _: tuple[object, ...], output: object) -> None:
        nonlocal same
        was, tensor = next(before, None), first_tensor(output)
        if was is not None and tensor is not None and name not in hidden:
            same &= _alike(was, tensor)

    with Folds().only(pairs):
        _run(module, images, compare)
    return tuple(pairs) if same else ()


def _alike(was: Tensor, tensor: Tensor) -> bool:
    if was.shape != tensor.shape or was.numel() == 0:
        return was.shape == tensor.shape
    if not (was.is_floating_point() or was.is_complex()):
        return torch.equal(was, tensor)
    return bool((tensor - was).abs().max() <= CLOSE * (was.abs().max() + CLOSE))


def _run(module: nn.Module, images: Tensor, call: Callable[[str, tuple[object, ...], object], None]) -> None:
    with ExitStack() as stack:
        stack.enter_context(frozen(module))
        for name, part in module.named_modules():
            hook = part.register_forward_hook(lambda _, inputs, output, name=name: call(name, inputs, output))
            stack.callback(hook.remove)
        with Chance(images.device)(), torch.no_grad():
            module(images)


class Folds:
    """Which pairs of a network are folded now; one watch may be opened within another, and wants its own."""

    def __init__(self) -> None:
        self._pairs: tuple[Pair, ...] = ()
        self._undo = ExitStack()

    @contextmanager
    def only(self, pairs: Sequence[Pair]) -> Iterator[None]:
        """Fold these pairs and no others for as long as the context lasts."""
        before = self._pairs
        try:
            self._fold(tuple(pairs))
            yield
        finally:
            self._fold(before)

    def _fold(self, pairs: tuple[Pair, ...]) -> None:
        self._undo.close()
        self._pairs = pairs
        for pair in pairs:
            self._undo.callback(_unfold, pair, pair.conv.weight.data, pair.conv.bias)
            _fold(pair.conv, pair.norm)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach()
    shift = shift if conv.bias is None else shift + conv.bias.detach() * scale
    conv.weight.data = conv.weight.data * scale.view(-1, 1, 1, 1)
    conv.bias = nn.Parameter(shift, requires_grad=False)
    norm.forward = _as_it_is  # type: ignore[assignment,method-assign]


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _unfold(pair: Pair, weight: Tensor, bias: Tensor | None) -> None:
    pair.conv.weight.data = weight
    pair.conv._parameters["bias"] = bias  # type: ignore[assignment]
    vars(pair.norm).pop("forward", None)
