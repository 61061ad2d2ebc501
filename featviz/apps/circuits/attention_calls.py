"""Find the self-attention of a network where it is computed; run it again with other tokens or attention weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import featviz as fv
from featviz.apps.circuits.expand import FLOAT32
from featviz.apps.shared.arguments.probe import grey
from featviz.apps.shared.operations.attention_functions import (
    SOFTMAXES,
    fused_logits,
    mixed_values,
    multi_head_attention,
)
from featviz.network.hooks import hookable_modules
from featviz.network.trees import first_tensor

Function = Callable[..., Any]

FUSED = frozenset((F.scaled_dot_product_attention, F.multi_head_attention_forward))
"""Functions that compute attention in one call."""


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """A call of a module that computes attention between the tokens of its input.

    Args:
        name: Name of the module.
        module: The module.
        args: Its arguments.
        kwargs: Its keyword arguments.
        reads: Name of the layer whose output is its input; empty if there is none.
        writes: Names of the layers that return its result: its own, and perhaps that of a module in it.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reads: str
    writes: tuple[str, ...]

    @property
    def tokens(self) -> Tensor:
        """The tensor whose tokens attend to each other: the first argument."""
        return _first_argument(self.args, self.kwargs)

    def double(self) -> AttentionCall:
        """Return the call in double precision, on the CPU, of a copy of the module."""
        module = copy.deepcopy(self.module).double().cpu()
        tokens = self.tokens
        same = tokens.double().cpu()  # one tensor for queries, keys and values, as in the call

        def converted(value: Any) -> Any:
            if value is tokens:
                return same
            is_number = isinstance(value, Tensor) and value.is_floating_point()
            return value.double().cpu() if is_number else value.cpu() if isinstance(value, Tensor) else value

        kwargs = {key: converted(value) for key, value in self.kwargs.items()}
        return AttentionCall(self.name, module, tuple(map(converted, self.args)), kwargs, self.reads, self.writes)

    def run(self, tokens: Tensor, weights: Float[Tensor, " heads"] | None = None) -> tuple[list[Tensor], Tensor | None]:
        """Run the module with other tokens.

        Args:
            tokens: They replace the input wherever it is an argument.
            weights: If given, each token reads itself only, with this weight for each head.

        Returns:
            The logits of each attention that was computed, and the output.
        """
        given = tokens.requires_grad_()  # PyTorch's fused inference path calls no function that can be intercepted
        before = self.tokens
        args = [given if value is before else value for value in self.args]
        kwargs = {key: given if value is before else value for key, value in self.kwargs.items()}
        with torch.enable_grad(), _Attention(weights) as mode:
            out = first_tensor(self.module(*args, **kwargs))
        return [each.detach() for each in mode.logits], None if out is None else out.detach()


def attention_calls(network: fv.Network, layer: str) -> list[list[AttentionCall]]:
    """Return the attention of a network up to a layer, in execution order.

    Args:
        network: A network that reads images.
        layer: The layer; empty for the class logits.

    Returns:
        For each attention function that is called, the call of the module that calls it, after those of the modules
        around it that have the same input.
    """
    finder = _Finder(network)
    with network.session([layer], FLOAT32) as forward, torch.enable_grad():
        for name, part in hookable_modules(forward.module):
            part.register_forward_pre_hook(partial(finder.enter, name), with_kwargs=True)
            part.register_forward_hook(partial(finder.leave, name))
        with finder:
            forward(grey(network).requires_grad_())
    return finder.calls()


def _first_argument(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


@dataclass(frozen=True, eq=False)
class _Opened:
    """A module that is being run."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class _Finder(TorchFunctionMode):
    """Notes which modules are being run whenever attention is computed."""

    def __init__(self, network: fv.Network) -> None:
        super().__init__()
        self._network = network
        self._open: list[_Opened] = []
        self._found: list[list[_Opened]] = []
        self._outputs: list[tuple[str, Tensor]] = []  # kept, so that a tensor is known by its identity

    def enter(self, name: str, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note that a module starts."""
        self._open.append(_Opened(name, args, kwargs))

    def leave(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        """Note that a module ends."""
        self._open.pop()
        tensor = first_tensor(output)
        if tensor is not None:
            self._outputs.append((name, tensor))

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and note where."""
        out = func(*args, **(kwargs or {}))
        over_tokens = func in SOFTMAXES and out.ndim > 2 and out.shape[-1] == out.shape[-2]
        if (func in FUSED or over_tokens) and self._open:
            self._found.append(list(self._open))
        return out

    def calls(self) -> list[list[AttentionCall]]:
        """Return the calls that were found."""
        return [self._around(opened) for opened in self._found]

    def _around(self, opened: Sequence[_Opened]) -> list[AttentionCall]:
        """Return the calls of the modules around an attention function that have the same input."""
        parts = dict(self._network.module.named_modules())  # without the hooks of the copy that runs
        opened = [each for each in opened if not isinstance(parts.get(each.name), nn.Softmax)]
        tokens = _first_argument(opened[-1].args, opened[-1].kwargs) if opened else None
        same = [each for each in opened if tokens is not None and _first_argument(each.args, each.kwargs) is tokens]
        before = [name for name, out in self._outputs if out is tokens and name in self._network.table]
        return [
            AttentionCall(
                each.name,
                parts[each.name],
                each.args,
                each.kwargs,
                before[-1] if before else "",
                self._writes(each.name),
            )
            for each in same
            if each.name in parts
        ]

    def _writes(self, name: str) -> tuple[str, ...]:
        """Return the names of the layers with the output of a module: its own, and that of a module at its end."""
        out = next((tensor for other, tensor in self._outputs if other == name), None)
        if out is None:
            return (name,)
        inside = [
            other
            for other, tensor in self._outputs
            if other.startswith(f"{name}.") and tensor.data_ptr() == out.data_ptr() and tensor.shape == out.shape
        ]
        return (name, *inside)


class _Attention(TorchFunctionMode):
    """Notes the logits of attention, and replaces its weights.

    Args:
        weights: Weight with which each token reads itself, by head; `None` to compute the weights.
    """

    def __init__(self, weights: Float[Tensor, " heads"] | None) -> None:
        super().__init__()
        self._weights = weights
        self.logits: list[Tensor] = []

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, or a replacement of attention."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:  # the fused attention below
                return multi_head_attention(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.logits.append(fused_logits(*args, **kwargs))
            weights = self.logits[-1].softmax(-1) if self._weights is None else self._own(self.logits[-1])
            return mixed_values(weights, *args, **kwargs)
        if func in SOFTMAXES:
            given = kwargs.get("input", args[0] if args else None)
            if isinstance(given, Tensor) and given.ndim > 2 and given.shape[-1] == given.shape[-2]:
                self.logits.append(given)
                if self._weights is not None:
                    return self._own(given)
        return func(*args, **kwargs)

    def _own(self, logits: Float[Tensor, "*n heads queries tokens"]) -> Tensor:
        """Return weights with which each token reads itself only."""
        assert self._weights is not None
        eye = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
        return (self._weights.to(logits)[:, None, None] * eye).expand_as(logits)
