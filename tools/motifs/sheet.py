"""The surface that motifs are drawn on: pixel coordinates, random numbers and anti-aliased shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TAU = 2 * math.pi

Layers = list[tuple[Float[Tensor, "n h w"], Float[Tensor, "n 3 1 1"]]]
"""Opacity in [0, 1] and colour of each layer of a drawing, lowest first."""


@dataclass(frozen=True)
class Sheet:
    """A batch of n blank drawings.

    Args:
        u: Horizontal coordinate of each pixel, in motif units.
        v: Vertical coordinate of each pixel, in motif units, downwards.
        px: Width of a pixel in motif units.
        dark: The foreground colour of each drawing, RGB in [0, 1].
        light: The background colour of each drawing, RGB in [0, 1].
        generator: Source of all random numbers.
    """

    u: Float[Tensor, "n h w"]
    v: Float[Tensor, "n h w"]
    px: Float[Tensor, "n 1 1"]
    dark: Float[Tensor, "n 3 1 1"]
    light: Float[Tensor, "n 3 1 1"]
    generator: torch.Generator

    def uniform(self, low: float, high: float, *more: int) -> Tensor:
        """Draw a uniform random number for each drawing.

        Args:
            low: Lower bound.
            high: Upper bound.
            more: Shape of a table of numbers for each drawing; by default one number that broadcasts to its pixels.

        Returns:
            Shape (n, *more).
        """
        shape = (len(self.u), *(more or (1, 1)))
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def edge(self, distance: Tensor) -> Tensor:
        """Return the opacity of a shape, with an edge about a pixel wide.

        Args:
            distance: Signed distance to the shape's outline in motif units, positive inside.
        """
        return torch.sigmoid(distance / (0.4 * self.px))

    def line(self, distance: Tensor, width: Tensor | float) -> Tensor:
        """Return the opacity of a line along `distance == 0`.

        Args:
            distance: Signed distance to the middle of the line, in motif units.
            width: Width of the line, in motif units.
        """
        return self.edge(width / 2 - distance.abs())

    def color(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> Tensor:
        """Draw a random colour for each drawing, uniform between two RGB colours in [0, 1].

        Args:
            low: Lower bound of each channel.
            high: Upper bound of each channel.
        """
        a, b = torch.tensor(low).view(3, 1, 1), torch.tensor(high).view(3, 1, 1)
        return a + (b - a) * self.uniform(0, 1, 3, 1, 1)

    def smooth_noise(self, waves: int = 5, frequency: float = 1.0) -> Tensor:
        """Return a sum of random plane waves, with values mostly in [-1, 1].

        Args:
            waves: Number of waves.
            frequency: Their mean frequency in cycles per motif unit.
        """
        angle, phase = self.uniform(0, TAU, waves, 1, 1), self.uniform(0, TAU, waves, 1, 1)
        speed = frequency * self.uniform(0.5, 1.5, waves, 1, 1)
        along = angle.cos() * self.u[:, None] + angle.sin() * self.v[:, None]
        return (TAU * speed * along + phase).sin().sum(1) / math.sqrt(waves)


def frac(x: Tensor) -> Tensor:
    """Return the offset from the middle of the unit cell that contains `x`, in [-0.5, 0.5)."""
    return x - x.floor() - 0.5
