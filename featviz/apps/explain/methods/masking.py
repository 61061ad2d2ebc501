"""Methods that hide parts of an image and measure how the score changes: occlusion, feature ablation and RISE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.gradients import captum, mean_color
from featviz.apps.explain.request import AttributionMap, AttributionRequest
from featviz.checks import check_number
from featviz.engine import Scorer
from featviz.errors import shown
from featviz.interfaces import Size
from featviz.io import linear_mode

MASKED_BATCH = 32
"""Number of masked images per batch."""
WINDOWS_PER_SIDE = 8
"""Number of windows that fit along the shorter side of an image, where no size is given."""


@dataclass(frozen=True)
class Occlusion:
    """Occlusion: how much the score falls when a window of the image is hidden.

    Formula: the map at a pixel is the mean of score(x) - score(x without window) over the windows that cover it. Good
    for any network and target: it needs forward passes only, one per window. In a text, a window is one token, which
    becomes a vector of zeros.

    Args:
        window: Side of the window in px, >= 1; `None` for an eighth of the image's shorter side.
        stride: Distance of neighbouring windows in px, from 1 to `window`; `None` for half of the window.

    Raises:
        SettingError: An argument is out of its range.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, section 4.2; computed by captum.
    Differs: the window has the mean colour of the network's input specification, not grey.
    """

    window: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.window is not None:
            check_number("window of Occlusion", self.window, at_least=1, whole=True, note="(px)")
        if self.stride is not None:
            check_number("stride of Occlusion", self.stride, at_least=1, at_most=self.window, whole=True, note="(px)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the mean fall of the score over the windows that cover each pixel.

        Raises:
            SettingError: `stride` is above the default window, which depends on the size of the image.
        """
        window = self.window or default_window(request)
        stride = self.stride or max(1, window // 2)
        if stride > window:
            raise fv.SettingError(f"stride of Occlusion must be at most the window, {window} px, got {stride}")
        channels = images.shape[1]
        sides = [(min(window, side), min(stride, side)) for side in request.size]
        with request.open() as scorer, torch.no_grad():
            occlusion = captum().Occlusion(lambda batch: scorer(batch)[:, 0])
            fall = occlusion.attribute(
                images.detach(),
                sliding_window_shapes=(channels, *(window for window, _ in sides)),
                strides=(channels, *(stride for _, stride in sides)),
                baselines=mean_color(request.network, images).expand_as(images),
                perturbations_per_eval=max(1, MASKED_BATCH // len(images)),
            )
        return AttributionMap(fall[:, 0])


@dataclass(frozen=True)
class FeatureAblation:
    """Feature ablation: how much the score falls when a cell of a grid over the image is hidden.

    Formula: the map in a cell is score(x) - score(x without the cell). As `Occlusion` without overlap: faster, and each
    number is the result of one pass.

    Args:
        cell: Side of a cell in px, >= 1; `None` for an eighth of the image's shorter side.

    Raises:
        SettingError: `cell` is out of its range.

    Source: the documentation of captum, `captum.attr.FeatureAblation`, which computes it.
    """

    cell: int | None = None

    def __post_init__(self) -> None:
        """Check the setting."""
        if self.cell is not None:
            check_number("cell of FeatureAblation", self.cell, at_least=1, whole=True, note="(px)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the fall of the score for each cell."""
        cell = self.cell or default_window(request)
        cells = torch.zeros(request.size, dtype=torch.long)
        for axis, side in enumerate(request.size):
            along = torch.arange(side).view(-1, *[1] * (len(request.size) - 1 - axis)) // cell
            cells = cells * math.ceil(side / cell) + along
        with request.open() as scorer, torch.no_grad():
            ablation = captum().FeatureAblation(lambda batch: scorer(batch)[:, 0])
            fall = ablation.attribute(
                images.detach(),
                feature_mask=cells.to(images.device).expand(1, images.shape[1], *request.size),
                baselines=mean_color(request.network, images).expand_as(images),
                perturbations_per_eval=max(1, MASKED_BATCH // len(images)),
            )
        return AttributionMap(fall[:, 0])


@dataclass(frozen=True)
class RISE:
    """RISE: the mean of random masks, weighted by the score of the image that each of them leaves visible.

    Formula: map = Σ_i (s_i - mean s) M_i / (N keep), with the score s_i of the image multiplied by mask M_i. A mask is
    a coarse random grid, enlarged smoothly and shifted. What it hides has the mean colour of the network's input
    specification. Good for any network and target; needs hundreds of passes.

    Args:
        samples: Number N of masks, >= 1.
        cells: Number of cells of the grid along the image's shorter side, >= 1.
        keep: Probability that a cell is visible, in (0, 1).
        seed: Seed of the masks.

    Raises:
        SettingError: An argument is out of its range.

    Source: Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421.
    Differs: the mean score is subtracted, so that what lowers the score is negative.
    """

    samples: int = 512
    cells: int = 7
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("samples", "cells"):
            check_number(f"{name} of RISE", getattr(self, name), at_least=1, whole=True)
        if not isinstance(self.keep, int | float) or not 0 < self.keep < 1:
            raise fv.SettingError(f"keep of RISE must be in (0, 1), got {shown(self.keep)} (default 0.5)")
        check_number("seed of RISE", self.seed, at_least=0, whole=True, note="(default 0)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the weighted mean of the masks."""
        generator = torch.Generator().manual_seed(self.seed)
        masks = torch.cat([self._mask(request.size, generator) for _ in range(self.samples)]).to(images)
        found = []
        with request.open() as scorer, torch.no_grad():
            for image in images.detach():
                scores = masked_scores(scorer, image, masks, mean_color(request.network, images))
                gain = (scores - scores.mean()).to(masks)
                found.append(torch.einsum("m,m...->...", gain, masks) / (len(masks) * self.keep))
        return AttributionMap(torch.stack(found))

    def _mask(self, size: Size, generator: torch.Generator) -> Float[Tensor, "1 *size"]:
        """Draw one mask."""
        cell = max(1, math.ceil(min(size) / self.cells))
        counts = [math.ceil(side / cell) + 1 for side in size]
        grid = (torch.rand(1, 1, *counts, generator=generator) < self.keep).float()
        large = F.interpolate(grid, [count * cell for count in counts], mode=linear_mode(grid), align_corners=False)
        moves = torch.randint(cell, (len(size),), generator=generator).tolist()
        return large[0][(slice(None), *(slice(move, move + side) for move, side in zip(moves, size, strict=True)))]


def masked_scores(
    scorer: Scorer, image: Float[Tensor, "c *size"], masks: Float[Tensor, "m *size"], hidden: Float[Tensor, "c *ones"]
) -> Float[Tensor, " m"]:
    """Return the score of an image under each of several masks.

    Args:
        scorer: The opened network.
        image: The image, in [0, 1].
        masks: In [0, 1]: 1 where the image is visible.
        hidden: Color of what is hidden.
    """
    found = [scorer(torch.lerp(hidden, image, part[:, None]))[:, 0] for part in masks.split(MASKED_BATCH)]
    return torch.cat(found)


def default_window(request: AttributionRequest) -> int:
    """Return the side of a window where none is given, in px: an eighth of the image's shortest side."""
    return max(1, round(min(request.size) / WINDOWS_PER_SIDE))
