"""Short forms of the arguments of `render`: names of values, a size, a quality preset, a learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch.nn import Module

from featviz import optimizers, transforms
from featviz import param as params
from featviz.checks import is_made
from featviz.engine.repr_parser import parse_value
from featviz.errors import SettingError, shown
from featviz.interfaces import Geometric, Optimizer, Param, Size, Spatial, Transform, Transforms, as_size
from featviz.network import InputSpec
from featviz.optimizers import Adam
from featviz.param.spectrum import default_decay

PARAM_METHODS = ("start", "fit", "images")
SPATIAL_METHODS = ("start", "fit", "canvas")


def as_param(
    param: Param | Spatial | str | None,
    size: int | Size | None = None,
    batch: int = 1,
    own: Mapping[str, Any] | None = None,
    *,
    spec: InputSpec | None = None,
    default_size: Size | None = None,
    starts: bool = False,
) -> Param:
    """Return a param from a param, the spatial part of one, or text.

    Args:
        param: The value, its name such as `"cppn"`, or its call such as `"Fourier(decay=1.5)"`; `None` for
            the default param of the input.
        size: Height and width in px, or one side; `None` for the param's own.
        batch: Number of images per objective; 1 for the param's own.
        own: Values of the user that text may name.
        spec: Input that the param is for; `None` for an image. A spatial part gets the colour part of its default
            param, and `Fourier()` its spectrum.
        default_size: Image size if neither `size` nor the param sets one; `None` for the network's input size.
        starts: Whether the render starts from a given signal, which may be quiet.

    Raises:
        SettingError: `param` is no param.
    """
    value = parse_value(param, params, own) if isinstance(param, str) else param
    default = params.Image() if spec is None else default_param(spec, starts=starts)
    value = default if value is None else value
    if not is_made(value, Param, Spatial):
        raise SettingError(f"{shown(value)} is not a param{_missing(value)}")
    if not isinstance(value, Param):
        value = default if value == params.Fourier() else replace(default, spatial=value)
    made = params.sized(value, None if size is None else as_size(size, 2 if spec is None else len(spec.size)), batch)
    return params.sized(made, default_size, 1) if made.size is None else made


def default_param(spec: InputSpec, *, starts: bool = False) -> params.Image:
    """Return the default param for the input of a network.

    Args:
        spec: The input.
        starts: Whether the render starts from a given signal, which may be quiet.
    """
    if spec.axes == "yx":
        return params.Image()
    decay = default_decay(len(spec.size), params.Fourier.decay)  # type: ignore[arg-type]
    if spec.axes == "tyx":
        return params.Image(spatial=params.Fourier((default_decay(1, 1.4), 1.4, 1.4)))
    standardized = params.Standardized(least=0) if starts else params.Standardized()
    color = standardized if spec.axes == "x" and _is_centred(spec) else params.Plain()
    return params.Image(spatial=params.Fourier(decay), color=color)


def _is_centred(spec: InputSpec) -> bool:
    """Return whether the mean of each channel is in the middle of the range of values."""
    return all(
        math.isclose(low + high, 2 * mean, abs_tol=1e-6)
        for mean, low, high in zip(spec.mean, *spec.bounds, strict=True)
    )


def _missing(value: object) -> str:
    """Return what an object lacks to be a param, and what to use instead."""
    spatial = hasattr(value, "canvas")
    needed = SPATIAL_METHODS if spatial else PARAM_METHODS
    lacking = [name for name in needed if not callable(getattr(value, name, None))]
    if len(lacking) != 1:
        return "; use e.g. param.Image(size=224) or a spatial part such as param.Pixel()"
    kind = "a spatial part" if spatial else "a param"
    return f": it lacks {lacking[0]}; {kind} needs {', '.join(needed[:-1])} and {needed[-1]}"


def as_transforms(
    given: Transforms | Transform | Geometric | str | None, own: Mapping[str, Any] | None = None
) -> Transforms | Transform | Geometric | None:
    """Return transforms from text, such as `"lucid"` or `"(Pad(8), Jitter(16))"`; anything else as it is.

    Args:
        given: The value, or text.
        own: Values of the user that text may name.

    Raises:
        SettingError: There is no such name.
        RecipeError: The text cannot be parsed.
    """
    return parse_value(given, transforms, own) if isinstance(given, str) else given


def as_optimizer(
    optimizer: Optimizer | str | None,
    lr: float | None = None,
    own: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Return an optimizer from an optimizer or text.

    Args:
        optimizer: The value, its name such as `"adam"`, or its call such as `"Ascent(lr=2.0)"`; `None` for Adam.
        lr: Initial learning rate of Adam; `None` for that of the optimizer.
        own: Values of the user that text may name.

    Raises:
        SettingError: There is no such optimizer, or `lr` is given for another one than Adam with its defaults.
        RecipeError: The text cannot be parsed.
    """
    optimizer = Adam() if optimizer is None else optimizer
    made = parse_value(optimizer, optimizers, own) if isinstance(optimizer, str) else optimizer
    if not is_made(made, Optimizer):
        raise SettingError(f"{shown(made)} is not an optimizer: it needs `begin`; use e.g. fv.optimizers.Adam()")
    if lr is None:
        return made
    if made != Adam():
        raise SettingError(f"lr needs the optimizer adam, got {made}; give the rate there, as in Ascent(lr=2.0)")
    return Adam(lr)


def transform_tuple(given: Any, where: str = "") -> Transforms:
    """Return a transform or a sequence of them as a tuple.

    Args:
        given: What the user gave.
        where: Text after the value in the message, such as the name of an input.

    Raises:
        SettingError: One is no transform.
    """
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    for each in several:
        if not is_made(each, Transform, Geometric, Module):
            raise SettingError(f"{shown(each)}{where} is not a transform: it needs `draw` and `apply`, or `place`")
    return tuple(several)
