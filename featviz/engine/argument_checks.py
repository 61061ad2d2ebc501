"""Checks of arguments of public functions, and which check an argument has by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from featviz.checks import as_whole, check_flag, check_number, check_size, check_text
from featviz.engine.presets import find_preset
from featviz.engine.recipe import Recipe
from featviz.errors import SettingError, shown
from featviz.network import Execution, Network

Check = Callable[[str, Any], object]
"""Check of an argument, given its name and value. Raises `SettingError`."""
MAX_STEPS = MAX_CLASSES = 1_000_000
"""Largest number of steps, of frames of a video, and of classes."""
MAX_NAME_BYTES = 255
"""Longest name of a file or folder that file systems allow."""


def unchecked(_name: str, _value: Any) -> None:
    """Check nothing."""


def _network(name: str, value: Any) -> None:
    if not isinstance(value, Network):
        made = "use fv.load(name), or fv.Network(module, size=..., mean=..., std=...)"
        raise SettingError(f"{name} must be a Network, got {type(value).__name__}; {made}")


def check_network_or_name(name: str, value: Any) -> None:
    """Check that a value is a network, or text that names one.

    Raises:
        SettingError: It is not.
    """
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
    """Check that a value is a path.

    Raises:
        SettingError: It is not, or names a file that no file system allows.
    """
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
    """Check that a value is a layer, by name or as a module, or a sequence of them.

    Raises:
        SettingError: It is not.
    """
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
    with suppress(SettingError):
        as_whole("number", value)
        return True
    return False
