"""Whether a judge may be asked about a maker's pictures, and what both call a class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import featviz as fv


def check_judge(maker: fv.Network, by: fv.Network) -> None:
    """Make sure that a judge has no part in what it judges.

    Raises:
        SettingError: all weights of the one are among those of the other, or the judge is several networks.
    """
    if fv.objectives.OUTPUT not in by.heads:
        raise fv.SettingError("the judge is several networks run combine; judge by one of them")
    if _is_part(maker, by) or _is_part(by, maker):
        raise fv.SettingError(f"{by.label} would judge its own pictures; judge by a network that was trained apart")


def _is_part(one: fv.Network, other: fv.Network) -> bool:
    mine, theirs = list(one.module.parameters()), list(other.module.parameters())

    def known(weights: Tensor) -> bool:
        return any(weights.shape == their.shape and torch.equal(weights, their.to(weights)) for their in theirs)

    return bool(mine) and all(map(known, mine))  # the first that is unlike tells


def labels(unit: Any, maker: fv.Network, by: fv.Network) -> tuple[int, int]:
    """Return the index of a class to its maker and to the judge: by name, where both have names.

    Raises:
        SettingError: they know other classes, or look at images of other channels.
    """
    names = maker.heads.get(unit.network, maker.classes)
    if isinstance(unit.name, str) and unit.name not in names:
        raise fv.SettingError(f"{maker.label} has no class named {unit.name!r}; give the maker with its class names")
    mine = unit.name if isinstance(unit.name, int) else names.index(unit.name)
    there = maker.table[unit.network].channels
    if names and len(names) != there:
        given = f"{maker.label} has {len(names)} class names for {there} outputs"
        raise fv.SettingError(f"{given}; give the maker with a name for each")
    if maker.channels != by.channels:
        raise fv.SettingError(
            f"{by.label} looks at images of {by.channels} channels, the pictures have {maker.channels}; "
            "judge by a network of the same channels"
        )
    if by.classes and names and by.classes != names:
        if names[mine] not in by.classes:
            raise fv.SettingError(f"{by.label} knows no class {names[mine]!r}; judge by a network of the same classes")
        return mine, by.classes.index(names[mine])
    known = by.table[""].channels if "" in by.table else 0
    if known != there:
        given = f"{by.label} has {known} classes, {maker.label} has {there}"
        raise fv.SettingError(f"{given}; judge by a network of the same classes, or give both with their names")
    return mine, mine
