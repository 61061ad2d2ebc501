"""Entry of every public function: check arguments by name, choose a progress bar, enter a neutral state."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, overload

import numpy as np
from torch import Tensor, nn

from featviz.checks import as_whole, check_flag, check_number, check_size, check_text
from featviz.engine.pictures import pictures_of
from featviz.engine.presets import find_preset
from featviz.engine.recipe import Recipe
from featviz.errors import SettingError, shown
from featviz.interfaces import Progress
from featviz.io import LiveImages, auto_bar, default_progress, has_matplotlib, named_progress
from featviz.network import Execution, Network, neutral_state

MAX_STEPS = MAX_CLASSES = 1_000_000
"""Largest number of steps, of frames of a video, and of classes."""
MAX_NAME_BYTES = 255
"""Longest name of a file or folder that file systems allow."""


class _Calls(threading.local):
    """Nesting depth of public functions, per thread."""

    depth = 0


_calls = _Calls()
P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[str, Any], object]
"""Check of an argument, given its name and value. Raises `SettingError`."""


@dataclass(frozen=True)
class EntryPoint:
    """Kinds of networks and arguments that a public function accepts.

    Args:
        name: Its name in messages: that of its command or option.
        reads_text: Whether it accepts a network that reads text.
        any_axes: Whether it accepts a network that reads signals, volumes or video.
        per_image: Whether it accepts a network with inputs that are given per image, or with several optimised inputs.
        shows_images: Whether it gives its images to an `ImageProgress`.
        checks: Checks of arguments for which those in `CHECKS` do not suit.
    """

    name: str
    reads_text: bool = False
    any_axes: bool = False
    per_image: bool = False
    shows_images: bool = False
    checks: Mapping[str, Check] = field(default_factory=dict)


@overload
def entry_point(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def entry_point(
    *,
    name: str = "",
    reads_text: bool = False,
    any_axes: bool = False,
    per_image: bool = False,
    shows_images: bool = False,
    checks: Mapping[str, Check] = MappingProxyType({}),
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def entry_point(function: Callable[..., Any] | None = None, /, *, name: str = "", **accepted: Any) -> Any:
    """Check the arguments of a public function by their names, and run it in PyTorch's neutral state.

    A default progress bar is shown by the outermost call only, in terminals and notebooks. `"live"` and `"bar"` are
    replaced by a progress callback.

    Numbers of numpy are converted to those of Python. An argument whose default is `None` may be `None`. Arguments
    without an entry in `CHECKS` are left to the function.

    Args:
        function: A public function that works on images, if the decorator has no arguments.
        name: Name of the function in messages; empty for that in Python.
        **accepted: Further fields of `EntryPoint`.

    Returns:
        The same function, which raises `SettingError` for an invalid argument. Its attribute `entry_point` is the
        `EntryPoint`.
    """
    if function is None:
        return functools.partial(_checked, name=name, accepted=accepted)
    return _checked(function, name="", accepted={})


def _checked(function: Callable[P, R], *, name: str, accepted: Mapping[str, Any]) -> Callable[P, R]:
    """Return a function that checks its arguments first. See `entry_point`."""
    entry = EntryPoint(name or function.__name__, **accepted)
    signature = inspect.signature(function)
    checks = {each: CHECKS[each] for each in signature.parameters if each in CHECKS} | dict(entry.checks)
    automatic = {each for each, parameter in signature.parameters.items() if parameter.default is auto_bar}
    kinds = {parameter.kind: each for each, parameter in signature.parameters.items()}
    further = kinds.get(inspect.Parameter.VAR_KEYWORD, "")

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = tuple(map(_to_python, args)), {key: _to_python(each) for key, each in kwargs.items()}  # type: ignore
        given = signature.bind(*args, **kwargs).arguments
        for key, value in given.get(further, {}).items():
            if key in CHECKS and value is not None:
                CHECKS[key](key, value)
        for key, check in checks.items():
            if key in given and not (given[key] is None and signature.parameters[key].default is None):
                check(key, given[key])
                if isinstance(given[key], Network):
                    _check_accepted(entry, given[key])
        progress = {key: _own_progress(entry, key, given) for key in automatic}
        shown = {key: each for key, each in progress.items() if key not in given or each is not given[key]}
        for each in progress.values():
            _draw_data(each, given.get("network"))
        kwargs.update(shown)  # type: ignore[arg-type]
        _calls.depth += 1
        try:
            with neutral_state():
                return function(*args, **kwargs)
        finally:
            _calls.depth -= 1
            for each in shown.values():
                if isinstance(each, LiveImages):
                    each.close()

    run.entry_point = entry  # type: ignore[attr-defined]
    return run


def _to_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.bool_ | np.integer | np.floating) else value


def _check_accepted(entry: EntryPoint, network: Network) -> None:
    """Check that a public function works on a network.

    Raises:
        SettingError: The network has several inputs, or some per image, or reads something else than images, and the
            function does not accept that.
    """
    if network.inputs and not entry.per_image:
        _, *others = network.inputs
        values = ", ".join(f"{name!r}: ..." for name in others)
        raise SettingError(
            f"{network.label} optimises {' and '.join(network.inputs)}, and {entry.name} works on one input; give a "
            f"value for {', '.join(map(repr, others))}: net.with_given({{{values}}})"
        )
    if network.tokens is not None and not entry.reads_text:
        raise SettingError(f"{network.label} reads text, and {entry.name} works on images; {FOR_TEXT}")
    if len(network.size) != 2 and not entry.any_axes:
        raise SettingError(
            f"{network.label} reads inputs of size {network.size}, and {entry.name} works on images, which have height "
            f"and width; {FOR_ANY_AXES}"
        )
    if network.given_per_image and not entry.per_image:
        own = ", ".join(network.given_per_image)
        raise SettingError(
            f"{network.label} has inputs per image ({own}), and {entry.name} needs them for all images; give one "
            "row with net.with_given(...)"
        )


def _own_progress(entry: EntryPoint, name: str, given: Mapping[str, Any]) -> Progress | None:
    """Return the progress callback of a call, which gives a callback, a name (`"bar"`, `"live"`) or nothing.

    Raises:
        SettingError: `"live"` is given, and the function has no images to show.
    """
    if name not in given:
        return None if _calls.depth else default_progress(entry.name, images=entry.shows_images)
    if given[name] == "live" and not entry.shows_images:
        raise SettingError(f'{name}="live" works in {FOR_LIVE} only; give {entry.name} "bar", or None')
    return named_progress(given[name], entry.name) if isinstance(given[name], str) else given[name]


def _draw_data(progress: Any, network: Any) -> None:
    """Draw live images of signals, volumes and video in a notebook with the same function as results.

    Several optimised inputs are packed into one tensor, which is not drawn.
    """
    if not isinstance(progress, LiveImages) or not isinstance(network, Network):
        return
    if network.tokens is None and not network.inputs:
        spec = network.input
        if spec.axes != "yx" and (spec.axes != "x" or has_matplotlib()):
            progress.draw_with(functools.partial(pictures_of, spec=spec))


def unchecked(_name: str, _value: Any) -> None:
    """Check nothing."""


def _network(name: str, value: Any) -> None:
    if not isinstance(value, Network):
        made = "use fv.load(name), or fv.Network(module, size=..., mean=..., std=...)"
        raise SettingError(f"{name} must be a Network, got {type(value).__name__}; {made}")


def check_network_or_name(name: str, value: Any) -> None:
    """Check that a value is a network, or text that names one."""
    if not isinstance(value, str):
        _network(name, value)


def _steps(name: str, value: Any) -> None:
    if as_whole(name, value) > MAX_STEPS:
        raise SettingError(f"{name} must be at most {MAX_STEPS}, got {shown(value)}")


def _whole_numbers(name: str, value: Any) -> None:
    listed = isinstance(value, list | tuple | set | np.ndarray | Tensor) and getattr(value, "ndim", 1) == 1
    if not isinstance(value, range) and not (listed and all(map(_is_whole, value))):
        raise SettingError(f"{name} must be a sequence of whole numbers, got {shown(value)}")


def _pan(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise SettingError(f"{name} must be two numbers, down and to the right, got {shown(value)} (default (0, 0))")
    for share in value:
        check_number(f"each number of {name}", share, at_least=-1, at_most=1)


def check_path(name: str, value: Any) -> None:
    """Check that a value is a path."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise SettingError(f"{name} must be a path, got {shown(value)}")
    try:
        lengths = [len(os.fsencode(part)) for part in Path(value).parts]
    except UnicodeEncodeError as error:
        raise SettingError(f"{name} must be a path, got {shown(value)}") from error
    if max(lengths, default=0) > MAX_NAME_BYTES:
        raise SettingError(f"{name} must be a path, got a name of more than {MAX_NAME_BYTES} bytes")


