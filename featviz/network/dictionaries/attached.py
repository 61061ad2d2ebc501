"""Attach dictionaries to layers: their codes become layers of the network, named as `layer~`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featviz.errors import AddressError, nearest
from featviz.network.dictionaries.codes import Codec
from featviz.network.dictionaries.dictionary import Dictionary
from featviz.network.hooks import Coding, Replacement
from featviz.network.layers import LayerRow

if TYPE_CHECKING:
    from featviz.network.network import Network

SUFFIX = "~"
"""Added to the name of a layer, it names the codes of the dictionary that is attached to it."""


def with_codes(table: Mapping[str, LayerRow], dictionaries: Mapping[str, Dictionary]) -> dict[str, LayerRow]:
    """Return a layer table in which the codes of each dictionary follow the layer to which it is attached.

    Args:
        table: The layers of the module.
        dictionaries: By layer. Those of layers that the table does not have, such as `layer#1`, are left out.
    """
    found: dict[str, LayerRow] = {}
    for name, row in table.items():
        found[name] = row
        if name in dictionaries:
            found[name + SUFFIX] = row_of_codes(name, row, dictionaries[name])
    return found


def row_of_codes(layer: str, row: LayerRow, dictionary: Dictionary) -> LayerRow:
    """Return the row of the codes of a dictionary: the layout of its layer, with features in place of channels.

    Args:
        layer: Name of the layer.
        row: The row of the layer.
        dictionary: What is attached to it.
    """
    shape = list(row.shape)
    shape[row.layout.channel - 1] = dictionary.features
    return replace(row, name=layer + SUFFIX, shape=tuple(shape), base=layer)


def check_fits(network: Network, layer: str, dictionary: Dictionary) -> None:
    """Check that a dictionary has the width of a layer.

    Raises:
        AddressError: There is no such layer, or it has another number of channels.
    """
    row = network.layer(layer)
    if row.base is not None:
        raise AddressError(f"{layer!r} are codes of a dictionary already; attach to the layer {row.base!r}")
    if row.channels != dictionary.channels:
        fitting = [name for name, each in network.table.items() if each.channels == dictionary.channels and name]
        hint = nearest(layer, fitting) or (f"; layers with as many: {', '.join(fitting[-3:])}" if fitting else "")
        raise AddressError(
            f"the dictionary is for {dictionary.channels} channels, and layer {layer!r} of {network.label} has "
            f"{row.channels}{hint}"
        )


def problem_of_codes(network: Network, layer: str) -> str:
    """Return why a name that ends in `~` is no layer.

    Args:
        network: The network.
        layer: The name, with `~`.
    """
    attached = [name + SUFFIX for name in network.dictionaries]
    name = layer.removesuffix(SUFFIX)
    return (
        f"no dictionary is attached to layer {name!r} of {network.label}{nearest(layer, attached)}; attach one: "
        f"net.with_dictionary({name!r}, fv.Dictionary.load(FILE)), or --dictionary FILE@{name}"
    )


def codings_of(network: Network, rows: Iterable[LayerRow]) -> dict[str, Coding]:
    """Return, for each row of codes, the function that computes them from the output of its layer.

    Args:
        network: The network.
        rows: Rows of the layer table; those that are no codes are left out.
    """
    dtype = torch.float64 if network.dtype == torch.float64 else torch.float32
    return {
        row.name: _Coding(network.dictionaries[row.base].codec(network.device, dtype), _channel_dim(row))
        for row in rows
        if row.base is not None
    }


def _channel_dim(row: LayerRow) -> int:
    """Return the dimension of the channels in an output as the module puts it out."""
    layout = row.layout
    return 1 - layout.channel if layout.batch and layout.channel <= 1 else layout.channel


@dataclass(frozen=True, eq=False)
class _Coding:
    """Computes codes from the output of a layer, and the output with which the pass goes on.

    The output keeps its value and its gradient with respect to the image, and gets one with respect to the codes: that
    of the decoder. Attribution to the codes needs it.

    Args:
        codec: The dictionary, on the device of the network.
        dim: Dimension of the channels.
    """

    codec: Codec
    dim: int

    def __call__(self, output: Tensor, replacement: Replacement | None) -> tuple[Tensor, Tensor]:
        with torch.autocast(output.device.type, enabled=False):
            x = output.to(self.codec.encoder.dtype).movedim(self.dim, -1)
            computed = self.codec.encode(x)
            # The codes are a node of their own in the graph. In `output + decoder · (codes - computed)` the difference
            # is exactly 0. The gradient with respect to the image through `codes` cancels with that through `computed`.
            captured = computed.clone().movedim(-1, self.dim)
            if replacement is not None:
                captured = replacement(captured)
            elif not (torch.is_grad_enabled() and output.requires_grad):
                return captured, output
            codes = captured.movedim(self.dim, -1).to(computed.dtype)
            change = self.codec.change(codes - computed).movedim(-1, self.dim)
            return captured, output + change.to(output.dtype)
