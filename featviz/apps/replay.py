"""Draw a picture again from the recipe inside it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import featviz as fv
from featviz.io import Array

VALUES = {
    name: value
    for drawer in (fv.objectives, fv.optimizers, fv.param, fv.transforms)
    for name in drawer.__all__
    if isinstance(value := getattr(drawer, name), type)
} | {"Array": Array, "Execution": fv.Execution}
"""What a recipe may name: plain values, and no function, since `load` and `find` import what they are told."""


def replay(
    recipe: fv.Recipe | str | Path,
    *,
    network: fv.Network | str | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    own: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    transforms: Any = None,
    progress: Any = None,
) -> fv.Rendering:
    """Draw a picture again, equal to the byte on the same processor and versions.

    Args:
        recipe: a PNG that featviz saved, or its recipe.
        network: or what `fv.load` calls it; needed where the recipe's was made in Python or is someone's own file.
        weights: a file, where the recipe's own lies elsewhere now.
        device: as for `fv.load`.
        own: objectives, params and transforms of one's own that the recipe names, by name.
        start: the picture that it was begun with, where that lies elsewhere now.
        transforms: the whole stack, where it held modules of other libraries.
        progress: as for `fv.render`.

    Raises:
        RecipeError: the file holds no recipe, something of one's own was not given, or the weights or the start are
            others.
        SettingError: a start is given for a picture that was begun with noise.
    """
    recipe = recipe if isinstance(recipe, fv.Recipe) else fv.Recipe.of(recipe)
    if start is not None and recipe.start is None:
        raise fv.SettingError(f"the picture was begun with noise, not with {start}; leave that out")
    recipe = recipe if start is None else replace(recipe, start=str(start))
    if recipe.start is not None and not Path(recipe.start).is_file():  # nor is an image made in Python
        raise fv.RecipeError(
            f"the picture was begun with {recipe.start}, which is not here; give it with --start, or start="
        )
    if not isinstance(network, fv.Network):
        network = network_of(recipe, weights, device, network)
    check_weights(network, recipe)
    arguments = recipe.arguments(VALUES | dict(own or {}), transforms)
    recipe.check_classes(network.heads, *arguments["objective"])
    if recipe.dream is None:
        rendering = fv.render(network, **arguments, progress=progress)
    else:
        options = {
            "seed": recipe.seeds[0],
            "until": recipe.until,
            "execution": arguments["execution"],
            "progress": progress,
        }
        try:
            rendering = fv.dream(network, str(recipe.start), arguments["objective"][0], **{**recipe.dream, **options})
        except TypeError as error:
            raise fv.RecipeError("the recipe cannot be read; was the file changed?") from error
    if rendering.recipe.start_fingerprint != recipe.start_fingerprint:
        raise fv.RecipeError(f"the picture was started from {recipe.start}, which holds another image now")
    other = {key: value for key, value in rendering.recipe.machine.items() if recipe.machine.get(key) != value}
    if other:
        changed = ", ".join(f"{key} {recipe.machine.get(key)} then, {value} now" for key, value in other.items())
        warnings.warn(f"the picture may differ in detail: {changed}", fv.FeatvizWarning, stacklevel=2)
    rendering = rendering if recipe.picture is None else rendering[recipe.picture]
    return rendering if recipe.shown is None else rendering.at(recipe.shown)


def check_weights(network: fv.Network, recipe: fv.Recipe) -> None:
    """Make sure that a network is the one that a picture was made with.

    Raises:
        RecipeError: its weights are others.
    """
    if network.fingerprint != recipe.fingerprint:
        found = f"the picture was made with weights {recipe.fingerprint}, these are {network.fingerprint}"
        raise fv.RecipeError(f"{found}; give what it was made with: --weights, or another --model")


def network_of(
    recipe: fv.Recipe, weights: str | Path | None = None, device: str = "auto", model: str | None = None
) -> fv.Network:
    """Load the recipe's network; unlike one given by hand, a name in it that would run someone's file is not followed.

    Args:
        recipe: of a picture.
        weights: where its own lie elsewhere now.
        device: as for `fv.load`.
        model: what `fv.load` calls the network; `None` means the recipe's.

    Raises:
        RecipeError: it was made in Python or came from someone's own file, or its weights lie elsewhere now.
    """
    if model is None and (not recipe.model or ":" in recipe.model):
        made = f"is {recipe.model!r}, someone's own" if recipe.model else "was made in Python"
        raise fv.RecipeError(
            f"the picture's network {made}; a picture never runs code, "
            "so give it by hand: --model path/to/file.py:factory, or network= in Python"
        )
    weights = weights or recipe.weights or "default"
    if weights == recipe.weights and weights not in ("default", "none") and not Path(weights).is_file():
        raise fv.RecipeError(f"the picture's weights {weights} are not here; give the file with --weights")
    spec = dict(recipe.input)
    size = spec.pop("size")
    return fv.load(
        model or recipe.model,
        weights=weights,
        device=device,
        input_size=size,
        **spec,
        smooth_pools=recipe.smooth_pools,
    )
