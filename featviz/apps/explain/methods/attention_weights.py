"""Record attention weights at the softmax that computes them, and find their query and key dimensions."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

import featviz as fv
from featviz.apps.explain.request import AttributionRequest
from featviz.apps.shared.operations.attention_functions import (
    SOFTMAXES,
    fused_weights,
    mixed_values,
    multi_head_attention,
)
from featviz.interfaces import Size
from featviz.network import OUTPUT, LayerRow, plain_backward
from featviz.network.working_copy import uncompiled
from featviz.random import Chance


@dataclass(frozen=True)
class TokenGrid:
    """Where the tokens of a sequence lie in the image.

    Args:
        rows: Number of rows of the patch grid.
        columns: Number of columns of the patch grid.
        prefix: Number of tokens before those of the grid.
        count: Number of tokens, with those before and after the grid.
        class_token: Index of the class token; `None` if there is none.
        order: Index of each cell's token among those of the grid, row by row; `None` if they are in this order.
    """

    rows: int
    columns: int
    prefix: int
    count: int
    class_token: int | None = None
    order: tuple[int, ...] | None = None

    @property
    def patches(self) -> list[int]:
        """Index of the token of each cell, row by row."""
        order = range(self.rows * self.columns) if self.order is None else self.order
        return [self.prefix + index for index in order]


@dataclass(frozen=True, eq=False)
class TokenAttention:
    """One attention over tokens.

    Args:
        weights: Share of each token (fourth dimension) in what each query (third dimension) reads.
        grid: Where the tokens lie; `None` if they are not on a patch grid.
        window: Number of tokens of one window, where attention is not over the whole image; 0 where it is.
        gradients: Gradient of the target's score in the weights, if it was asked for.
    """

    weights: Float[Tensor, "n heads queries tokens"]
    grid: TokenGrid | None
    window: int = 0
    gradients: Float[Tensor, "n heads queries tokens"] | None = None


def attention_layers(
    request: AttributionRequest, images: Float[Tensor, "n c h w"], *, gradients: bool = False
) -> list[TokenAttention]:
    """Return every attention over tokens, in execution order.

    A softmax counts if it is over a number of tokens or positions that the network's layers have. So one over classes,
    experts or channels (as the cross-covariance attention of XCiT) does not.

    Args:
        request: The network and the size of the images.
        images: In [0, 1].
        gradients: Compute the gradients of the target's score in the weights, too. They are 0 in layers after the
            target.

    Raises:
        SettingError: The network has no attention over tokens, or there are several networks.
    """
    network = request.network
    if OUTPUT not in network.heads:
        raise fv.SettingError(
            f"attention is that of a single network, got {', '.join(network.heads)}; pass each on its own"
        )
    if len(request.size) != 2:
        raise fv.SettingError(
            f"{network.label} reads inputs of size {network.size}, and attention maps lie on the patch grid of an "
            "image; use e.g. GradCAM"
        )
    grids, recorded = token_grids(request), _record(network, images)
    classes = network.table[OUTPUT].channels if OUTPUT in network.table else 0
    over_channels = _over_channels(request, recorded[0], grids)
    live = [_record_gradients(request, image) for image in images.split(1)] if gradients else []
    attentions, foreign_tokens = [], 0
    for i, of_images in enumerate(zip(*recorded, strict=True)):
        shape, certain = of_images[0].weights.shape, of_images[0].certain
        window = _window(shape, grids, certain=certain)
        if window:
            attentions.append(TokenAttention(of_images[0].weights, None, window))
        elif i not in over_channels and _is_over_tokens(shape, grids, classes, certain=certain):
            weights = torch.cat([each.weights.reshape(1, -1, *_matrix(shape)) for each in of_images])
            slopes = _gradients_of(i, of_images, live).view_as(weights) if gradients else None
            attentions.append(TokenAttention(weights, grids[shape[-1]], gradients=slopes))
        elif certain:
            foreign_tokens = shape[-1]
    if not attentions:
        if foreign_tokens:
            problem = (
                f"attention of {network.label} is over {foreign_tokens} tokens, a number that none of its layers has"
            )
        else:
            over = "the whole image" if network.tokens is None else "its tokens"
            problem = f"{network.label} has no attention over {over}"
        raise fv.SettingError(f"{problem}; use e.g. GradCAM")
    # A window as large as the whole map, as in the last stage of Swin, is still a window.
    windows = {layer.window for layer in attentions} - {0}
    return [
        replace(layer, window=layer.weights.shape[-1]) if layer.weights.shape[-1] in windows else layer
        for layer in attentions
    ]


def token_grids(request: AttributionRequest) -> dict[int, TokenGrid | None]:
    """Return where tokens lie, by their number: the sequences, and the positions of feature maps, of the network.

    If sequences of one length have several layouts, the most common one counts.
    """
    network, size = request.network, request.size
    if network.tokens is not None:
        special = (dict(layer.layout.special) for layer in network.table.values())
        class_token = next((names["cls"] % size[1] for names in special if "cls" in names), None)
        return {size[1]: TokenGrid(1, size[1], 0, size[1], class_token)}
    table = (network if size == network.size else network.with_input(size=size)).table
    maps: dict[int, TokenGrid | None] = {}
    sequences: dict[int, Counter[TokenGrid]] = {}
    for layer in table.values():
        if layer.layout.kind == "map" and not layer.layout.transposed and math.prod(layer.map_size) > 1:
            rows, columns = layer.map_size
            maps[rows * columns] = TokenGrid(rows, columns, 0, rows * columns)
        elif layer.layout.kind == "tokens":
            seen = sequences.setdefault(layer.map_size[0], Counter())
            if grid := _grid(layer, size):
                seen[grid] += 1
    common = {count: seen.most_common(1)[0][0] if seen else maps.get(count) for count, seen in sequences.items()}
    return maps | common


def _grid(layer: LayerRow, size: Size) -> TokenGrid | None:
    """Return where the tokens of a layer lie; `None` if they are not on a patch grid."""
    layout, (count,), grid = layer.layout, layer.map_size, layer.layout.grid(size)
    if grid is None or math.prod(grid) + layout.prefix > count:
        return None
    rows, columns = grid
    special = dict(layout.special)
    class_token = special["cls"] % count if "cls" in special else None
    return TokenGrid(rows, columns, layout.prefix, count, class_token, layout.order)


# ------------------------------------------------------------------------------------------------- what a softmax is of


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Return the number of queries and of tokens; a softmax of one vector has one query."""
    return (1 if len(shape) == 2 else shape[-2]), shape[-1]


