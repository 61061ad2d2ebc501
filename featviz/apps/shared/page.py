"""A page of pictures that needs nothing but itself and the files beside it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import featviz as fv
from featviz.apps.shared.batches import picture_file, thumb_file
from featviz.io import Store, read_report

TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Shot:
    """A picture on a card.

    Args:
        file: the whole picture, relative to the page.
        thumb: its small copy.
        shows: what it was made to show.
        note: how it differs from the card's other pictures.
        facts: what else there is to say of it, by name.
        history: the score of some of the steps; `None` where it was no number.
        recipe: the recipe of this picture alone, as text.
        again: the command that draws it again, in the page's folder.
    """

    file: str
    thumb: str
    shows: str
    note: str
    facts: Mapping[str, str]
    history: Sequence[float | None]
    recipe: str
    again: str


@dataclass(frozen=True)
class Card:
    """A class, or a unit.

    Args:
        title: its name.
        shots: its pictures, the first of which is shown large.
        score: by which to sort; of the first picture as it is.
        kept: by which to sort; how much of that is there in fresh views.
        beside: photographs shown under it, as files.
        problem: why a picture is missing.
        link: where a click leads, instead of to the picture.
    """

    title: str
    shots: Sequence[Shot] = ()
    score: float | None = None
    kept: float | None = None
    beside: Sequence[str] = ()
    problem: str = ""
    link: str = ""


@dataclass(frozen=True)
class Page:
    """A page of cards.

    Args:
        title: its heading.
        about: a line under it.
        cards: in order.
        back: a page to go back to, as file and title.
    """

    title: str
    about: str
    cards: Sequence[Card]
    back: tuple[str, str] | None = field(default=None)

    def html(self) -> str:
        """Write it."""
        data = [[asdict(shot) for shot in card.shots] for card in self.cards]
        return filled(TEMPLATE, data, page=self)


def filled(template: Path, data: Any, **names: Any) -> str:
    """Fill a page's template.

    Args:
        template: its file.
        data: what its script reads, as JSON.
        names: what else it shows.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    safe = json.dumps(data).replace("<", "\\u003c")  # within a script, markup would end it
    text = template.read_text(encoding="utf-8")
    return environment.from_string(text).render(data=safe, version=fv.__version__, **names)


def shot(store: Store, name: str, note: str = "", facts: Mapping[str, str] | None = None) -> tuple[Shot, Card]:
    """Read of a picture in the store what a page says of it, and what its card is sorted by."""
    data = store.read(picture_file(name))
    try:
        recipe, report = fv.Recipe.of(data).alone, read_report(data)
    except fv.FeatvizError as error:
        place = f"{str(store.path or store.url).rstrip('/')}/{picture_file(name)}"
        raise fv.OutputError(f"{place} is broken; delete it, and it is drawn again") from error
    score, kept = report.get("score"), report.get("robustness")
    seed = recipe.seeds[recipe.picture or 0]
    told = {
        "score": "" if score is None else f"{score:.4g}",
        "kept in fresh views": "" if kept is None else f"{kept:.2f} of the gain",
        **(facts or {}),
        "seed": str(seed),
        "steps": str(recipe.steps),
        "size": f"{recipe.size[0]} x {recipe.size[1]} px",
    }
    one = Shot(
        picture_file(name),
        thumb_file(name),
        report.get("shows", ""),
        note,
        {key: value for key, value in told.items() if value},
        report.get("history", ()),
        json.dumps(json.loads(recipe.to_json()), indent=1),
        _again(store, picture_file(name), recipe.model),
    )
    return one, Card("", score=score, kept=kept)


def _again(store: Store, file: str, model: str) -> str:
    """Write what draws a picture again; someone's own network has to be given by hand."""
    if not model:
        return f'fv.replay("{file}", network=...)'
    source, colon, factory = model.rpartition(":")
    place = os.path.relpath(source, store.path) if store.path and Path(source).is_file() else source
    own = f" --model {shlex.quote(f'{place}:{factory}')}" if colon else ""
    return f"featviz replay {file}{own} -o again.png"


def class_number(network: fv.Network, name: str | int) -> int:
    """Find a class by name or number.

    Raises:
        AddressError: there is none such.
    """
    acts = network.capture(torch.full((1, network.channels, *network.size), 0.5), [""])
    digits = isinstance(name, str) and name.isdecimal() and name not in network.classes
    return acts.class_index(int(name) if digits else name)


def class_title(network: fv.Network, index: int) -> str:
    """Return what a page calls a class; ImageNet has two cranes."""
    if not network.classes:
        return f"logit {index}"
    name = network.classes[index]
    return name if network.classes.count(name) < 2 else f"{name} ({index})"


def counted(count: int, what: str) -> str:
    """Say how many there are."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def numbers(values: Mapping[str, Any]) -> dict[str, str]:
    """Write numbers for a page."""
    return {key: f"{value:.2f}" if isinstance(value, float) else str(value) for key, value in values.items()}
