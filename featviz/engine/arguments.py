"""Entry of every public function: check arguments by name, choose a progress bar, enter a neutral state."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

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


def entry_point(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a public function by their names, and run it in PyTorch's neutral state.

    Where it shows progress by default, only the outermost call does, and only in terminals and notebooks. `"live"` and
    `"bar"` are replaced by a progress callback.

    Numbers of numpy become those of Python. An argument whose default is `None` may be `None`. Arguments without an
    entry in `CHECKS` are left to the function.

    Args:
        function: A public function.

    Returns:
        The same function, which raises `SettingError` for an argument that cannot be right.
    """
    signature = inspect.signature(function)
    checks = {name: CHECKS[name] for name in signature.parameters if name in CHECKS}
    automatic = {name for name, each in signature.parameters.items() if each.default is auto_bar}
    checks |= OWN_CHECKS.get(function.__name__, {})
    further = next((name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD), "")

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = tuple(map(_to_python, args)), {name: _to_python(each) for name, each in kwargs.items()}  # type: ignore
        given = signature.bind(*args, **kwargs).arguments
        for name, value in given.get(further, {}).items():
            if name in CHECKS and value is not None:
                CHECKS[name](name, value)
        for name, check in checks.items():
            if name in given and not (given[name] is None and signature.parameters[name].default is None):
                check(name, given[name])
                if isinstance(given[name], Network):
                    _check_inputs(function.__name__, given[name])
                    _check_reads(function.__name__, given[name])
                    _check_given(function.__name__, given[name])
        progress = {name: _own_progress(function.__name__, name, given) for name in automatic}
        shown = {name: each for name, each in progress.items() if name not in given or each is not given[name]}
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

    return run


def _to_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.bool_ | np.integer | np.floating) else value


def _check_reads(function: str, network: Network) -> None:
    """Check that a public function works on what a network reads.

    Raises:
        SettingError: The network reads text, signals or volumes, and the function does not.
    """
    name = COMMANDS.get(function, function)
    if network.tokens is not None and function not in READ_TEXT:
        raise SettingError(f"{network.label} reads text, and {name} works on images; {USE}")
    if len(network.size) != 2 and function not in ANY_AXES:
        *most, last = sorted(ANY_AXES - {"score", "compare"})  # those that are commands, too
        raise SettingError(
            f"{network.label} reads inputs of size {network.size}, and {name} works on images, which have height "
            f"and width; use {', '.join(most)} or {last}"
        )


def _check_given(function: str, network: Network) -> None:
    """Check that a public function that makes batches of its own gets inputs that are the same for all images.

    Raises:
        SettingError: Inputs are given per image.
    """
    if network.given_per_image and function not in PER_IMAGE:
        own = ", ".join(network.given_per_image)
        raise SettingError(
            f"{network.label} has the input(s) {own} per image, and {function} needs them for all images; give one row "
            "with net.with_given(...)"
        )


def _check_inputs(function: str, network: Network) -> None:
    """Check that a public function that works on one input gets a network that optimises one.

    Raises:
        SettingError: It optimises several.
    """
    if network.inputs and function not in SEVERAL_INPUTS:
        _, *others = network.inputs
        values = ", ".join(f"{name!r}: ..." for name in others)
        raise SettingError(
            f"{network.label} optimises {' and '.join(network.inputs)}, and {function} works on one input; give a "
            f"value for {', '.join(map(repr, others))}: net.with_given({{{values}}})"
        )


def _own_progress(function: str, name: str, given: Mapping[str, Any]) -> Progress | None:
    """Return the progress callback of a call, which gives a callback, a name (`"bar"`, `"live"`) or nothing.

    Raises:
        SettingError: `"live"` is given, and the function has no images to show.
    """
    images = function in HAVE_IMAGES
    if name not in given:
        return None if _calls.depth else default_progress(function, images=images)
    if given[name] == "live" and not images:
        raise SettingError(f'{name}="live" works in {", ".join(HAVE_IMAGES)} only; give {function} "bar", or None')
    return named_progress(given[name], function) if isinstance(given[name], str) else given[name]


