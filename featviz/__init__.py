"""See what a neural network has learned to see.

Names load when they are used, so that importing featviz costs nothing and the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featviz import objectives, optimizers, param, transforms
    from featviz.apps.atlas.atlas import atlas
    from featviz.apps.blocks.blocks import blocks
    from featviz.apps.doctor.doctor import doctor
    from featviz.apps.dream import dream
    from featviz.apps.explain import methods
    from featviz.apps.explain.evidence import evidence
    from featviz.apps.explain.examples import examples
    from featviz.apps.explain.explain import compare, explain
    from featviz.apps.explain.methods.slots import train_scouter
    from featviz.apps.galleries.gallery import gallery
    from featviz.apps.galleries.on_ray import OnRay
    from featviz.apps.galleries.sweep import sweep
    from featviz.apps.judge.judge import judge
    from featviz.apps.moving import dream_video, dream_zoom
    from featviz.apps.replay import replay
    from featviz.array import Array
    from featviz.color import collapse_channels
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
    from featviz.expression import build, pick
    from featviz.folders import check_outside, images_in, photograph, photographs
    from featviz.network import Network, Rectifying, find, load, models, together
    from featviz.optimizers import Adam, Ascent, Clipped, LaplacianNormalized, Normalized, Smoothed
    from featviz.output import (
        VIDEOS,
        Store,
        cache_folder,
        check_output,
        check_video,
        contact_sheet,
        encode,
        progress_bar,
        read_image,
        read_report,
        read_video,
        save_picture,
        save_video,
        to_bytes,
        write,
    )
    from featviz.picture import check_numbers
    from featviz.plan import Plan
    from featviz.prior import Prior, fit_prior
    from featviz.quality import QUALITIES
    from featviz.recipe import Recipe, fingerprint
    from featviz.rendering import Rendering, Trust
    from featviz.scoring import asking, score
    from featviz.spectrum import slope

__version__ = "0.1.0"

_HOMES = {
    "featviz.apps.atlas.atlas": ("atlas",),
    "featviz.apps.blocks.blocks": ("blocks",),
    "featviz.apps.doctor.doctor": ("doctor",),
    "featviz.apps.dream": ("dream",),
    "featviz.apps.explain.evidence": ("evidence",),
    "featviz.apps.explain.examples": ("examples",),
    "featviz.apps.explain.explain": ("compare", "explain"),
    "featviz.apps.explain.methods.slots": ("train_scouter",),
    "featviz.apps.galleries.gallery": ("gallery",),
    "featviz.apps.galleries.on_ray": ("OnRay",),
    "featviz.apps.galleries.sweep": ("sweep",),
    "featviz.apps.judge.judge": ("judge",),
    "featviz.apps.moving": ("dream_video", "dream_zoom"),
    "featviz.apps.replay": ("replay",),
    "featviz.array": ("Array",),
    "featviz.color": ("collapse_channels",),
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
    "featviz.network": ("Network", "Rectifying", "find", "load", "models", "together"),
    "featviz.optimizers": ("Adam", "Ascent", "Clipped", "LaplacianNormalized", "Normalized", "Smoothed"),
    "featviz.output": (
        "VIDEOS",
        "Store",
        "cache_folder",
        "check_output",
        "check_video",
        "contact_sheet",
        "encode",
        "progress_bar",
        "read_image",
        "read_report",
        "read_video",
        "save_picture",
        "save_video",
        "to_bytes",
        "write",
    ),
    "featviz.expression": ("build", "pick"),
    "featviz.folders": ("check_outside", "images_in", "photograph", "photographs"),
    "featviz.picture": ("check_numbers",),
    "featviz.plan": ("Plan",),
    "featviz.prior": ("Prior", "fit_prior"),
    "featviz.quality": ("QUALITIES",),
    "featviz.recipe": ("Recipe", "fingerprint"),
    "featviz.engine": ("render",),
    "featviz.rendering": ("Rendering", "Trust"),
    "featviz.scoring": ("asking", "score"),
    "featviz.spectrum": ("slope",),
}
_DRAWERS = {
    "methods": "featviz.apps.explain.methods",
    **{name: f"featviz.{name}" for name in ("objectives", "optimizers", "param", "transforms")},
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "QUALITIES",
    "VIDEOS",
    "Adam",
    "AddressError",
    "Array",
    "Ascent",
    "Clipped",
    "FeatvizError",
    "FeatvizWarning",
    "LaplacianNormalized",
    "ModelError",
    "Network",
    "Normalized",
    "OnRay",
    "OutputError",
    "Plan",
    "Prior",
    "Recipe",
    "RecipeError",
    "Rectifying",
    "RenderError",
    "Rendering",
    "SettingError",
    "Smoothed",
    "Store",
    "Trust",
    "WeightsError",
    "asking",
    "atlas",
    "blocks",
    "build",
    "cache_folder",
    "check_numbers",
    "check_output",
    "check_outside",
    "check_video",
    "collapse_channels",
    "compare",
    "contact_sheet",
    "doctor",
    "dream",
    "dream_video",
    "dream_zoom",
    "encode",
    "evidence",
    "examples",
    "explain",
    "find",
    "fingerprint",
    "fit_prior",
    "gallery",
    "images_in",
    "judge",
    "load",
    "methods",
    "models",
    "objectives",
    "optimizers",
    "param",
    "photograph",
    "photographs",
    "pick",
    "progress_bar",
    "read_image",
    "read_report",
    "read_video",
    "render",
    "replay",
    "save_picture",
    "save_video",
    "score",
    "slope",
    "sweep",
    "to_bytes",
    "together",
    "train_scouter",
    "transforms",
    "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _DRAWERS:
        return importlib.import_module(_DRAWERS[name])
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # also where a submodule has the same name
        return value
    raise AttributeError(f"module 'featviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
