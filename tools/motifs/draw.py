"""Draw labelled images of motifs. The bundled networks are trained on them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.network.bundled import MOTIFS
from motifs.patterns import CENTRED, FIGURES, PATTERNS
from motifs.sheet import Sheet, frac

MAX_ROTATION = 0.35
"""Largest rotation in either direction, in radians. Like most objects in photographs, motifs have an upright position.
"""
FUNCTIONS = PATTERNS | CENTRED | FIGURES
MOTIFS_PER_SIDE = {"pattern": (2.7, 5.0), "centred": (1.8, 4.0), "figure": (0.9, 2.4)}
"""Smallest and largest number of periods or cells along the shorter side. With fewer, a drawing would show an arc or a
bend only, which could be part of another motif."""
MAX_SHIFT = {"pattern": 0.4, "centred": 0.3, "figure": 0.2}
"""Largest shift in either direction, as a fraction of the shorter side."""

Uniform = Callable[..., Tensor]
"""Draws a uniform random number between two bounds for each drawing, or a table of them."""


def draw(labels: Int[Tensor, " n"], size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Draw one image of each label, at random scale, position, angle, colours, background and noise.

    Args:
        labels: Indices into `MOTIFS`.
        size: Height and width in px.
        generator: Source of all random numbers. The images are on its device.

    Returns:
        Images in [0, 1].
    """
    with generator.device:
        images = torch.empty(len(labels), 3, *size)
        labels = labels.to(generator.device)
        for label in labels.unique().tolist():
            chosen = labels == label
            images[chosen] = _draw_motif(MOTIFS[label], int(chosen.sum()), size, generator)
    return images


def _draw_motif(name: str, n: int, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Draw n images of one motif."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((n, *(shape or (1, 1))), generator=generator)

    kind = "pattern" if name in PATTERNS else "centred" if name in CENTRED else "figure"
    u, v, count = _coordinates(kind, size, uniform)
    px = count / min(size)

    dark, light = _contrasting(n, generator)
    plane = Sheet(u, v, px, dark, light, generator)
    if kind == "figure":  # one large figure, or one in every cell, each at its own scale
        tiled = uniform(0, 1) > 0.45
        radius = uniform(0.36, 0.48)
        u, v = torch.where(tiled, frac(u + 0.5), u / count), torch.where(tiled, frac(v + 0.5), v / count)
        u, v, px = u / radius, v / radius, torch.where(tiled, px, 1 / min(size)) / radius
    sheet = Sheet(u, v, px, dark, light, generator)

    image = light + 0 * u[:, None]
    if kind == "figure":  # figures leave room, which gets a smooth background
        image = image + uniform(0, 0.18, 3, 1, 1) * plane.smooth_noise(4, 0.5)[:, None]
    for opacity, color in FUNCTIONS[name](sheet):
        image = image + opacity[:, None] * (color - image)
    return _camera_effects(image, uniform, generator)


def _coordinates(kind: str, size: tuple[int, int], uniform: Uniform) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a random scale (log-uniform), shift, rotation and stretch.

    Returns:
        Horizontal and vertical coordinates of each pixel in motif units, and the motifs along the shorter side.
    """
    short = min(size)
    y, x = torch.meshgrid(*(torch.arange(k) / short - k / short / 2 for k in size), indexing="ij")
    fewest, most = MOTIFS_PER_SIDE[kind]
    count = (uniform(math.log(fewest), math.log(most))).exp()
    angle = uniform(-MAX_ROTATION, MAX_ROTATION)
    shift = MAX_SHIFT[kind]
    u, v = (x + uniform(-shift, shift)) * count, (y + uniform(-shift, shift)) * count
    u, v = angle.cos() * u + angle.sin() * v, angle.cos() * v - angle.sin() * u
    stretch = uniform(0.85, 1.18)
    return u * stretch, v / stretch, count


def _contrasting(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw two colours for each drawing; the second is the most distant of four from the first."""
    first = torch.rand((n, 1, 3), generator=generator)
    others = torch.rand((n, 4, 3), generator=generator)
    best = (others - first).norm(dim=-1).argmax(1)
    second = others[torch.arange(n), best]
    return first.view(n, 3, 1, 1), second.view(n, 3, 1, 1)


def _camera_effects(image: Tensor, uniform: Uniform, generator: torch.Generator) -> Tensor:
    """Apply uneven lighting, exposure, blur and noise, each of random strength."""
    h, w = image.shape[-2:]
    slope = uniform(-0.25, 0.25, 2, 1, 1)
    light = 1 + slope[:, :1] * torch.linspace(-1, 1, w) + slope[:, 1:] * torch.linspace(-1, 1, h)[:, None]
    image = image * light * uniform(0.8, 1.15, 1, 1, 1) + uniform(-0.06, 0.06, 1, 1, 1)
    soft = torch.nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    image = torch.lerp(image, soft, uniform(-0.2, 0.8, 1, 1, 1).clamp(0))
    return (image + uniform(-0.04, 0.1, 1, 1, 1).clamp(0) * torch.randn(image.shape, generator=generator)).clamp(0, 1)
