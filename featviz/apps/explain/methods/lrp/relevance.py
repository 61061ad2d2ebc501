"""Replace gradients by relevance: run operations as they are, with another backward pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules._functions import BackwardHookFunction
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

_ROUTING_NAMES = """
    AccumulateGrad AdaptiveMaxPool2D AdaptiveMaxPool3D Alias Amax Amin AsStrided Cat ChannelShuffle Clone
    ConstantPadNd Copy CopySlices Diagonal Expand Flip FractionalMaxPool2D FractionalMaxPool3D Gather Im2Col Index
    IndexPut IndexSelect LiftFresh MaskedFill MaskedSelect Max MaxPool2DWithIndices MaxPool3DWithIndices MaxUnpool2D
    Maximum Median Min Minimum NativeChannelShuffle Permute PixelShuffle PixelUnshuffle ReflectionPad1D ReflectionPad2D
    ReflectionPad3D Repeat RepeatInterleave ReplicationPad1D ReplicationPad2D ReplicationPad3D ReshapeAlias Roll Select
    SelectScatter Slice SliceScatter Sort Split SplitWithSizes Squeeze Stack T ToCopy Topk Transpose Tril Triu Unbind
    Unfold UnsafeSplit UnsafeView Unsqueeze UpsampleBicubic2D UpsampleBicubic2DAa UpsampleBilinear2D
    UpsampleBilinear2DAa UpsampleLinear1D UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleNearestExact1D
    UpsampleNearestExact2D UpsampleNearestExact3D UpsampleTrilinear3D View Where
"""
ROUTING = frozenset(_ROUTING_NAMES.split())
"""Backward nodes of autograd that pass relevance on as it is.

