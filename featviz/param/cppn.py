"""Canvases parameterized by a small network from coordinates to colours, without a resolution of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_flag, check_number
from featviz.interfaces import Leaves, ParamTraits, Size
from featviz.param.fitting import fit_leaves
from featviz.random import Generators

COORDINATE_RANGE = 3**0.5
"""Coordinates cover [-range, range] along the shorter side: a uniform distribution of standard deviation 1.

Source: Lucid, lucid/optvis/param/cppn.py.
"""
MAX_WIDTH, MAX_DEPTH = 4096, 64
"""Largest width and depth; images do not get better from about the defaults on."""
WEIGHT_STEP_SCALE = 0.04
"""Change of a weight for a change of its leaf by 1.

At `Adam`'s default rate of 0.12, the first steps change weights by 0.005. Lucid's change them by 0.004.
"""
FIT_STEPS, FIT_LR, FIT_SIDE = 800, 0.2, 96
"""Steps and initial rate of Adam in `fit`, and the largest side in px of the images that it fits."""


@dataclass(frozen=True)
class CPPN:
    """A compositional pattern-producing network: smooth lines and shapes that can be computed at any size.

    `rendering.at(1024)` computes the images again, larger. The default transforms are `transforms.NEAR`, because views
    from far away drive the images to one flat colour.

    Args:
        width: Units of each hidden layer, >= 1.
        depth: Number of hidden layers, >= 1.
        periodic: Make images that can be tiled: opposite edges continue each other.

    Raises:
        SettingError: A value is out of its range.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Compositional Pattern Producing
        Networks"; Lucid, lucid/optvis/param/cppn.py.
    """

    width: int = 24
    depth: int = 8
    periodic: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_number("width of CPPN", self.width, at_least=1, at_most=MAX_WIDTH, whole=True, note="(default 24)")
        check_number("depth of CPPN", self.depth, at_least=1, at_most=MAX_DEPTH, whole=True, note="(default 8)")
        check_flag("periodic of CPPN", self.periodic)

    @property
    def traits(self) -> ParamTraits:
        """Can be computed at any size; wide views drive it to one flat colour."""
        return ParamTraits(any_size=True, close_views=True)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the weights of each image's network. The last layer is 0, so that all images start grey."""
        inputs = (2 if self.periodic else 1) * len(size)
        leaves: Leaves = []
        for layer in range(self.depth):
            fan_in = inputs if layer == 0 else 2 * self.width
            # Weights have variance 1 / fan_in. Leaves are weights divided by the step scale, and `canvas` multiplies by
            # it again: this sets the step of a weight, whatever optimizer changes the leaves.
            weight = rng.normal(fan_in, self.width) / (WEIGHT_STEP_SCALE * fan_in**0.5)
            leaves += [weight, torch.zeros(len(rng), 1, self.width)]
        return [*leaves, torch.zeros(len(rng), 2 * self.width, channels), torch.zeros(len(rng), 1, channels)]

    def fit(self, canvas: Float[Tensor, "n c *size"]) -> Leaves:
        """Learn the canvas with Adam. This takes seconds to minutes, and loses fine detail."""
        shrink = min(1.0, FIT_SIDE / max(canvas.shape[2:]))
        size = tuple(max(1, round(shrink * side)) for side in canvas.shape[2:])
        # tanh(x / 2) is 2 * sigmoid(x) - 1, so errors count as they are seen in an image with a sigmoid.
        target = (F.interpolate(canvas, size, mode="area") / 2).tanh()
        leaves = [leaf.to(canvas.device) for leaf in self.start(Generators(range(len(canvas))), canvas.shape[1], size)]

        def seen(leaves: Leaves) -> Float[Tensor, "n c *size2"]:
            return (self.canvas(leaves, size) / 2).tanh()

        return fit_leaves(leaves, seen, target, steps=FIT_STEPS, lr=FIT_LR)

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Evaluate each image's network at the centre of every pixel."""
        signal = self._coordinates(size, leaves[0].device).expand(len(leaves[0]), -1, -1)
        for weight, bias in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
            signal = _composite_activation(torch.baddbmm(bias * WEIGHT_STEP_SCALE, signal, weight * WEIGHT_STEP_SCALE))
        flat = torch.baddbmm(leaves[-1] * WEIGHT_STEP_SCALE, signal, leaves[-2] * WEIGHT_STEP_SCALE)
        return flat.mT.reshape(len(flat), flat.shape[2], *size)

    def _coordinates(self, size: Size, device: torch.device) -> Float[Tensor, "pixels inputs"]:
        """Return the inputs of the network for the centre of every pixel, row by row."""
        places = [torch.arange(side, device=device) + 0.5 for side in size]
        if self.periodic:
            # Sine and cosine of an angle that makes one turn along each side; times sqrt(2) for standard deviation 1.
            angles = [2 * math.pi * along / side for along, side in zip(places, size, strict=True)]
            grids = (torch.meshgrid(*map(wave, angles), indexing="ij") for wave in (torch.sin, torch.cos))
            grid = [wave for pair in zip(*grids, strict=True) for wave in pair]
            return 2**0.5 * torch.stack(grid, -1).flatten(0, -2)
        # One unit for both axes, so that shapes are not stretched: the longer side goes beyond the range.
        unit = 2 * COORDINATE_RANGE / min(size)
        grid = [unit * (along - side / 2) for along, side in zip(places, size, strict=True)]
        grid = list(torch.meshgrid(*grid, indexing="ij"))
        return torch.stack(grid, -1).flatten(0, -2)


def _composite_activation(signal: Tensor) -> Tensor:
    """Return atan and atan^2 of each unit, both standardised for normally distributed units.

    An odd and an even function together draw both edges and lines.

    Source: Lucid, lucid/optvis/param/cppn.py, `_composite_activation` with `biased=False`.
    """
    bent = signal.atan()
    return torch.cat([bent / 0.67, (bent.square() - 0.45) / 0.396], -1)
