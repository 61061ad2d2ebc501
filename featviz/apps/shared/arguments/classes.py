"""Class names of a network: look them up by name or index, and title them and the network on a page."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from pathlib import Path

from featviz.apps.shared.arguments.probe import probe
from featviz.network import OUTPUT, Network
from featviz.objectives.address import whole_number


def class_index(network: Network, name: str | int, head: str = OUTPUT) -> int:
    """Return the index of a class.

    Args:
        network: A classifier.
        name: Class name or index. Digits are an index unless they are a class name.
        head: Layer that outputs the logits, for combined networks.

    Returns:
        The index, from 0.

    Raises:
        AddressError: There is no such class.
    """
    return find_classes(network, [name], head)[0]


def find_classes(network: Network, names: Iterable[str | int], head: str = OUTPUT) -> list[int]:
    """Return the indices of classes. The network runs once for all of them.

    Args:
        network: A classifier.
        names: Class names or indices. Digits are an index unless they are a class name.
        head: Layer that outputs the logits, for combined networks.

    Returns:
        The indices, from 0.

    Raises:
        AddressError: There is no such class.
    """
    acts = probe(network, [head])
    return [acts.class_index(as_class(network, name, head), head) for name in names]


def as_class(network: Network, name: str | int, head: str = OUTPUT) -> str | int:
    """Return digits as an index unless they are a class name, a whole number as one of Python, and other text as it is.

    Args:
        network: A classifier.
        name: Class name or index.
        head: Layer that outputs the logits, for combined networks.
    """
    if not isinstance(name, str):
        return operator.index(name)
    return whole_number(name) if name.isdecimal() and name not in network.heads.get(head, ()) else name


def unique_name(network: Network, index: int) -> str | int:
    """Return the name of a class for an objective, or its index where the name is missing or not unique.

    Args:
        network: A classifier, with class names for all, some or none of its outputs.
        index: Index of the class.
    """
    name = network.classes[index] if index < len(network.classes) else ""
    return name if name and network.classes.count(name) == 1 else index


def network_title(network: Network) -> str:
    """Return the name of a network for a page: without the folders of its file, which are long and private.

    Args:
        network: The network. Of `/home/me/project/nets.py:make`, the title is `nets.py:make`.
    """
    source, colon, factory = network.label.rpartition(":")
    return f"{Path(source).name}{colon}{factory}"


def class_title(network: Network, index: int) -> str:
    """Return the name of a class for a page, with its index where the name is not unique (ImageNet has two cranes).

    Args:
        network: A classifier, with class names for all, some or none of its outputs.
        index: Index of the class.
    """
    name = network.classes[index] if index < len(network.classes) else ""
    if not name:
        return f"logit {index}"
    return name if network.classes.count(name) < 2 else f"{name} ({index})"
