"""See what a neural network has learned to see.

Names load when they are used, so that importing featviz costs nothing and the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featviz import objectives, optimizers, param, transforms
    from featviz.apps.replay import replay
    from featviz.array import Array
    from featviz.engine import render
    from featviz.errors import (
        AddressError,
        FeatvizError,
        FeatvizWarning,
        ModelError,
        OutputError,
        RecipeError,
        RenderError,
        SettingError,
        WeightsError,
    )
    from featviz.network import Network, find, load, models, together
    from featviz.optimizers import Adam, Ascent, Clipped, Normalized
    from featviz.output import check_output, progress_bar, read_image
    from featviz.plan import Plan
    from featviz.prior import Prior, fit_prior
    from featviz.recipe import Recipe, build, pick
    from featviz.rendering import Rendering

__version__ = "0.1.0"

_HOMES = {
    "featviz.apps.replay": ("replay",),
    "featviz.array": ("Array",),
    "featviz.errors": (
        "AddressError",
        "FeatvizError",
        "FeatvizWarning",
        "ModelError",
        "OutputError",
        "RecipeError",
        "RenderError",
        "SettingError",
        "WeightsError",
    ),
    "featviz.network": ("Network", "find", "load", "models", "together"),
    "featviz.optimizers": ("Adam", "Ascent", "Clipped", "Normalized"),
    "featviz.output": ("check_output", "progress_bar", "read_image"),
    "featviz.plan": ("Plan",),
    "featviz.prior": ("Prior", "fit_prior"),
    "featviz.recipe": ("Recipe", "build", "pick"),
    "featviz.engine": ("render",),
    "featviz.rendering": ("Rendering",),
}
_DRAWERS = ("objectives", "optimizers", "param", "transforms")
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Adam",
    "AddressError",
    "Array",
    "Ascent",
    "Clipped",
    "FeatvizError",
    "FeatvizWarning",
    "ModelError",
    "Network",
    "Normalized",
    "OutputError",
    "Plan",
    "Prior",
    "Recipe",
    "RecipeError",
    "RenderError",
    "Rendering",
    "SettingError",
    "WeightsError",
    "build",
    "check_output",
    "find",
    "fit_prior",
    "load",
    "models",
    "objectives",
    "optimizers",
    "param",
    "pick",
    "progress_bar",
    "read_image",
    "render",
    "replay",
    "together",
    "transforms",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _DRAWERS:
        return importlib.import_module(f"featviz.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # also where a submodule has the same name
        return value
    raise AttributeError(f"module 'featviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
