"""One vector per photograph: the layer that embeds it, and how its positions become one vector."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.network import OUTPUT, Activations

CLASS_TOKEN = "cls"
"""Name of the class token, as in an address."""


def last_layer(network: fv.Network) -> str:
    """Return the last layer with positions; of a network without any, the last one before its output.

    Codes of dictionaries are left out.

    Args:
        network: The network.

    Raises:
        AddressError: The output is the only layer.
    """
    before = [layer for name, layer in network.table.items() if name != OUTPUT and layer.base is None]
    output = network.table.get(OUTPUT)
    spatial = [layer.name for layer in before if layer.has_positions]
    if spatial:
        return spatial[-1]
    hidden = [layer.name for layer in before if output is None or layer.shape != output.shape]
    if not hidden:
        raise fv.AddressError(f"{network.label} has no layer before its output; give one by layer=")
    return hidden[-1]


def uses_class_token(network: fv.Network, layer: str) -> bool:
    """Whether the layer is tokens with a class token, which then stands for the whole photograph.

    Args:
        network: The network.
        layer: Name of the layer.
    """
    layout = network.layer(layer).layout
    return layout.kind == "tokens" and CLASS_TOKEN in dict(layout.special)


def pool(acts: Activations, layer: str, *, class_token: bool) -> Float[Tensor, "n channels"]:
    """Return one vector per image.

    Args:
        acts: Activations of images.
        layer: Name of the layer.
        class_token: Whether to return the class token, instead of the mean over positions.
    """
    if class_token:
        return acts.at(layer, CLASS_TOKEN)
    return acts.channels_first(layer).unsqueeze(-1).flatten(2).mean(2)
