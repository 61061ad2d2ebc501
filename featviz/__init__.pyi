# The public names of featviz, listed once: read by type checkers, and at run time by `__init__.py`.

from . import objectives, optimizers, param, transforms
from .apps.atlas.atlas import atlas
from .apps.blocks.blocks import blocks
from .apps.doctor.doctor import doctor
from .apps.dream.dream import dream
from .apps.dream.video import dream_video, dream_zoom
from .apps.explain import methods
from .apps.explain.evidence import evidence
from .apps.explain.examples import examples
from .apps.explain.explain import compare, explain
from .apps.gallery.gallery import gallery
from .apps.gallery.sweep import sweep
from .apps.judge.judge import judge
from .apps.replay import replay
from .apps.shared.ray_backend import RayBackend
from .engine import PRESETS, Recipe, Rendering, render, score
from .errors import (
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
from .io import progress_bar, save_video
from .network import Execution, InputSpec, Network, combine, load, models
from .param.prior import fit_prior

__version__: str

__all__ = [
    "PRESETS", "AddressError", "Execution", "FeatvizError", "FeatvizWarning", "InputSpec", "ModelError", "Network",
    "OutputError", "RayBackend", "Recipe", "RecipeError", "RenderError", "Rendering", "SettingError", "WeightsError",
    "atlas", "blocks", "combine", "compare", "doctor", "dream", "dream_video", "dream_zoom", "evidence", "examples",
    "explain", "fit_prior", "gallery", "judge", "load", "methods", "models", "objectives", "optimizers", "param",
    "progress_bar", "render", "replay", "save_video", "score", "sweep", "transforms",
]  # fmt: skip
