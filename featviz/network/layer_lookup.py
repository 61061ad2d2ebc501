"""Find layers by name, and explain names that do not exist."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from torch import nn

from featviz.errors import AddressError, nearest, plain_spelling
from featviz.network.dictionaries.attached import SUFFIX, problem_of_codes, row_of_codes
from featviz.network.layers import LayerRow, as_typed
from featviz.network.outputs import OUTPUT

if TYPE_CHECKING:
    from featviz.network.network import Network

SIMILAR = 0.75
"""Similarity in [0, 1] from which a name that is no layer is taken for a misspelt class name."""

LayerLike = str | nn.Module
"""A layer: its name, or the module itself."""


def name_of(network: Network, layer: LayerLike | None) -> str | None:
    """Return the name of a layer that is given as a name or as a module of the network.

    Args:
        network: The network.
        layer: The layer; `None` for none.

    Raises:
        AddressError: The module is not part of the network.
    """
    if not isinstance(layer, nn.Module):
        return layer
    found = next((name for name, part in network.module.named_modules() if part is layer), None)
    if found is None:
        raise AddressError(
            f"the layer {type(layer).__name__} is no module of {network.label}; give a name, or one of it"
        )
    return found


def find_layer(network: Network, layer: str) -> LayerRow:
    """Return the row of the layer table for a layer.

    Args:
        network: The network.
        layer: Name of the layer; `name#2` for the second call of a module that runs several times in one pass.

    Raises:
        AddressError: There is no such layer, or its output cannot be addressed.
    """
    unclear = layer == OUTPUT and OUTPUT in network.table and is_ambiguous(network, network.table[OUTPUT])
    base = layer.removesuffix(SUFFIX)
    if base != layer:
        own = find_layer(network, base)
        if base in network.dictionaries:
            return row_of_codes(base, own, network.dictionaries[base])
        raise AddressError(problem_of_codes(network, layer))
    if not unclear:
        for rows in (network.table, network.probed.calls, network.probed.outputs):
            if layer in rows:
                return rows[layer]
    raise AddressError(_problem_of_logits(network, unclear) if layer == OUTPUT else _problem(network, layer))


def _problem_of_logits(network: Network, unclear: bool) -> str:
    """Return why the class logits of a network cannot be found, and how to say which they are."""
    if OUTPUT in network.heads and unclear:
        several = ", ".join(f"{name} of {row.channels}" for name, row in network.probed.outputs.items())
        first = next(iter(network.probed.outputs))
        return (
            f"{network.label} outputs {several}; say which are the class logits: heads={{{first!r}: class names}} "
            f"(--head {first})"
        )
    if OUTPUT not in network.heads:
        options = " or ".join(f"logit:NAME@{head}" for head in network.heads)
        return f"the network has several heads; name the one whose class is meant: {options}; or choose one with --head"
    return _problem(network, OUTPUT)


def _problem(network: Network, layer: str) -> str:
    """Return why a name is no layer that can be addressed, and which names are near."""
    modules = dict(network.module.named_modules(remove_duplicate=False))
    if layer not in modules:
        command = f" (list all: featviz layers --model {network.name})" if network.name else " (list all: net.layers())"
        hint = _class_hint(network, layer) or f"{_nearest(network, layer)}{command}"
        return f"no layer {layer!r} in {network.label}{hint}"
    first = next(name for name, part in modules.items() if part is modules[layer])
    if first != layer:
        return f"layer {layer!r} in {network.label} is the same module as {first!r}; use this name"
    reason = network.probed.refused.get(layer, "it is not called in a forward pass in eval mode on grey images")
    return f"layer {layer!r} of {network.label} cannot be addressed: {reason}{_nearest(network, layer)}"


def _nearest(network: Network, layer: str) -> str:
    """Return the layers with similar names, as they are typed, and when a name needs quotes, if any of them does."""
    typed = [as_typed(name) for name in network.table if name]
    quoted = any(name.startswith('"') for name in typed)
    quotes = "; a name with other characters than letters, digits, _ and . needs double quotes" if quoted else ""
    return nearest(layer, typed) + quotes


def _class_hint(network: Network, name: str) -> str:
    """Return how to address a class, where its name was given as a layer; empty where none is similar."""
    for head, classes in network.heads.items():
        plain = {plain_spelling(each): each for each in classes}
        similar = difflib.get_close_matches(plain_spelling(name), plain, n=1, cutoff=SIMILAR)
        if similar:
            return f"; a class is addressed as logit:{plain[similar[0]]}{f'@{head}' if head else ''}"
    return ""


def output_row(network: Network) -> LayerRow | None:
    """Return the row of the class logits; `None` if the network outputs no tensor that can be addressed.

    Raises:
        AddressError: `heads` of the network names no layer or output.
    """
    probed, head = network.probed, network.head
    known = probed.outputs | probed.calls | probed.table
    if head:
        found = known.get(head, known.get(f"output.{head}"))
        if found is None:
            outputs = f"; its outputs are {', '.join(map(repr, probed.outputs))}" if probed.outputs else ""
            raise AddressError(
                f"heads names {head!r}, no layer or output of {network.label}{nearest(head, known)}{outputs}"
            )
        return found
    fitting = [row for row in probed.outputs.values() if row.channels == len(network.classes)]
    if len(fitting) == 1:
        return fitting[0]
    return probed.outputs.get("output.logits", probed.table.get(OUTPUT))


def is_ambiguous(network: Network, output: LayerRow) -> bool:
    """Whether the network outputs several vectors, and it is not known which one is the class logits."""
    return not network.head and len(network.probed.outputs) > 1 and not output.item and output.layout.kind == "vector"