def _is_over_tokens(shape: Sequence[int], known: dict[int, TokenGrid | None], classes: int, *, certain: bool) -> bool:
    """Whether the softmax of one image is over the tokens of the whole image.

    Args:
        shape: (heads, queries, tokens), (1, heads, queries, tokens), or (1, tokens).
        known: The numbers of tokens.
        classes: Number of outputs of the network.
        certain: Whether an attention function computed it.
    """
    queries, count = _matrix(shape)
    if len(shape) < 2 or count < 2 or count not in known:
        return False
    if len(shape) == 2:
        return shape[0] == 1 and count != classes
    return certain or queries == 1 or queries in known or count != classes


def _window(shape: Sequence[int], known: dict[int, TokenGrid | None], *, certain: bool) -> int:
    """Return the number of tokens of a window, if the softmax of one image is over windows; 0 if it is not.

    Windows are folded into the dimension of the images, which is 1 here, or are an axis of their own. Those that are
    folded into the heads are recognised by their number: together they are all tokens of a layer.
    """
    if len(shape) < 3 or shape[-1] < 2:
        return 0
    before, count = math.prod(shape[:-2]), shape[-1]
    if len(shape) > 3 and math.prod(shape[:-3]) > 1:
        return count
    if count in known or (len(shape) > 3 and not certain):
        return 0
    return count if any(before % n == 0 and n * count in known for n in range(2, before + 1)) else 0


# ----------------------------------------------------------------------------------------------------------- recording


@dataclass(frozen=True, eq=False)
class _Recorded:
    """The result of a softmax, whose last dimension it is over; and whether an attention function computed it."""

    weights: Tensor
    certain: bool


def _record(network: fv.Network, images: Float[Tensor, "n c h w"]) -> list[list[_Recorded]]:
    """Return the results of all softmaxes for each image. It runs alone, so that no other dimension is the batch."""
    normalise, found = network.normaliser(), []
    # The whole network runs, whatever its outputs are. Images that require gradients keep the modules of PyTorch from
    # taking their fused inference path, which calls no attention function that could be intercepted.
    with network.session([]) as forward, uncompiled(), torch.enable_grad():
        for image in images.detach().to(network.device).split(1):
            given = normalise(image.clone().requires_grad_()).contiguous(memory_format=network.probed.memory_format)
            with Chance(network.device)() if network.probed.draws else nullcontext(), _Recorder() as recorder:
                forward.module(given)
            found.append(recorder.found)
    return found


