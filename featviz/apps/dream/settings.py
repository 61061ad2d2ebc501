"""The settings of a dream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.errors import nearest
from featviz.interfaces import Optimizer, Param, Size
from featviz.io import load_image_source

STEP = 0.01
"""Root mean square by which pixels, in [0, 1], change in a step of strength 1.

Source: google/deepdream, dream.ipynb: 1.5 of 255 grey levels where the mean absolute gradient is 1. Where its root mean
square is 1, as here, that mean is 0.6 to 0.8.
"""
MAX_OCTAVES = 100
"""Largest number of octaves. With a scale of 1.1, the first of 100 has a 12,500th of the image's side."""
MIN_SIDE, MIN_VOLUME_SIDE = 48, 16
"""Smallest shorter side of an octave, in px; a network recognises little in smaller images. The second is that of
volumes and video, which are smaller."""


@dataclass(frozen=True)
class DreamSettings:
    """Settings of a dream. Recipes store these fields.

    Args:
        octaves: Number of sizes, from 1 to `MAX_OCTAVES`. Octaves with a shorter side below `MIN_SIDE` are left out.
        scale: Factor between the sizes of two octaves, > 1.
        steps: Number of steps per octave, >= 1.
        strength: Step size, > 0.
        jitter: Largest random shift of the image before each step, in px, >= 0.
        smooth: Standard deviation of the Gaussian blur of the gradient, in px; 0 for none.
        laplacian: Number of frequency bands of the gradient that are normalised to equal strength; 0 for none.
        keep_color: Keep the colours of the image and change its brightness only.
        mask: File of a grey image that is white where the image may change; `None` for everywhere.

    Raises:
        SettingError: A value is out of its range.
    """

    octaves: int = 4
    scale: float = 1.4
    steps: int = 10
    strength: float = 1.0
    jitter: int = 32
    smooth: float = 0.0
    laplacian: int = 0
    keep_color: bool = False
    mask: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not 1 <= self.octaves <= MAX_OCTAVES:
            raise fv.SettingError(f"octaves must be in [1, {MAX_OCTAVES}], got {self.octaves} (default 4)")
        if not self.scale > 1:
            raise fv.SettingError(f"scale must be > 1, got {self.scale:g} (default 1.4)")
        if self.steps < 1:
            raise fv.SettingError(f"steps must be >= 1, got {self.steps} (default 10)")
        if not 0 < self.strength < math.inf:
            raise fv.SettingError(f"strength must be > 0 and finite, got {self.strength:g} (default 1)")
        if self.jitter < 0:
            raise fv.SettingError(f"jitter must be >= 0, got {self.jitter} (default 32)")
        if self.smooth < 0:
            raise fv.SettingError(f"smooth must be >= 0, got {self.smooth:g} (default 0)")
        if self.laplacian < 0:
            raise fv.SettingError(f"laplacian must be >= 0, got {self.laplacian} (default 0)")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> DreamSettings:
        """Return the settings of further arguments of a dream.

        Args:
            given: The values by name.

        Raises:
            SettingError: There is no such setting, or a value is out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise fv.SettingError(f"no setting {name!r} of a dream{nearest(name, known)}")
        return cls(**given)

    def sizes(self, size: Size, axes: str = "yx") -> list[Size]:
        """Return the height and width of each octave in px, the smallest first; the last is that of the image.

        Args:
            size: Length of each axis of the image.
            axes: Names of the axes, as in `InputSpec`. Time beside space keeps its length.
        """
        sizes, least = [size], MIN_VOLUME_SIDE if len(size) == 3 else MIN_SIDE
        while len(sizes) < self.octaves:
            factor = self.scale ** len(sizes)
            scaled = [(name != "t", side) for name, side in zip(axes, size, strict=True)]
            smaller = tuple(round(side / factor) if scales else side for scales, side in scaled)
            if min(new for new, (scales, _) in zip(smaller, scaled, strict=True) if scales) < least:
                break
            sizes.append(smaller)
        return sizes[::-1]

    def param(self, size: Size) -> Param:
        """Return the param: clamped pixels, under the mask if there is one."""
        image = fv.param.Image(size, spatial=fv.param.Pixel(), color=fv.param.Clamped())
        return image if self.mask is None else fv.param.Masked(self.mask, image)

    def mask_at(self, size: Size) -> Float[Tensor, "1 1 *size"] | None:
        """Return the mask at a size, or `None`: its largest centred part with that aspect ratio, resized."""
        return None if self.mask is None else load_image_source(self.mask, 1, size)[None]

    def transform(self, size: Size) -> fv.transforms.Roll:
        """Return the random shift, at most half of each side."""
        return fv.transforms.Roll(min(self.jitter, *(side // 2 for side in size)))

    def optimizer(self) -> Optimizer:
        """Return the optimizer: normalised gradient ascent, and what is done to the gradient before."""
        optimizer: Optimizer = fv.optimizers.Normalized(fv.optimizers.Ascent(STEP * self.strength))
        optimizer = fv.optimizers.Smoothed(self.smooth, optimizer) if self.smooth else optimizer
        return fv.optimizers.LaplacianNormalized(self.laplacian, optimizer) if self.laplacian else optimizer
