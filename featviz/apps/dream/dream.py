"""DeepDream: maximise an objective from a photograph, octave by octave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.dream.octaves import render_octaves
from featviz.apps.dream.settings import DreamSettings
from featviz.apps.shared.arguments.inputs import as_data, separate_inputs
from featviz.apps.shared.arguments.main_blocks import block_at
from featviz.apps.shared.arguments.targets import Target, class_or_objective
from featviz.engine import entry_point, fingerprint
from featviz.interfaces import ProgressSource
from featviz.io import GivenImage, auto_bar, load_given_image
from featviz.objectives import ObjectiveSource, as_objective

DEFAULT_DEPTH = 2 / 3
"""Relative depth of the default layer: its index among the main blocks, or among all layers, over their number."""
DEPTH_RANGE = 0.25, 0.97
"""Range of depths among all layers in which the block at two thirds of the blocks is accepted.

Outside of it, the blocks at this nesting level do not follow each other, such as an encoder between a stem and a head.
"""


@entry_point(any_axes=True, shows_images=True)
def dream(
    network: fv.Network,
    image: GivenImage,
    objective: Target | None = None,
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
    progress: ProgressSource | None = auto_bar,
) -> fv.Rendering | Any:
    """DeepDream an image: maximise an objective, starting from it, at several sizes (octaves).

    The image is optimised from the smallest octave to its own size, and the added detail is carried from each octave
    to the next. Large images are cut into tiles, whose borders shift in every step.

    Args:
        network: From `fv.load`, or `fv.Network(module, ...)` around your own module.
        image: A file, a Pillow image, or an array or tensor (h, w), (h, w, c) or (c, h, w); or several of them: a
            folder, a batch or a list. For signals and volumes as for `explain`.
        objective: As for `fv.render`, or the index of a class; `None` for all of a layer at about two thirds of the
            network's depth.
        octaves: Number of sizes, from 1 to 100. Octaves with a shorter side below 48 px, or too small
            for the network, are left out.
        scale: Factor between the sizes of two octaves, > 1.
        steps: Number of steps per octave, >= 1.
        strength: Step size, > 0.
        jitter: Largest random shift of the image before each step, in px, >= 0.
        smooth: Standard deviation of a Gaussian blur of the gradient, in px; 0 for none. This and the next four are
            for images only.
        laplacian: Number of frequency bands of the gradient that are normalised to equal strength; 0 for none.
        keep_color: Keep the colours of the image and change its brightness only.
        guide: An image whose features in the layer are amplified; `None` for none. The objective must be a layer.
        mask: A grey image file that is white where the image may change; `None` for everywhere.
        seed: Seed of the random shifts.
        until: Stop after this many of the steps of all octaves; `None` for all steps.
        execution: How the network is run. Without a tile size, tiles have 640 px.
        progress: Called after every step with the work done and the total work, in units of 10,000 pixels; `"live"`,
            `"bar"` or a callback that is given the images, as for `fv.render`; `None` for none.

    Returns:
        The image, of the same size as the given one, and its recipe. After Ctrl-C, the image so far. For a folder,
        a batch or a list, a list with one rendering per image.

    Raises:
        OutputError: A file is missing or not an image.
        AddressError: The network has no such layer, channel, position or class.
        SettingError: An argument is out of its range, or is for images and the network reads signals, volumes or video.

    Source: Mordvintsev, Olah and Tyka 2015, google/deepdream, dream.ipynb, `deepdream`.
    Differs: Steps are normalised by the root mean square instead of the mean absolute gradient; octaves are downsampled
        with antialiasing; large images are cut into tiles.
    """
    settings = DreamSettings(
        octaves, scale, steps, strength, jitter, smooth, laplacian, keep_color, None if mask is None else str(mask)
    )
    _check_axes(network, settings, guide)
    goal = dream_objective(network, objective, guide)
    how: dict[str, Any] = {"seed": seed, "until": until, "execution": execution, "progress": progress}
    several = separate_inputs(network, image)
    if several is None:
        return _dream_one(network, image, goal, settings, how)
    renderings: list[fv.Rendering] = []
    for each in several:
        renderings.append(_dream_one(network, each, goal, settings, how))
        if renderings[-1].recipe.until not in (None, until):  # after Ctrl-C
            break
    return renderings


def _check_axes(network: fv.Network, settings: DreamSettings, guide: str | Path | None) -> None:
    """Check that what is given works on the axes of the network's input.

    Raises:
        SettingError: A setting is about images, and the network reads signals, volumes or video.
    """
    given = {
        "smooth": settings.smooth > 0, "laplacian": settings.laplacian > 0, "keep_color": settings.keep_color,
        "guide": guide is not None, "mask": settings.mask is not None,
    }  # fmt: skip
    for name, is_given in given.items():
        if is_given and len(network.size) != 2:
            raise fv.SettingError(
                f"--{name.replace('_', '-')} ({name}= in Python) is about images, and {network.label} reads inputs of "
                f"size {network.size}; leave it out"
            )


def _dream_one(
    network: fv.Network, image: GivenImage, objective: ObjectiveSource, settings: DreamSettings, how: Mapping[str, Any]
) -> fv.Rendering:
    """Dream on one image."""
    color, alpha = load_start(network, image)
    rendering = render_octaves(network, color, objective, settings, **how)
    start = str(image) if isinstance(image, str | Path) else fv.Recipe.TENSOR
    recipe = replace(rendering.recipe, start=start, start_fingerprint=fingerprint(color))
    if alpha is None:
        return replace(rendering, recipe=recipe)
    return replace(rendering, recipe=recipe, images=torch.cat([rendering.images, alpha], 1), alpha=True)


def load_start(network: fv.Network, image: GivenImage) -> tuple[Float[Tensor, "1 c *size"], Tensor | None]:
    """Return an image, a signal or a volume in [0, 1], at its own size, and the alpha channel of an image.

    Args:
        network: The network that reads it.
        image: As for `load_image`, or for `as_data` where the network reads signals or volumes.

    Raises:
        OutputError: The file is missing or cannot be read.
        SettingError: `image` has another shape, or values outside of [0, 1].
    """
    return load_image(image, network.channels) if len(network.size) == 2 else (as_data(network, image), None)


def load_image(image: GivenImage, channels: int) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "1 1 h w"] | None]:
    """Return an image in [0, 1] and its alpha channel.

    Args:
        image: A file, a Pillow image, an array or a tensor.
        channels: Number of channels.

    Returns:
        The image without alpha, and the alpha channel; `None` if the image is opaque.

    Raises:
        OutputError: The file is missing or not an image.
        SettingError: The image has another shape, or values outside of [0, 1].
    """
    if channels != 3:
        return load_given_image(image, channels)[None], None
    rgba = load_given_image(image, 4)[None]
    color, alpha = rgba[:, :3], rgba[:, 3:]
    if alpha.min() == 1:
        return color, None
    # Fully transparent pixels store arbitrary colors, often black; dream on white there.
    return torch.where(alpha == 0, torch.ones_like(color), color), alpha


def dream_objective(network: fv.Network, objective: Target | None, guide: str | Path | None) -> ObjectiveSource:
    """Return the objective of a dream.

    Args:
        network: The network.
        objective: What to maximise; `None` for a layer at about two thirds of the network's depth.
        guide: An image whose features in the layer are amplified; `None` for none.

    Raises:
        SettingError: There is a guide and the objective is not a layer, or the network has no layer with positions.
    """
    chosen = fv.objectives.Layer(_default_layer(network)) if objective is None else class_or_objective(objective)
    if guide is None:
        return chosen
    layer = as_objective(chosen)
    if not isinstance(layer, fv.objectives.Layer):
        raise fv.SettingError(f"with a guide, the objective must be a layer, got {layer}; give --layer NAME")
    return fv.objectives.Guide(layer.layer, str(guide))


def _default_layer(network: fv.Network) -> str:
    """Return a layer at about two thirds of the network's depth, a main block rather than a part of one."""
    return block_at(network, DEFAULT_DEPTH, DEPTH_RANGE)
