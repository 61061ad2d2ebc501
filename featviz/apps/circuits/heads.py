"""OV and QK circuits of attention heads: the channels that a head copies between patches, and those that attract it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import featviz as fv
from featviz.apps.circuits.expand import FLOAT32, ExpandedWeights
from featviz.apps.shared.probe import GREY


@dataclass(frozen=True, eq=False)
class HeadCircuits:
    """The circuits of the heads of one attention layer, between the channels of the layer that it reads.

    Args:
        name: Name of the attention layer.
        reads: Name of the layer whose channels are its queries, keys and values; empty where no layer puts them out.
        ov: W_O W_V of each head: how much channel i of a patch that is read changes channel o of the result.
        qk: W_Qᵀ W_K / √d of each head: how much channel i of the patch that reads and channel j of a patch raise, by
            their product, the logit of the attention between both.
    """

    name: str
    reads: str
    ov: Float[Tensor, "heads out channel"]
    qk: Float[Tensor, "heads channel channel"]


def circuits_of(attention: nn.MultiheadAttention) -> tuple[Tensor, Tensor]:
    """Return the OV and the QK matrix of each head of an attention layer. Biases are left out.

    Args:
        attention: A self-attention, whose queries, keys and values have the same channels.

    Returns:
        OV, (heads, out, channel), and QK, (heads, channel of the query, channel of the key).

    Raises:
        SettingError: Its keys or values have other channels than its queries.

    Source: Elhage et al. 2021, https://transformer-circuits.pub/2021/framework, "Splitting attention head terms".
    """
    if attention.in_proj_weight is None:
        raise fv.SettingError("the keys and values of a head must have the channels of its queries")
    parts = attention.in_proj_weight.detach().double().cpu().chunk(3)
    query, key, value = (part.unflatten(0, (attention.num_heads, -1)) for part in parts)  # (heads, d, channel)
    out = attention.out_proj.weight.detach().double().cpu().unflatten(1, (attention.num_heads, -1))  # (out, heads, d)
    ov = torch.einsum("ohd,hdi->hoi", out, value)
    qk = torch.einsum("hdi,hdj->hij", query, key) / attention.head_dim**0.5
    return ov.float(), qk.float()


def heads_of(network: fv.Network, weights: ExpandedWeights) -> list[HeadCircuits]:
    """Return the circuits of the attention layers that write into a unit: directly, or along skip connections only.

    Args:
        network: The network.
        weights: The expanded weights of the unit, by path.

    Returns:
        One for each `nn.MultiheadAttention`; empty for a unit without any.
    """
    parts = dict(network.module.named_modules())
    wanted = [name for name in (weights.layer, *weights.paths) if _is_self_attention(parts.get(name))]
    read = _inputs_of(network, weights.layer, wanted) if wanted else {}
    found = []
    for name in dict.fromkeys(wanted):
        attention: Any = parts[name]
        found.append(HeadCircuits(name, read.get(name, ""), *circuits_of(attention)))
    return found


def _is_self_attention(part: nn.Module | None) -> bool:
    return isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None


def _inputs_of(network: fv.Network, layer: str, attentions: list[str]) -> dict[str, str]:
    """Return the layer whose output each attention layer reads; without those that read no layer's output."""
    outputs: list[tuple[Tensor, str]] = []  # kept, so that a tensor is known by its identity
    found: dict[str, str] = {}

    def after(name: str, _: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs.append((output, name))

    def before(name: str, _: nn.Module, given: Any) -> None:
        names = [other for tensor, other in outputs if given and tensor is given[0] and other in network.table]
        if names:
            found[name] = names[-1]

    with network.session([layer], FLOAT32) as forward, torch.no_grad():
        for name, part in forward.module.named_modules():
            hook: Callable[..., None] = partial(after, name)
            part.register_forward_hook(hook)
            if name in attentions:
                part.register_forward_pre_hook(partial(before, name))
        forward(torch.full((1, network.channels, *network.size), GREY, device=network.device))
    return found


def strongest_pairs(qk: Float[Tensor, "channel channel"], count: int) -> list[tuple[int, int, float]]:
    """Return the pairs of a query's channel and a key's channel with the largest weights, of either sign.

    Args:
        qk: QK matrix of a head.
        count: Number of pairs.
    """
    order = qk.abs().flatten().topk(min(count, qk.numel())).indices.tolist()
    return [(*divmod(i, qk.shape[1]), qk.flatten()[i].item()) for i in order]  # type: ignore[misc]
