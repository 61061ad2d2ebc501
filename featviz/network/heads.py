"""The heads of a network: class names in output order, and kinds of outputs."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from featviz.errors import SettingError, shown, warn
from featviz.network.layers import LayerRow
from featviz.network.outputs import OUTPUT, OUTPUT_KINDS

_warned: MutableMapping[nn.Module, set[tuple[str, int]]] = WeakKeyDictionary()
"""Heads, with their number of class names, of which a warning was given, by module."""
MAX_INDEX = 10**6
"""Largest index of a class in a mapping: every smaller index takes a place in the list of names."""


class NamesByIndex(tuple[str, ...]):
    """Class names that were given by index: outputs after the last one have no name."""

    __slots__ = ()


def in_output_order(names: Sequence[str] | Mapping[int, str]) -> tuple[str, ...]:
    """Return class names in output order. Outputs that a mapping leaves out get empty names.

    Args:
        names: In output order, or by index from 0; the indices may be text, as in JSON.

    Raises:
        SettingError: The names are one text, a name is no text, or an index occurs twice or is not a whole number in
            [0, 10^6].

    >>> in_output_order({"0": "ant", "2": "cat"})
    ('ant', '', 'cat')
    """
    if isinstance(names, NamesByIndex):
        return names
    if isinstance(names, str):
        raise SettingError(f"class names must be a list of names, got the text {shown(names)}")
    listed = tuple(names.values() if isinstance(names, Mapping) else names)
    no_text = [name for name in listed if not isinstance(name, str)]
    if no_text:
        raise SettingError(f"class names must be text, got {shown(no_text[0])}")
    if not isinstance(names, Mapping):
        return listed
    wrong = [key for key in names if not str(key).isdecimal() or int(key) > MAX_INDEX]
    if wrong:
        raise SettingError(f"class names must be by index, from 0 to {MAX_INDEX}, got the index {shown(wrong[0])}")
    by_index = {int(key): name for key, name in names.items()}
    if len(by_index) < len(names):
        raise SettingError("class names by index must have each index once, as a number or as text")
    return NamesByIndex(by_index.get(index, "") for index in range(max(by_index, default=-1) + 1))


def checked_outputs(outputs: Any) -> Any:
    """Return kinds of outputs.

    Args:
        outputs: One kind, `None`, or either of them by head.

    Raises:
        SettingError: There is no such kind.
    """
    for kind in outputs.values() if isinstance(outputs, Mapping) else [outputs]:
        if kind not in (None, *OUTPUT_KINDS):
            raise SettingError(f"outputs must be {', '.join(OUTPUT_KINDS)} or None, got {kind!r}")
    return outputs


def warn_of_counts(
    module: nn.Module, heads: Mapping[str, Sequence[str]], table: Mapping[str, LayerRow], label: str
) -> None:
    """Warn, once per module, of heads with more or fewer class names than outputs, as names may be at other outputs.

    Names that were given by index may be fewer.

    Args:
        module: The module of the network.
        heads: Class names by layer.
        table: The layers of the network.
        label: Name of the network.
    """
    warned = _warned.setdefault(module, set())
    for head, names in heads.items():
        row = table.get(head)
        if not names or row is None or row.layout.kind != "vector" or row.channels == len(names):
            continue
        is_fine = isinstance(names, NamesByIndex) and len(names) < row.channels
        if not is_fine and (head, len(names)) not in warned:
            warned.add((head, len(names)))
            warn(
                f"{label} has {row.channels} outputs{f' in {head}' if head else ''} and {len(names)} class names, so "
                "names may belong to other outputs; give one name per output, in output order"
            )


def heads_of(
    heads: Mapping[str, Sequence[str] | Mapping[int, str]] | None, classes: Sequence[str] | Mapping[int, str]
) -> tuple[str, tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the layer of the only head, the class names of the output, and the class names of all heads.

    Args:
        heads: Class names by layer, as for `Network`; `None` for the output with `classes`.
        classes: Class names of the output.

    Raises:
        SettingError: Class names are given in both arguments.
    """
    names = {head: in_output_order(own) for head, own in ({OUTPUT: classes} if heads is None else heads).items()}
    if len(names) != 1:
        return OUTPUT, in_output_order(classes), names
    (head, own_classes), *_ = names.items()  # the only head is the output, whatever layer it is
    if len(classes) and in_output_order(classes) != own_classes:
        raise SettingError("give the class names in heads or in classes, not in both")
    return head, own_classes, {OUTPUT: own_classes}