def _draw_data(progress: Any, network: Any) -> None:
    """Let images that form in a notebook be drawn as results are, where the network reads signals, volumes or video.

    Several optimised inputs are packed into one tensor, which is not drawn.
    """
    if not isinstance(progress, LiveImages) or not isinstance(network, Network):
        return
    if network.tokens is None and not network.inputs:
        spec = network.input
        if spec.axes != "yx" and (spec.axes != "x" or has_matplotlib()):
            progress.draw_with(functools.partial(pictures_of, spec=spec))


def _anything(_name: str, _value: Any) -> None:
    """Check nothing."""


def _network(name: str, value: Any) -> None:
    if not isinstance(value, Network):
        made = "use fv.load(name), or fv.Network(module, size=..., mean=..., std=...)"
        raise SettingError(f"{name} must be a Network, got {type(value).__name__}; {made}")


def _network_or_name(name: str, value: Any) -> None:
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


def _path(name: str, value: Any) -> None:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise SettingError(f"{name} must be a path, got {shown(value)}")
    try:
        lengths = [len(os.fsencode(part)) for part in Path(value).parts]
    except UnicodeEncodeError as error:
        raise SettingError(f"{name} must be a path, got {shown(value)}") from error
    if max(lengths, default=0) > MAX_NAME_BYTES:
        raise SettingError(f"{name} must be a path, got a name of more than {MAX_NAME_BYTES} bytes")


def _path_or_none(name: str, value: Any) -> None:
    if value is not None:
        _path(name, value)


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


def _layer(name: str, value: Any) -> None:
    for each in value if isinstance(value, list | tuple) and value else [value]:
        if not isinstance(each, str | nn.Module):
            raise SettingError(f"{name} must be a layer, by name or as a module, got {shown(value)}")


def _classes(name: str, value: Any) -> None:
    several = isinstance(value, Collection) and not isinstance(value, str | bytes | nn.Module | Mapping)
    several = several and getattr(value, "ndim", 1) == 1  # an array of one number has no length
    if several and len(value) > MAX_CLASSES:
        raise SettingError(f"{name} must be at most {MAX_CLASSES}, got {shown(value)}")
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


def _start(name: str, value: Any) -> None:
    if not isinstance(value, Tensor | np.ndarray):
        _path(name, value)


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


HAVE_IMAGES = ("render", "dream", "replay", "accentuate")
"""Public functions that give their images to an `ImageProgress`."""
READ_TEXT = frozenset(("attention", "compare", "embeddings", "explain"))
"""Public functions that accept a network that reads text."""
ANY_AXES = frozenset(
    ("blocks", "compare", "dream", "evidence", "examples", "explain", "gallery", "render", "replay", "score", "sweep")
)
"""Public functions that accept a network that reads signals, volumes or video."""
COMMANDS = {
    "match_units": "--match", "fit_dictionary": "dictionary", "from_photographs": "concept",
    "dream_video": "dream of a video", "dream_zoom": "dream --zoom",
}  # fmt: skip
"""Names on the command line of public functions that are called otherwise."""
PER_IMAGE = frozenset(("render", "replay", "score"))
"""Public functions that accept a network with inputs that are given per image."""
SEVERAL_INPUTS = PER_IMAGE
"""Public functions that accept a network with several optimised inputs."""
USE = "use explain, compare, attention or embeddings"
"""What to do instead."""
CHECKS: Mapping[str, Callable[[str, Any], object]] = {
    **dict.fromkeys(("network", "judge", "first", "second"), _network),
    **dict.fromkeys(("layers", "second_layers"), _names), "layer": _layer, "classes": _classes,
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
        ("scale", "strength", "smooth", "zoom", "rotate", "carry", "fps", "elevation", "weight"), check_number
    ),
    **dict.fromkeys(("photographs", "output", "path", "sweep", "source", "guide", "mask", "weights", "start"), _path),
    **dict.fromkeys(("dictionary", "labels", "match", "mesh"), _path),
}  # fmt: skip
"""Check of each argument, by name."""
OWN_CHECKS: Mapping[str, Mapping[str, Callable[[str, Any], object]]] = {
    "from_photographs": {"positive": _path, "negative": _path},
    "render": {"seed": _anything, "start": _start},  # checked by the job, which accepts more
    "circuit": {"source": _layer},
    "match_units": {"match": _path_or_none},
    "embeddings": {"source": _anything},  # a file, a network or a pair
    "judge": {"network": _network_or_name},
    "replay": {"network": _network_or_name},
}
"""Functions that accept something else under a name."""


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True
