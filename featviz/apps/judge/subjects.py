"""The images to judge, and the unit that each of them shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from torch import Tensor

import featviz as fv
from featviz.apps.replay import names_with
from featviz.apps.shared.arguments.targets import Target, as_targets
from featviz.apps.shared.rendering.stored_images import IMAGES_FOLDER
from featviz.engine import parse_repr
from featviz.errors import shown
from featviz.interfaces import ObjectiveLike, Size, Transforms, param_traits_of, traits_of
from featviz.io import (
    GivenImage,
    is_folder,
    load_given_image,
    load_given_images,
    open_image,
    pillow_pixels,
    separate_images,
)
from featviz.objectives import as_objective

BACKGROUND = 0.5
"""Grey behind transparent parts, in [0, 1]."""

Judgeable = fv.Rendering | GivenImage
"""Input of a judge: an image file or a folder. Recipes in the files name the target, unless one is given."""
_NamedImage = tuple[str, Tensor, fv.Recipe]


@dataclass(frozen=True, eq=False)
class Subject:
    """An image to judge.

    Args:
        name: Its name.
        image: In [0, 1]; transparent parts are over grey.
        unit: What it shows.
        transforms: The transforms with which its own network scores it again.
        size: Height and width in px at which it was rendered.
        recipe: Its recipe; `None` if it has none.
    """

    name: str
    image: Float[Tensor, "c h w"]
    unit: ObjectiveLike
    transforms: Transforms
    size: Size
    recipe: fv.Recipe | None

    @property
    def depends_on_position(self) -> bool:
        """Whether the unit is about positions, which other sizes and transforms would change."""
        return _depends_on_position(self.unit)


def load_subjects(images: Judgeable | Sequence[Judgeable], own: Mapping[str, Any] | None = None) -> Iterator[Subject]:
    """Load the images of a rendering or of files, with what each one shows.

    Args:
        images: Renderings, image files that featviz saved with one image each, Pillow images opened from such files, or
            folders of them; one of these, or a sequence.
        own: The user's own objectives and params that the recipes name, by name.

    Yields:
        One subject per image.

    Raises:
        RecipeError: A file holds no recipe, or its recipe names a file that has changed or a value missing in `own`.
        SettingError: A file is a contact sheet, or an image shows no unit of a network.
        OutputError: A file cannot be read, or a folder holds no PNG.
    """
    names = names_with(own)
    for name, image, recipe in _named_images(images):
        unit = _shown_unit(recipe, names)
        recipe.check_files(unit)
        if len(image) != _channels(recipe):  # the last channel is alpha
            image = BACKGROUND + image[-1:] * (image[:-1] - BACKGROUND)
        yield Subject(name, image, unit, _transforms(recipe, unit, names), recipe.size, recipe)


def subjects_of_targets(
    images: Judgeable | Sequence[Judgeable], targets: Target | Sequence[Target], channels: int
) -> Iterator[Subject]:
    """Load images whose targets are given, from wherever they come. Recipes are not read.

    Args:
        images: Renderings, files, folders, Pillow images, arrays or tensors; one of these, a batch, or a sequence.
        targets: What the images show: one target for all of them, or one for each.
        channels: Number of input channels of the networks.

    Yields:
        One subject per image.

    Raises:
        AddressError: A target cannot be parsed.
        SettingError: There is not one target for each image, or an image has another shape or range.
        OutputError: A file cannot be read, or a folder holds no image.
    """
    listed = separate_images(images)
    loaded: list[tuple[str, Float[Tensor, "c h w"]]] = []
    for i, each in enumerate([images] if listed is None else listed):
        if isinstance(each, fv.Rendering):
            pixels = [load_given_image(image, channels) for image in each.images]
            loaded += zip(each.names, pixels, strict=True)
        else:
            name = Path(each).stem if isinstance(each, str | Path) else f"image {i}"
            loaded += [(name, image) for image in load_given_images(each, channels)]
    for (name, image), unit in zip(loaded, as_targets(targets, len(loaded)), strict=True):
        yield Subject(name, image, unit, fv.transforms.STANDARD, (image.shape[1], image.shape[2]), None)


def _channels(recipe: fv.Recipe) -> int:
    """Return the number of channels of the input that is shown."""
    return recipe.spec.channels


def _from_rendering(rendering: fv.Rendering) -> Iterator[_NamedImage]:
    for i, image in enumerate(rendering.images):
        recipe = rendering.recipe if rendering.recipe.index is not None else rendering.recipe.only(i)
        yield rendering.names[i], image, recipe


def _named_images(images: Judgeable | Sequence[Judgeable]) -> Iterator[_NamedImage]:
    listed: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
    for each in listed:
        if isinstance(each, fv.Rendering):
            yield from _from_rendering(each)
        elif isinstance(each, Image):
            name = str(each.filename) if isinstance(each, ImageFile) else "image"
            yield _from_picture(each, name, fv.Recipe.of(each))
        elif not isinstance(each, str | Path) or each == "":
            raise fv.SettingError(
                f"images must be files that featviz saved, got {shown(each)}; of others, give a target"
            )
        else:
            for file in _png_files(each):
                with open_image(file) as picture:
                    yield _from_picture(picture, str(file), fv.Recipe.of(file))


def _from_picture(picture: Image, name: str, recipe: fv.Recipe) -> _NamedImage:
    """Return the name, the image and the recipe of a PNG."""
    if recipe.index is None and len(recipe.seeds) > 1:
        raise fv.SettingError(
            f"each file must show one image, {name} is a contact sheet of {len(recipe.seeds)}; "
            "save to a folder and judge the files in it"
        )
    has_alpha = picture.mode == "RGBA"
    image = torch.from_numpy(pillow_pixels(picture, 4 if has_alpha else _channels(recipe)))
    if has_alpha and _channels(recipe) == 1:
        image = image[[0, -1]]  # grey is stored three times in an RGBA file
    return Path(name).stem, image, recipe if recipe.index is not None else recipe.only(0)


def _png_files(path: str | Path) -> list[Path]:
    """Return a file, or the PNGs of a folder; of a folder that `gallery` wrote, those of its images."""
    if not is_folder(path):
        return [Path(path)]
    files = sorted(Path(path).glob("*.png")) or sorted(Path(path, IMAGES_FOLDER).glob("*.png"))
    if not files:
        raise fv.OutputError(f"no PNG in {path}; give files that featviz saved, or a folder of them")
    return files


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
    objective = as_objective(parse_repr(recipe.objectives[which], names))
    unit: ObjectiveLike | None = None
    if isinstance(objective, fv.objectives.Objective):
        unit = objective.shown_unit(position / max(1, batch - 1))
    if unit is None and traits_of(objective).compares_images:
        raise fv.SettingError(
            f"{objective} compares the images of a batch and names no unit to recognise; judge other images"
        )
    return objective if unit is None else unit
