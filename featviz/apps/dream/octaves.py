"""Optimise an image octave by octave, carrying the added detail from each size to the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.dream.settings import DreamSettings
from featviz.interfaces import ImageProgress, Progress, Size
from featviz.io import resize
from featviz.objectives import ObjectiveSource, as_objectives

TILE = 640
"""Side in px of the tiles into which larger images are cut."""
PROGRESS_UNIT = 10_000
"""Number of pixels, times steps, in which progress is counted."""


def render_octaves(
    network: fv.Network,
    image: Float[Tensor, "1 c *size"],
    objective: ObjectiveSource,
    settings: DreamSettings,
    *,
    detail: Float[Tensor, "1 c *size"] | None = None,
    seed: int = 0,
    until: int | None = None,
    execution: fv.Execution = fv.Execution(),
    progress: Progress | None = None,
) -> fv.Rendering:
    """Dream on an image, from its smallest octave to its own size.

    Only the detail, the difference to the resized image, is carried to the next octave. So each octave starts from the
    sharp image.

    Args:
        network: The network.
        image: In [0, 1].
        objective: What to maximise.
        settings: The settings.
        detail: Detail to start from, as that of the previous frame of a video; `None` for none.
        seed: Seed of the random shifts; octave *i* uses `seed + i`.
        until: Stop after this many of the steps of all octaves; `None` for all steps.
        execution: How the network is run. Without a tile size, tiles have `TILE` px.
        progress: Called after every step with the work done and the total work, in units of `PROGRESS_UNIT`.

    Returns:
        The image, its history over all octaves, and its recipe. After Ctrl-C, the image so far.
    """
    full_size, axes = tuple(image.shape[2:]), network.input.axes
    layers = frozenset().union(*(each.layers for each in as_objectives(objective)))
    *smaller, _ = settings.sizes(full_size, axes)
    sizes = [size for size in smaller if network.fixed_size or network.accepts(size, layers)] + [full_size]
    tile = TILE if axes == "yx" else max(TILE, *network.size)
    execution = execution if execution.tile else replace(execution, tile=tile)
    detail = torch.zeros_like(image) if detail is None else detail
    tracker = _Tracker(progress, settings.steps, [math.prod(size) for size in sizes])
    if execution.precision is None:  # measure at the largest octave, and run all octaves the same way
        measured = {"steps": settings.steps * len(sizes), "until": 0, "execution": execution}
        execution = _render(network, objective, settings, full_size, image, **measured).execution
    rendered: list[fv.Rendering] = []
    for octave, size in enumerate(sizes):
        base = resize(image, size)
        start = (base + _detail_at(detail, size, settings)).clamp(0, 1)
        options = {
            "steps": settings.steps,
            "until": None if until is None else max(0, until - settings.steps * octave),
            "seed": (seed + octave) % 2**63,
            "execution": execution,
            "progress": tracker.of_octave(octave, base if settings.keep_color else None),
        }
        try:
            rendered.append(_render(network, objective, settings, size, start, **options))
        except KeyboardInterrupt:  # between two renders; inside of one, `fv.render` returns what there is
            if not rendered:
                raise
            break
        detail = rendered[-1].images - base
        if tracker.interrupted or rendered[-1].recipe.until is not None:
            break
    images = (image + _detail_at(detail, full_size, settings)).clamp(0, 1)
    images = _with_colors_of(image, images) if settings.keep_color else images
    return _joined(rendered, images, settings, seed, settings.steps * len(sizes))


@dataclass
class _Tracker:
    """Counts the work over all octaves.

    Args:
        report: Called with the work done and the total work; `None` for nothing.
        steps: Steps per octave.
        pixels: Pixels of each octave.
        interrupted: Whether `report` raised an exception, such as that of Ctrl-C. `fv.render` then returns normally,
            even after the last step of an octave, where nothing else shows the interruption.
    """

    report: Progress | None
    steps: int
    pixels: list[int]
    interrupted: bool = False

    def of_octave(self, octave: int, colors: Float[Tensor, "1 c *size"] | None) -> Progress:
        """Return the progress callback for the render of one octave.

        Args:
            octave: Index of the octave.
            colors: Image whose colours the images have when they are shown; `None` for their own.
        """
        if isinstance(self.report, ImageProgress):
            return _OctaveImages(self, octave, self.report, colors)
        return lambda step, _: self(octave, step)

    def __call__(self, octave: int, step: int) -> None:
        """Report a step of an octave."""
        if self.report:
            with self.watched():
                self.report(*self.work(octave, step))

    def work(self, octave: int, step: int) -> tuple[int, int]:
        """Return the work done after a step of an octave, and the total work."""
        done = self.steps * sum(self.pixels[:octave]) + step * self.pixels[octave]
        return math.ceil(done / PROGRESS_UNIT), math.ceil(self.steps * sum(self.pixels) / PROGRESS_UNIT)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note whether an exception is raised inside."""
        self.interrupted = True
        yield
        self.interrupted = False


