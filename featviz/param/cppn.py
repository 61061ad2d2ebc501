"""A canvas held as a small network from places to colours, which has no resolution of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Leaves, ParamTraits, Size
from featviz.random import Generators

REACH = 3**0.5
"""Coordinates go from minus to plus this, for a deviation of 1. Source: Lucid, lucid/optvis/param/cppn.py."""
PACE = 0.04
"""How far a weight moves for a step of 1: with the usual learning rate .05 a half of Lucid's .004, which saturates."""
FIT_STEPS, FIT_RATE, FIT_SIDE = 800, 0.2, 96
"""How a given image is learned, and how large in px it is then at most: detail is beyond it anyway."""


@dataclass(frozen=True)
class CPPN:
    """A compositional pattern-producing network: smooth lines and shapes, which can be drawn again at any size.

    `rendering.at(1024)` draws it larger. It is seen from close by, with `transforms.NEAR`, where nothing else is asked
    for: wide views drive it to one flat colour.

    Args:
        width: units of each layer.
        depth: layers.
        periodic: what leaves on one side comes in on the other, so that the picture is a tile.

    Raises:
        SettingError: a width or depth below 1.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Compositional Pattern Producing
        Networks"; Lucid, lucid/optvis/param/cppn.py.
    """

    width: int = 24
    depth: int = 8
    periodic: bool = False

    def __post_init__(self) -> None:
        """Check the network."""
        if min(self.width, self.depth) < 1:
            raise SettingError(f"a network of {self.depth} layers of {self.width} units draws nothing; give 1 or more")

    @property
    def traits(self) -> ParamTraits:
        """Can be drawn at any size; wide views drive it to one flat colour."""
        return ParamTraits(any_size=True, close_views=True)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the weights of each image's network; the last layer is 0, so all begin grey."""
        inputs = 4 if self.periodic else 2
        leaves: Leaves = []
        for layer in range(self.depth):
            fan = inputs if layer == 0 else 2 * self.width
            leaves += [rng.normal(fan, self.width) / (PACE * fan**0.5), torch.zeros(len(rng), 1, self.width)]
        return [*leaves, torch.zeros(len(rng), 2 * self.width, channels), torch.zeros(len(rng), 1, channels)]

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Learn the canvas by gradient descent, which takes a while and leaves out what is finest."""
        small = min(1.0, FIT_SIDE / max(canvas.shape[2:]))
        size = (max(1, round(small * canvas.shape[2])), max(1, round(small * canvas.shape[3])))
        wanted = (F.interpolate(canvas, size, mode="area") / 2).tanh()  # as the sigmoid will squash it
        with torch.inference_mode(False), torch.enable_grad():
            leaves = self.start(Generators(range(len(canvas))), canvas.shape[1], size)
            leaves = [leaf.to(canvas.device).requires_grad_() for leaf in leaves]
            optimizer = torch.optim.Adam(leaves, lr=FIT_RATE)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FIT_STEPS)
            for _ in range(FIT_STEPS):
                optimizer.zero_grad()
                ((self.canvas(leaves, size) / 2).tanh() - wanted).square().flatten(1).mean(1).sum().backward()
                optimizer.step()
                schedule.step()
        return [leaf.detach() for leaf in leaves]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Ask the network for the colour of every place."""
        signal = self._places(size, leaves[0].device).expand(len(leaves[0]), -1, -1)
        for weight, bias in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
            signal = _bend(torch.baddbmm(bias * PACE, signal, weight * PACE))
        flat = torch.baddbmm(leaves[-1] * PACE, signal, leaves[-2] * PACE)
        return flat.mT.reshape(len(flat), flat.shape[2], *size)

    def _places(self, size: Size, device: torch.device) -> Float[Tensor, "places inputs"]:
        """Return the coordinates of every pixel's middle: the shorter side from -REACH to REACH, the longer beyond."""
        rows, columns = (torch.arange(side, device=device) + 0.5 for side in size)
        if self.periodic:
            turns = [2 * math.pi * rows / size[0], 2 * math.pi * columns / size[1]]
            waves = [wave for turn in turns for wave in (turn.sin(), turn.cos())]
            grid = [wave[:, None].expand(size) for wave in waves[:2]] + [wave.expand(size) for wave in waves[2:]]
            return 2**0.5 * torch.stack(grid, -1).flatten(0, 1)
        unit = 2 * REACH / min(size)
        grid = list(torch.meshgrid(unit * (rows - size[0] / 2), unit * (columns - size[1] / 2), indexing="ij"))
        return torch.stack(grid, -1).flatten(0, 1)


def _bend(signal: Tensor) -> Tensor:
    """Return an odd and an even function of each unit, both of about unit deviation.

    Source: Lucid, lucid/optvis/param/cppn.py, `_composite_activation`.
    """
    bent = signal.atan()
    return torch.cat([bent / 0.67, (bent.square() - 0.45) / 0.396], -1)