def check_path_or_none(name: str, value: Any) -> None:
    """Check that a value is a path or `None`."""
    if value is not None:
        check_path(name, value)


def _progress(name: str, value: Any) -> None:
    if value is not None and not callable(value) and not (isinstance(value, str) and value in ("live", "bar")):
        raise SettingError(f'{name} must be a function, "live", "bar" or None, got {shown(value)}')


def _names(name: str, value: Any) -> None:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple | set | frozenset) or not listed:
        raise SettingError(f"{name} must be a layer's name, or a sequence of them, got {shown(value)}")
    for each in listed:
        _name(name, each)


def _name(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise SettingError(f"{name} must be a layer's name, got {shown(value)}")


def check_layer(name: str, value: Any) -> None:
    """Check that a value is a layer, by name or as a module, or a sequence of them."""
    for each in value if isinstance(value, list | tuple) and value else [value]:
        if not isinstance(each, str | nn.Module):
            raise SettingError(f"{name} must be a layer, by name or as a module, got {shown(value)}")


def _classes(name: str, value: Any) -> None:
    several = isinstance(value, Collection) and not isinstance(value, str | bytes | nn.Module | Mapping)
    several = several and getattr(value, "ndim", 1) == 1  # an array of one number has no length
    if several and len(value) > MAX_CLASSES:
        raise SettingError(f"{name} must hold at most {MAX_CLASSES} names or indices, got {len(value)}")
    if not several or not all(isinstance(each, str) or _is_whole(each) for each in value):
        raise SettingError(f"{name} must be a sequence of class names or indices, got {shown(value)}")


def _one_class(name: str, value: Any) -> None:
    if not isinstance(value, str) and not _is_whole(value):
        raise SettingError(f"{name} must be a class name or index, got {shown(value)}")


def _pairs(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in value
    ):
        raise SettingError(f"{name} must be a sequence of pairs of classes, got {shown(value)}")
    for pair in value:
        _classes(name, pair)


def check_start(name: str, value: Any) -> None:
    """Check that a value is a path, or numbers of images."""
    if not isinstance(value, Tensor | np.ndarray):
        check_path(name, value)


def _recipe(name: str, value: Any) -> None:
    if not isinstance(value, Recipe | str | Path) or value == "":
        raise SettingError(f"{name} must be an image file that featviz saved, or a Recipe, got {shown(value)}")


def _execution(name: str, value: Any) -> None:
    if not isinstance(value, Execution):
        raise SettingError(f"{name} must be a featviz.Execution, got {shown(value)}")


def _quality(name: str, value: Any) -> None:
    check_text(name, value)
    find_preset(value)


def _mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise SettingError(f"{name} must be a dict of names and values, got {shown(value)}")


FOR_LIVE = "render, dream, replay, accentuate"
"""Functions that show images as they form, for a message."""
FOR_TEXT = "use explain, compare, attention or embeddings"
"""Functions that accept a network that reads text, for a message."""
FOR_ANY_AXES = "use blocks, dream, evidence, examples, explain, gallery, render, replay or sweep"
"""Functions that accept a network that reads signals, volumes or video, and are commands, for a message."""
CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(("network", "judge", "first", "second"), _network),
    **dict.fromkeys(("layers", "second_layers"), _names), "layer": check_layer, "classes": _classes,
    "only_class": _one_class, "size": check_size, "execution": _execution, "own": _mapping, "progress": _progress,
    "quality": _quality, "pan": _pan, "lr": check_number, "batch": as_whole, "pairs": _pairs, "recipe": _recipe,
    "scan_progress": _progress,
    **dict.fromkeys(("channels", "grids", "snapshots"), _whole_numbers),
    **dict.fromkeys(
        ("keep_color", "probability", "neurons", "negative", "download", "open_browser", "family", "opaque"),
        check_flag,
    ),
    **dict.fromkeys(
        ("octaves", "jitter", "laplacian", "top", "rest", "cells", "groups", "per_image",
         "per_class", "least", "diverse_images", "robustness_views", "seed", "port", "view", "views",
         "inputs", "depth", "crops"), as_whole,
    ),
    **dict.fromkeys(("steps", "until", "frames"), _steps),
    **dict.fromkeys(
        ("scale", "strength", "smooth", "zoom", "rotate", "carry", "elevation", "weight"), check_number
    ),
    **dict.fromkeys(("photographs", "output", "sweep", "source", "guide", "mask", "weights"), check_path),
    **dict.fromkeys(("start", "dictionary", "labels", "match", "mesh"), check_path),
}  # fmt: skip
"""Check of each argument, by name."""


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True
