"""Render an image again from its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from torch import nn

import featviz as fv
from featviz.apps.accentuate.settings import AccentuationSettings
from featviz.apps.dream.settings import DreamSettings
from featviz.engine import check_network_or_name, entry_point
from featviz.errors import warn
from featviz.interfaces import ProgressSource, Transforms
from featviz.io import Array, auto_bar, is_file, is_folder
from featviz.network import DEFAULT_WEIGHTS, RANDOM_WEIGHTS, index_of_class, is_on_this_machine, is_user_model
from featviz.param.inputs import InputParams
from featviz.transforms.inputs import InputTransforms

RECIPE_NAMES = {
    name: value
    for package in (fv.objectives, fv.optimizers, fv.param, fv.transforms)
    for name in package.__all__
    if isinstance(value := getattr(package, name), type)
} | {"Array": Array, "Execution": fv.Execution, "InputParams": InputParams, "InputTransforms": InputTransforms}
"""Classes that a recipe may name. There are no functions among them, so that a recipe can import or run nothing."""


@entry_point(any_axes=True, per_image=True, shows_images=True, checks={"network": check_network_or_name})
def replay(
    recipe: fv.Recipe | str | Path,
    *,
    network: fv.Network | str | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    own: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    dictionary: str | Path | None = None,
    transforms: Transforms | None = None,
    download: bool = False,
    progress: ProgressSource | None = auto_bar,
) -> fv.Rendering:
    """Render an image again from its recipe, byte-equal on the same CPU and versions.

    Warns (`FeatvizWarning`) where the device or a version differs, because the image may then differ slightly.

    Args:
        recipe: An image file that featviz saved, or the recipe in it.
        network: The network, or its name for `fv.load`; `None` for the name in the recipe. Needed where the network
            was made in Python or comes from a file of the user, because a recipe never runs code.
        weights: File of the weights, if it has moved; `None` for the one in the recipe.
        device: As for `fv.load`. Ignored for a `Network`.
        own: The user's own objectives, params and transforms that the recipe names, by name.
        start: File of the start image, if it has moved; `None` for the one in the recipe.
        dictionary: File of the dictionary whose features the image shows, if it has moved; `None` for the one in the
            recipe.
        transforms: All transforms, where the recipe's contain modules of other libraries; `None` for the recipe's.
        download: Whether the weights of a network that the recipe names may be downloaded.
        progress: As for `fv.render`.

    Returns:
        The image, its scores and its recipe.

    Raises:
        RecipeError: The file holds no recipe, a value of the user is missing in `own`, or the weights, the dictionary
            or the start image are missing or have changed, or have to be downloaded first.
        SettingError: `start` is given for an image that started from noise.
    """
    recipe = recipe if isinstance(recipe, fv.Recipe) else fv.Recipe.of(recipe)
    recipe = _with_start(recipe, start)
    if not isinstance(network, fv.Network):
        network = load_recipe_network(recipe, weights, device, network, download=download)
    check_weights(network, recipe)
    network = with_recipe_dictionaries(network, recipe, dictionary)
    arguments = recipe.arguments(names_with(own), transforms)
    recipe.check_classes(network.heads, *arguments["objective"])
    if recipe.dream is not None:
        rendering = _dream(network, recipe, arguments, progress)
    elif recipe.accentuation is not None:
        rendering = _accentuate(network, recipe, arguments, progress)
    else:
        rendering = fv.render(network, **arguments, progress=progress)
    if rendering.recipe.start_fingerprint != recipe.start_fingerprint:
        raise fv.RecipeError(
            f"the image was rendered from {recipe.start}, whose content has changed; "
            "give the original file with --start, or start="
        )
    _warn_of_differences(recipe.machine, rendering.recipe.machine)
    rendering = rendering.inputs[recipe.part] if recipe.part else rendering
    rendering = rendering if recipe.index is None else rendering[recipe.index]
    return rendering if recipe.shown is None else rendering.at(recipe.shown)


def names_with(own: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values that a recipe may name: those of featviz, and the user's own.

    Args:
        own: The user's own by name. Recipes name a module by its class, so modules have that name, too.
    """
    given = dict(own or {})
    return RECIPE_NAMES | {type(each).__name__: each for each in given.values() if isinstance(each, nn.Module)} | given


