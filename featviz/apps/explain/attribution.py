"""Attribution maps and comparisons of them, and how they are drawn."""

from __future__ import annotations

import colorsys
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featviz.io import contact_sheet, encode, save_image, to_bytes

POSITIVE_COLOR, NEGATIVE_COLOR = (0.85, 0.10, 0.05), (0.05, 0.25, 0.85)
"""RGB of positive and negative contributions."""
FULL_STRENGTH_QUANTILE = 0.995
"""Quantile of the absolute map that is drawn at full strength; with the maximum, single pixels would dim the rest."""
FADE_TO_WHITE = 0.55
"""How far the grey image under the colours is faded to white, in [0, 1]."""
MIN_SHORTER_SIDE = 192
"""Shorter side in px below which images are enlarged."""
SMOOTHING_DIVISOR = 96
"""Maps of single pixels are box-averaged for display, over the image's shorter side divided by this."""
CLASS_SATURATION, CLASS_BRIGHTNESS = 0.85, 0.9
"""HSV saturation and value of the colours of classes."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each pixel of images contributes to a score. Returned by `fv.explain`.

    Args:
        images: The images, in [0, 1].
        map: Contribution of each pixel: > 0 raises the score, < 0 lowers it. Some methods give magnitudes only.
        score: Score of each image.
        target: Text of the objective.
        method: Name of the method, with the settings that are not the default.
        recipe: What determines the map: versions, network, target, method and a hash of the images.
        per_channel: Contribution of each input channel of each pixel; `None` where the method does not tell.
        delta: Relative error of the sum that the method guarantees, per image; 0 is exact. Integrated gradients
            guarantee the score's increase over the baseline, LRP the relevance at the target. `None` for methods
            without such a guarantee.
        labels: Index into `class_names` of the class to which each pixel contributes most; `None` for methods that do
            not compare classes.
        class_names: Names of the compared classes.
    """

    images: Float[Tensor, "n c h w"]
    map: Float[Tensor, "n h w"]
    score: Float[Tensor, " n"]
    target: str
    method: str
    recipe: Mapping[str, Any]
    per_channel: Float[Tensor, "n c h w"] | None = None
    delta: Float[Tensor, " n"] | None = None
    labels: Int[Tensor, "n h w"] | None = None
    class_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name the method and the target; say how far the contributions miss a guaranteed sum."""
        error = "" if self.delta is None else f", contributions miss the score by {self.delta.abs().max():.2%}"
        height, width = self.map.shape[-2:]
        return f"<{self.method} of {self.target}: {len(self)} x {height}x{width} px{error}>"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def overlay(self) -> Float[Tensor, "n 3 h w"]:
        """Draw the map over the images, which are shown in pale grey.

        Red raises the score and blue lowers it. For methods that compare classes, each class has its own colour.

        Returns:
            RGB images in [0, 1].
        """
        pale = torch.lerp(self.images.mean(1, keepdim=True).expand(-1, 3, -1, -1), torch.ones(()), FADE_TO_WHITE)
        # Neighbouring pixels of a gradient often have opposite signs, and red and blue dots mix to purple on a screen.
        side = min(self.map.shape[-2:]) // SMOOTHING_DIVISOR * 2 + 1 if self.per_channel is not None else 1
        smooth = F.avg_pool2d(self.map[:, None], side, 1, side // 2, count_include_pad=False)
        full = smooth.abs().flatten(1).quantile(FULL_STRENGTH_QUANTILE, dim=1).clamp(min=1e-12)
        strength = (smooth / full[:, None, None, None]).clamp(-1, 1)
        if self.labels is None:
            color = torch.where(strength > 0, _as_pixel(POSITIVE_COLOR), _as_pixel(NEGATIVE_COLOR))
        else:
            count = len(self.class_names)
            color = torch.tensor([class_color(i, count) for i in range(count)])[self.labels].movedim(-1, 1)
        # The exponent < 1 makes weak contributions visible.
        return torch.lerp(pale, color.expand_as(pale), 0.9 * strength.abs() ** 0.75)

    def to_bytes(self) -> list[np.ndarray]:
        """Return the overlays as 8-bit RGB, (h, w, 3), with a legend of the classes where there are several."""
        return [_with_legend(_enlarged(image), self.class_names) for image in self.overlay()]

    def sheet(self) -> np.ndarray:
        """Return all overlays on one contact sheet, as 8-bit RGB, (h, w, 3)."""
        overlays = self.to_bytes()
        return overlays[0] if len(overlays) == 1 else contact_sheet(overlays)

    def save(self, path: str | Path) -> Path:
        """Write the overlays to a file. The file also holds the recipe, as `explained` in its report.

        Args:
            path: A .png, .jpg or .webp file.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the format is unknown.
        """
        return save_image(self.sheet(), Path(path), report=json.dumps({"explained": [[dict(self.recipe)]]}))

    def _repr_png_(self) -> bytes:
        """Show the overlays in Jupyter."""
        return encode(self.sheet(), ".png")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Attribution maps of one image for several targets and methods. Returned by `fv.compare`.

    Args:
        image: The image, in [0, 1].
        rows: One row per target with one attribution per method; `None` where the method does not apply.
        targets: Text of each target.
        methods: Name of each method.
        scores: Score of the image for each target.
        problems: Why a method does not apply, by `"method of target"`.
    """

    image: Float[Tensor, "c h w"]
    rows: Sequence[Sequence[Attribution | None]]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Sequence[float]
    problems: Mapping[str, str]

    def sheet(self) -> np.ndarray:
        """Return a contact sheet: a row per target with the image first, a column per method; 8-bit RGB, (h, w, 3)."""
        image = _enlarged(_rgb(self.image[None])[0])
        cells, labels = [], []
        for target, score, row in zip(self.targets, self.scores, self.rows, strict=True):
            cells.append(image)
            labels.append(f"{target}: {score:.3g}")
            for method, found in zip(self.methods, row, strict=True):
                cells.append(np.full_like(image, 255) if found is None else found.to_bytes()[0])
                labels.append(f"{method}: does not apply" if found is None else method)
        return contact_sheet(cells, labels, columns=1 + len(self.methods))

    def save(self, path: str | Path) -> Path:
        """Write the sheet to a file. The file also holds the recipes, as `explained` in its report.

        Args:
            path: A .png, .jpg or .webp file.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the format is unknown.
        """
        recipes = [[None if one is None else dict(one.recipe) for one in row] for row in self.rows]
        return save_image(self.sheet(), Path(path), report=json.dumps({"explained": recipes}))

    def _repr_png_(self) -> bytes:
        """Show the sheet in Jupyter."""
        return encode(self.sheet(), ".png")


