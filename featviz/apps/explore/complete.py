"""Complete the text of an objective at the caret: layers, classes, functions and positions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import featviz as fv
from featviz.network import OUTPUT
from featviz.network.layers import CLASS_PREFIXES
from featviz.objectives.address import Address
from featviz.objectives.algebra import named_objectives

MOST = 40
"""Largest number of completions."""
_CLASS = re.compile(rf"(?P<head>{'|'.join(CLASS_PREFIXES)}):(?P<name>\"?[^()\",@*/]*)$")
"""A class that is being typed, before the caret. Its name may have spaces."""
_WORD = re.compile(r"[\w.#~]*$|\"[^\"]*$")
"""A layer or a function that is being typed, before the caret."""
_POSITION = re.compile(r"(?P<layer>[\w.#]+~?)(?:(?<=~)|:)\d+@(?P<at>\w*)$")
"""A position that is being typed, before the caret."""
_CHANNEL = re.compile(r"(?P<layer>[\w.#]+~?)(?:(?<=~)|:)(?P<channel>\d*)$")
"""A channel that is being typed, before the caret."""

Item = dict[str, str]


class Completer:
    """Completes objectives for one network.

    Args:
        network: The network.
    """

    def __init__(self, network: fv.Network) -> None:
        self._layers = {name: layer for name, layer in network.table.items() if name != OUTPUT}
        self._classes = list(network.classes)
        self._functions = {name: _signature(kind) for name, kind in sorted(named_objectives().items())}
        self._has_logits = network.logits_layer is not None

    def complete(self, text: str, at: int) -> dict[str, Any]:
        """Return completions.

        Args:
            text: The text of the objective.
            at: Position of the caret in it.

        Returns:
            `start`, from where to the caret the text is replaced; and `items`, each with its `text` and a `note`.
        """
        before = text[:at]
        if found := _CLASS.search(before):
            return _answer(found.start("name"), self._class_items(found["name"]))
        found = _POSITION.search(before)
        if found and found["layer"] in self._layers:
            return _answer(found.start("at"), self._position_items(found["layer"], found["at"]))
        found = _CHANNEL.search(before)
        if found and found["layer"] in self._layers:
            return _answer(found.start("channel"), self._channel_items(found["layer"], found["channel"]))
        found = _WORD.search(before)
        assert found is not None  # it matches no text, too
        return _answer(found.start(), self._name_items(found[0].removeprefix('"')))

    def _class_items(self, typed: str) -> Iterator[Item]:
        names = [(str(Address("logit", name)).partition(":")[2], f"class {i}") for i, name in enumerate(self._classes)]
        return _matching(typed.removeprefix('"'), names)

    def _channel_items(self, layer: str, typed: str) -> Iterator[Item]:
        count = self._layers[layer].channels
        numbers = (str(channel) for channel in range(count))
        return ({"text": n, "note": f"of {count} channels"} for n in numbers if n.startswith(typed))

    def _position_items(self, layer: str, typed: str) -> list[Item]:
        kind = self._layers[layer].layout.kind
        known = [("center", "the middle of the map")] if self._layers[layer].has_positions else []
        known += [("cls", "class token")] if kind == "tokens" else []
        return [{"text": text, "note": note} for text, note in known if text.startswith(typed)]

    def _name_items(self, typed: str) -> Iterator[Item]:
        layers = [(str(Address(name)), _layer_note(layer)) for name, layer in self._layers.items()]
        classes = [("logit:", "a class, before the softmax"), ("prob:", "probability of a class")]
        functions = [(f"{name}({'' if takes else ')'}", f"{name}({takes})") for name, takes in self._functions.items()]
        yield from _matching(typed, [*layers, *(classes if self._has_logits else []), *functions])


def _layer_note(layer: Any) -> str:
    sides = " x ".join(map(str, layer.map_size))
    return f"{layer.channels} channels{f', {sides}' if layer.has_positions else ''}"


def _signature(kind: Any) -> str:
    return ", ".join(field.name for field in fields(kind))


def _answer(start: int, items: Iterable[Item]) -> dict[str, Any]:
    found: list[Item] = []
    for item in items:
        if len(found) == MOST:
            break
        found.append(item)
    return {"start": start, "items": found}


def _matching(typed: str, pairs: Sequence[tuple[str, str]]) -> Iterator[Item]:
    """Yield names that start with the typed text, then names that contain it."""
    low = typed.lower()
    plain = [(json.loads(text) if text.startswith('"') else text).lower() for text, _ in pairs]
    first = [pair for pair, name in zip(pairs, plain, strict=True) if name.startswith(low)]
    rest = [pair for pair, name in zip(pairs, plain, strict=True) if low in name and not name.startswith(low)]
    return ({"text": text, "note": note} for text, note in [*first, *rest])
