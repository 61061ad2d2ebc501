"""The self-contained page of a unit's card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import featviz as fv
from featviz.apps.examples.examples import Place
from featviz.apps.shared.pages.input_pictures import encode_webp
from featviz.apps.shared.pages.page import base64, render_template
from featviz.apps.shared.pages.photographs import WHOLE_SIDE
from featviz.apps.shared.pages.text import printable
from featviz.apps.units.images import UnitImage, facet_note
from featviz.apps.units.unit import UnitCard
from featviz.errors import first_line, pluralize
from featviz.io import read_photograph, read_whole_photograph

BINS = 40
"""Number of bars of the histogram of responses."""
FACET_PHOTOGRAPHS = 10
"""Largest number of photographs of a facet on the page."""


def unit_page(card: UnitCard) -> str:
    """Return the page of a card as HTML.

    Args:
        card: The card.

    Raises:
        OutputError: A photograph is no longer there.
    """
    groups = [_images(card), *_photographs(card)]
    # The images are in the markup already.
    data = [{key: one[key] for key in one.keys() - {"src"}} for group in groups for one in group["shown"]]
    first = 0
    for group in groups:
        group["first"], first = first, first + len(group["shown"])
    return render_template(
        "units/page.html",
        data,
        title=printable(card.title),
        about=f"{card.facts['unit'].partition(' of ')[2]}, {pluralize(len(card.responses), 'photograph')}",
        groups=groups,
        known=card.summary,
        names=[(printable(name.text), f"{name.auroc:.3f}", name.count) for name in card.summary.names],
        source=card.labels.source,
        judge=printable(card.judge),
        bars=_histogram(card),
        facets=printable(card.facts.get("two meanings", "")),
    )


def _images(card: UnitCard) -> dict[str, Any]:
    """Return the group of rendered images."""
    return {"title": "Images", "note": "", "shown": [_image(image) for image in card.images], "small": False}


def _image(image: UnitImage) -> dict[str, Any]:
    if image.rendering is None:
        return {"note": image.note, "src": "", "problem": image.problem, "facts": {}}
    recipe, report = image.rendering.recipe.alone, image.rendering.report
    numbers = {name: f"{report[name]:.4g}" for name in ("score", "robustness") if report.get(name) is not None}
    return {
        "note": image.note,
        "src": f"data:image/png;base64,{base64(image.rendering.encoded())}",
        "facts": {**numbers, "seed": str(recipe.seeds[recipe.index or 0]), "steps": str(recipe.steps)},
        "recipe": json.dumps(json.loads(recipe.to_json()), indent=1),
    }


def _photographs(card: UnitCard) -> list[dict[str, Any]]:
    """Return the groups of photographs: the facets of two meanings, the highest and the lowest responses."""
    found = []
    for i, facet in enumerate(card.summary.facets):
        names = [card.responses.names[index] for index in facet.photographs[:FACET_PHOTOGRAPHS]]
        values = card.responses.values[list(facet.photographs), card.channel].tolist()
        shown = [_facet_photograph(card, name, value) for name, value in zip(names, values, strict=False)]
        title = f"Photographs of {facet_note(facet, i)}"
        found.append({"title": title, "note": "", "shown": shown, "small": True})
    titles = {"top": "Highest responses", "bottom": "Lowest responses"}
    for which, title in titles.items():
        examples = card.responses.examples
        shown = [
            _photograph(card, place, encode_webp(example.crop))
            for place, example in zip(
                examples.places(card.channel, which),  # type: ignore[arg-type]
                examples.of(card.channel, which),  # type: ignore[arg-type]
                strict=True,
            )
        ]
        note = "cropped to the unit's receptive field" if which == "top" else ""
        found.append({"title": title, "note": note, "shown": shown, "small": True})
    return found


def _photograph(card: UnitCard, place: Place, crop: bytes) -> dict[str, Any]:
    """Return a crop, and the photograph in which its place is marked."""
    height, width = card.network.size
    top, bottom, left, right = place.box
    whole = read_whole_photograph(place.file, longer_side=WHOLE_SIDE, channels=card.network.channels)
    return {
        "note": _relative(card, place.file),
        "src": _webp(crop),
        "facts": {"response": f"{place.activation:.4g}"},
        "whole": _webp(encode_webp(whole)),
        "box": [top / height, bottom / height, left / width, right / width],
        "ratio": width / height,
    }


def _facet_photograph(card: UnitCard, name: str, value: float) -> dict[str, Any]:
    """Return a photograph of a facet, cropped as the network's input; only its name if the file is gone."""
    facts = {"response": f"{value:.4g}"}
    try:
        image = read_photograph(card.responses.folder / name, size=card.network.size, channels=card.network.channels)
    except fv.FeatvizError as error:
        return {"note": printable(name), "src": "", "problem": first_line(error), "facts": facts}
    return {"note": printable(name), "src": _webp(encode_webp(image)), "facts": facts}


def _relative(card: UnitCard, file: Path) -> str:
    """Return the path of a photograph below the folder: where the folder lies is private."""
    return printable(file.relative_to(card.responses.folder).as_posix())


def _webp(data: bytes) -> str:
    return f"data:image/webp;base64,{base64(data)}"


def _histogram(card: UnitCard) -> dict[str, Any]:
    """Return the bars of the histogram of responses: height of all photographs, and of those that have the name.

    Counts are drawn by their square root, so that a few photographs with large responses can be seen.
    """
    values = card.responses.values[:, card.channel]
    low, high = values.min().item(), values.max().item()
    bins = ((values - low) / max(high - low, 1e-12) * BINS).long().clamp(max=BINS - 1)
    name = card.summary.names[0] if card.summary.names else None
    having = name.members(card.labels) if name else torch.zeros(len(values), dtype=torch.bool)
    all_of, some = bins.bincount(minlength=BINS), bins[having].bincount(minlength=BINS)
    most = float(all_of.max()) ** 0.5
    heights = [
        tuple(f"{count**0.5 / most:.4f}" for count in pair) for pair in zip(all_of.tolist(), some.tolist(), strict=True)
    ]
    return {"heights": heights, "low": f"{low:.3g}", "high": f"{high:.3g}", "label": name and printable(name.text)}
