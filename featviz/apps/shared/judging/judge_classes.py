"""Check that a network may judge the images of another, and match the classes of both."""

from __future__ import annotations

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.shared.arguments.classes import class_index
from featviz.network import OUTPUT


def check_judge(network: fv.Network, judge: fv.Network) -> None:
    """Check that a judge is a single network and shares no weights with the network that rendered the images.

    Args:
        network: The network that rendered the images.
        judge: The judge.

    Raises:
        SettingError: All weights of one network are among those of the other, or the judge is several networks.
    """
    if OUTPUT not in judge.heads:
        names = ", ".join(judge.heads)
        raise fv.SettingError(f"the judge must be a single network, got {names} combined; give one of them as --judge")
    if _is_part_of(network, judge) or _is_part_of(judge, network):
        raise fv.SettingError(
            f"the judge must not have rendered the images itself, got {judge.label} for both; "
            "give a network that was trained separately as --judge"
        )


def _is_part_of(one: fv.Network, other: fv.Network) -> bool:
    """Return whether all weights of one network are among those of the other."""
    mine, theirs = list(one.module.parameters()), list(other.module.parameters())

    def is_shared(weights: Tensor) -> bool:
        return any(weights.shape == their.shape and torch.equal(weights, their.to(weights)) for their in theirs)

    return bool(mine) and all(map(is_shared, mine))  # `all` stops at the first difference


def class_indices(
    unit: fv.objectives.Logit | fv.objectives.Probability, network: fv.Network, judge: fv.Network
) -> tuple[int, int]:
    """Return the index of a class in the network that rendered it and in the judge.

    Classes are matched by name where both networks have class names, by index otherwise.

    Args:
        unit: The class.
        network: The network that rendered the images.
        judge: The judge.

    Returns:
        The index in `network`, and the index in `judge`.

    Raises:
        SettingError: The judge has other classes or other input channels, or the network lacks class names.
    """
    names = network.heads.get(unit.network, network.classes)
    index = _own_index(unit, network, names)
    if network.channels != judge.channels:
        raise fv.SettingError(
            f"the judge must take images of {network.channels} channels, {judge.label} takes {judge.channels}; "
            "give another network as --judge"
        )
    if judge.classes and names and judge.classes != names:
        if names[index] not in judge.classes:
            raise fv.SettingError(
                f"the judge must have the same classes, {judge.label} has no class {names[index]!r}; "
                "give another network as --judge"
            )
        return index, judge.classes.index(names[index])
    outputs = network.layer(unit.network).channels
    judge_outputs = judge.table[OUTPUT].channels if OUTPUT in judge.table else 0
    if judge_outputs != outputs:
        raise fv.SettingError(
            f"the judge must have the same classes, {judge.label} has {judge_outputs} and {network.label} {outputs}; "
            "give another network as --judge, or class names for both"
        )
    return index, index


def _own_index(
    unit: fv.objectives.Logit | fv.objectives.Probability, network: fv.Network, names: tuple[str, ...]
) -> int:
    """Return the index of a class in the network that rendered it, and check the number of its class names."""
    outputs = network.layer(unit.network).channels
    if names and len(names) != outputs:
        raise fv.SettingError(
            f"{network.label} must have one class name per output, got {len(names)} names for {outputs} outputs; "
            "give classes= in output order"
        )
    try:
        return class_index(network, unit.name, unit.network)
    except fv.AddressError as error:
        message = f"{network.label} has no class {unit.name!r}; give the network with its class names"
        raise fv.SettingError(message) from error
