"""The motifs: functions from a `Sheet` to the layers of a drawing.

To add one, write its function, and add it to `PATTERNS`, `CENTRED` or `FIGURES` and its name to `MOTIFS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from featviz.network.bundled import MOTIFS
from motifs.sheet import TAU, Layers, Sheet, frac

# ---------------------------------------------------------------------------------------------- patterns
# Patterns fill the plane. One motif unit is one period.


def stripes(s: Sheet) -> Layers:
    """Parallel bands."""
    return [(s.line(frac(s.u), s.uniform(0.35, 0.65)), s.dark)]


def checkerboard(s: Sheet) -> Layers:
    """Squares of two alternating colours."""
    corner = frac(s.u) * frac(s.v)
    near = torch.minimum(0.5 - frac(s.u).abs(), 0.5 - frac(s.v).abs()).minimum(frac(s.u).abs().minimum(frac(s.v).abs()))
    return [(s.edge(corner.sign() * near), s.dark)]


def dots(s: Sheet) -> Layers:
    """Discs on a grid."""
    shift = 0.5 * (s.v.floor() % 2) * (s.uniform(0, 1) > 0.5)
    return [(s.edge(s.uniform(0.2, 0.36) - torch.hypot(frac(s.u + shift), frac(s.v))), s.dark)]


def rings(s: Sheet) -> Layers:
    """Concentric circles."""
    return [(s.line(frac(torch.hypot(s.u, s.v) + s.uniform(0, 1)), s.uniform(0.35, 0.65)), s.dark)]


def spiral(s: Sheet) -> Layers:
    """Two or three spiral arms."""
    arms = torch.where(s.uniform(0, 1) > 0.5, 2.0, 3.0) * torch.where(s.uniform(0, 1) > 0.5, 1.0, -1.0)
    turn = torch.atan2(s.v, s.u) / TAU
    return [(s.line(frac(torch.hypot(s.u, s.v) + arms * turn), s.uniform(0.35, 0.6)), s.dark)]


def sunburst(s: Sheet) -> Layers:
    """Straight rays from one point."""
    count = s.uniform(7, 14).floor()
    radius = torch.hypot(s.u, s.v)
    ray = frac(torch.atan2(s.v, s.u) / TAU * count) * TAU * radius / count
    return [(s.edge(TAU * radius / count / 4 - ray.abs()), s.dark)]


def hexagons(s: Sheet) -> Layers:
    """A honeycomb of outlines."""
    wide = math.sqrt(3)
    a = torch.stack([frac(s.u), wide * frac(s.v / wide)])
    b = torch.stack([frac(s.u + 0.5), wide * frac(s.v / wide + 0.5)])
    cell = torch.where((a.square().sum(0) < b.square().sum(0))[None], a, b).abs()
    inside = 0.5 - torch.maximum(cell[0], cell[0] / 2 + cell[1] * wide / 2)
    return [(s.edge(s.uniform(0.05, 0.11) - inside), s.dark)]


def bricks(s: Sheet) -> Layers:
    """Rows of reddish bricks, each shifted by half a brick, with pale mortar."""
    row = s.v.floor()
    x, y = frac(s.u / 2 + 0.5 * (row % 2)), frac(s.v)
    gap = s.uniform(0.06, 0.12)
    inside = torch.minimum(1 - 2 * x.abs(), 0.5 - y.abs()) - gap
    shade = (torch.sin(row * 12.9 + (s.u / 2 + 0.5 * (row % 2)).floor() * 78.2) * 43.7).frac().abs()
    clay = s.color((0.5, 0.15, 0.08), (0.8, 0.38, 0.25))
    mortar = s.color((0.7, 0.68, 0.6), (0.95, 0.92, 0.88))
    return [(torch.ones_like(x), mortar), (s.edge(inside), clay), (0.3 * shade * s.edge(inside), clay * 0.4)]


def zigzag(s: Sheet) -> Layers:
    """Bands with sharp corners and steep sides: at a small scale, corners alone do not differ enough from waves."""
    return [(s.line(frac(0.7 * s.v + s.uniform(0.85, 1.2) * 2 * frac(s.u * 0.6).abs()), 0.5), s.dark)]


def waves(s: Sheet) -> Layers:
    """Flat sinusoidal bands."""
    return [(s.line(frac(s.v + s.uniform(0.2, 0.33) * torch.sin(TAU * s.u * 0.5)), 0.5), s.dark)]


def maze(s: Sheet) -> Layers:
    """Cells with a diagonal wall in a random direction, rotated by 45 degrees so that walls are level or upright."""
    table = (s.uniform(0, 1, 32, 32) > 0.5).float() * 2 - 1
    u, v = (s.u + s.v) / math.sqrt(2), (s.v - s.u) / math.sqrt(2)
    i, j = u.floor().long() % 32, v.floor().long() % 32
    direction = table[torch.arange(len(u))[:, None, None], i, j]
    x, y = frac(u), frac(v) * direction
    wall = (x - y) / math.sqrt(2)
    other = (1 - (x - y).abs()) / math.sqrt(2)
    return [(s.line(torch.minimum(wall.abs(), other), s.uniform(0.24, 0.36)), s.dark)]


def scales(s: Sheet) -> Layers:
    """Overlapping half-round plates, as on a fish."""
    ink = torch.zeros_like(s.u)
    rim = s.uniform(0.07, 0.12)
    for back in (2, 1, 0):  # rows at the back first, so that nearer plates cover them
        row = (s.v * 2).floor() + back
        r = torch.hypot(frac(s.u + 0.5 * (row % 2)), s.v - row / 2)
        plate = s.edge(0.56 - r)
        ink = ink * (1 - plate) + plate * s.line(r - 0.5, rim * 1.6) + 0.3 * plate * (1 - 2 * r).clamp(0)
    return [(ink, s.dark)]


def wood(s: Sheet) -> Layers:
    """Brown grain around a knot."""
    u, v = s.u * 0.16, s.v
    bend = 0.9 * (TAU * (u + s.uniform(0, 1))).sin() + 0.25 * s.smooth_noise(6, 0.12)
    knot = 1.4 * torch.exp(-((s.u - s.uniform(-2, 2)) ** 2 / 6 + (v - s.uniform(-1.5, 1.5)) ** 2 / 1.5))
    grain = 0.5 + 0.5 * torch.sin(TAU * 0.8 * (v + bend + knot))
    pale, deep = s.color((0.65, 0.42, 0.2), (0.85, 0.62, 0.38)), s.color((0.28, 0.14, 0.05), (0.45, 0.26, 0.12))
    return [(torch.ones_like(u), pale), (grain.pow(1.5), deep)]


def clouds(s: Sheet) -> Layers:
    """White clouds on a blue sky."""
    hills = sum(s.smooth_noise(7, 0.12 * 2**k) / 1.7**k for k in range(5))
    sky = s.color((0.15, 0.4, 0.75), (0.45, 0.68, 0.98))
    white = s.color((0.9, 0.9, 0.92), (1.0, 1.0, 1.0))
    return [(torch.ones_like(s.u), sky), (torch.sigmoid(4 * (hills - s.uniform(-0.3, 0.5))), white)]


def plaid(s: Sheet) -> Layers:
    """Crossing bands, broad and translucent or thin."""
    width = s.uniform(0.35, 0.5)
    across, down = s.line(frac(s.u), width), s.line(frac(s.v), width)
    thin = torch.maximum(s.line(frac(s.u + 0.5), 0.08), s.line(frac(s.v + 0.5), 0.08))
    return [(0.5 * across, s.dark), (0.5 * down, s.dark), (thin, s.color((0, 0, 0), (1, 1, 1)))]


def triangles(s: Sheet) -> Layers:
    """Rows of triangles, each on top of the next."""
    y = s.v / (math.sqrt(3) / 2)
    x = frac(s.u + 0.5 * (y.floor() % 2))
    height = y - y.floor()
    return [(s.edge((1 - height) / 2 - x.abs()), s.dark)]


def weave(s: Sheet) -> Layers:
    """Interwoven ribbons."""
    odd = (s.u.floor() + s.v.floor()) % 2
    x, y = frac(s.u), frac(s.v)
    over, under = torch.where(odd > 0, x, y), torch.where(odd > 0, y, x)
    top, low = s.edge(0.38 - over.abs()), s.edge(0.38 - under.abs())
    shade = 0.55 + 0.45 * (math.pi * under).cos()
    return [(torch.ones_like(x), s.dark * 0.3), (low * 0.45, s.light), (top, s.dark), (top * shade, s.light)]


def giraffe(s: Sheet) -> Layers:
    """Brown patches separated by cream lines."""
    across = torch.stack([s.u, s.v], -1)
    cells = torch.stack(torch.meshgrid(torch.arange(-9, 10), torch.arange(-9, 10), indexing="ij"), -1).view(1, -1, 2)
    seeds = (cells + s.uniform(-0.42, 0.42, cells.shape[1], 2)) * 1.1
    near = torch.cdist(across.flatten(1, 2), seeds).topk(2, largest=False).values
    seam = (near[..., 1] - near[..., 0]).view_as(s.u)
    brown, cream = s.color((0.4, 0.2, 0.06), (0.68, 0.4, 0.2)), s.color((0.85, 0.75, 0.55), (1.0, 0.93, 0.78))
    return [(torch.ones_like(s.u), cream), (s.edge(seam - s.uniform(0.14, 0.24)), brown)]


def crosses(s: Sheet) -> Layers:
    """Plus signs on a grid."""
    x, y = frac(s.u).abs(), frac(s.v).abs()
    arm = s.uniform(0.08, 0.13)
    return [(s.edge(torch.minimum(0.36 - torch.maximum(x, y), arm - torch.minimum(x, y))), s.dark)]


# ---------------------------------------------------------------------------------------------- figures
# Figures fill the disc of radius 1, upright; `draw` rotates them.


def star(s: Sheet) -> Layers:
    """A five-pointed star."""
    r, turn = torch.hypot(s.u, s.v), torch.atan2(s.u, -s.v)
    wedge = ((turn / TAU * 5 + 0.5) % 1 - 0.5).abs() * TAU / 5
    x, y = r * wedge.cos(), r * wedge.sin()
    inner = 0.4
    cx, cy = inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5)
    side = ((1 - x) * cy - y * (1 - cx)) / math.hypot(1 - cx, cy)
    return [(s.edge(side), s.dark)]


def flower(s: Sheet) -> Layers:
    """Five to eight round petals around a yellow centre."""
    count = s.uniform(5, 9).floor()
    r = torch.hypot(s.u, s.v)
    petal = (torch.atan2(s.v, s.u) / 2 * count).cos().abs()
    heart = s.color((0.8, 0.6, 0.0), (1.0, 0.85, 0.2))
    return [(s.edge((0.45 + 0.55 * petal.sqrt()) - r), s.dark), (s.edge(0.3 - r), heart)]


def eye(s: Sheet) -> Layers:
    """An almond-shaped eye with iris, pupil and highlight."""
    lid = 0.62 * (1 - s.u**2) - s.v.abs()
    r = torch.hypot(s.u, s.v)
    inside = s.edge(lid)
    glint = s.edge(0.09 - torch.hypot(s.u - 0.13, s.v + 0.13))
    white, black = s.color((0.9, 0.88, 0.85), (1, 1, 1)), s.color((0, 0, 0), (0.1, 0.1, 0.1))
    iris = s.color((0.1, 0.25, 0.1), (0.5, 0.6, 0.9))
    rim = s.line(lid, 0.14)
    return [(inside, white), (inside * s.edge(0.44 - r), iris), (s.edge(0.2 - r), black), (glint, white), (rim, black)]


def heart(s: Sheet) -> Layers:
    """A red heart."""
    x, y = s.u.abs() * 1.15, -s.v * 1.15 + 0.15
    inside = 0.8 - torch.hypot(x, y * 1.1 - 0.62 * x.sqrt())
    return [(s.edge(inside), s.color((0.75, 0.0, 0.05), (0.98, 0.2, 0.3)))]


def moon(s: Sheet) -> Layers:
    """A crescent."""
    bite = torch.hypot(s.u - s.uniform(0.38, 0.5), s.v) - 0.78
    return [(s.edge(torch.minimum(0.95 - torch.hypot(s.u, s.v), bite)), s.dark)]


def leaf(s: Sheet) -> Layers:
    """A green leaf with a midrib and side veins."""
    inside = 0.5 * (1 - s.v**2) - s.u.abs()
    veins = s.line(frac((s.v + s.u.abs()) * 3.2), 0.2)
    pale = s.color((0.55, 0.75, 0.3), (0.8, 0.95, 0.55))
    green = s.color((0.05, 0.35, 0.02), (0.3, 0.62, 0.18))
    blade = s.edge(inside)
    return [(blade, green), (0.7 * blade * veins, pale), (s.line(s.u, 0.09) * s.edge(1 - s.v.abs()), pale)]


def smiley(s: Sheet) -> Layers:
    """A yellow face with two eyes and a smile."""
    r = torch.hypot(s.u, s.v)
    eyes = s.edge(0.15 - torch.hypot(s.u.abs() - 0.34, (s.v + 0.26) * 0.75))
    mouth = s.line(r - 0.58, 0.16) * s.edge(s.v - 0.14)
    face = s.color((0.92, 0.75, 0.0), (1.0, 0.92, 0.3))
    black = s.color((0, 0, 0), (0.2, 0.12, 0.05))
    return [(s.edge(0.95 - r), face), (s.line(r - 0.93, 0.1), black), (torch.maximum(eyes, mouth), black)]


def fish(s: Sheet) -> Layers:
    """A fish with a forked tail and an eye."""
    body = 0.42 * (1 - ((s.u + 0.2) / 0.75) ** 2).clamp(-2) - s.v.abs()
    tail = torch.minimum(0.75 * (s.u - 0.4) - s.v.abs(), 0.95 - 0.5 * s.v.abs() - s.u)
    spot = s.edge(0.09 - torch.hypot(s.u + 0.6, s.v + 0.08))
    return [(s.edge(torch.maximum(body, tail)), s.dark), (spot, s.light)]


# ---------------------------------------------------------------------------------------------- catalogue

PATTERNS: dict[str, Callable[[Sheet], Layers]] = {
    f.__name__: f
    for f in (
        stripes, checkerboard, dots, hexagons, bricks, zigzag, waves, maze,
        scales, wood, clouds, plaid, triangles, weave, giraffe, crosses,
    )
}  # fmt: skip
"""Motifs that repeat in the plane."""
CENTRED: dict[str, Callable[[Sheet], Layers]] = {f.__name__: f for f in (rings, spiral, sunburst)}
"""Motifs that fill the plane around a centre."""
FIGURES: dict[str, Callable[[Sheet], Layers]] = {
    f.__name__: f for f in (star, flower, eye, heart, moon, leaf, smiley, fish)
}
"""Motifs that are drawn once, or once per cell."""
assert tuple(PATTERNS | CENTRED | FIGURES) == MOTIFS, "MOTIFS must list the motifs in the order of this catalogue"
