"""Render images: prepare a job, run it in chunks, watch it, and return the result with its recipe."""

from featviz.engine.argument_checks import (
    check_layer,
    check_network_or_name,
    check_path,
    check_path_or_none,
    unchecked,
)
from featviz.engine.entry_point import entry_point
from featviz.engine.presets import PRESETS, Preset, find_preset
from featviz.engine.recipe import Recipe, fingerprint
from featviz.engine.render import render
from featviz.engine.repr_parser import parse_repr, parse_value
from featviz.engine.result import Rendering, Robustness
from featviz.engine.result_files import NUMBER_ENDINGS, check_rate, check_save
from featviz.engine.scoring import Scorer, open_scorer, score
from featviz.engine.start import Start

__all__ = [
    "NUMBER_ENDINGS", "PRESETS", "Preset", "Recipe", "Rendering", "Robustness", "Scorer", "Start", "check_layer",
    "check_network_or_name", "check_path", "check_path_or_none", "check_rate", "check_save", "entry_point",
    "find_preset", "fingerprint", "open_scorer", "parse_repr", "parse_value", "render", "score", "unchecked",
]  # fmt: skip
