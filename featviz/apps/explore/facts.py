"""Metadata of an image, and the Python call and the command that reproduce it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import featviz as fv
from featviz.apps.dream.settings import DreamSettings
from featviz.apps.explore.about import param_name, transforms_name
from featviz.apps.replay import RECIPE_NAMES
from featviz.engine import parse_repr
from featviz.errors import FeatvizError
from featviz.io import EXPLAINED_KEY, read_report, slug
from featviz.network import DEFAULT_WEIGHTS, OUTPUT, RANDOM_WEIGHTS, InputSpec
from featviz.objectives import parse

STAND_IN = "start.png"
"""Name in calls and commands for a start image that is in no file, such as a crop of an uploaded photograph."""


def facts_of(network: fv.Network, name: str, data: bytes, seconds: float | None) -> dict[str, Any]:
    """Return what is known about an image.

    Args:
        network: The network.
        name: Id of the image.
        data: Its file.
        seconds: How long it took; `None` if that is unknown.

    Returns:
        What it shows, its recipe and scores, and how to make it again. A map over a photograph has no recipe.
    """
    report = read_report(data)
    history = report.get("history") or [None]
    facts = {
        "id": name,
        "score": report.get("score", history[-1]),
        "robustness": report.get("robustness"),
        "history": report.get("history", []),
        "seconds": None if seconds is None else round(seconds, 3),
    }
    try:
        recipe = fv.Recipe.of(data).alone
    except FeatvizError:
        return facts | {"objective": None, "python": None, "command": None, "recipe": report.get(EXPLAINED_KEY)}
    text = _text(recipe)
    write = _Dream(network, recipe, text) if recipe.dream is not None else _Render(network, recipe, text)
    return facts | {
        "objective": text,
        "size": list(recipe.size),
        "steps": recipe.steps,
        "seed": recipe.seeds[recipe.index or 0],
        "param": None if recipe.dream is not None else param_name(recipe),
        "transforms": None if recipe.dream is not None else transforms_name(recipe),
        "python": write.python(),
        "command": write.command(),
        "recipe": json.loads(recipe.to_json()),
    }


def _text(recipe: fv.Recipe) -> str:
    """Return the objective of a recipe as text that parses again; its repr where there is no such text."""
    shown = recipe.objectives[0]
    try:
        objective = parse_repr(shown, RECIPE_NAMES)
        text = str(objective)
        return text if repr(parse(text)) == shown else shown
    except FeatvizError:
        return shown


def changes_of(network: fv.Network) -> dict[str, Any]:
    """Return the arguments of `fv.load` besides model and weights with which a network is loaded as it is.

    Args:
        network: A network with a name.
    """
    own, spec = _own_input(network.name), network.input
    same = InputSpec(spec.size, spec.mean, spec.std) if own is None else own
    found: dict[str, Any] = {}
    for name, value in vars(spec).items():
        is_needed = own is None and name in ("size", "mean", "std")  # a factory may return a bare module
        if is_needed or value != getattr(same, name):
            found["input_size" if name == "size" else name] = value
    if network.head != OUTPUT:
        found["head"] = network.head
    if isinstance(network.outputs, str):
        found["outputs"] = network.outputs
    return found | ({"smooth_pools": True} if network.smooth_pools else {})


@lru_cache
def _own_input(model: str) -> InputSpec | None:
    """Return the input specification of a model; `None` for one whose loading runs the user's code or downloads."""
    if ":" in model or model.startswith("open_clip/"):
        return None
    return fv.load(model, weights=RANDOM_WEIGHTS, device="cpu").input


class _Render:
    """Writes the call and the command of a render, without default settings."""

    def __init__(self, network: fv.Network, recipe: fv.Recipe, text: str) -> None:
        self.network, self.recipe, self.text = network, recipe, text
        self.file = f"{slug(text)}.png"

    def settings(self) -> dict[str, Any]:
        """Return the further arguments, by name."""
        recipe = self.recipe
        height, width = recipe.size
        found: dict[str, Any] = {"size": height if height == width else (height, width), "steps": recipe.steps}
        if recipe.seeds[0]:
            found["seed"] = recipe.seeds[0]
        if len(recipe.seeds) > 1:
            found["batch"] = len(recipe.seeds)
        param = param_name(recipe)
        if param != "fourier":
            found["param"] = param or recipe.param
        transforms = transforms_name(recipe)
        if transforms != "standard":
            found["transforms"] = transforms or recipe.transforms
        if recipe.start is not None:
            found["start"] = STAND_IN if recipe.start == fv.Recipe.TENSOR else recipe.start
        return found

    def python(self) -> str:
        """Return the lines of Python that render the image."""
        settings = self.settings()
        note = f"  # {STAND_IN}: the photograph, cropped" if settings.get("start") == STAND_IN else ""
        given = "".join(f", {name}={value!r}" for name, value in settings.items())
        return f"{self._network()}\nfv.render(net, {self.text!r}{given}).save({self.file!r}){note}"

    def command(self) -> str | None:
        """Return the command that renders the image; `None` for a network that has no name."""
        return self._command("render", [self.text], self.settings())

    def _network(self) -> str:
        """Return the lines of Python that load the network."""
        name, weights = self.network.name, self.network.weights
        if not name:
            return "import featviz as fv\n\nnet = fv.Network(...)  # your own network"
        changed = {} if weights in (None, DEFAULT_WEIGHTS) else {"weights": weights}
        changed |= changes_of(self.network)
        given = "".join(f", {key}={value!r}" for key, value in changed.items())
        attached = [(layer, each.file) for layer, each in self.network.dictionaries.items() if each.file]
        features = "".join(f".with_dictionary({layer!r}, {file!r})" for layer, file in attached)
        return f"import featviz as fv\n\nnet = fv.load({name!r}{given}){features}"

    def _command(self, command: str, words: list[str], settings: dict[str, Any]) -> str | None:
        if not self.network.name:
            return None
        if self.network.name != "motifnet":
            words += ["--model", self.network.name]
        if self.network.weights not in (None, DEFAULT_WEIGHTS):
            words += ["--weights", str(self.network.weights)]
        for name, value in changes_of(self.network).items():
            joint = "x" if name == "input_size" else ","
            text = joint.join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
        for layer, each in self.network.dictionaries.items():
            words += ["--dictionary", f"{each.file}@{layer}"] if each.file else []
        for name, value in settings.items():
            text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
        return shlex.join(["featviz", command, *words, "-o", self.file])


class _Dream(_Render):
    """Writes the call and the command of a dream."""

    def settings(self) -> dict[str, Any]:
        """Return the settings that are not the default, by name."""
        defaults = asdict(DreamSettings())
        changed = {name: value for name, value in (self.recipe.dream or {}).items() if value != defaults.get(name)}
        return changed | ({"seed": self.recipe.seeds[0]} if self.recipe.seeds[0] else {})

    def python(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.settings().items())
        call = f"fv.dream(net, {str(self.recipe.start)!r}, {self.text!r}{given})"
        return f"{self._network()}\n{call}.save({self.file!r})"

    def command(self) -> str | None:
        settings = {name: value for name, value in self.settings().items() if value is not True}
        flags = [f"--{name.replace('_', '-')}" for name, value in self.settings().items() if value is True]
        return self._command("dream", [str(self.recipe.start), self.text, *flags], settings)
