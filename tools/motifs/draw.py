"""Draw the pictures that motifnet is trained on: we know the truth, because we drew it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.network.bundled import MOTIFS
from motifs.patterns import CENTRED, FIGURES, PATTERNS
from motifs.sheet import Sheet, frac

TURN = 0.35
"""Largest turn either way, in radians. Most things in photographs have an upright, and so has a picture of them."""
MAKERS = PATTERNS | CENTRED | FIGURES


def draw(labels: Int[Tensor, " n"], size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Draw one picture of each label, at random scale, place, angle, colours, background and noise.

    Args:
        labels: indices into `MOTIFS`.
        size: height and width in px.
        generator: every random choice comes from it; the pictures are on its device.
    """
    with generator.device:
        images = torch.empty(len(labels), 3, *size)
        labels = labels.to(generator.device)
        for label in labels.unique().tolist():
            chosen = labels == label
            images[chosen] = _draw_one(MOTIFS[label], int(chosen.sum()), size, generator)
    return images


def _draw_one(name: str, n: int, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((n, *(shape or (1, 1))), generator=generator)

    short = min(size)
    y, x = torch.meshgrid(*(torch.arange(k) / short - k / short / 2 for k in size), indexing="ij")
    # log-uniform scale: periods (patterns) or cells (figures) along the short side; of fewer periods one would see an
    # arc or a bend, which could be of another motif
    least, most = (2.7, 5.0) if name in PATTERNS else (1.8, 4.0) if name in CENTRED else (0.9, 2.4)
    count = (uniform(math.log(least), math.log(most))).exp()
    angle = uniform(-TURN, TURN)
    drift = 0.3 if name in CENTRED else 0.2 if name in FIGURES else 0.4
    u, v = (x + uniform(-drift, drift)) * count, (y + uniform(-drift, drift)) * count
    u, v = angle.cos() * u + angle.sin() * v, angle.cos() * v - angle.sin() * u
    stretch = uniform(0.85, 1.18)
    u, v = u * stretch, v / stretch
    px = count / short

    dark, light = _contrasting(n, generator)
    plane = Sheet(u, v, px, dark, light, generator)
    if name in FIGURES:  # one large figure, or one in every cell, each turned a little
        many = uniform(0, 1) > 0.45
        radius = uniform(0.36, 0.48)
        u, v = torch.where(many, frac(u + 0.5), u / count), torch.where(many, frac(v + 0.5), v / count)
        u, v, px = u / radius, v / radius, torch.where(many, px, 1 / short) / radius
    sheet = Sheet(u, v, px, dark, light, generator)

    image = light + 0 * u[:, None]
    if name in FIGURES:
        image = image + uniform(0, 0.18, 3, 1, 1) * plane.wobble(4, 0.5)[:, None]
    for ink, color in MAKERS[name](sheet):
        image = image + ink[:, None] * (color - image)
    return _photograph(image, uniform, generator)


def _contrasting(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two colours each; the second is the farthest of four from the first."""
    first = torch.rand((n, 1, 3), generator=generator)
    others = torch.rand((n, 4, 3), generator=generator)
    best = (others - first).norm(dim=-1).argmax(1)
    second = others[torch.arange(n), best]
    return first.view(n, 3, 1, 1), second.view(n, 3, 1, 1)


def _photograph(image: Tensor, uniform: Callable[..., Tensor], generator: torch.Generator) -> Tensor:
    """Light it unevenly, blur some, add grain."""
    h, w = image.shape[-2:]
    slope = uniform(-0.25, 0.25, 2, 1, 1)
    light = 1 + slope[:, :1] * torch.linspace(-1, 1, w) + slope[:, 1:] * torch.linspace(-1, 1, h)[:, None]
    image = image * light * uniform(0.8, 1.15, 1, 1, 1) + uniform(-0.06, 0.06, 1, 1, 1)
    soft = torch.nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    image = torch.lerp(image, soft, uniform(-0.2, 0.8, 1, 1, 1).clamp(0))
    return (image + uniform(-0.04, 0.1, 1, 1, 1).clamp(0) * torch.randn(image.shape, generator=generator)).clamp(0, 1)
