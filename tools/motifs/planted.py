"""Networks of signals, volumes and video whose only kernel is known: a chirp, a ring, and a bar that moves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import featviz as fv

CHIRP_LENGTH, RING_SIDE, BAR_FRAMES, BAR_SIDE = 65, 9, 7, 15
"""Samples of the chirp, side of the ring in voxels, and frames and side in px of the bar's clip."""


def chirp() -> Tensor:
    """Return a sine whose frequency rises, fading in and out, (length,)."""
    time = torch.linspace(0, 1, CHIRP_LENGTH)
    return torch.sin(2 * math.pi * (2 * time + 6 * time**2)) * torch.hann_window(CHIRP_LENGTH)


def ring() -> Tensor:
    """Return a ring that lies flat in a volume, (z, y, x)."""
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, RING_SIDE)] * 3, indexing="ij")
    return torch.exp(-(((torch.hypot(x, y) - 0.65) / 0.25) ** 2) - (z / 0.3) ** 2)


def moving_bar() -> Tensor:
    """Return an upright orange bar that moves to the right, (channel, t, y, x)."""
    t, y, x = torch.meshgrid(torch.linspace(-1, 1, BAR_FRAMES), *[torch.linspace(-1, 1, BAR_SIDE)] * 2, indexing="ij")
    bar = torch.exp(-(((x - 0.6 * t) / 0.2) ** 2) - (y / 0.7) ** 4)
    return torch.tensor([1.0, 0.2, -0.6])[:, None, None, None] * bar


def one_kernel(kernel: Tensor, size: tuple[int, ...], axes: str = "") -> fv.Network:
    """Return a network whose only layer has one kernel, and whose logit is the highest response to it.

    Args:
        kernel: `(*size)`, or `(channel, *size)` of video.
        size: Size of the input.
        axes: As for `fv.Network`; `""` for those that follow from the length of `size`.
    """
    many = len(size) > 1
    conv, pool = ((nn.Conv1d, nn.AdaptiveMaxPool1d), (nn.Conv3d, nn.AdaptiveMaxPool3d))[many]
    weight = kernel if kernel.ndim > len(size) else kernel[None]
    weight = weight - weight.mean()
    sides = tuple(weight.shape[1:])
    first = conv(len(weight), 1, sides, padding=tuple(side // 2 for side in sides), bias=False)
    first.weight.data = (weight / weight.norm())[None]
    module = nn.Sequential(first, nn.ReLU(), pool(1), nn.Flatten())
    level, spread = ((0.5,) * 3, (0.25,) * 3) if axes == "tyx" else ((0.0,), (1.0,))
    return fv.Network(module, size=size, mean=level, std=spread, axes=axes)


def signals() -> fv.Network:
    """Return a network of signals that looks for the chirp."""
    return one_kernel(chirp(), (256,))


def volumes() -> fv.Network:
    """Return a network of volumes that looks for the ring."""
    return one_kernel(ring(), (16, 16, 16))


def clips() -> fv.Network:
    """Return a network of video that looks for the moving bar."""
    return one_kernel(moving_bar(), (8, 32, 32), "tyx")
