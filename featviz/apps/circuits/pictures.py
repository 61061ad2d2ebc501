"""The images of a circuit: of its units and of groups of inputs; those that a sweep has are copied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import featviz as fv
from featviz.apps.circuits.factorise import InputGroups
from featviz.apps.circuits.walk import Unit
from featviz.apps.shared.arguments.classes import class_title
from featviz.apps.shared.arguments.unit_lookup import objective_of
from featviz.apps.shared.rendering.album import Album
from featviz.apps.shared.rendering.stored_images import IMAGES_FOLDER, copy_images, image_file, rendered_names
from featviz.io import Store
from featviz.network import OUTPUT


def title_of(network: fv.Network, unit: Unit) -> str:
    """Return the name of a unit on a page: its address, or the name of the class."""
    layer, channel = unit
    return class_title(network, channel) if layer == OUTPUT else f"{layer}:{channel}"


def images_of_sweep(network: fv.Network, store: Store, units: Iterable[Unit]) -> dict[Unit, str]:
    """Return the images of units in the store of a sweep; of several of a unit, that with the most steps.

    Args:
        network: The network; images of other weights are not taken.
        store: The store.
        units: The units.

    Returns:
        Names of images by unit.
    """
    wanted = {repr(objective_of(*unit)): unit for unit in units}
    found: dict[Unit, tuple[int, str]] = {}
    names = rendered_names(store, [file.removesuffix(".png") for file in sorted(store.names(IMAGES_FOLDER))])
    for name in sorted(names):
        recipe = fv.Recipe.of(store.read(image_file(name))).alone
        unit = wanted.get(recipe.objectives[0]) if len(recipe.objectives) == 1 else None
        if (
            unit is not None
            and recipe.fingerprint == network.fingerprint
            and recipe.steps > found.get(unit, (-1, ""))[0]
        ):
            found[unit] = recipe.steps, name
    return {unit: name for unit, (_, name) in found.items()}


def plan_images(
    network: fv.Network,
    store: Store,
    units: Sequence[Unit],
    sweep: Store | None,
    **settings: Any,
) -> tuple[Album, dict[Unit, str]]:
    """Plan an image for each unit. Those that a sweep has are copied from there.

    Args:
        network: The network.
        store: Where the images will be.
        units: The units.
        sweep: Store of a sweep; `None` for none.
        settings: `param`, `quality`, `steps` and `seed` of the images that are rendered.

    Returns:
        The album of those to render, and the names of all images by unit.

    Raises:
        FeatvizError: The first image of a layer cannot be rendered.
    """
    names = {} if sweep is None else images_of_sweep(network, sweep, units)
    if sweep is not None:
        copy_images(sweep, store, list(names.values()))
    album, seed = Album(network, store), settings.pop("seed")
    missing = [unit for unit in dict.fromkeys(units) if unit not in names]
    for layer in dict.fromkeys(layer for layer, _ in missing):
        own = [unit for unit in missing if unit[0] == layer]
        titles = [title_of(network, unit) for unit in own]
        made = album.add([objective_of(*unit) for unit in own], [seed] * len(own), titles, **settings)
        names |= dict(zip(own, made, strict=True))
    return album, names


def plan_groups(album: Album, layer: str, groups: InputGroups, *, seed: int, **settings: Any) -> tuple[str, ...]:
    """Plan an image of each group of inputs: of the direction of its shares.

    Args:
        album: The album to which they are added.
        layer: Layer of the inputs.
        groups: The groups.
        seed: Seed of each image.
        settings: `param`, `quality` and `steps`.

    Returns:
        The names of the images.
    """
    if not len(groups.shares):
        return ()
    objectives = [fv.objectives.Direction(layer, shares) for shares in groups.shares]
    titles = [f"{layer}: group {i + 1}" for i in range(len(objectives))]
    return album.add(objectives, [seed] * len(objectives), titles, **settings)
