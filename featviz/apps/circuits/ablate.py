"""Ablate inputs of a unit: replace their activations, and measure how the unit's response to its exemplars changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.expand import FLOAT32, IMAGE, check_order
from featviz.network import Activations

RANDOM_DRAWS = 8
"""Number of random sets of inputs with which the strongest are compared."""


@dataclass(frozen=True)
class Ablation:
    """The response of a unit to its exemplars, and by how much it falls without some of its inputs.

    Args:
        response: Mean activation at the strongest position of each exemplar.
        excitatory: Fall of the response without the strongest excitatory inputs.
        inhibitory: Fall of the response without the strongest inhibitory inputs; negative where the response rises.
        random: The mean fall without as many random inputs as `excitatory` has.
        single: Fall without each input alone, by channel.
        count: Number of excitatory inputs that are ablated together.
        inhibitors: Number of inhibitory inputs that are ablated together.
    """

    response: float
    excitatory: float
    inhibitory: float
    random: float
    single: dict[int, float]
    count: int
    inhibitors: int

    @property
    def ratio(self) -> float:
        """How many times more the response falls without the strongest inputs than without random ones.

        Infinite where it does not fall without random ones.
        """
        return self.excitatory / self.random if self.random > 0 else float("inf")


def falls(
    network: fv.Network,
    layer: str,
    channel: int,
    source: str,
    images: Float[Tensor, "n c h w"],
    sets: Sequence[Sequence[int]],
    baseline: Float[Tensor, " channel"] | None = None,
) -> tuple[float, list[float]]:
    """Return the response of a unit to images, and by how much it falls without each of some sets of inputs.

    The response is the mean, over the images, of the activation at the position where it is largest in the whole
    network. The position stays the same without the inputs.

    Args:
        network: A network that reads images.
        layer: Layer of the unit; empty for the class logits.
        channel: Index of the unit.
        source: The earlier layer, or `"image"`.
        images: Exemplars of the unit, in [0, 1].
        sets: Channels of the source that are ablated together.
        baseline: Activation of each channel of the source that replaces its own; `None` for 0, or grey for an image.

    Returns:
        The response, and a fall for each set.

    Raises:
        AddressError: There is no such layer or channel, or the source does not come before the layer.
    """
    check_order(network, layer, source)
    is_image = source == IMAGE and IMAGE not in network.table
    images = images.to(network.device)
    captured = [layer] if is_image else [source, layer]
    with network.session(captured, FLOAT32) as forward, torch.no_grad():
        acts = forward(images)
        whole = _flat(acts, layer, channel)
        at = whole.argmax(1, keepdim=True)
        response = whole.gather(1, at).mean().item()
        found = []
        for chosen in sets:
            if is_image:
                changed = forward(_replace(images, 1, chosen, baseline, 0.5))
            else:
                dim = acts.layouts[source].channel
                changed = forward(images, replace={source: lambda out: _replace(out, dim, chosen, baseline, 0.0)})  # noqa: B023
            found.append(response - _flat(changed, layer, channel).gather(1, at).mean().item())
    return response, found


def ablate(
    network: fv.Network,
    layer: str,
    channel: int,
    source: str,
    images: Float[Tensor, "n c h w"],
    inputs: tuple[Sequence[int], Sequence[int]],
    *,
    single: Sequence[int] = (),
    baseline: Float[Tensor, " channel"] | None = None,
    draws: int = RANDOM_DRAWS,
    seed: int = 0,
) -> Ablation:
    """Compare the response of a unit without its strongest inputs and without as many random ones.

    Args:
        network: A network that reads images.
        layer: Layer of the unit; empty for the class logits.
        channel: Index of the unit.
        source: The earlier layer, or `"image"`.
        images: Exemplars of the unit, in [0, 1].
        inputs: The strongest excitatory inputs, and the strongest inhibitory ones.
        single: Inputs that are also ablated one by one.
        baseline: As for `falls`.
        draws: Number of random sets, >= 1.
        seed: Seed of the random sets.

    Returns:
        The response and how it changes.
    """
    count = network.channels if source == IMAGE and IMAGE not in network.table else network.layer(source).channels
    generator = torch.Generator().manual_seed(seed)
    random = [torch.randperm(count, generator=generator)[: len(inputs[0])].tolist() for _ in range(draws)]
    sets = [*inputs, *random, *([k] for k in single)]
    response, found = falls(network, layer, channel, source, images, sets, baseline)
    of_random, of_single = found[2 : 2 + draws], found[2 + draws :]
    return Ablation(
        response,
        found[0],
        found[1],
        sum(of_random) / draws,
        dict(zip(single, of_single, strict=True)),
        len(inputs[0]),
        len(inputs[1]),
    )


def _flat(acts: Activations, layer: str, channel: int) -> Float[Tensor, "n positions"]:
    return acts.channel(layer, channel).unsqueeze(-1).flatten(1)


def _replace(tensor: Tensor, dim: int, channels: Sequence[int], baseline: Tensor | None, otherwise: float) -> Tensor:
    """Return a tensor with some channels replaced by a number for each."""
    changed = tensor.clone()
    view = changed.movedim(dim, 1)
    for channel in channels:
        view[:, channel] = otherwise if baseline is None else baseline[channel].item()
    return changed
