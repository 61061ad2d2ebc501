"""The layers of a network: kind, shape, channels and stride of each, and the table that lists them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol, runtime_checkable

import torch

from featviz.interfaces import Shape, Size
from featviz.network.layout import Layout
from featviz.network.probing.receptive_fields import ReceptiveField

CLASS_PREFIXES = ("logit", "prob")
"""Prefixes of addresses of classes: the logit, or the probability after the softmax. Layers of this name are quoted."""
MAX_ROWS = 40
"""Largest number of layers that the text of a table shows."""
LONG_RUN = 8
"""Number of successive layers of one map size from which more than the last one is suggested."""


@dataclass(frozen=True)
class LayerRow:
    """One row of the layer table.

    Args:
        name: Dotted name of the module, as in `named_modules`; empty for the whole network.
        layout: Meaning of the dimensions of the output.
        shape: Shape of the output for one image of the network's input size, without the batch dimension.
        stride: Distance of neighbouring positions of a feature map, in px; 0 for a layer without positions. Of volumes
            and video it is that along the last axis.
        calls: Number of times that the module runs in one pass; 0 if that depends on the image. Its output is captured
            at the last call; `layer#1` addresses the first.
        item: Path of the tensor in the output of `source`, such as `"logits"` or `"1"`; empty for the first tensor that
            the module `name` outputs.
        base: Of the features of a dictionary, the layer whose activations it encodes; `None` for a layer of the module.
        strides: Distances along each axis of volumes and video; empty for others.
        source: Name of the module that outputs `item`; empty for the whole network.
        call: Of the rows `layer#1`, `layer#2` …, the number of the call; 0 for others.
    """

    name: str
    layout: Layout
    shape: Shape
    stride: int = 0
    calls: int = 1
    item: str = ""
    base: str | None = None
    strides: Shape = ()
    source: str = ""
    call: int = 0

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[self.layout.channel - 1]

    @property
    def map_size(self) -> Shape:
        """The shape without the channel dimension; of a feature map, its length along each axis."""
        sides = tuple(side for i, side in enumerate(self.shape) if i != self.layout.channel - 1)
        if self.layout.kind == "map" and len(sides) == 1 and self.layout.axes == 2:  # of a sequence
            return (1, *sides)
        return sides[::-1] if self.layout.transposed else sides

    @property
    def has_positions(self) -> bool:
        """Whether it is a feature map, or tokens, with more than one position."""
        return self.layout.kind in ("map", "tokens") and math.prod(self.map_size) > 1


@dataclass(frozen=True)
class Probed:
    """Properties of a network that are measured by running it.

    Args:
        table: Every layer that can be addressed, by name, in the order in which the modules finish.
        fixed_size: Whether the network refused every size but its own.
        memory_format: Channels last, unless the network reshapes its feature maps in a way that does not allow it.
        draws: Whether the network draws random numbers in eval mode, as with dropout that is always active.
        calls: The outputs of modules that run several times in one pass, by `layer#1`, `layer#2` and so on.
        refused: Why other modules cannot be addressed, by name.
        checkpointed: Whether its forward pass uses re-entrant checkpointing, so that layers have no gradient.
        outputs: The tensors of a network that outputs several, by `output.1`, `output.logits` and so on.
        writes_weights: Whether its forward pass changes its weights, so that they must not be shared.
        keeps_graph: Whether its forward pass computes gradients itself, for which it needs the graph of the pass.
        unregistered: Classes of modules with weights that ran in training mode and are no part of the network.
    """

    table: dict[str, LayerRow]
    fixed_size: bool
    memory_format: torch.memory_format
    draws: bool = False
    calls: dict[str, LayerRow] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, LayerRow] = field(default_factory=dict)
    writes_weights: bool = False
    checkpointed: bool = False
    keeps_graph: bool = False
    unregistered: tuple[str, ...] = ()


@runtime_checkable
class CombinesNetworks(Protocol):
    """A module that runs several networks. The name of a layer starts with the name of its network."""

    captured: tuple[str, ...]
    """Layers that a pass captures: networks without one are skipped. Empty to run all networks."""

    def probed_at(self, size: Size) -> Probed:
        """Return the layer table at an input size.

        Args:
            size: Length of each axis in px.
        """


class LayerTable:
    """The layers of a network as a table of text.

    Of a large network, the text shows the layers down to the deepest level of names that has at most `MAX_ROWS`.

    Args:
        layers: The layers by name.
        fields: Receptive fields by layer name, for feature maps.
        has_logits: Whether it is known that the output holds the class logits.
    """

    HEADER = ("layer", "kind", "shape", "channels", "field px", "stride px")

    def __init__(
        self, layers: dict[str, LayerRow], fields: dict[str, ReceptiveField], *, has_logits: bool = True
    ) -> None:
        self.layers, self.fields, self.has_logits = layers, fields, has_logits

    @property
    def shown(self) -> list[str]:
        """Names of the layers that the text shows."""
        levels = {name: name.count(".") for name in self.layers}
        depths = range(max(levels.values(), default=0) + 1)
        few = [depth for depth in depths if sum(level <= depth for level in levels.values()) <= MAX_ROWS]
        return [name for name, level in levels.items() if level <= max(few, default=0)]

    @property
    def suggested(self) -> set[str]:
        """Names of layers to render first: the last one of each map size, some more of a long run, and the logits."""
        own = [name for name in self.shown if name and self.layers[name].base is None]
        maps = [name for name in own if self.layers[name].has_positions]
        runs = [list(run) for _, run in groupby(maps, key=lambda name: self.layers[name].map_size)]
        found = {name for name in self.shown if (self.layers[name].base is not None if name else self.has_logits)}
        for run in runs:
            parts = len(run) // LONG_RUN + 1
            found |= {run[len(run) * (i + 1) // parts - 1] for i in range(parts)}
        return found

    def rows(self, names: Iterable[str] | None = None) -> list[tuple[str, ...]]:
        """Return the cells as text, one row per layer, without the header.

        Args:
            names: Names of the layers; `None` for all.
        """
        rows: list[tuple[str, ...]] = []
        for name in self.layers if names is None else names:
            layer, field = self.layers[name], self.fields.get(name)
            stride = "x".join(map(str, layer.strides)) if len(set(layer.strides)) > 1 else str(layer.stride)
            field_cells = ("", "") if field is None else (str(field), stride)
            shape = "x".join(map(str, layer.shape))
            label = "logit" if not name and layer.layout.kind == "vector" else as_typed(name)
            rows.append((label, layer.layout.kind, shape, str(layer.channels), *field_cells))
        return rows

    def text(self, *, all_layers: bool = False) -> str:
        """Return the table with aligned columns, and a star for layers that are good to render first.

        Args:
            all_layers: Show all layers, however many there are.
        """
        names, suggested = list(self.layers) if all_layers else self.shown, self.suggested
        inside = Counter(parent for name in self.layers.keys() - set(names) for parent in _parents(name))
        notes = [
            ("*" if name in suggested else "", f"+{inside[name]} inside" if name and inside[name] else "")
            for name in names
        ]
        rows = [(*self.HEADER, "", ""), *(row + note for row, note in zip(self.rows(names), notes, strict=True))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        more = len(self.layers) - len(names)
        hidden = f"; {more} more layers inside: featviz layers --all, or layers().text(all_layers=True)" if more else ""
        return "\n".join([*lines, "", f"* good to render first{hidden}"])

    def __str__(self) -> str:
        """Return the table with aligned columns, shortened where there are many layers."""
        return self.text()

    __repr__ = __str__


def as_typed(name: str) -> str:
    """Return the name of a layer as an objective needs it: in double quotes, unless it is plain.

    >>> as_typed("layer1.0.conv1"), as_typed("block4.block4-1"), as_typed("prob")
    ('layer1.0.conv1', '"block4.block4-1"', '"prob"')
    """
    is_plain = re.fullmatch(r"[\w.]+(#\d+)?~?", name, re.ASCII) and name not in CLASS_PREFIXES
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def _parents(name: str) -> Iterator[str]:
    """Yield the names of the modules in which a module lies."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
