"""Attention maps of transformers: one layer, or rolled out through all layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.attention_weights import TokenAttention, TokenGrid, attention_layers, check_whole
from featviz.apps.explain.request import AttributionMap, AttributionRequest
from featviz.checks import check_number
from featviz.errors import shown


@dataclass(frozen=True)
class Attention:
    """Attention weights of one layer of a transformer, from the class token to the patches.

    For token i the weights are softmax_j(q_i · k_j / √d): the share of patch j in the update of token i. Without a
    class token, the map is the mean over the patches i, or the weights of the query that pools the tokens. Good for a
    first look at where a layer reads. The map does not depend on the target, and it ignores what the values carry.

    The weights are those of each softmax over tokens, whichever function or module computes it.

    Args:
        layer: Index of the attention, in execution order; negative indices count from the last.
        head: Index of the attention head; `None` for the mean of all heads.

    Raises:
        SettingError: `layer` or `head` is no whole number, or `head` is negative.

    Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
    """

    layer: int = -1
    head: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if isinstance(self.layer, str):
            raise fv.SettingError(
                f"layer of Attention must be the number of an attention layer, got {shown(self.layer)}; "
                "0 is the first one, -1 the last"
            )
        check_number("layer of Attention", self.layer, whole=True, note="(default -1, the last attention layer)")
        if self.head is not None:
            check_number("head of Attention", self.head, at_least=0, whole=True, note="(default None, their mean)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c h w"]) -> AttributionMap:
        """Return the attention weights on the patch grid.

        Raises:
            SettingError: The network has no attention over tokens or no patch grid, the attention is over windows, or
                `layer` or `head` is out of range.
        """
        layers, label = attention_layers(request, images), request.network.label
        if not -len(layers) <= self.layer < len(layers):
            raise fv.SettingError(
                f"layer must be in [{-len(layers)}, {len(layers) - 1}], got {self.layer}; {label} has {len(layers)} "
                "attention layers"
            )
        chosen = layers[self.layer]
        check_whole(label, [chosen])
        weights = chosen.weights
        if self.head is not None and not 0 <= self.head < weights.shape[1]:
            raise fv.SettingError(f"head must be in [0, {weights.shape[1] - 1}] or None, got {self.head}")
        mixed = weights.mean(1) if self.head is None else weights[:, self.head]
        return AttributionMap(_on_patch_grid(label, _read(mixed, chosen.grid), chosen.grid))


@dataclass(frozen=True)
class Rollout:
    """Attention followed through all layers of a transformer, from the class token to the patches.

    Layer l mixes the tokens by 0.5 A_l + 0.5 I, where A_l is the mean attention of its heads and I stands for the
    residual connection. The product of these matrices over all layers tells the share of each patch in the last class
    token. Good for transformers of many layers, whose last attention mixes tokens that are mixed already. The map does
    not depend on the target.

    - A class token may join the patches in a later layer, as in CaiT. Where only it is updated, its row alone mixes.
    - A query that is no token, as the one that pools the tokens at the end of SigLIP, has no residual connection.

    Source: Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928, section 3.
    """

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c h w"]) -> AttributionMap:
        """Return the rolled-out attention on the patch grid.

        Raises:
            SettingError: The network has no attention over tokens or no patch grid, one is over windows, or the patches
                change from layer to layer.
        """
        layers, label = attention_layers(request, images), request.network.label
        check_whole(label, layers)
        rolled = _Rolled(label, layers[0])
        for layer in layers:
            rolled.mix(layer)
        return AttributionMap(_on_patch_grid(label, _read(rolled.mixed, rolled.tokens), layers[0].grid))


@dataclass(frozen=True)
class GradientRollout:
    """Attention that raises the score, followed through all layers of a transformer, from the class token.

    Formula: R ← R + E_l R from the identity, over the layers l, where E_l is the mean over the heads of ReLU(∇A_l ⊙
    A_l), with the attention weights A_l and the score's gradient ∇A_l in them. Good for transformers: as `Rollout`, but
    it depends on the target. The map is the mean over the tokens, weighted by the size of the score's gradient in the
    last attention: the class token alone, if the target reads no other. What a token keeps of itself by the residual
    connections, the identity, is not shown.

    Source: Chefer et al. 2021, https://arxiv.org/abs/2103.15679, equations 5 and 6.
    """

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c h w"]) -> AttributionMap:
        """Return the relevance of each patch, on the patch grid.

        Raises:
            SettingError: The network has no attention over tokens or no patch grid, one is over windows, or the patches
                change from layer to layer.
        """
        layers, label = attention_layers(request, images, gradients=True), request.network.label
        check_whole(label, layers)
        rolled = _Rolled(label, layers[0], attention_share=1.0, residual_share=1.0)
        for layer in layers:
            assert layer.gradients is not None
            rolled.mix(replace(layer, weights=(layer.gradients * layer.weights).relu()))
        grid, mixed = rolled.tokens, rolled.mixed
        if mixed.shape[1] == mixed.shape[2]:
            mixed = mixed - torch.eye(mixed.shape[1]).to(mixed)
        if grid is not None and layers[-1].weights.shape[-2] == grid.count:
            received = _read_by_target(mixed, layers)
        else:
            received = _read(mixed, grid)
        return AttributionMap(_on_patch_grid(label, received, layers[0].grid))


class _Rolled:
    """The share of each token at the start in each token at present.

    Args:
        label: Name of the network, for messages.
        first: The first attention, whose tokens are those at the start.
        attention_share: Factor of what a token reads by attention.
        residual_share: Factor of what it keeps by the residual connection.
    """

    def __init__(
        self, label: str, first: TokenAttention, *, attention_share: float = 0.5, residual_share: float = 0.5
    ) -> None:
        self.label, self.tokens = label, first.grid
        self.attention_share, self.residual_share = attention_share, residual_share
        weights = first.weights
        self.mixed = torch.eye(weights.shape[-1]).to(weights).expand(len(weights), -1, -1)
        """Shares: tokens at present by tokens at the start. Those that join later have the last columns."""
        self.class_is_new = True
        """Whether the class token has taken part in no attention of all tokens yet."""

    def mix(self, layer: TokenAttention) -> None:
        """Mix the tokens as one attention does."""
        attention = layer.weights.mean(1)
        queries, count = attention.shape[1:]
        if count != self.mixed.shape[1]:
            self._change(count, layer.grid)
        class_token = layer.grid.class_token if layer.grid else None
        if queries == count:
            self.mixed = self.attention_share * attention @ self.mixed + self.residual_share * self.mixed
            self.class_is_new = False
        elif queries == 1 and class_token is not None and self.class_is_new:
            # Only the class token is updated, and has a residual connection.
            kept = self.residual_share * self.mixed[:, class_token, None]
            updated = self.attention_share * attention @ self.mixed + kept
            self.mixed = torch.cat([self.mixed[:, :class_token], updated, self.mixed[:, class_token + 1 :]], 1)
        else:
            self.mixed, self.tokens = attention @ self.mixed, None

    def _change(self, count: int, grid: TokenGrid | None) -> None:
        """Let tokens besides those of the patch grid join or leave, such as the class token and registers.

        Raises:
            SettingError: The tokens change otherwise.
        """
        rows = _sources(self.tokens, grid) if self.tokens and grid else None
        if rows is None:
            raise fv.SettingError(
                f"Rollout cannot follow {self.label} from {self.mixed.shape[1]} to {count} tokens; use Attention"
            )
        joining = [i for i, row in enumerate(rows) if row is None]
        mixed = F.pad(self.mixed[:, [row or 0 for row in rows]], (0, len(joining)))
        mixed[:, joining] = 0
        mixed[:, joining, range(-len(joining), 0)] = 1
        self.class_is_new |= bool(joining)
        self.mixed, self.tokens = mixed, grid


def _sources(before: TokenGrid, after: TokenGrid) -> list[int | None] | None:
    """Return which token each token was before others joined or left.

    Args:
        before: The tokens before.
        after: The tokens after.

    Returns:
        For each token its index before, or `None` for one that joins; `None` if the patch grid is another, or if it is
        not clear which tokens stay.
    """
    if (before.rows, before.columns) != (after.rows, after.columns):
        return None
    others = [[i for i in range(one.count) if i not in {*one.patches, one.class_token}] for one in (before, after)]
    if others[0] and others[1] and len(others[0]) != len(others[1]):
        return None
    found: dict[int, int] = dict(zip(after.patches, before.patches, strict=True))
    found |= zip(others[1], others[0], strict=False)
    if after.class_token is not None and before.class_token is not None:
        found[after.class_token] = before.class_token
    return [found.get(i) for i in range(after.count)]


def _read(mixed: Float[Tensor, "n queries tokens"], grid: TokenGrid | None) -> Float[Tensor, "n tokens"]:
    """Return the row of the class token; without one, the mean over the patches, or over all queries.

    Args:
        mixed: Share of each token in each query.
        grid: Where the tokens lie. They are the queries if there are as many.
    """
    if grid is None or mixed.shape[1] != grid.count:
        return mixed.mean(1)
    return mixed[:, grid.patches].mean(1) if grid.class_token is None else mixed[:, grid.class_token]


def _read_by_target(
    mixed: Float[Tensor, "n queries tokens"], layers: Sequence[TokenAttention]
) -> Float[Tensor, "n tokens"]:
    """Return the mean of the rows of the tokens that the target reads, as far as gradients tell.

    The target may read the class token, the first token of a text, the last one, or the mean. Only those queries of the
    last attention before the target have a gradient.
    """
    for layer in reversed(layers):
        assert layer.gradients is not None
        size = layer.gradients.abs().sum((1, 3))
        if size.any():
            break
    share = size / size.sum(1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
    return torch.einsum("nq,nqt->nt", share, mixed)


def _on_patch_grid(
    label: str, received: Float[Tensor, "n tokens"], grid: TokenGrid | None
) -> Float[Tensor, "n rows columns"]:
    """Return the weights of the patches on their grid.

    Raises:
        SettingError: The tokens are not on a patch grid.
    """
    if grid is None:
        raise fv.SettingError(f"the tokens of {label} are not on a patch grid; use e.g. Gradient")
    return received[:, grid.patches].unflatten(1, (grid.rows, grid.columns))
