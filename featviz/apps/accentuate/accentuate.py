"""Feature accentuation: maximise an objective, starting from a photograph, and keep an early layer almost the same."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.accentuate.ascent import ascend
from featviz.apps.accentuate.settings import AccentuationSettings
from featviz.apps.shared.arguments.classes import unique_name
from featviz.apps.shared.arguments.input_images import as_images
from featviz.apps.shared.arguments.main_blocks import block_at
from featviz.apps.shared.arguments.targets import Target, as_target
from featviz.apps.shared.judging.predictions import predict
from featviz.checks import check_number
from featviz.engine import entry_point
from featviz.interfaces import ObjectiveLike, ProgressSource
from featviz.io import GivenImage, auto_bar
from featviz.network import LayerLike
from featviz.transforms.blur import gaussian_blur

DEFAULT_DEPTH = 1 / 4
"""Relative depth of the default layer: its index among the main blocks, or among all layers, over their number."""
DEPTH_RANGE = 0.03, 0.5
"""Range of depths among all layers in which the block at a quarter of the blocks is accepted."""
OPACITY_BLUR = 0.02
"""Standard deviation of the blur of the opacity, as a fraction of the shorter side."""
OPAQUE_SHARE = 0.1
"""Share of the pixels, those with the largest accumulated gradient, that are opaque."""


@entry_point(shows_images=True)
def accentuate(
    network: fv.Network,
    image: GivenImage,
    objective: Target | None = None,
    *,
    layer: LayerLike | None = None,
    weight: float = AccentuationSettings.weight,
    crops: int = AccentuationSettings.crops,
    zoom: float = AccentuationSettings.zoom,
    steps: int = AccentuationSettings.steps,
    lr: float = AccentuationSettings.lr,
    opaque: bool = False,
    seed: int = 0,
    until: int | None = None,
    progress: ProgressSource | None = auto_bar,
) -> fv.Rendering:
    """Accentuate a photograph: maximise an objective while an early layer stays almost the same.

    `dream` changes all of a photograph; this enhances the parts that the objective depends on. Each step maximises the
    mean over random crops of `objective - weight * ratio * ‖a - p‖² / ‖p‖`, with the activations a of a crop in an
    early layer and p of the same crop of the photograph. `ratio` is the sum of the absolute gradient of the objective
    divided by that of `‖a - p‖` at the first step, so that one weight suits all objectives: both gradients have the
    same size where the layer has changed by 1 / (2 weight) of its length. The opacity of a pixel is the sum over steps
    of its absolute gradient of the objective.

    Args:
        network: From `fv.load`, or `fv.Network(module, ...)` around your own module.
        image: One image: a file, a Pillow image, or an array or tensor (h, w), (h, w, c) or (c, h, w). Files are
            resized to about the network's input size.
        objective: As for `fv.render`, or the index of a class; `None` for the logit of the predicted class
            in the image.
        layer: Early layer, by name or as a module; `None` for a feature map at about a quarter of the depth.
        weight: Weight of the change in the early layer, >= 0; larger values change the photograph less.
        crops: Number of random crops in each step, from 1 to 1024.
        zoom: Side of the image divided by the side of the smallest crop, >= 1.
        steps: Number of steps, >= 1.
        lr: Learning rate of the Fourier coefficients, > 0.
        opaque: Leave the alpha channel out.
        seed: Seed of the crops.
        until: Stop after this many of the steps, as Ctrl-C would. `None` for all steps.
        progress: Called after every step with the steps done and the number of steps; `"bar"` for a bar; `None` for
            none.

    Returns:
        The image with an alpha channel, and its recipe. The history is the mean objective over the crops of each step.
        After Ctrl-C, the image so far.

    Raises:
        OutputError: The file is missing or not an image.
        AddressError: The network has no such layer, channel, position or class.
        SettingError: An argument is out of its range, or the objective compares several images.
        RenderError: No gradient reaches the image, or the score is not finite.

    Source: Hamblin et al. 2024, https://arxiv.org/abs/2402.10039.
    Differs: crops are those of `transforms.ResizedView`; the distance is squared, so that small changes are possible,
        because with the plain distance the image either does not change or changes without limit; `ratio` is measured
        at the photograph with a little noise, since the gradient of a distance of 0 is not defined; and the opacity is
        blurred.
    """
    if until is not None:
        check_number("until", until, at_least=0, whole=True)
    photograph = as_images(network, image)
    if len(photograph) > 1:
        raise fv.SettingError(f"accentuate takes one image, got {len(photograph)}; call it once for each")
    goal = _goal(network, photograph, objective)
    chosen = (
        block_at(network, DEFAULT_DEPTH, DEPTH_RANGE)
        if layer is None
        else network.layer(str(network.name_of(layer))).name
    )
    settings = AccentuationSettings(chosen, weight, crops, zoom, steps, lr, opaque)
    found = ascend(network, photograph, goal, settings, seed, until, progress)
    images = found.images if opaque else torch.cat([found.images, opacity(found.gradient)], 1)
    rendering = _as_rendering(network, photograph, goal, settings, seed)
    done = len(found.history)
    recipe = replace(
        rendering.recipe,
        start=str(image) if isinstance(image, str | Path) else fv.Recipe.TENSOR,
        steps=steps,
        until=None if done == steps else done,
        accentuation=asdict(settings),
    )
    return replace(rendering, images=images, history=found.history[:, None], recipe=recipe, alpha=not opaque)


def opacity(gradient: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 1 h w"]:
    """Return an alpha channel from an accumulated gradient: blurred, and 1 where it is largest.

    Args:
        gradient: Sum of absolute gradients over steps and channels.

    Returns:
        The opacity in [0, 1].
    """
    smooth = gaussian_blur(gradient, OPACITY_BLUR * min(gradient.shape[2:]))
    return (smooth / smooth.flatten().quantile(1 - OPAQUE_SHARE).clamp(min=1e-12)).clamp(0, 1)


def change(network: fv.Network, layer: str, image: Tensor, photograph: Tensor) -> float:
    """Return the relative change of a layer: ‖a - p‖ / ‖p‖ for its activations.

    Args:
        network: The network.
        layer: Name of the layer.
        image: In [0, 1], (1, c, h, w).
        photograph: Of the same shape.
    """
    with torch.no_grad():
        a, p = (network.capture(each, [layer])[layer] for each in (image, photograph))
    return float((a - p).norm() / p.norm().clamp(min=1e-12))


def _goal(network: fv.Network, photograph: Float[Tensor, "1 c h w"], objective: Target | None) -> ObjectiveLike:
    """Return the objective, or the logit of the predicted class."""
    if objective is not None:
        return as_target(objective)
    best = int(predict(network, photograph)[0].argmax())
    return fv.objectives.Logit(unique_name(network, best))


def _as_rendering(
    network: fv.Network, photograph: Tensor, goal: ObjectiveLike, settings: AccentuationSettings, seed: int
) -> fv.Rendering:
    """Return the photograph as a rendering, with the recipe of its accentuation but for the settings."""
    return fv.render(
        network,
        goal,
        param=fv.param.Image((photograph.shape[2], photograph.shape[3])),
        transforms=(settings.transform(network.size),),
        optimizer=settings.optimizer(),
        steps=0,
        seed=seed,
        start=photograph,
        robustness_views=0,
        execution=fv.Execution("float32"),
        progress=None,
    )
