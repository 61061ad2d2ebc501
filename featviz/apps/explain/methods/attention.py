"""What transformers attend to."""

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
from featviz.apps.explain.request import Found, Question


@dataclass(frozen=True)
class Attention:
    """Where the class token looks; without one, where tokens look on average. It does not depend on the target.

    Args:
        layer: which attention, in the order in which they run; -1 is the last.
        head: which of its heads; `None` means their mean.

    Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
    """

    layer: int = -1
    head: int | None = None

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        every = attentions(question, images)
        if not -len(every) <= self.layer < len(every):
            raise fv.SettingError(f"no attention {self.layer}; {question.network.label} has {len(every)}")
        weights = every[self.layer]
        if self.head is not None and not 0 <= self.head < weights.shape[1]:
            raise fv.SettingError(f"no head {self.head}; attention {self.layer} has {weights.shape[1]}")
        return Found(_on_grid(question, weights.mean(1) if self.head is None else weights[:, self.head]))


@dataclass(frozen=True)
class Rollout:
    """Where the class token's answer comes from if each attention mixes tokens, and half of each stays its own.

    Source: Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928, section 3.
    """

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        every = attentions(question, images)
        if len({weights.shape[-2:] for weights in every}) > 1:
            raise fv.SettingError(
                f"the tokens of {question.network.label} change their number; Attention shows a layer"
            )
        mixed = torch.eye(every[0].shape[-1], device=every[0].device)
        for weights in every:
            mixed = (0.5 * weights.mean(1) + 0.5 * torch.eye(len(mixed[-1]), device=mixed.device)) @ mixed
        return Found(_on_grid(question, mixed))


def attentions(question: Question, images: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n heads to tokens"]]:
    """Catch the matrices of all attentions over whole images, in the order in which they run.

    Raises:
        SettingError: there is none.
    """
    caught = _Caught()
    with question.open("") as ask, caught, torch.enable_grad():  # to the end, so that all of them run
        ask(images.requires_grad_())
    every = [weights.detach() for weights in caught.weights if weights.shape[0] == len(images)]
    if not every:
        raise fv.SettingError(
            f"{question.network.label} has no attention over whole images; GradCAM goes with any network"
        )
    return every


class _Caught(TorchFunctionMode):
    """Notes the weights of every attention."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and keep what it weighs by."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            out, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
            self.weights.append(weights)
            return out, None
        if func is F.scaled_dot_product_attention and args[0].ndim == 4 and kwargs.get("attn_mask") is None:
            scale = kwargs.get("scale") or 1 / math.sqrt(args[0].shape[-1])
            self.weights.append((args[0] @ args[1].transpose(-2, -1) * scale).softmax(-1))
        return func(*args, **kwargs)


def _on_grid(question: Question, weights: Float[Tensor, "n tokens tokens"]) -> Float[Tensor, "n rows columns"]:
    """Lay what the class token attends to out on the grid of patches; without one, what tokens do on average."""
    layouts = [layer.layout for layer in question.network.table.values()]
    layout = next((one for one in layouts if one.kind == "tokens" and one.patch), None)
    if layout is None or layout.patch is None:
        raise fv.SettingError(f"the tokens of {question.network.label} lie on no grid")
    rows, columns = (side // patch for side, patch in zip(question.size, layout.patch, strict=True))
    received = weights[:, 0] if layout.prefix else weights.mean(1)
    if received.shape[1] != layout.prefix + rows * columns:
        raise fv.SettingError(
            f"{received.shape[1]} tokens do not fill a grid of {rows} x {columns}; give another layer"
        )
    return received[:, layout.prefix :].unflatten(1, (rows, columns))