def check_weights(network: fv.Network, recipe: fv.Recipe) -> None:
    """Check that a network has the weights with which an image was rendered.

    Raises:
        RecipeError: The network has other weights, or optimises other inputs.
    """
    check_given(network, recipe)
    if list(network.inputs.items()) != list(recipe.inputs):  # packed images depend on the order
        then, now = (" and ".join(map(repr, some)) or "one input" for some in (dict(recipe.inputs), network.inputs))
        now = "other specifications of them" if then == now else now
        raise fv.RecipeError(
            f"the image was rendered with {then} optimised, and {network.label} has {now}; give the original network "
            "with --model, or network="
        )
    if network.fingerprint != recipe.fingerprint:
        raise fv.RecipeError(
            f"the image was rendered with weights {recipe.fingerprint}, {network.label} has {network.fingerprint}; "
            "give the original network with --weights or --model"
        )


def check_given(network: fv.Network, recipe: fv.Recipe) -> None:
    """Check that a network gets the inputs with which an image was rendered, beside the optimised ones.

    Raises:
        RecipeError: It gets others.
    """
    for name in {**recipe.given, **network.given}:
        rows, then, content = recipe.given.get(name, ("", "nothing", ""))
        here = network.given.get(name)
        if here is None or (here.rows, here.fingerprint) != (rows, content):
            now = "nothing" if here is None else here.shown
            same = f"other values, {now}," if now == then else now
            raise fv.RecipeError(
                f"the image was rendered with {then} as the input {name!r}, and {network.label} gets {same} here; give "
                f"the original network with --model, or net.with_given({{{name!r}: ...}}) as network="
            )


def with_recipe_dictionaries(network: fv.Network, recipe: fv.Recipe, moved: str | Path | None = None) -> fv.Network:
    """Return a network with the dictionaries whose features an image shows.

    Args:
        network: The network. It may have them already.
        recipe: Recipe of the image.
        moved: File of the dictionary, if it has moved; `None` for the one in the recipe.

    Raises:
        RecipeError: One is missing or has other content.
    """
    for layer, (file, fingerprint) in recipe.dictionaries.items():
        attached = network.dictionaries.get(layer)
        if attached is not None and attached.fingerprint == fingerprint and moved is None:
            continue
        path = file if moved is None else str(moved)
        if not path:
            raise fv.RecipeError(
                f"the image was rendered with a dictionary made in Python; attach it: "
                f"network=net.with_dictionary({layer!r}, ...)"
            )
        if not is_file(path) and not is_folder(path):
            raise fv.RecipeError(
                f"the image was rendered with the dictionary {path} at layer {layer!r}, which is missing; "
                "give its file with --dictionary, or dictionary="
            )
        found = fv.Dictionary.load(path)
        if found.fingerprint != fingerprint:
            raise fv.RecipeError(
                f"the image was rendered with a dictionary {fingerprint} at layer {layer!r}, {path} is "
                f"{found.fingerprint}; give the original file with --dictionary, or dictionary="
            )
        network = network.with_dictionary(layer, found)
    return network


def network_key(recipe: fv.Recipe) -> str:
    """Return what `load_recipe_network` reads of a recipe: recipes with the same text have the same network."""
    read = (recipe.model, recipe.weights, recipe.input, recipe.inputs, recipe.head, recipe.outputs)
    return repr((*read, recipe.smooth_pools, recipe.texts))


