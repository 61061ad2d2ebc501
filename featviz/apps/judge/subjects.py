"""The images to judge, and the unit that each of them shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import featviz as fv
from featviz.apps.replay import RECIPE_NAMES
from featviz.engine import parse_repr
from featviz.interfaces import ObjectiveLike, Transforms, param_traits_of, traits_of
from featviz.io import read_image

BACKGROUND = 0.5
"""Grey behind transparent parts, in [0, 1]."""

_NamedImage = tuple[str, Tensor, fv.Recipe]


@dataclass(frozen=True, eq=False)
class Subject:
    """An image to judge.

    Args:
        name: Its name.
        image: In [0, 1]; transparent parts are over grey.
        unit: What it shows.
        transforms: The transforms through which its own network sees it again.
        recipe: Its recipe.
    """

    name: str
    image: Float[Tensor, "c h w"]
    unit: ObjectiveLike
    transforms: Transforms
    recipe: fv.Recipe

    @property
    def depends_on_position(self) -> bool:
        """Whether the unit is about positions, which other sizes and transforms would change."""
        return _depends_on_position(self.unit)


def load_subjects(
    images: fv.Rendering | str | Path | Sequence[str | Path], own: Mapping[str, Any] | None = None
) -> Iterator[Subject]:
    """Load the images of a rendering or of files, with what each one shows.

    Args:
        images: A rendering, PNG files that featviz saved with one image each, or folders of them.
        own: The user's own objectives and params that the recipes name, by name.

    Yields:
        One subject per image.

    Raises:
        RecipeError: A file holds no recipe, or its recipe names a file that has changed or a value missing in `own`.
        SettingError: A file is a contact sheet, or an image shows no unit of a network.
        OutputError: A file cannot be read, or a folder holds no PNG.
    """
    names = RECIPE_NAMES | dict(own or {})
    named = _from_rendering(images) if isinstance(images, fv.Rendering) else _from_files(images)
    for name, image, recipe in named:
        unit = _shown_unit(recipe, names)
        recipe.check_files(unit)
        if len(image) != _channels(recipe):  # the last channel is alpha
            image = BACKGROUND + image[-1:] * (image[:-1] - BACKGROUND)
        yield Subject(name, image, unit, _transforms(recipe, unit, names), recipe)


def _channels(recipe: fv.Recipe) -> int:
    """Return the number of input channels of the network."""
    return recipe.input.channels


def _from_rendering(rendering: fv.Rendering) -> Iterator[_NamedImage]:
    for i, image in enumerate(rendering.images):
        recipe = rendering.recipe if rendering.recipe.index is not None else rendering.recipe.only(i)
        yield rendering.names[i], image, recipe


def _from_files(paths: str | Path | Sequence[str | Path]) -> Iterator[_NamedImage]:
    for file in _png_files([paths] if isinstance(paths, str | Path) else paths):
        recipe = fv.Recipe.of(file)
        if recipe.index is None and len(recipe.seeds) > 1:
            raise fv.SettingError(
                f"each file must show one image, {file} is a contact sheet of {len(recipe.seeds)}; "
                "save to a folder and judge the files in it"
            )
        with Image.open(file) as opened:
            has_alpha = opened.mode == "RGBA"
        image = torch.from_numpy(read_image(file, 4 if has_alpha else _channels(recipe)))
        if has_alpha and _channels(recipe) == 1:
            image = image[[0, -1]]  # grey is stored three times in an RGBA file
        yield Path(file).stem, image, recipe if recipe.index is not None else recipe.only(0)


def _png_files(paths: Sequence[str | Path]) -> Iterator[str | Path]:
    for path in paths:
        files = sorted(Path(path).glob("*.png")) if Path(path).is_dir() else [path]
        if not files:
            raise fv.OutputError(f"no PNG in {path}; give files that featviz saved, or a folder of them")
        yield from files


def _transforms(recipe: fv.Recipe, unit: ObjectiveLike, names: Mapping[str, Any]) -> Any:
    """Return the transforms through which an image is scored again.

    These are the default ones, so that images rendered through others are comparable. Units that depend on position
    keep those of the recipe, because other transforms would move other positions into view.
    """
    if _depends_on_position(unit):
        with suppress(fv.RecipeError):  # modules of other libraries cannot be rebuilt from text
            return parse_repr(recipe.transforms, names)
    close_views = param_traits_of(parse_repr(recipe.param, names)).close_views
    return fv.transforms.NEAR if close_views else fv.transforms.STANDARD


def _depends_on_position(unit: ObjectiveLike) -> bool:
    traits = traits_of(unit)
    return traits.depends_on_position or traits.needs_full_view


def _shown_unit(recipe: fv.Recipe, names: Mapping[str, Any]) -> ObjectiveLike:
    """Return what an image shows: the first unit that its objective maximises, or the whole objective without one."""
    batch = len(recipe.seeds) // len(recipe.objectives)
    which, position = divmod(recipe.index or 0, batch)
    objective: ObjectiveLike = parse_repr(recipe.objectives[which], names)
    unit: ObjectiveLike | None = None
    if isinstance(objective, fv.objectives.Objective):
        unit = objective.shown_unit(position / max(1, batch - 1))
    if unit is None and traits_of(objective).compares_images:
        raise fv.SettingError(
            f"{objective} compares the images of a batch and names no unit to recognise; judge other images"
        )
    return objective if unit is None else unit
