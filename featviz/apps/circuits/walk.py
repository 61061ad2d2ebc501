"""Walk from a unit to its strongest inputs, to theirs, and so on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.contributions import contributions
from featviz.apps.circuits.expand import IMAGE, ExpandedWeights, expand, nearest_source
from featviz.io import read_photograph

ABLATED = 10
"""Largest number of inputs that are ablated together."""
EXEMPLARS = 5
"""Number of photographs with the highest activation of a unit."""

Progress = Callable[[int, int], None] | None
Unit = tuple[str, int]
"""A layer, empty for the class logits, and the index of a channel."""


@dataclass(frozen=True, eq=False)
class Wiring:
    """A unit and its strongest inputs.

    Args:
        unit: The unit.
        weights: Its expanded weights.
        excitatory: Channels of the source that excite it, the strongest first.
        inhibitory: Channels that inhibit it, the strongest first.
        ablated: The strongest excitatory and inhibitory inputs, as many as are ablated together.
        files: Photographs with the highest activation; empty without a folder.
        contributions: Contribution of each input to the response to these photographs, by which the inputs are sorted;
            `None` without them: then they are sorted by their weights.
    """

    unit: Unit
    weights: ExpandedWeights
    excitatory: list[int]
    inhibitory: list[int]
    ablated: tuple[list[int], list[int]]
    files: tuple[Path, ...] = ()
    contributions: Float[Tensor, " channel"] | None = None

    @property
    def source(self) -> str:
        """The layer of the inputs, or `"image"`."""
        return self.weights.source

    @property
    def inputs(self) -> list[int]:
        """All channels that are shown."""
        return [*self.excitatory, *self.inhibitory]

    @property
    def units(self) -> list[Unit]:
        """The inputs as units; none where they are the colours of the image."""
        return [] if self.source == IMAGE else [(self.source, channel) for channel in self.inputs]


class Walk:
    """Finds the wiring of units. The nearest source of a layer is found once.

    Args:
        network: A network that reads images.
        inputs: Largest number of inputs of each sign.
        photographs: Folder of photographs, in which each unit's exemplars are found; `None` for none.
        scan_progress: As for `fv.examples`.
    """

    def __init__(
        self, network: fv.Network, inputs: int, photographs: str | Path | None, scan_progress: Progress
    ) -> None:
        self._network, self._inputs = network, inputs
        self._photographs, self._progress = photographs, scan_progress
        self._sources: dict[str, str] = {}

    def from_unit(self, unit: Unit, source: str | None, depth: int) -> list[Wiring]:
        """Return the wiring of a unit, then that of its inputs, and so on.

        Args:
            unit: The unit.
            source: Layer of its inputs; `None` for the nearest. Further layers are the nearest.
            depth: Number of steps from the unit to inputs that have a wiring of their own, >= 0.
        """
        found = {unit: self._wire(unit[0], [unit[1]], source)[0]}
        latest = list(found.values())
        for _ in range(depth):
            wanted = dict.fromkeys(each for wiring in latest for each in wiring.units if each not in found)
            latest = [
                wiring
                for layer in dict.fromkeys(layer for layer, _ in wanted)
                for wiring in self._wire_inputs(layer, [channel for other, channel in wanted if other == layer])
            ]
            found |= {wiring.unit: wiring for wiring in latest}
        return list(found.values())

    def _wire_inputs(self, layer: str, channels: Sequence[int]) -> list[Wiring]:
        """Return the wiring of inputs; none where no weights lie before them, as for a normalisation of the image."""
        try:
            return self._wire(layer, channels, None)
        except fv.AddressError:
            return []

    def _wire(self, layer: str, channels: Sequence[int], source: str | None) -> list[Wiring]:
        """Return the wiring of units of one layer."""
        if source is None:
            source = self._sources.get(layer) or nearest_source(self._network, layer)
            self._sources[layer] = source
        files = self._exemplars(layer, channels)
        # Without photographs, one pass serves all units; with them, attention and gates are those of each unit's own.
        batches = [[channel] for channel in channels] if self._photographs else [list(channels)]
        found = []
        for some in batches:
            images = photographs_of(self._network, files[some[0]]) if files[some[0]] else None
            for weights in expand(self._network, layer, some, source, images=images):
                parts = (
                    None
                    if images is None
                    else contributions(self._network, layer, weights.channel, source, images.to(self._network.device))
                )
                up, down = weights.strongest(max(self._inputs, ABLATED), parts)
                shown, ablated = (up[: self._inputs], down[: self._inputs]), (up[:ABLATED], down[:ABLATED])
                found.append(Wiring((layer, weights.channel), weights, *shown, ablated, files[weights.channel], parts))
        return found

    def _exemplars(self, layer: str, channels: Sequence[int]) -> dict[int, tuple[Path, ...]]:
        """Return the photographs with the highest activation of each channel."""
        if self._photographs is None:
            return dict.fromkeys(channels, ())
        examples = fv.examples(
            self._network, self._photographs, layer or "logit", channels, top=EXEMPLARS, progress=self._progress
        )
        return {channel: tuple(place.file for place in examples.places(channel)) for channel in channels}


def photographs_of(network: fv.Network, files: Sequence[Path]) -> Float[Tensor, "n c h w"]:
    """Return photographs at the input size of a network, as `fv.examples` reads them."""
    return torch.stack([read_photograph(file, size=network.size, channels=network.channels) for file in files])