def load_recipe_network(
    recipe: fv.Recipe,
    weights: str | Path | None = None,
    device: str = "auto",
    model: str | None = None,
    *,
    download: bool = False,
) -> fv.Network:
    """Load the network of a recipe, without running code that the recipe names, or downloading what it names.

    Args:
        recipe: Recipe of an image.
        weights: File of the weights, if it has moved; `None` for the one in the recipe.
        device: As for `fv.load`.
        model: Name for `fv.load`, given by the user, which may be a file of the user; `None` for the recipe's.
        download: Whether weights may be downloaded that only the recipe names.

    Returns:
        The network, with the input specification of the recipe.

    Raises:
        RecipeError: The network was made in Python or comes from a file of the user, or the weights are missing or have
            to be downloaded.
    """
    if model is None and (not recipe.model or is_user_model(recipe.model)):
        origin = f"is the user's own {recipe.model!r}" if recipe.model else "was made in Python"
        raise fv.RecipeError(
            f"the image's network {origin}, and a recipe never runs code; "
            "give the network with --model path/to/file.py:factory, or network= in Python"
        )
    weights = weights or recipe.weights or DEFAULT_WEIGHTS
    if weights == recipe.weights and weights not in (DEFAULT_WEIGHTS, RANDOM_WEIGHTS) and not is_file(weights):
        raise fv.RecipeError(f"the image's weights file {weights} is missing; give it with --weights")
    if model is None and not download and not is_on_this_machine(recipe.model, weights):
        raise fv.RecipeError(
            f"the image was rendered with {recipe.model}, whose weights are not on this machine; "
            "add --download to get them, or give --weights FILE (download=True or weights= in Python)"
        )
    spec = dict(vars(recipe.input)) if not recipe.inputs else {}  # a network with several inputs has its own
    size = spec.pop("size", None)
    network = fv.load(
        model or recipe.model,
        weights=weights,
        device=device,
        input_size=size,
        **spec,
        classes=recipe.texts or None,
        head=recipe.head or None,
        outputs=recipe.outputs,
        smooth_pools=recipe.smooth_pools,
    )
    known = network.heads.get("")
    if known is None or recipe.texts:
        return network
    # Names that were given beside the network, as with --classes, are in the recipe only.
    lacking = {index: name for name, index in recipe.classes.items() if index_of_class(name, known) is None}
    return network.with_classes(dict(enumerate(known)) | lacking) if lacking else network


def _with_start(recipe: fv.Recipe, start: str | Path | None) -> fv.Recipe:
    """Return the recipe with the start image at its new path, and check that the file exists."""
    if start is not None:
        if recipe.start is None:
            raise fv.SettingError(f"the image started from noise, so start must be left out, got {start}")
        recipe = replace(recipe, start=str(start))
    if recipe.start is not None and not is_file(recipe.start):  # `Recipe.TENSOR` is not a file either
        raise fv.RecipeError(
            f"the image was rendered from {recipe.start}, which is missing; give its file with --start, or start="
        )
    return recipe


def _dream(
    network: fv.Network, recipe: fv.Recipe, arguments: Mapping[str, Any], progress: ProgressSource | None
) -> fv.Rendering:
    """Render a dream from its recipe; `arguments` are those of `fv.render`."""
    settings = dict(recipe.dream or {})
    _check_settings("dream", settings, DreamSettings)
    return fv.dream(
        network,
        str(recipe.start),
        arguments["objective"][0],
        **settings,
        seed=recipe.seeds[0],
        until=recipe.until,
        execution=arguments["execution"],
        progress=progress,
    )


def _accentuate(
    network: fv.Network, recipe: fv.Recipe, arguments: Mapping[str, Any], progress: ProgressSource | None
) -> fv.Rendering:
    """Accentuate a photograph from its recipe; `arguments` are those of `fv.render`."""
    settings = dict(recipe.accentuation or {})
    _check_settings("accentuate", settings, AccentuationSettings)
    return fv.accentuate(
        network,
        str(recipe.start),
        arguments["objective"][0],
        **settings,
        seed=recipe.seeds[0],
        until=recipe.until,
        progress=progress,
    )


def _check_settings(function: str, settings: Mapping[str, Any], kind: type) -> None:
    """Check the names and types of the settings that a recipe has for a function; their ranges are checked there.

    Args:
        function: `"dream"` or `"accentuate"`.
        settings: The settings in the recipe.
        kind: The dataclass of its settings.

    Raises:
        RecipeError: The function has no such setting, or the value has another type.
    """
    defaults = {field.name: field.default for field in fields(kind)}
    for name, value in settings.items():
        if name not in defaults or not _has_type_of(value, defaults[name]):
            raise fv.RecipeError(
                f"the recipe cannot be read, as fv.{function} has no setting {name}={value!r}; was the file changed?"
            )


def _has_type_of(value: Any, default: Any) -> bool:
    """Return whether a value has the type of a default; the default `None` stands for text or `None`."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, str) or default is None:
        return isinstance(value, str) or value is default
    return isinstance(value, Integral if isinstance(default, int) else Real)


def _warn_of_differences(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn where the versions, the device or the number of threads differ from those of the original render."""
    changed = [f"{key} was {then.get(key)}, is {value} here" for key, value in now.items() if then.get(key) != value]
    if changed:
        warn(f"the image may differ slightly: {'; '.join(changed)}")
