"""Pictures, and what each was made to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import featviz as fv
from featviz.interfaces import param_traits_of, traits_of
from featviz.apps.replay import VALUES
from featviz.engine import parse_repr
from featviz.io import read_image

GREY = 0.5
"""What stands behind transparent parts."""


@dataclass(frozen=True)
class Subject:
    """A picture, and what it was made to show.

    Args:
        name: what it is called.
        image: (channels, h, w) in [0, 1]; what is transparent is seen over grey.
        unit: what it shows, an objective.
        views: the transforms through which its maker looks again.
        recipe: how it was made.
    """

    name: str
    image: Tensor
    unit: Any
    views: Any
    recipe: fv.Recipe

    @property
    def placed(self) -> bool:
        """Whether the unit is about places, which are others in a picture of another size or in other views."""
        return _is_placed(self.unit)


def pictures_of(
    found: fv.Rendering | str | Path | Sequence[str | Path], own: Mapping[str, Any] | None = None
) -> Iterator[Subject]:
    """Go through the pictures of a rendering, or of files.

    Raises:
        RecipeError: a file holds no recipe, or one that names a file that has changed, or what is not given in `own`.
        SettingError: a file shows several pictures, or one shows no unit of a network.
        OutputError: a file cannot be read.
    """
    names = VALUES | dict(own or {})
    for name, image, recipe in _rendered(found) if isinstance(found, fv.Rendering) else _read(found):
        unit = _unit(recipe, names)
        recipe.check_files(unit)
        seen = image if len(image) == _channels(recipe) else GREY + image[-1:] * (image[:-1] - GREY)
        yield Subject(name, seen, unit, _views(recipe, unit, names), recipe)


def _channels(recipe: fv.Recipe) -> int:
    return len(recipe.input["mean"])


def _rendered(rendering: fv.Rendering) -> Iterator[tuple[str, Tensor, fv.Recipe]]:
    for i, image in enumerate(rendering.images):
        which = rendering.recipe if rendering.recipe.picture is not None else rendering.recipe.only(i)
        yield rendering.names[i], image, which


def _read(files: str | Path | Sequence[str | Path]) -> Iterator[tuple[str, Tensor, fv.Recipe]]:
    for file in _files([files] if isinstance(files, str | Path) else files):
        recipe = fv.Recipe.of(file)
        if recipe.picture is None and len(recipe.seeds) > 1:
            raise fv.SettingError(f"{file} is a sheet of {len(recipe.seeds)}; save a folder, and judge the files in it")
        alpha = recipe.param.startswith("Alpha(")
        image = torch.from_numpy(read_image(file, 4 if alpha else _channels(recipe)))
        image = image[[0, -1]] if alpha and _channels(recipe) == 1 else image  # grey
        yield Path(file).stem, image, recipe if recipe.picture is not None else recipe.only(0)


def _files(given: Sequence[str | Path]) -> Iterator[str | Path]:
    for file in given:
        inside = sorted(Path(file).glob("*.png")) if Path(file).is_dir() else [file]
        if not inside:
            raise fv.OutputError(f"no PNG in {file}; give files that featviz saved, or their folder")
        yield from inside


def _views(recipe: fv.Recipe, unit: Any, names: Mapping[str, Any]) -> Any:
    """Return the default views; or those in which it was made, where other ones show other places."""
    if _is_placed(unit):
        with suppress(fv.RecipeError):  # a stack of other libraries' modules
            return parse_repr(recipe.transforms, names)
    near = param_traits_of(parse_repr(recipe.param, names)).close_views
    return fv.transforms.NEAR if near else fv.transforms.STANDARD


def _is_placed(unit: Any) -> bool:
    traits = traits_of(unit)
    return traits.depends_on_position or traits.needs_full_view


def _unit(recipe: fv.Recipe, names: Mapping[str, Any]) -> Any:
    """Find what a picture shows: the first unit that its objective asks for, or the whole of it."""
    each = len(recipe.seeds) // len(recipe.objectives)
    which, place = divmod(recipe.picture or 0, each)
    whole = parse_repr(recipe.objectives[which], names)
    unit = whole.shown_unit(place / max(1, each - 1)) if isinstance(whole, fv.objectives.Objective) else None
    if unit is None and traits_of(whole).compares_images:
        raise fv.SettingError(f"{whole} compares pictures of a batch and names no unit to look for; judge others")
    return whole if unit is None else unit
