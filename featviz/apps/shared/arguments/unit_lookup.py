"""Find the unit that a user names: a channel of a layer, or a class."""

from __future__ import annotations

from featviz.apps.shared.arguments.classes import class_index
from featviz.apps.shared.arguments.probe import check_channels
from featviz.apps.shared.arguments.targets import Target, as_target
from featviz.errors import SettingError, shown
from featviz.network import OUTPUT, Network
from featviz.objectives import Channel, Logit


def objective_of(layer: str, channel: int) -> Logit | Channel:
    """Return the objective of a channel or class, the inverse of `unit_of`.

    Args:
        layer: Name of the layer; empty for the class logits.
        channel: Index of the channel or class.
    """
    return Logit(channel) if layer == OUTPUT else Channel(layer, channel)


def unit_of(network: Network, unit: Target, *, heads: bool = True) -> tuple[str, int]:
    """Return the layer and the index of a channel or class; the layer of a class is empty, or the name of its head.

    Args:
        network: The network.
        unit: The channel or class, as text or an objective, or the index of a class.
        heads: Whether the class may be one of another head than the output, as in combined networks.

    Raises:
        AddressError: There is no such layer, channel or class.
        SettingError: `unit` is something else.
    """
    objective = as_target(unit)
    if isinstance(objective, Logit) and (heads or not objective.network):
        return objective.network, class_index(network, objective.name, objective.network)
    if isinstance(objective, Channel):
        check_channels(network, objective.layer, [objective.channel])
        return objective.layer, objective.channel
    raise SettingError(f"unit must be a channel or a class, as 'stage3:5' or 'logit:0', got {shown(str(objective))}")
