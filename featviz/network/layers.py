"""The layers of a network: kind, shape, channels and stride of each, and the table that lists them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from featviz.network.activations import Layout
from featviz.network.receptive_fields import ReceptiveField

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One row of the layer table.

    Args:
        name: Dotted name of the module, as in `named_modules`; empty for the whole network.
        layout: Meaning of the dimensions of the output.
        shape: Shape of the output for one image of the network's input size, without the batch dimension.
        stride: Distance of neighbouring positions of a feature map, in px; 0 for a layer without positions.
        calls: Number of times that the module runs in one pass. Its output is captured at the last call; `layer#1`
            addresses the first.
        item: Path of the tensor in the module's output, such as `"logits"` or `"1"`; empty for the first one.
    """

    name: str
    layout: Layout
    shape: Shape
    stride: int = 0
    calls: int = 1
    item: str = ""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[self.layout.channel - 1]

    @property
    def map_size(self) -> Shape:
        """The shape without the channel dimension; of a feature map, its rows and its columns."""
        sides = tuple(side for i, side in enumerate(self.shape) if i != self.layout.channel - 1)
        return sides[::-1] if self.layout.transposed else sides


@dataclass(frozen=True)
class Probed:
    """What running a network tells about it.

    Args:
        table: Every layer that can be addressed, by name, in the order in which the modules finish.
        fixed_size: Whether the network refused every size but its own.
        memory_format: Channels last, unless the network reshapes its feature maps in a way that does not allow it.
        draws: Whether the network draws random numbers in eval mode, as with dropout that is always active.
        calls: The outputs of modules that run several times in one pass, by `layer#1`, `layer#2` and so on.
        refused: Why other modules cannot be addressed, by name.
        checkpointed: Whether its forward pass uses re-entrant checkpointing, so that layers have no gradient.
        outputs: The tensors of a network that puts out several, by `output.1`, `output.logits` and so on.
        writes_weights: Whether its forward pass changes its weights, so that they must not be shared.
    """

    table: dict[str, Layer]
    fixed_size: bool
    memory_format: torch.memory_format
    draws: bool = False
    calls: dict[str, Layer] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Layer] = field(default_factory=dict)
    writes_weights: bool = False
    checkpointed: bool = False


class LayerTable:
    """The layers of a network as a table of text.

    Args:
        layers: The layers by name.
        fields: Receptive fields by layer name, for feature maps.
    """

    HEADER = ("layer", "kind", "shape", "channels", "field px", "stride px")

    def __init__(self, layers: dict[str, Layer], fields: dict[str, ReceptiveField]) -> None:
        self.layers, self.fields = layers, fields

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells as text, one row per layer, without the header."""
        rows: list[tuple[str, ...]] = []
        for name, layer in self.layers.items():
            field = self.fields.get(name)
            field_cells = ("", "") if field is None else (str(field.px or "all"), str(field.stride))
            shape = "x".join(map(str, layer.shape))
            label = name or ("logit" if layer.layout.kind == "vector" else "(output)")
            rows.append((label, layer.layout.kind, shape, str(layer.channels), *field_cells))
        return rows

    def __str__(self) -> str:
        """Return the table with aligned columns."""
        rows = [self.HEADER, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.HEADER))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    __repr__ = __str__