They move values, choose among them (maximum pooling), or average with weights that add up to 1 (interpolation).
"""


@dataclass(frozen=True, eq=False)
class Share:
    """How an operation distributes the relevance of its output.

    Args:
        inputs: The tensors that get relevance. Others, such as gates, get none.
        backward: Returns the relevance of each input, given that of the output.
        source: What the rule of a later operation may need to know of this one.
    """

    inputs: tuple[Tensor, ...]
    backward: Callable[[Tensor], Sequence[Tensor]]
    source: object = None


@dataclass(frozen=True, eq=False)
class FunctionCall:
    """One call of a function.

    Args:
        function: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def live(self) -> list[Tensor]:
        """The tensors among the arguments that depend on the image, in order."""
        leaves = tree_leaves((self.args, dict(self.kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]

    def given(self, *names: str) -> dict[str, Any]:
        """Return the arguments by name.

        Args:
            names: Names of the positional arguments, in order.
        """
        return dict(zip(names, self.args, strict=False)) | dict(self.kwargs)


Rule = Callable[[FunctionCall], Share | None]
"""Tells how one call distributes relevance; `None` if the rule does not apply to it."""


class RelevanceMode(TorchFunctionMode):
    """Give functions a backward pass that distributes relevance, however they are called.

    A module, a function, a method and an operator all end in the same few functions, which are intercepted here. So
    each call of a shared module has a rule of its own. The values of all outputs stay the same.

    Args:
        rules: Rule of each function. Functions without one keep their gradient: see `without_rule`.
        refused: Names of functions that certainly have no rule, for messages.
    """

    def __init__(self, rules: Mapping[Any, Rule], refused: Mapping[Any, str]) -> None:
        super().__init__()
        self.rules, self.refused = rules, refused

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run functions that have a rule with another backward pass, and call any other function."""
        call = FunctionCall(func, args, kwargs or {})
        # Within `no_grad`, also within the forward pass of an autograd function, nothing has a backward pass.
        rule = self.rules.get(func) if torch.is_grad_enabled() else None
        named = self.refused.get(func)
        if (rule is None and named is None) or not call.live:
            return func(*args, **call.kwargs)
        share = rule(call) if rule else None
        if share is None:
            name = named or getattr(func, "__name__", str(func)).strip("_")
            return tree_map(lambda out: _named(name, out), func(*args, **call.kwargs))
        return _run(call, share)


def _run(call: FunctionCall, share: Share) -> Any:
    """Return the output of a call, whose backward pass is the rule's."""
    detached = tree_map(lambda arg: arg.detach() if isinstance(arg, Tensor) else arg, (call.args, dict(call.kwargs)))
    args, kwargs = list(detached[0]), detached[1]
    # A function that works in place gets a copy, because rules need the input. Its version counter tells whether one
    # does, be it relu_, += or an argument `inplace`. The result is then written to the caller's own tensor.
    if args and isinstance(args[0], Tensor):
        args[0] = args[0].clone()
    before = args[0]._version if args and isinstance(args[0], Tensor) else 0
    out = call.function(*args, **kwargs)
    in_place = bool(args) and out is args[0] and out._version > before
    made = _Distribute.apply(_Hold(out.clone() if out._is_view() else out), share, *share.inputs)
    return call.args[0].copy_(made) if in_place else made


@dataclass(frozen=True, eq=False)
class _Hold:
    """Hides the output tensor in an object.

    `Function.apply` would treat a tensor argument as an input and return a view of it.
    """

    out: Tensor


class _Distribute(torch.autograd.Function):
    """An output that was computed already, whose backward pass is a rule."""

    @staticmethod
    def forward(ctx: Any, hold: _Hold, share: Share, *_: Tensor) -> Tensor:
        ctx.share = share
        return hold.out

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.share.backward(relevance)


class _Named(torch.autograd.Function):
    """The identity. It marks in the graph that an operation without a rule, and which one, came before."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, name: str) -> Tensor:
        ctx.operation = name
        return out.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def _named(name: str, out: Any) -> Any:
    return _Named.apply(out, name) if isinstance(out, Tensor) and out.requires_grad else out  # type: ignore[no-untyped-call]


def share_of(node: Any) -> Share | None:
    """Return how a node of autograd's graph distributes relevance; `None` if it is not one of a rule."""
    return node.share if getattr(node, "_forward_cls", None) is _Distribute else None


def walk(outputs: Sequence[Tensor], stop: Callable[[Any], bool] = lambda _: False) -> Iterator[Any]:
    """Yield the nodes of autograd's graph between outputs and the image, those next to the outputs first.

    Args:
        outputs: Where to start.
        stop: Whether not to go on beyond a node.
    """
    # The nodes are kept in `seen`: their Python objects exist only as long as something refers to them.
    layer = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen = dict.fromkeys(layer)
    while layer:
        yield from layer
        found = dict.fromkeys(each for node in layer if not stop(node) for each, _ in node.next_functions if each)
        layer = [node for node in found if node not in seen]
        seen.update(dict.fromkeys(layer))


def without_rule(outputs: Sequence[Tensor]) -> list[str]:
    """Return the names of the operations between outputs and the image that have no rule, the last one first.

    They are found in autograd's graph. So a layer that does not run, or that only computes a gate, is none of them,
    and whatever hides from the mode, such as an autograd function of the network's author, is.

    Args:
        outputs: Tensors that were computed from the image within `RelevanceMode`.
    """
    names: dict[str, None] = {}
    for node in walk(outputs, stop=lambda node: _name_without_rule(node) is not None):
        if name := _name_without_rule(node):
            names[name] = None
    return list(names)


def _name_without_rule(node: Any) -> str | None:
    """Return the name of the operation of a node if it has no rule."""
    made_by = getattr(node, "_forward_cls", None)
    if made_by is BackwardHookFunction:  # an identity, for the user's own backward hooks
        return None
    if made_by is not None:
        return None if made_by is _Distribute else node.operation if made_by is _Named else made_by.__name__
    kind = re.sub(r"Backward(s|\d*)$", "", type(node).__name__)
    return None if kind in ROUTING else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