def mean_attribution(several: Sequence[Attribution]) -> Attribution:
    """Return the mean of maps of the same images and target, each divided by its largest absolute value."""

    def mean(maps: Sequence[Tensor]) -> Tensor:
        largest = [each.abs().flatten(1).amax(1).clamp(min=1e-12) for each in maps]
        scaled = [each / one.view(-1, *[1] * (each.ndim - 1)) for each, one in zip(maps, largest, strict=True)]
        return torch.stack(scaled).mean(0)

    channels = [each.per_channel for each in several if each.per_channel is not None]
    recipe = dict(several[0].recipe) | {"method": [each.recipe["method"] for each in several]}
    per_channel = mean(channels) if len(channels) == len(several) else None
    combined: dict[str, Any] = {"map": mean([each.map for each in several]), "per_channel": per_channel}
    return replace(several[0], recipe=recipe, delta=None, **combined)


def join_attributions(parts: Sequence[tuple[Sequence[int], Attribution]]) -> Attribution:
    """Join attributions of different images of a batch for different targets.

    Args:
        parts: The positions in the batch, and the attribution of the images there.
    """
    places = torch.tensor([place for rows, _ in parts for place in rows]).argsort()
    found = [part for _, part in parts]
    names = tuple(dict.fromkeys(name for part in found for name in part.class_names))

    def joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
        known = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(known)[places] if len(known) == len(tensors) else None

    labels = [
        None if part.labels is None else torch.tensor([names.index(name) for name in part.class_names])[part.labels]
        for part in found
    ]
    targets = [part.target for place in places.tolist() for part in [_part_of(parts, place)]]
    tensors: dict[str, Any] = {
        name: joined([getattr(part, name) for part in found])
        for name in ("images", "map", "score", "per_channel", "delta")
    }
    recipe = dict(found[0].recipe) | {"target": [part.recipe["target"] for part in found]}
    return replace(
        found[0], target=", ".join(targets), recipe=recipe, labels=joined(labels), class_names=names, **tensors
    )


def _part_of(parts: Sequence[tuple[Sequence[int], Attribution]], place: int) -> Attribution:
    """Return the part of the image at this place of the joined tensors."""
    return [part for rows, part in parts for _ in rows][place]


def class_color(i: int, count: int) -> tuple[float, float, float]:
    """Return the RGB colour of class i of several, in [0, 1]: hues are spread evenly."""
    return colorsys.hsv_to_rgb(i / max(count, 1), CLASS_SATURATION, CLASS_BRIGHTNESS)


def resize_map(maps: Float[Tensor, "n rows columns"], size: tuple[int, int]) -> Float[Tensor, "n h w"]:
    """Resize maps to the size of the images, bilinearly."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def _enlarged(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    """Return an image as 8-bit RGB, enlarged by a whole factor if its shorter side is small."""
    factor = math.ceil(MIN_SHORTER_SIDE / min(image.shape[-2:]))
    return to_bytes(image.repeat_interleave(factor, 1).repeat_interleave(factor, 2).numpy())


def _with_legend(overlay: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Write the class names into the upper left corner, each in its colour."""
    if not class_names:
        return overlay
    page = Image.fromarray(overlay)
    pen, points = ImageDraw.Draw(page), max(9, overlay.shape[1] // 18)
    for i, name in enumerate(class_names):
        color = tuple(round(255 * part) for part in class_color(i, len(class_names)))
        font, corner = ImageFont.load_default(points), (4, 2 + i * points * 1.3)
        pen.text(corner, name, fill=color, font=font, stroke_width=2, stroke_fill=(255, 255, 255))
    return np.asarray(page)


def _rgb(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    """Return images with other than three channels as grey RGB images of their mean."""
    return images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def _as_pixel(rgb: tuple[float, float, float]) -> Float[Tensor, "3 1 1"]:
    return torch.tensor(rgb).view(3, 1, 1)
