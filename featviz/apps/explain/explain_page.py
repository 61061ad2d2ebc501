"""A self-contained page that compares attribution methods: their maps, and how faithful each is to the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

from featviz.apps.explain.attribution import Attribution, Comparison, shared_strength
from featviz.apps.explain.drawing import class_color, enlarged
from featviz.apps.explain.faithfulness import measure_faithfulness
from featviz.apps.explain.request import Method
from featviz.apps.explain.text import TextComparison
from featviz.apps.shared.pages.input_pictures import plane_indices, planes_of, rgb
from featviz.apps.shared.pages.page import base64, compress, render_template
from featviz.errors import pluralize
from featviz.io import draw_lines, encode

CHOICES = ("layer", "head")
"""Fields of methods that have a menu of their own where methods differ in nothing else."""
SIGNAL_WIDTH, SIGNAL_RATIO = 960, 0.3
"""Width of the picture of a signal in px, and height of the row of each channel as a share of it."""
SIGNED_LEVELS = 127
"""Levels on either side of 0 of the maps in a page."""


def explain_page(found: Comparison | TextComparison, progress: Callable[[int, int], None] | None = None) -> str:
    """Measure how faithful each map is, and return the page as HTML.

    Args:
        found: The maps.
        progress: Called after each map with the number of maps measured and the number of maps.
    """
    network = found.network
    data = {
        "tokens": list(found.tokens) if isinstance(found, TextComparison) else None,
        "image": None if isinstance(found, TextComparison) else _image(found),
        "targets": [
            {"name": name, "score": _rounded(score)} for name, score in zip(found.targets, found.scores, strict=True)
        ],
        "methods": _menus(found.methods, found.attributors),
        "cells": _cells(found, progress),
    }
    about = f"{pluralize(len(found.targets), 'target')}, {pluralize(len(found.methods), 'method')}"
    return render_template("explain/explain.html", data, title=f"Attribution maps of {network.label}", about=about)


def _image(found: Comparison) -> dict[str, Any]:
    """Return the image as it is shown, and the sizes of it and of its maps: planes, rows and columns.

    The planes of a volume and the frames of a clip are one below the other in one picture.
    """
    image, axes = found.image, found.network.input.axes
    if axes == "x":
        planes = [draw_lines(image.numpy(), width=SIGNAL_WIDTH, ratio=SIGNAL_RATIO)]
    else:
        planes = [enlarged(rgb(image[None])[0])] if axes == "yx" else planes_of(image, axes)
    rows = image.shape[-2] if axes != "x" else 1
    return {
        "data": base64(encode(np.concatenate(planes), ".png")),
        "size": planes[0].shape[:2],
        "map": (len(planes), rows, image.shape[-1]),
        "axes": axes,
    }


def _shown_planes(values: Tensor, axes: str) -> Tensor:
    """Return the planes of a map that the page shows, or the map of a signal or an image."""
    return values if axes in ("x", "yx") else values[plane_indices(len(values))]


def _cells(
    found: Comparison | TextComparison, progress: Callable[[int, int], None] | None
) -> list[list[dict[str, Any]]]:
    """Return the page's data of each target and method."""
    total, done = sum(one is not None for row in found.rows for one in row), 0
    cells: list[list[dict[str, Any]]] = []
    for i, row in enumerate(found.rows):
        cells.append([])
        for k, one in enumerate(row):
            if one is None:
                cells[-1].append({"problem": found.problems[f"{found.methods[k]} of {found.targets[i]}"]})
                continue
            cells[-1].append(_cell(found, i, k, one))
            done += 1
            if progress:
                progress(done, total)
    return cells


def _cell(found: Comparison | TextComparison, row: int, column: int, one: Attribution) -> dict[str, Any]:
    """Return the page's data of a map, with its measured faithfulness."""
    measured = measure_faithfulness(found.network, one.images[0], found.objectives[row], one.map[0])
    shown, full = _shown_planes(one.displayed()[0, 0], one.axes), shared_strength(found.rows, found.layers, row, column)
    largest = shown.abs().max().clamp(min=1e-12)
    share = shown / largest
    levels = (share.sign() * share.abs().sqrt() * SIGNED_LEVELS).round() + SIGNED_LEVELS + 1
    cell: dict[str, Any] = {
        "map": compress(levels.byte().numpy().tobytes()),
        "largest": float(largest / full.clamp(min=1e-12)),
        "signed": bool((one.map < 0).any()),
        "milliseconds": _rounded(found.milliseconds[row][column] or 0),
        "error": None if one.delta is None else _rounded(one.delta.abs().max().item()),
        "scored": measured.scored,
    }
    for name, curve, area in (
        ("insertion", measured.insertion, measured.insertion_area),
        ("deletion", measured.deletion, measured.deletion_area),
    ):
        cell[name] = {"curve": [_rounded(score) for score in curve], "area": _rounded(area)}
    if one.labels is not None:
        count = len(one.class_names)
        cell["labels"] = compress(_shown_planes(one.labels[0], one.axes).byte().numpy().tobytes())
        cell["classes"] = [
            [name, [round(255 * part) for part in class_color(i, count)]] for i, name in enumerate(one.class_names)
        ]
    return cell


def _menus(names: Sequence[str], methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return the name of each method, and the values of `CHOICES` that tell methods of one name apart.

    Returns:
        For each method `name`, `group` and `choices`. Methods of one group differ in `choices` only.
    """
    settings = [_choices(method) for method in methods]
    bases = [
        repr((type(method), {key: value for key, value in vars(method).items() if key not in own}))
        for method, own in zip(methods, settings, strict=True)
    ]
    found = []
    for name, method, base, own in zip(names, methods, bases, settings, strict=True):
        alike = [other for other, of in zip(settings, bases, strict=True) if of == base]
        differing = [key for key in own if len({other[key] for other in alike}) > 1]
        choices = {key: "default" if own[key] is None else str(own[key]) for key in differing}
        found.append({"name": name, "group": type(method).__name__ if differing else name, "choices": choices})
    return found


def _choices(method: Method) -> dict[str, Any]:
    """Return the fields of a method that are among `CHOICES`."""
    if not is_dataclass(method):
        return {}
    names = {field.name for field in fields(method)}
    return {name: getattr(method, name) for name in CHOICES if name in names}


def _rounded(number: float) -> float:
    """Return a number with four significant digits."""
    return float(f"{number:.4g}")
