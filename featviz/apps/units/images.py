"""Render the images of a unit's card: the unit, its negative, images that differ, and the facets of two meanings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.embeddings.direction import direction_objective
from featviz.apps.shared.rendering.diverse import diverse_objective
from featviz.apps.units.responses import Responses
from featviz.apps.units.summary import Facet, Summary
from featviz.errors import first_line
from featviz.network import OUTPUT

DIVERSE = 4
"""Number of images that differ from each other."""
FACET_WEIGHT = 1.0
"""Weight of the direction that leads to one facet, in units of the spread of the unit over the photographs.

Source: on a star-or-heart unit of motifnet, motifvit recognises the facets with weights of 0.5 to 2 alike.
"""


@dataclass(frozen=True, eq=False)
class UnitImage:
    """An image of a card.

    Args:
        note: Caption, such as `"negative"`.
        rendering: The image with its recipe; `None` if it could not be rendered.
        problem: Why it could not be rendered.
    """

    note: str
    rendering: fv.Rendering | None
    problem: str = ""


def unit_images(
    network: fv.Network,
    objective: fv.objectives.Objective,
    layer: str,
    unit: int,
    summary: Summary,
    responses: Responses,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> list[UnitImage]:
    """Render the images of a card. One that cannot be rendered, as of a dead unit, has a problem instead.

    Args:
        network: The network.
        objective: The unit.
        layer: Name of its layer; empty for the class logits.
        unit: Index of the channel or class.
        summary: Scores and facets of the unit.
        responses: Responses to the photographs.
        progress: Called after each render, of one or several images, with the number of images done and that of all.
        settings: `size`, `quality`, `steps` and `seed` of `fv.render`.

    Raises:
        KeyboardInterrupt: A render was interrupted.
    """
    compared = layer or responses.layer
    jobs: list[tuple[Sequence[str], Sequence[Any], int]] = [
        (["unit"], [objective], 1),
        (["negative"], [-objective], 1),
    ]
    if compared != OUTPUT:
        diverse = diverse_objective(objective, compared)
        jobs.append(([f"diverse {i + 1}" for i in range(DIVERSE)], [diverse], DIVERSE))
    if summary.facets and responses.layer != OUTPUT:
        goals = facet_objectives(network, objective, unit, summary.facets, responses)
        jobs.append(([facet_note(facet, i) for i, facet in enumerate(summary.facets)], goals, 1))
    found: list[UnitImage] = []
    total = sum(len(notes) for notes, _, _ in jobs)
    for notes, objectives, batch in jobs:
        found += _rendered(network, notes, objectives, batch=batch, **settings)
        if progress:
            progress(len(found), total)
    return found


def facet_note(facet: Facet, index: int) -> str:
    """Return the caption of the image of a facet."""
    return f"facet {index + 1}{f', {facet.label}' if facet.label else ''}"


def facet_objectives(
    network: fv.Network,
    objective: fv.objectives.Objective,
    unit: int,
    facets: Sequence[Facet],
    responses: Responses,
) -> list[fv.objectives.Objective]:
    """Return an objective for each of two facets: the unit, plus the direction from the other facet to this one.

    The direction joins the mean embeddings of the two groups of photographs. It is weighted such that it varies as much
    over the photographs as the unit does.

    Args:
        network: The network.
        objective: The unit.
        unit: Index of the channel or class.
        facets: The two facets.
        responses: Responses to the photographs.

    Source: Goh et al. 2021, https://doi.org/10.23915/distill.00030, "Feature Visualization" of faceted neurons.
    Differs: the facet is a direction in the last layer instead of a linear probe in an early one, found from the
    photographs of the unit.
    """
    means = [responses.features[list(facet.photographs)].mean(0) for facet in facets]
    spread = responses.values[:, unit].std()
    return [
        objective
        + _weight(responses, towards, spread) * direction_objective(network, responses.layer, towards, power=0.0)
        for towards in (means[0] - means[1], means[1] - means[0])
    ]


def _weight(responses: Responses, direction: Float[Tensor, " channels"], spread: Tensor) -> float:
    """Return the weight of a direction, to two digits so that recipes are short."""
    along = responses.features @ torch.nn.functional.normalize(direction, dim=0)
    return float(f"{FACET_WEIGHT * float(spread / along.std().clamp(min=1e-12)):.2g}")


def _rendered(network: fv.Network, notes: Sequence[str], objectives: Sequence[Any], **settings: Any) -> list[UnitImage]:
    """Render images in one call; if it fails, each has the problem instead."""
    try:
        with warnings.catch_warnings(record=True):  # problems are shown in place of the image
            rendering = fv.render(network, list(objectives), progress=None, **settings)
    except fv.RenderError as error:
        return [UnitImage(note, None, first_line(error)) for note in notes]
    if rendering.recipe.until is not None:  # `fv.render` returns what it has after Ctrl-C
        raise KeyboardInterrupt
    return [
        UnitImage(note, None, rendering.problems[i]) if i in rendering.problems else UnitImage(note, rendering[i])
        for i, note in enumerate(notes)
    ]
