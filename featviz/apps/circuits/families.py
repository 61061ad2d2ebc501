"""Families of units: units whose kernels are rotations of each other, such as detectors of curves at several angles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ANGLES = 24
"""Number of angles that are tried, 15 degrees apart."""
MIN_SIMILARITY = 0.75
"""Smallest cosine similarity, after the rotation, to a unit of the same family."""


@dataclass(frozen=True)
class Relative:
    """A unit whose kernel is about that of another one, rotated.

    Args:
        channel: Index of the unit.
        angle: Counterclockwise rotation in degrees that brings the other unit's kernel to this one, in [0, 360).
        similarity: Cosine similarity of the two kernels after this rotation, in [-1, 1].
    """

    channel: int
    angle: float
    similarity: float


def kernels_alike(maps: Float[Tensor, "n channel rows columns"]) -> Float[Tensor, "n channel side side"]:
    """Cut maps to the smallest square that holds the non-zero weights of all of them.

    Args:
        maps: Kernels of all units of a layer, as large as the image.
    """
    reached = maps.abs().amax((0, 1)) > 1e-6 * maps.abs().max()
    edges = []
    for dim in (1, 0):
        along = reached.any(dim).nonzero().flatten().tolist() or [0]
        edges.append((along[0], along[-1] + 1))
    side = max(end - first for first, end in edges)
    # The square has the centre of the box of weights, as rotations turn about it. Outside of the image, weights are 0.
    top, left = (side + (first + end - side) // 2 for first, end in edges)
    padded = F.pad(maps, (side, side, side, side))
    return padded[:, :, top : top + side, left : left + side]


def rotate(kernels: Float[Tensor, "n channel rows columns"], degrees: float) -> Float[Tensor, "n channel side side"]:
    """Rotate square kernels counterclockwise around their centre, by bilinear interpolation; corners are cut off.

    Args:
        kernels: Kernels of an odd or even side.
        degrees: Angle.
    """
    turn = math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    # `affine_grid` maps positions of the result to those of the source, so this is the inverse rotation; y points down.
    matrix = torch.tensor([[cos, -sin, 0], [sin, cos, 0]], dtype=kernels.dtype).expand(len(kernels), 2, 3)
    grid = F.affine_grid(matrix, list(kernels.shape), align_corners=False)
    return F.grid_sample(kernels, grid, align_corners=False)


def similarities(kernels: Float[Tensor, "n channel side side"], angles: int = ANGLES) -> Float[Tensor, "angles n n"]:
    """Return the cosine similarity of each kernel, rotated by each angle, to each other kernel.

    The mean of each channel is subtracted, and the corners, which a rotation loses, are left out.

    Args:
        kernels: Kernels on channels that a rotation does not change, such as the colours of an image.
        angles: Number of angles, from 0, equally far apart.

    Returns:
        Entry (a, i, j): kernel i rotated by a * 360 / angles degrees, with kernel j.
    """
    side = kernels.shape[-1]
    along = torch.arange(side, dtype=kernels.dtype) - (side - 1) / 2
    disc = (along[:, None].square() + along.square() <= (side / 2) ** 2).to(kernels)

    def unit(some: Tensor) -> Tensor:
        mean = (some * disc).sum((2, 3), keepdim=True) / disc.sum()
        flat = ((some - mean) * disc).flatten(1)
        return flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)

    own = unit(kernels)
    return torch.stack([unit(rotate(kernels, 360 * i / angles)) @ own.T for i in range(angles)])


def family_of(
    kernels: Float[Tensor, "n channel side side"], channel: int, least: float = MIN_SIMILARITY, angles: int = ANGLES
) -> list[Relative]:
    """Return the units whose kernels are rotations of one unit's, by angle; the unit itself is the first.

    A unit belongs to the family if it is similar to the unit, or to another member (single linkage): interpolation
    makes kernels less similar the farther they are turned.

    Args:
        kernels: Kernels of all units of a layer.
        channel: Index of the unit.
        least: Smallest similarity to a member, in (0, 1].
        angles: Number of angles that are tried.
    """
    found = similarities(kernels, angles)
    best = found.amax(0)
    members, waiting = {channel}, [channel]
    while waiting:
        near = (best[waiting.pop()] >= least).nonzero().flatten().tolist()
        waiting += [k for k in near if k not in members]
        members.update(near)
    relatives = []
    for k in members - {channel}:
        turn = int(found[:, channel, k].argmax())
        relatives.append(Relative(k, 360 * turn / angles, found[turn, channel, k].item()))
    return [Relative(channel, 0.0, 1.0), *sorted(relatives, key=lambda one: (one.angle, one.channel))]
