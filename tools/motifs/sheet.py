"""The paper that motifs are drawn on: coordinates, chance and ink."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TAU = 2 * math.pi

Layers = list[tuple[Float[Tensor, "n h w"], Float[Tensor, "n 3 1 1"]]]
"""Ink, and the colour of it, lowest layer first."""


@dataclass(frozen=True)
class Sheet:
    """n blank drawings: where each pixel lies in motif units, and the dice for everything left to chance."""

    u: Float[Tensor, "n h w"]
    v: Float[Tensor, "n h w"]
    px: Float[Tensor, "n 1 1"]
    dark: Float[Tensor, "n 3 1 1"]
    light: Float[Tensor, "n 3 1 1"]
    generator: torch.Generator

    def uniform(self, low: float, high: float, *more: int) -> Tensor:
        """Draw one number for each drawing, or a table of them."""
        shape = (len(self.u), *(more or (1, 1)))
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def edge(self, distance: Tensor) -> Tensor:
        """Ink where `distance` (motif units) is positive, with an edge about a pixel wide."""
        return torch.sigmoid(distance / (0.4 * self.px))

    def line(self, distance: Tensor, width: Tensor | float) -> Tensor:
        """Ink within half a `width` of where `distance` is zero."""
        return self.edge(width / 2 - distance.abs())

    def color(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> Tensor:
        """Draw a colour between two RGB corners for each drawing."""
        a, b = torch.tensor(low).view(3, 1, 1), torch.tensor(high).view(3, 1, 1)
        return a + (b - a) * self.uniform(0, 1, 3, 1, 1)

    def wobble(self, waves: int = 5, frequency: float = 1.0) -> Tensor:
        """Smooth random hills between about -1 and 1."""
        angle, phase = self.uniform(0, TAU, waves, 1, 1), self.uniform(0, TAU, waves, 1, 1)
        speed = frequency * self.uniform(0.5, 1.5, waves, 1, 1)
        along = angle.cos() * self.u[:, None] + angle.sin() * self.v[:, None]
        return (TAU * speed * along + phase).sin().sum(1) / math.sqrt(waves)


def frac(x: Tensor) -> Tensor:
    """Position within a cell, from -.5 to .5."""
    return x - x.floor() - 0.5
