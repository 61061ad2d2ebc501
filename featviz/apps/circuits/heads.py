"""OV and QK circuits of attention heads: the channels that a head copies between patches, and those that attract it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.attention_calls import AttentionCall, attention_calls
from featviz.apps.circuits.expand import ExpandedWeights
from featviz.network import OUTPUT

TOLERANCE = 1e-6
"""Largest difference, relative to the largest value, between a module and the product of its matrices with tokens."""
PROBES = 5
"""Number of random tokens with which this is checked."""


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


def circuits_of(network: fv.Network, name: str) -> HeadCircuits:
    """Return the OV and the QK matrix of each head of a self-attention. Biases are left out.

    The matrices are those of the network as it runs, whichever modules and functions compute the attention: the module
    is run with the unit vectors of its channels as tokens. With the weights of all heads but one set to 0, and each
    token reading itself, its output is OV; the logits of the attention between two tokens give QK.

    Args:
        network: A network that reads images.
        name: Name of a module that computes self-attention: queries, keys and values from the same tokens.

    Returns:
        The circuits, between the channels of the tokens.

    Raises:
        AddressError: There is no such module, it computes no self-attention, or one whose matrices depend on the
            position or on the tokens, such as with rotary embeddings or normalised queries.

    Source: Elhage et al. 2021, https://transformer-circuits.pub/2021/framework, "Splitting attention head terms".
    """
    calls = attention_calls(network, OUTPUT)
    named = [call for several in calls for call in several if call.name == name]
    if not named:
        known = ", ".join(repr(several[0].name) for several in calls[:3]) or "none"
        raise fv.AddressError(f"no attention {name!r} in {network.label}; it has {known}")
    found = probed(named[0])
    if found is None:
        raise fv.AddressError(
            f"the heads of {name!r} must have one QK and OV matrix each, those of {network.label} depend on the "
            "position or on the other tokens; give another layer"
        )
    return found


class Heads:
    """Finds the attention that writes into units. Each attention is probed once.

    Args:
        network: A network that reads images.
    """

    def __init__(self, network: fv.Network) -> None:
        self._network = network
        self._calls: dict[str, list[list[AttentionCall]]] = {}
        self._probed: dict[str, HeadCircuits | None] = {}

    def of(self, weights: ExpandedWeights) -> list[HeadCircuits]:
        """Return the circuits of the attention that writes into a unit: directly, or along skip connections only.

        Args:
            weights: The expanded weights of the unit, by path.

        Returns:
            One for each attention whose heads have matrices; empty for a unit without any.
        """
        if weights.layer not in self._calls:
            self._calls[weights.layer] = attention_calls(self._network, weights.layer)
        found = [
            self._first([call for call in each if _writes_into(call, weights)]) for each in self._calls[weights.layer]
        ]
        return [each for each in found if each is not None]

    def _first(self, calls: Sequence[AttentionCall]) -> HeadCircuits | None:
        """Return the circuits of the outermost module that has some."""
        for call in calls:
            if call.name not in self._probed:
                self._probed[call.name] = probed(call)
            if (found := self._probed[call.name]) is not None:
                return found
        return None


def _writes_into(call: AttentionCall, weights: ExpandedWeights) -> bool:
    """Whether a unit is in the result of an attention, or a path to it passes only modules of the attention."""
    inside = (call.name, f"{call.name}.")
    return weights.layer in call.writes or any(
        all(name == inside[0] or name.startswith(inside[1]) for name in path.split(" → ")) for path in weights.paths
    )


def probed(call: AttentionCall) -> HeadCircuits | None:
    """Return the circuits of an attention from its outputs for the unit vectors of its channels, in double precision.

    Args:
        call: A call of the module.

    Returns:
        The circuits; `None` if it has no such matrices: it does not accept another number of tokens, computes more
        than one attention, or is not bilinear in its tokens.
    """
    tokens = call.tokens
    if tokens.ndim not in (2, 3) or tokens.numel() == tokens.shape[-1]:
        return None
    call, channels = call.double(), tokens.shape[-1]
    basis = torch.eye(channels, dtype=torch.float64)
    try:
        logits = _logits(call, basis)
        if logits is None:
            return None
        each = torch.eye(len(logits), dtype=torch.float64)
        ov = torch.stack([_output(call, basis, weights).T for weights in each])
        qk = _products(logits)
        return HeadCircuits(call.name, call.reads, ov.float(), qk.float()) if _is_exact(call, ov, qk) else None
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return None  # it takes tokens of one number only


def _is_exact(call: AttentionCall, ov: Tensor, qk: Tensor) -> bool:
    """Whether the matrices give the logits and the output of a module for random tokens."""
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(PROBES, ov.shape[2], generator=rng, dtype=torch.float64)
    weights = torch.rand(len(ov), generator=rng, dtype=torch.float64)
    found = _logits(call, tokens)
    return (
        found is not None
        and _alike(_products(found), tokens @ qk @ tokens.T)
        and _alike(_output(call, tokens, weights), torch.einsum("h,hoi,ti->to", weights, ov, tokens))
        and bool(ov.any() and qk.any())
    )


def _alike(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _logits(call: AttentionCall, tokens: Float[Tensor, "t c"]) -> Float[Tensor, "heads t+1 t+1"] | None:
    """Return the logits of an attention between tokens and a token of zeros, the last; `None` if there are several."""
    found, _ = call.run(_lay_out(tokens, call.tokens))
    count = len(tokens) + 1
    if len(found) != 1 or found[0].numel() % count**2 or found[0].shape[-1] != count:
        return None
    return found[0].reshape(-1, count, count)


def _products(logits: Float[Tensor, "heads t+1 t+1"]) -> Float[Tensor, "heads t t"]:
    """Return the part of logits that is a product of both tokens, without that of the biases."""
    return logits[:, :-1, :-1] - logits[:, :-1, -1:] - logits[:, -1:, :-1] + logits[:, -1:, -1:]


def _output(call: AttentionCall, tokens: Float[Tensor, "t c"], weights: Tensor) -> Float[Tensor, "t out"]:
    """Return the output for each token, without that for a token of zeros, if it reads itself with a weight by head."""
    _, out = call.run(_lay_out(tokens, call.tokens), weights)
    flat = torch.empty(0, 1) if out is None else out.reshape(-1, out.shape[-1])
    if len(flat) != len(tokens) + 1:
        raise ValueError(f"expected an output for each of {len(tokens) + 1} tokens, got {len(flat)}")
    return flat[:-1] - flat[-1]


def _lay_out(tokens: Float[Tensor, "t c"], like: Tensor) -> Tensor:
    """Return tokens and one of zeros in the layout of another tensor: tokens first or second, or without a batch."""
    given = torch.cat([tokens, torch.zeros_like(tokens[:1])])
    return given if like.ndim == 2 else given[:, None] if like.shape[1] == 1 else given[None]


def strongest_pairs(qk: Float[Tensor, "channel channel"], count: int) -> list[tuple[int, int, float]]:
    """Return the pairs of a query's channel and a key's channel with the largest weights, of either sign.

    Args:
        qk: QK matrix of a head.
        count: Number of pairs.
    """
    order = qk.abs().flatten().topk(min(count, qk.numel())).indices.tolist()
    return [(*divmod(i, qk.shape[1]), qk.flatten()[i].item()) for i in order]  # type: ignore[misc]
