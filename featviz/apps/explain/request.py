"""What a method of attribution is given, and what it gives back."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor

import featviz as fv
from featviz.engine import open_scorer


@dataclass(frozen=True)
class Question:
    """What in images made a network score so high?

    Args:
        network: the network.
        target: the objective whose score is to be explained.
        size: height and width in px of the images.
    """

    network: fv.Network
    target: Any
    size: tuple[int, int]

    def open(self, *layers: str) -> AbstractContextManager[Any]:
        """Open the network to ask it, and capture more layers."""
        return open_scorer(self.network, [self.target], self.size, layers=layers)

    @property
    def before(self) -> list[str]:
        """The layers with several places up to those that the target reads, and these, the last of them last."""
        names = list(self.network.table)
        read = [names.index(layer) for layer in self.target.layers if layer in self.network.table]
        last = max(read, default=len(names) - 1)
        return [name for name in names[: last + 1] if _has_places(self.network, name)]

    def place_layer(self, layer: str | None) -> str:
        """Return the layer asked for, or the last one with places.

        Raises:
            AddressError: there is no such layer.
            SettingError: it has no places, or comes after the target; or no layer will do.
        """
        before = self.before
        if layer is None:
            if not before:
                raise fv.SettingError(f"no layer of {self.network.label} before {self.target} has places to explain")
            return before[-1]
        if layer in before:
            return layer
        with self.network.session([layer]):  # says what is wrong with the name
            instead = f"the last that will do is {before[-1]!r}" if before else "none will do"
            raise fv.SettingError(f"{layer!r} has no places, or comes after {self.target}; {instead}")


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found out.

    Args:
        map: of each image, how much each pixel, or place of a coarser grid, speaks for the target, or against it.
        channels: the same for each channel of the pixels, where the method tells.
        delta: by what share the map misses the sum that the method promises: the score's rise over a baseline, or the
            relevance that is handed back.
        labels: the class that each place speaks for most, where the method compares classes.
        names: of those classes.
    """

    map: Float[Tensor, "n rows columns"]
    channels: Float[Tensor, "n c h w"] | None = None
    delta: Float[Tensor, " n"] | None = None
    labels: Int[Tensor, "n rows columns"] | None = None
    names: tuple[str, ...] = ()


class Method(Protocol):
    """A way of attributing a score to the parts of an image."""

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1].

        Raises:
            SettingError: the method cannot be applied to this network or target.
        """


def _has_places(network: fv.Network, layer: str) -> bool:
    found = network.table[layer]
    return found.layout.patch is not None or (found.layout.kind == "map" and math.prod(found.places) > 1)
