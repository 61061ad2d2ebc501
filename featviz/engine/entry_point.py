"""Entry of every public function: check arguments by name, choose a progress bar, enter a neutral state."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, overload

import numpy as np

from featviz.engine.argument_checks import CHECKS, Check
from featviz.engine.pictures import pictures_of
from featviz.errors import SettingError
from featviz.interfaces import Progress
from featviz.io import LiveImages, auto_bar, default_progress, has_matplotlib, named_progress
from featviz.network import Network, neutral_state

FOR_LIVE = "render, dream, replay, accentuate"
"""Functions that show images as they form, for a message."""
FOR_TEXT = "use explain, compare, attention or embeddings"
"""Functions that accept a network that reads text, for a message."""
FOR_ANY_AXES = "use blocks, dream, evidence, examples, explain, gallery, render, replay or sweep"
"""Functions that accept a network that reads signals, volumes or video, and are commands, for a message."""


class _Calls(threading.local):
    """Nesting depth of public functions, per thread."""

    depth = 0


_calls = _Calls()
P = ParamSpec("P")
R = TypeVar("R")


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

    def check(given: Mapping[str, Any]) -> None:
        for key, value in given.get(further, {}).items():
            if key in CHECKS and value is not None:
                CHECKS[key](key, value)
        for key, check_one in checks.items():
            if key in given and not (given[key] is None and signature.parameters[key].default is None):
                check_one(key, given[key])
                if isinstance(given[key], Network):
                    _check_accepted(entry, given[key])

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = tuple(map(_to_python, args)), {key: _to_python(each) for key, each in kwargs.items()}  # type: ignore
        given = signature.bind(*args, **kwargs).arguments
        check(given)
        with _progress_of(entry, automatic, given) as progress, neutral_state():
            kwargs.update(progress)  # type: ignore[arg-type]
            return function(*args, **kwargs)

    run.entry_point = entry  # type: ignore[attr-defined]
    return run


@contextmanager
def _progress_of(entry: EntryPoint, names: Collection[str], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Make the progress callbacks of a call, and close live images at its end.

    Args:
        entry: The public function.
        names: Its arguments that are progress callbacks.
        given: The arguments that were given.

    Yields:
        The callbacks by argument, where none was given or only its name.
    """
    progress = {key: _own_progress(entry, key, given) for key in names}
    made = {key: each for key, each in progress.items() if key not in given or each is not given[key]}
    for each in progress.values():
        _draw_data(each, given.get("network"))
    _calls.depth += 1
    try:
        yield made
    finally:
        _calls.depth -= 1
        for each in made.values():
            if isinstance(each, LiveImages):
                each.close()


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
