"""What a method found in images, and how it is shown."""

from __future__ import annotations

import colorsys
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featviz.io import contact_sheet, encode, save_picture, to_bytes

FOR, AGAINST = (0.85, 0.10, 0.05), (0.05, 0.25, 0.85)
"""The colours of what speaks for the target, and against it."""
BRIGHTEST = 0.995
"""The share of places that are fainter than what is shown at full strength: single ones would dim all others."""
PALE = 0.55
"""How far the image, in grey, goes towards white under the colours."""
SHOWN = 192
"""Shorter side in px below which pictures are enlarged."""
SEEN = 96
"""What differs from pixel to pixel is averaged over this part of the shorter side, or the eye would see mud."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Where in images a score comes from.

    Args:
        images: in [0, 1].
        map: how much every pixel speaks for the target (above 0), or against it.
        score: the target's, of each image.
        target: what was explained.
        method: by which method.
        recipe: what decided the map.
        channels: the map for each channel of the pixels, where the method tells.
        delta: by what share the map misses the sum that the method promises: the score's rise over a baseline, or the
            relevance that is handed back.
        labels: the class that each pixel speaks for most, where the method compares classes.
        names: of those classes.
    """

    images: Float[Tensor, "n c h w"]
    map: Float[Tensor, "n h w"]
    score: Float[Tensor, " n"]
    target: str
    method: str
    recipe: Mapping[str, Any]
    channels: Float[Tensor, "n c h w"] | None = None
    delta: Float[Tensor, " n"] | None = None
    labels: Int[Tensor, "n h w"] | None = None
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Say what it is."""
        missed = "" if self.delta is None else f", delta {self.delta.abs().max():.2%}"
        height, width = self.map.shape[-2:]
        return f"<{self.method} of {self.target}: {len(self)} x {height}x{width} px{missed}>"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def overlay(self) -> Float[Tensor, "n 3 h w"]:
        """Lay the map over the images: red speaks for the target, blue against it, or each class has its colour."""
        pale = torch.lerp(self.images.mean(1, keepdim=True).expand(-1, 3, -1, -1), torch.ones(()), PALE)
        side = min(self.map.shape[-2:]) // SEEN * 2 + 1 if self.channels is not None else 1
        seen = F.avg_pool2d(self.map[:, None], side, 1, side // 2, count_include_pad=False)
        loudest = seen.abs().flatten(1).quantile(BRIGHTEST, dim=1).clamp(min=1e-12)
        strength = (seen / loudest[:, None, None, None]).clamp(-1, 1)
        if self.labels is None:
            color = torch.where(strength > 0, _color(FOR), _color(AGAINST))
        else:
            palette = torch.tensor([class_color(i, len(self.names)) for i in range(len(self.names))])
            color = palette[self.labels].movedim(-1, 1)
        return torch.lerp(pale, color.expand_as(pale), 0.9 * strength.abs() ** 0.75)

    def sheet(self) -> np.ndarray:
        """Lay all overlays out on one page."""
        pictures = self.pictures()
        return pictures[0] if len(pictures) == 1 else contact_sheet(pictures)

    def pictures(self) -> list[np.ndarray]:
        """Return the overlays as 8-bit pictures, classes named in their colours."""
        return [_named(_large(image), self.names) for image in self.overlay()]

    def save(self, path: str | Path) -> Path:
        """Write the overlays to a .png, .jpg or .webp file; a PNG holds the recipe, too, for `read_report`.

        Raises:
            OutputError: the folder is missing or not writable, or the format is another.
        """
        return save_picture(self.sheet(), Path(path), report=json.dumps({"explained": [[dict(self.recipe)]]}))

    def _repr_png_(self) -> bytes:
        """Show itself in Jupyter."""
        return encode(self.sheet(), ".png")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The same image explained for several targets by several methods.

    Args:
        image: in [0, 1].
        rows: for each target, what each method found; `None` where it cannot be applied.
        targets: what the rows are of.
        methods: what the columns are of.
        scores: the targets'.
        problems: why a method cannot be applied to a target.
    """

    image: Float[Tensor, "c h w"]
    rows: Sequence[Sequence[Attribution | None]]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Sequence[float]
    problems: Mapping[str, str]

    def sheet(self) -> np.ndarray:
        """Lay them out: a row for each target, a column for each method, the image first."""
        whole = _large(_rgb(self.image[None])[0])
        pictures, labels = [], []
        for target, score, row in zip(self.targets, self.scores, self.rows, strict=True):
            pictures.append(whole)
            labels.append(f"{target}: {score:.3g}")
            for method, found in zip(self.methods, row, strict=True):
                pictures.append(np.full_like(whole, 255) if found is None else found.pictures()[0])
                labels.append(f"{method}: does not apply" if found is None else method)
        return contact_sheet(pictures, labels, columns=1 + len(self.methods))

    def save(self, path: str | Path) -> Path:
        """Write the sheet to a .png, .jpg or .webp file; a PNG holds the recipes, too, for `read_report`.

        Raises:
            OutputError: the folder is missing or not writable, or the format is another.
        """
        recipes = [[None if one is None else dict(one.recipe) for one in row] for row in self.rows]
        return save_picture(self.sheet(), Path(path), report=json.dumps({"explained": recipes}))

    def _repr_png_(self) -> bytes:
        """Show itself in Jupyter."""
        return encode(self.sheet(), ".png")


def class_color(i: int, count: int) -> tuple[float, float, float]:
    """Return the colour of one of several classes."""
    return colorsys.hsv_to_rgb(i / max(count, 1), 0.85, 0.9)


def enlarged(found: Float[Tensor, "n rows columns"], size: tuple[int, int]) -> Float[Tensor, "n h w"]:
    """Bring a map of places to the size of the image."""
    if found.shape[-2:] == size:
        return found
    return F.interpolate(found[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def _large(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    """Return a picture that is large enough to be looked at."""
    zoom = math.ceil(SHOWN / min(image.shape[-2:]))
    return to_bytes(image.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2).numpy())


def _named(picture: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Write the classes into a corner, each in its colour."""
    if not names:
        return picture
    page = Image.fromarray(picture)
    pen, points = ImageDraw.Draw(page), max(9, picture.shape[1] // 18)
    for i, name in enumerate(names):
        color = tuple(round(255 * part) for part in class_color(i, len(names)))
        font, place = ImageFont.load_default(points), (4, 2 + i * points * 1.3)
        pen.text(place, name, fill=color, font=font, stroke_width=2, stroke_fill=(255, 255, 255))
    return np.asarray(page)


def _rgb(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    return images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def _color(rgb: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rgb).view(3, 1, 1)
