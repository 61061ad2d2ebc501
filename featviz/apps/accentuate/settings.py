"""The settings of a feature accentuation."""

from __future__ import annotations

from dataclasses import dataclass

import featviz as fv
from featviz.checks import check_flag, check_number, check_text
from featviz.interfaces import Optimizer, Size

MAX_CROPS = 1024
"""Largest number of crops in a step."""
MAX_ZOOM = 64.0
"""Largest zoom: crops of a few px of a photograph."""


@dataclass(frozen=True)
class AccentuationSettings:
    """Settings of an accentuation besides network, image, objective and seed. A recipe stores these fields.

    Args:
        layer: The early layer whose activations should stay as they are.
        weight: Weight of their change, >= 0, relative to the objective: the gradients of both have the same size where
            the layer has changed by 1 / (2 weight) of its length.
        crops: Number of random crops in each step, from 1 to `MAX_CROPS`.
        zoom: Side of the image divided by the side of the smallest crop, from 1 to `MAX_ZOOM`.
        steps: Number of steps, >= 1.
        lr: Learning rate of the Fourier coefficients, > 0.
        opaque: Leave the alpha channel out.

    Raises:
        SettingError: A value is out of its range.
    """

    layer: str = ""
    weight: float = 4.0
    crops: int = 16
    zoom: float = 1.3
    steps: int = 100
    lr: float = 0.05
    opaque: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        default = AccentuationSettings
        check_text("layer", self.layer)
        check_number("weight", self.weight, at_least=0, note=f"(default {default.weight:g})")
        check_number("crops", self.crops, at_least=1, at_most=MAX_CROPS, whole=True, note=f"(default {default.crops})")
        check_number("zoom", self.zoom, at_least=1, at_most=MAX_ZOOM, note=f"(default {default.zoom:g})")
        check_number("steps", self.steps, at_least=1, whole=True, note=f"(default {default.steps})")
        if not self.lr > 0:
            raise fv.SettingError(f"lr must be > 0, got {self.lr:g} (default {default.lr})")
        check_flag("opaque", self.opaque)

    def transform(self, size: Size) -> fv.transforms.ResizedView:
        """Return the random crop.

        Args:
            size: Height and width in px to which each crop is resized: those of the network's input.
        """
        return fv.transforms.ResizedView(fv.transforms.LogUniform(1.0, max(self.zoom, 1.0 + 1e-6)), size)

    def optimizer(self) -> Optimizer:
        """Return Adam with the betas and the fall of the rate with which the default weight and rate were measured."""
        return fv.optimizers.Adam(self.lr, final_lr_ratio=0.2, betas=(0.9, 0.999))
