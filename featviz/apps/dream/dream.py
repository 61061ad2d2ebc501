"""DeepDream: an objective that starts from a photograph, octave by octave."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import featviz as fv
from featviz.engine import fingerprint
from featviz.io import check_unit_range, read_image

STEP = 0.01
"""How far a pixel moves in a step of strength 1, root mean square, in [0, 1] pixel units.

Source: google/deepdream, dream.ipynb: 1.5 of 255 grey levels where the mean gradient is 1, which is .6 to .8 here.
"""
SMALLEST = 48
"""Octaves whose shorter side would have fewer px are left out: a network sees nothing in them."""
TILE = 640
"""Side in px of the tiles in which larger pictures are seen."""
DEPTH = 2 / 3
"""How deep the layer lies that is dreamt of where none is asked for: among the main parts of the network."""
WITHIN = 0.25, 0.97
"""Where it has to lie among all layers: an encoder and what stands around it are no parts to count."""
NEAR = 0.2
"""How near to `DEPTH` among all layers the nearest part has to lie, where they cannot be counted."""


@dataclass(frozen=True)
class Dreamer:
    """Everything that decides how photographs are dreamt on; `dream` says what each argument means."""

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
        """Check the numbers.

        Raises:
            SettingError: one is out of its range.
        """
        if self.octaves < 1 or self.steps < 1:
            raise fv.SettingError(f"{self.octaves} octaves of {self.steps} steps are none; give 1 or more of both")
        if not self.scale > 1:
            raise fv.SettingError(f"octaves {self.scale} times as large do not grow; give a scale above 1, as 1.4")
        if not 0 < self.strength < math.inf:
            raise fv.SettingError(f"a strength of {self.strength} is no step; give one above 0, 1 is usual")
        if self.smooth < 0 or self.laplacian < 0:
            raise fv.SettingError(f"smooth {self.smooth} and laplacian {self.laplacian} are 0 or more")

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the height and width of each octave, the smallest first."""
        shrunk = [self.scale**octave for octave in reversed(range(self.octaves))]
        sizes = [(round(size[0] / by), round(size[1] / by)) for by in shrunk]
        return [each for each in sizes[:-1] if min(each) >= SMALLEST] + [size]

    def dream(
        self,
        network: fv.Network,
        photo: Tensor,
        objective: Any,
        *,
        detail: Tensor | None = None,
        seed: int = 0,
        until: int | None = None,
        execution: fv.Execution,
        progress: Callable[[int, int], None] | None = None,
    ) -> fv.Rendering:
        """Dream on one photograph, (1, channels, h, w) in [0, 1]; `detail` of the same shape is carried on from."""
        size = (photo.shape[2], photo.shape[3])
        sizes = self.sizes(size)
        execution = execution if execution.tile else replace(execution, tile=TILE)
        detail = torch.zeros_like(photo) if detail is None else detail
        work = [high * wide for high, wide in sizes]
        drawn: list[fv.Rendering] = []
        stopped = False

        def render(size: tuple[int, int], start: Tensor, **options: Any) -> fv.Rendering:
            return fv.render(
                network,
                objective,
                param=self._param(size),
                transforms=(fv.transforms.Roll(min(self.jitter, *(side // 2 for side in size))),),
                optimizer=self._optimizer(),
                start=start,
                robustness_views=0,
                **options,
            )

        if execution.precision is None:  # the largest octave decides for all
            execution = render(size, photo, steps=self.steps * len(sizes), until=0, execution=execution).execution
        for octave, size in enumerate(sizes):
            base = _resized(photo, size)
            start = (base + _resized(detail, size)).clamp(0, 1)
            before = sum(work[:octave])

            def tell(step: int, _: int, before: int = before, each: int = work[octave]) -> None:
                nonlocal stopped
                if progress:
                    stopped = True  # unless it comes back
                    progress(round((self.steps * before + step * each) / 1e4), round(self.steps * sum(work) / 1e4))
                    stopped = False

            left = None if until is None else max(0, until - self.steps * octave)
            options = {
                "steps": self.steps,
                "until": left,
                "seed": seed + octave,
                "execution": execution,
                "progress": tell,
            }
            try:
                drawn.append(render(size, start, **options))
            except KeyboardInterrupt:
                if not drawn:
                    raise
                break
            detail = drawn[-1].images - base
            if stopped or drawn[-1].recipe.until is not None:
                break
        history = torch.cat([each.history for each in drawn])
        images = (photo + _resized(detail, (photo.shape[2], photo.shape[3]))).clamp(0, 1)
        images = _with_colors_of(photo, images) if self.keep_color else images
        recipe = replace(
            drawn[-1].recipe,
            size=(photo.shape[2], photo.shape[3]),
            seeds=(seed,),
            steps=self.steps * len(sizes),
            until=None if len(history) == self.steps * len(sizes) else len(history),
            dream=asdict(self),
        )
        return replace(drawn[-1], images=images, history=history, recipe=recipe)

    def _param(self, size: tuple[int, int]) -> Any:
        image = fv.param.Image(size, spatial=fv.param.Pixel(), color=fv.param.Clamped())
        return image if self.mask is None else fv.param.Masked(self.mask, image)

    def _optimizer(self) -> Any:
        optimizer: Any = fv.optimizers.Normalized(fv.optimizers.Ascent(STEP * self.strength))
        optimizer = fv.optimizers.Smoothed(self.smooth, optimizer) if self.smooth else optimizer
        return fv.optimizers.LaplacianNormalized(self.laplacian, optimizer) if self.laplacian else optimizer


def dream(
    network: fv.Network,
    image: str | Path | Tensor,
    objective: Any = None,
    *,
    octaves: int = 4,
    scale: float = 1.4,
    steps: int = 10,
    strength: float = 1.0,
    jitter: int = 32,
    smooth: float = 0.0,
    laplacian: int = 0,
    keep_color: bool = False,
    guide: str | Path | None = None,
    mask: str | Path | None = None,
    seed: int = 0,
    until: int | None = None,
    execution: fv.Execution = fv.Execution(),
    progress: Callable[[int, int], None] | None = None,
) -> fv.Rendering:
    """Let a network see more of what it sees in a photograph already.

    The photograph is dreamt on at several sizes, from small to its own; what was added at one is carried to the next.
    A large one is seen in tiles, whose edges are elsewhere in every step.

    Args:
        network: from `fv.load`, or a `Network` around your own module.
        image: a file, or (channels, h, w) in [0, 1].
        objective: as for `fv.render`; `None` means a layer two thirds into the network, all of it.
        octaves: how many sizes; those of fewer than 48 px are left out.
        scale: how much larger each is than the last.
        steps: at each size.
        strength: how far a step goes.
        jitter: how far at most the picture is rolled before each step, in px.
        smooth: the deviation in px by which gradients are blurred; 0 leaves them.
        laplacian: into how many octaves gradients are taken apart to be made equally strong; 0 leaves them.
        keep_color: keep the photograph's colours, and change its brightness alone.
        guide: a picture whose features to dream of, where the objective is a layer.
        mask: a grey picture, white where the photograph may change.
        seed: of the rolls.
        until: stop after this many of the steps of all octaves.
        execution: how the network is run; without a tile of its own, tiles have 640 px.
        progress: called after every step with the work done and the work in all, in units of ten thousand pixels.

    Returns:
        The picture, of the photograph's size, and the recipe. After Ctrl-C, what there is so far.

    Raises:
        OutputError: a file is missing or no picture.
        AddressError: the network has no such unit.
        SettingError: an argument is out of its range.

    Source: Mordvintsev, Olah and Tyka 2015, google/deepdream, dream.ipynb, `deepdream`.
    Differs: steps are normalised by the root mean square; octaves shrink without aliasing; tiles.
    """
    dreamer = Dreamer(
        octaves, scale, steps, strength, jitter, smooth, laplacian, keep_color, None if mask is None else str(mask)
    )
    photo, alpha = read_photo(image, network.channels)
    rendering = dreamer.dream(
        network,
        photo,
        goal(network, objective, guide),
        seed=seed,
        until=until,
        execution=execution,
        progress=progress,
    )
    start = fv.Recipe.TENSOR if isinstance(image, Tensor) else str(image)
    recipe = replace(rendering.recipe, start=start, start_fingerprint=fingerprint(photo))
    if alpha is None:
        return replace(rendering, recipe=recipe)
    return replace(rendering, recipe=recipe, images=torch.cat([rendering.images, alpha], 1), alpha=True)


def read_photo(image: str | Path | Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """Return a photograph (1, channels, h, w), and its alpha channel where it has one that shows."""
    if isinstance(image, Tensor):
        if image.ndim not in (3, 4) or image.shape[-3] != channels or (image.ndim == 4 and len(image) != 1):
            raise fv.SettingError(f"a photograph of shape {tuple(image.shape)}; give ({channels}, h, w) in [0, 1]")
        check_unit_range(image, "the photograph")
        return image.detach().float().cpu().view(1, *image.shape[-3:]), None
    if channels != 3:
        return torch.from_numpy(read_image(image, channels))[None], None
    whole = torch.from_numpy(read_image(image, 4))[None]
    return whole[:, :3], whole[:, 3:] if whole[:, 3].min() < 1 else None


def goal(network: fv.Network, objective: Any, guide: str | Path | None) -> Any:
    """Complete the objective: a layer if there is none, and towards the guide if there is one."""
    if objective is None:
        objective = fv.objectives.Layer(_usual_layer(network))
    if guide is None:
        return objective
    whole = fv.objectives.parse(objective) if isinstance(objective, str) else objective
    if not isinstance(whole, fv.objectives.Layer):
        raise fv.SettingError(
            f"a guide needs a layer in which to look for its features, not {whole}; give --layer NAME"
        )
    return fv.objectives.Guide(whole.layer, str(guide))


def _usual_layer(network: fv.Network) -> str:
    """Find a layer two thirds into the network: one of its main parts, not of what these are made of."""
    maps = [name for name, layer in network.table.items() if layer.layout.kind != "vector"]
    places = {name: i / len(maps) for i, name in enumerate(maps)}
    for depth in range(max((name.count(".") for name in maps), default=0) + 1):
        parts = [name for name in maps if name.count(".") == depth]
        if len(parts) < 4:
            continue
        by_count = parts[round(DEPTH * (len(parts) - 1))]
        by_place = min(parts, key=lambda name: abs(places[name] - DEPTH))
        if WITHIN[0] <= places[by_count] <= WITHIN[1]:
            return by_count
        if abs(places[by_place] - DEPTH) <= NEAR:
            return by_place
    if not maps:
        raise fv.SettingError(f"{network.label} has no layer that still has places; give an objective")
    return maps[round(DEPTH * (len(maps) - 1))]


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def _with_colors_of(photo: Tensor, images: Tensor) -> Tensor:
    """Take the brightness of one and the colours of the other."""
    if photo.shape[1] != 3:
        return images
    from kornia.color import rgb_to_yuv, yuv_to_rgb  # slow to import

    luma = rgb_to_yuv(images)[:, :1]
    return yuv_to_rgb(torch.cat([luma, rgb_to_yuv(photo)[:, 1:]], 1)).clamp(0, 1)