def _record_gradients(request: AttributionRequest, image: Float[Tensor, "1 c h w"]) -> list[Tensor | None]:
    """Return the gradient of the target's score in the result of each softmax before the target; `None` for 0."""
    with request.open() as scorer, uncompiled(), torch.enable_grad():
        plain_backward(scorer.forward.module)
        with _Recorder(live=True) as recorder:
            acts = scorer.activations(image.detach().to(request.network.device, copy=True).requires_grad_())
        score = scorer.scores(acts).sum()
        weights = [one.weights for one in recorder.found]
        live = [each for each in weights if each.requires_grad]  # not those of a softmax of parameters
        found = iter(torch.autograd.grad(score, live, allow_unused=True) if live else ())
        return [next(found) if each.requires_grad else None for each in weights]


def _gradients_of(i: int, several: Sequence[_Recorded], live: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """Return the gradients in softmax number i of each image."""
    found = [each[i] if i < len(each) else None for each in live]
    return torch.stack(
        [
            torch.zeros_like(one.weights) if gradient is None else gradient
            for one, gradient in zip(several, found, strict=True)
        ]
    )


def _over_channels(
    request: AttributionRequest, recorded: Sequence[_Recorded], known: dict[int, TokenGrid | None]
) -> set[int]:
    """Return the indices of the softmaxes that are over as many channels as there are tokens on the patch grid.

    For larger images there are more tokens, but as many channels. A network that accepts no other size does not tell.
    """
    network, (height, width) = request.network, request.size
    placed = [i for i, one in enumerate(recorded) if not one.certain and known.get(one.weights.shape[-1])]
    sizes = ((height + 32, width + 64), (2 * height, 3 * width)) if network.tokens is None else ((1, width + 4),)
    size = next((size for size in sizes if network.accepts(size)), None) if placed and not network.fixed_size else None
    if size is None:
        return set()
    (larger,) = _record(network, torch.full((1, network.channels, *size), 0.5))
    if len(larger) != len(recorded):
        return set()
    same = {i for i in placed if recorded[i].weights.shape[-2:] == larger[i].weights.shape[-2:]}
    # If nothing grows, the network itself resizes its images.
    grows = any(one.weights.shape != other.weights.shape for one, other in zip(recorded, larger, strict=True))
    return same if grows else set()


class _Recorder(TorchFunctionMode):
    """Records the result of every softmax, also of those that are computed within a fused attention function.

    Args:
        live: Record weights from which the output is computed, so that the score has a gradient in them.
    """

    def __init__(self, *, live: bool = False) -> None:
        super().__init__()
        self.live = live
        self.found: list[_Recorded] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and record the weights if it computes some."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            if self.live:
                with self:  # the fused attention below
                    return multi_head_attention(*args, **kwargs)
            return self._multi_head(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            weights = fused_weights(*args, **kwargs)
            self._add(weights, certain=True)
            if self.live:
                return mixed_values(weights, *args, **kwargs)
        out = func(*args, **kwargs)
        if func in SOFTMAXES:
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if dim is not None and out.ndim > 1:
                moved = out.movedim(dim, -1)
                self._add(moved, certain=False)
                return moved.movedim(-1, dim) if self.live else out
        return out

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Call PyTorch's attention for the weights of every head; return what the caller asked for."""
        given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
        given.apply_defaults()
        asked = dict(given.arguments)
        given.arguments |= {"need_weights": True, "average_attn_weights": False}
        out, weights = F.multi_head_attention_forward(*given.args, **given.kwargs)
        assert weights is not None
        self._add(weights, certain=True)
        if not asked["need_weights"]:
            return out, None
        return out, weights.mean(-3) if asked["average_attn_weights"] else weights

    def _add(self, weights: Tensor, *, certain: bool) -> None:
        self.found.append(_Recorded(weights if self.live and weights.requires_grad else weights.detach(), certain))


def check_whole(label: str, layers: Sequence[TokenAttention]) -> None:
    """Check that attention is over the whole input.

    Args:
        label: Name of the network for the message.
        layers: Attention of some layers.

    Raises:
        SettingError: One is over windows.
    """
    window = next((layer.window for layer in layers if layer.window), 0)
    if window:
        raise fv.SettingError(
            f"attention of {label} is over windows of {window} tokens, not over the whole input; use e.g. GradCAM"
        )