@dataclass
class _OctaveImages(ImageProgress):
    """Gives the images of one octave to a callback that counts the work over all octaves."""

    tracker: _Tracker
    octave: int
    report: ImageProgress
    colors: Float[Tensor, "1 c *size"] | None

    def __call__(self, done: int, steps: int) -> None:
        self.tracker(self.octave, done)

    def wants_images(self, done: int, steps: int) -> bool:
        with self.tracker.watched():
            return self.report.wants_images(*self.tracker.work(self.octave, done))

    def show(self, done: int, steps: int, images: Float[Tensor, "n c *size"]) -> None:
        with self.tracker.watched():
            shown = images if self.colors is None else _with_colors_of(self.colors, images)
            self.report.show(*self.tracker.work(self.octave, done), shown)


def _detail_at(detail: Float[Tensor, "1 c *size"], size: Size, settings: DreamSettings) -> Float[Tensor, "1 c *size2"]:
    """Resize detail to another octave, within the mask there: resizing spreads it beyond the mask."""
    if tuple(detail.shape[2:]) == tuple(size):
        return detail
    resized, mask = resize(detail, size), settings.mask_at(size)
    return resized if mask is None else resized * mask.to(resized)


def _render(
    network: fv.Network,
    objective: ObjectiveSource,
    settings: DreamSettings,
    size: Size,
    start: Float[Tensor, "1 c *size"],
    **options: Any,
) -> fv.Rendering:
    """Render one octave."""
    return fv.render(
        network,
        objective,
        param=settings.param(size),
        transforms=(settings.transform(size),),
        optimizer=settings.optimizer(),
        start=start,
        robustness_views=0,
        **options,
    )


def _joined(
    rendered: list[fv.Rendering],
    images: Float[Tensor, "1 c *size"],
    settings: DreamSettings,
    seed: int,
    steps: int,
) -> fv.Rendering:
    """Join the renders of the octaves into one rendering.

    Args:
        rendered: The renders so far.
        images: The final image.
        settings: The settings.
        seed: The first seed.
        steps: Number of steps of all octaves.
    """
    history = torch.cat([each.history for each in rendered])
    recipe = replace(
        rendered[-1].recipe,
        size=tuple(images.shape[2:]),
        seeds=(seed,),
        steps=steps,
        until=None if len(history) == steps else len(history),
        dream=asdict(settings),
    )
    return replace(rendered[-1], images=images, history=history, recipe=recipe)


def _with_colors_of(image: Float[Tensor, "n c h w"], images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Combine the brightness of `images` with the colours of `image`."""
    if image.shape[1] != 3 or image.ndim != 4:
        return images
    from kornia.color import rgb_to_yuv, yuv_to_rgb  # slow to import

    luma = rgb_to_yuv(images)[:, :1]
    return yuv_to_rgb(torch.cat([luma, rgb_to_yuv(image)[:, 1:]], 1)).clamp(0, 1)
