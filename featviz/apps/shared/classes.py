"""Class names of a network: look them up by name or index, and title them on a page."""

from __future__ import annotations

from collections.abc import Iterable

from featviz.apps.shared.probe import probe
from featviz.network import OUTPUT, Network


def class_index(network: Network, name: str | int) -> int:
    """Return the index of a class.

    Args:
        network: A classifier.
        name: Class name or index. Digits are an index unless they are a class name.

    Raises:
        AddressError: There is no such class.
    """
    return find_classes(network, [name])[0]


def find_classes(network: Network, names: Iterable[str | int]) -> list[int]:
    """Return the indices of classes. The network runs once for all of them.

    Args:
        network: A classifier.
        names: Class names or indices. Digits are an index unless they are a class name.

    Raises:
        AddressError: There is no such class.
    """
    acts = probe(network, [OUTPUT])
    return [acts.class_index(int(name) if _is_index(network, name) else name) for name in names]


def class_title(network: Network, index: int) -> str:
    """Return the name of a class for a page, with its index where the name is not unique (ImageNet has two cranes).

    Args:
        network: A classifier, with or without class names.
        index: Index of the class.
    """
    if not network.classes:
        return f"logit {index}"
    name = network.classes[index]
    return name if network.classes.count(name) < 2 else f"{name} ({index})"


def _is_index(network: Network, name: str | int) -> bool:
    return isinstance(name, int) or (name.isdecimal() and name not in network.classes)
