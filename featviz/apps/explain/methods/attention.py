"""Attention maps of transformers: one layer, or rolled out through all layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

import featviz as fv
from featviz.apps.explain.request import AttributionMap, AttributionRequest
from featviz.network import OUTPUT


@dataclass(frozen=True)
class Attention:
    """Attention weights of one layer of a transformer, from the class token to the patches.

    For token i the weights are softmax_j(q_i · k_j / √d): the share of patch j in the update of token i. Without a
    class token, the map is the mean over all tokens i. Good for a first look at where a layer reads. The map does not
    depend on the target, and it ignores what the values carry.

    Args:
        layer: Index of the attention, in execution order; negative indices count from the last.
        head: Index of the attention head; `None` for the mean of all heads.

    Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
    """

    layer: int = -1
    head: int | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c h w"]) -> AttributionMap:
        """Return the attention weights on the patch grid.

        Raises:
            SettingError: The network has no attention layers or no patch grid, or `layer` or `head` is out of range.
        """
        layers = attention_weights(request, images)
        if not -len(layers) <= self.layer < len(layers):
            raise fv.SettingError(
                f"layer must be in [{-len(layers)}, {len(layers) - 1}], got {self.layer}; {request.network.label} has "
                f"{len(layers)} attention layers"
            )
        weights = layers[self.layer]
        if self.head is not None and not 0 <= self.head < weights.shape[1]:
            raise fv.SettingError(f"head must be in [0, {weights.shape[1] - 1}] or None, got {self.head}")
        return AttributionMap(_on_patch_grid(request, weights.mean(1) if self.head is None else weights[:, self.head]))


@dataclass(frozen=True)
class Rollout:
    """Attention followed through all layers of a transformer, from the class token to the patches.

    Layer l mixes the tokens by 0.5 A_l + 0.5 I, where A_l is the mean attention of its heads and I stands for the
    residual connection. The product of these matrices over all layers tells the share of each patch in the last class
    token. Good for transformers of many layers, whose last attention mixes tokens that are mixed already. The map does
    not depend on the target.

    Source: Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928, section 3.
    """

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c h w"]) -> AttributionMap:
        """Return the rolled-out attention on the patch grid.

        Raises:
            SettingError: The network has no attention layers or no patch grid, or its number of tokens changes.
        """
        layers = attention_weights(request, images)
        if len({weights.shape[-2:] for weights in layers}) > 1:
            raise fv.SettingError(
                f"Rollout needs the same number of tokens in every layer, which {request.network.label} does not have; "
                "use Attention"
            )
        identity = torch.eye(layers[0].shape[-1], device=layers[0].device)
        mixed = identity
        for weights in layers:
            mixed = (0.5 * weights.mean(1) + 0.5 * identity) @ mixed
        return AttributionMap(_on_patch_grid(request, mixed))


def attention_weights(
    request: AttributionRequest, images: Float[Tensor, "n c h w"]
) -> list[Float[Tensor, "n heads tokens tokens"]]:
    """Return the weights of every attention over the whole image, in execution order.

    Attention over windows, as in Swin, is left out.

    Args:
        request: The network and the size of the images.
        images: In [0, 1].

    Returns:
        For each attention, the weights from token (third dimension) to token (fourth dimension).

    Raises:
        SettingError: The network has no such attention.
    """
    recorder = _AttentionRecorder()
    # Capturing the output makes the forward pass run to its end. Images that require gradients keep the modules of
    # PyTorch from taking their fused inference path, which calls no attention function that could be intercepted.
    with request.open(OUTPUT) as scorer, recorder, torch.enable_grad():
        scorer(images.requires_grad_())
    # Windows are put into the batch dimension, so their attention has a larger batch than there are images.
    layers = [weights.detach() for weights in recorder.weights if weights.shape[0] == len(images)]
    if not layers:
        raise fv.SettingError(f"{request.network.label} has no attention over the whole image; use e.g. GradCAM")
    return layers


class _AttentionRecorder(TorchFunctionMode):
    """Records the weights of every attention function that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and record the weights if it is an attention."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            out, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
            self.weights.append(weights)
            return out, None
        if func is F.scaled_dot_product_attention and args[0].ndim == 4 and kwargs.get("attn_mask") is None:
            # The fused function does not return its weights, so they are computed a second time.
            scale = kwargs.get("scale") or 1 / math.sqrt(args[0].shape[-1])
            self.weights.append((args[0] @ args[1].transpose(-2, -1) * scale).softmax(-1))
        return func(*args, **kwargs)


def _on_patch_grid(
    request: AttributionRequest, weights: Float[Tensor, "n tokens tokens"]
) -> Float[Tensor, "n rows columns"]:
    """Return the weights from the class token to the patches on their grid; without a class token, the mean weights.

    Raises:
        SettingError: The tokens are not on a patch grid, or do not fill it.
    """
    label = request.network.label
    layouts = [layer.layout for layer in request.network.table.values()]
    layout = next((layout for layout in layouts if layout.kind == "tokens" and layout.patch), None)
    if layout is None or layout.patch is None:
        raise fv.SettingError(f"the tokens of {label} are not on a patch grid; use e.g. Gradient")
    rows, columns = (side // patch for side, patch in zip(request.size, layout.patch, strict=True))
    received = weights[:, 0] if layout.prefix else weights.mean(1)
    if received.shape[1] != layout.prefix + rows * columns:
        expected = f"{layout.prefix} + {rows} x {columns} tokens"
        raise fv.SettingError(f"the attention must be over {expected}, got {received.shape[1]}; give another layer")
    return received[:, layout.prefix :].unflatten(1, (rows, columns))
