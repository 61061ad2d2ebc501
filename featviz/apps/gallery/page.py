"""A page of cards: one card per class or unit, with its images, their scores and recipes, and photographs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import featviz as fv
from featviz.apps.gallery.search import Search
from featviz.apps.shared.pages.page import embed_json, render_template
from featviz.apps.shared.rendering.album import RenderedImages
from featviz.apps.shared.rendering.stored_images import image_file, thumbnail_file
from featviz.apps.units.summary import Summary
from featviz.interfaces import show_size
from featviz.io import Store, is_file, read_report


@dataclass(frozen=True)
class CardImage:
    """An image on a card.

    Args:
        file: The image, relative to the page.
        thumbnail: Its small copy.
        shows: What it was rendered to show.
        note: How it differs from the other images of its card; empty for the first.
        facts: Lines of the dialog, by name.
        history: Score at some of the steps; `None` where it was not finite.
        recipe: Recipe of this image alone, as JSON.
        replay: The command that renders it again in the folder of the page.
        score: Score of the finished image; `None` if it was not stored.
        robustness: Share of the score gain that is retained in new random views, in [0, 1]; `None` if unknown.
    """

    file: str
    thumbnail: str
    shows: str
    note: str
    facts: Mapping[str, str]
    history: Sequence[float | None]
    recipe: str
    replay: str
    score: float | None = None
    robustness: float | None = None


@dataclass(frozen=True)
class Photograph:
    """A photograph on a card, or a crop of one.

    Args:
        file: The photograph or crop, relative to the page.
        note: Which one it is.
        facts: Lines of the dialog, by name.
        whole: The photograph of which `file` is a crop; empty if it is not the crop of one.
        box: Top, bottom, left and right edge of the crop in the largest centred part of the photograph that has
            `ratio`, as shares of its sides, in [0, 1].
        ratio: Width of the network's input, divided by its height.
        row: Number of the photograph in the page's search; `None` if it is not there.
    """

    file: str
    note: str
    facts: Mapping[str, str] = field(default_factory=dict)
    whole: str = ""
    box: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0)
    ratio: float = 1.0
    row: int | None = None


@dataclass(frozen=True)
class Card:
    """A class or a unit, or a link to the page of a layer.

    Args:
        title: Its name.
        images: Its images; the first one is shown large.
        photographs: Photographs, shown below the images.
        problem: Why an image is missing; empty if none is.
        link: Page to which the card links; empty if it opens its images.
        known: Name and scores of the unit; `None` without photographs.
        column: Column of the unit in the page's search; `None` if it is not there.
    """

    title: str
    images: Sequence[CardImage] = ()
    photographs: Sequence[Photograph] = ()
    problem: str = ""
    link: str = ""
    known: Summary | None = None
    column: int | None = None

    @property
    def score(self) -> float | None:
        """Score of the first image, by which cards are sorted; `None` for a link."""
        return self.images[0].score if self.images and not self.link else None

    @property
    def robustness(self) -> float | None:
        """Robustness of the first image, by which cards are sorted; `None` for a link."""
        return self.images[0].robustness if self.images and not self.link else None

    @property
    def verdict(self) -> str:
        """Verdict of the judge on the first image; empty if there is none."""
        return self.images[0].facts.get("verdict", "") if self.images else ""


@dataclass(frozen=True)
class Page:
    """A page of cards.

    Args:
        title: Its heading.
        about: A line beside the heading.
        cards: The cards, in order.
        back: File and title of the page that this one links back to; `None` for no link.
        search: Percentiles by which cards are ranked; `None` for none.
        wide: Whether pictures are shown whole, as those of signals and volumes, and not as squares.
    """

    title: str
    about: str
    cards: Sequence[Card]
    back: tuple[str, str] | None = None
    search: Search | None = None
    wide: bool = False

    def html(self) -> str:
        """Return the page as HTML."""
        data = [[*map(asdict, card.images), *map(asdict, card.photographs)] for card in self.cards]
        searched = "" if self.search is None else embed_json(asdict(self.search))
        return render_template(
            "gallery/page.html", data, title=self.title, page=self, search=self.search, searched=searched
        )


def make_card(
    rendered: RenderedImages,
    title: str,
    images: Sequence[tuple[str, str]],
    photographs: Sequence[Photograph] = (),
    facts: Mapping[str, Mapping[str, str]] | None = None,
    known: Summary | None = None,
) -> Card:
    """Return the card of a class or unit, with those of its images that are in the store.

    Args:
        rendered: The images that are in the store.
        title: Name of the class or unit.
        images: Name and note of each image.
        photographs: Photographs of the class, or crops for the unit.
        facts: Further lines of the dialog, by the name of the image.
        known: Name and scores of the unit; `None` without photographs.

    Raises:
        OutputError: An image is damaged.
    """
    found = [
        card_image(rendered.store, name, note, (facts or {}).get(name))
        for name, note in images
        if name in rendered.names
    ]
    problems = dict.fromkeys(rendered.problems[name] for name, _ in images if name in rendered.problems)
    return Card(title, found, photographs, "; ".join(problems), known=known)


def card_image(store: Store, name: str, note: str = "", facts: Mapping[str, str] | None = None) -> CardImage:
    """Read from an image in the store what a page shows of it.

    Args:
        store: The store.
        name: Name of the image.
        note: How it differs from the other images of its card.
        facts: Further lines of the dialog.

    Raises:
        OutputError: The image is missing or damaged.
    """
    file = image_file(name)
    data = store.read(file)
    try:
        recipe, report = fv.Recipe.of(data).alone, read_report(data)
    except fv.FeatvizError as error:
        path = f"{str(store.path or store.url).rstrip('/')}/{file}"
        raise fv.OutputError(f"{path} is damaged; delete it, and the next run renders it again") from error
    score, robustness = report.get("score"), report.get("robustness")
    lines = {
        "score": "" if score is None else f"{score:.4g}",
        "robustness": "" if robustness is None else f"{robustness:.2f}",
        **(facts or {}),
        "seed": str(recipe.seeds[recipe.index or 0]),
        "steps": str(recipe.steps),
        "size": f"{show_size(recipe.size)} px",
    }
    return CardImage(
        file,
        thumbnail_file(name),
        report.get("shows", ""),
        note,
        {key: value for key, value in lines.items() if value},
        report.get("history", ()),
        json.dumps(json.loads(recipe.to_json()), indent=1),
        _replay_command(store, file, recipe.model),
        score,
        robustness,
    )


def _replay_command(store: Store, file: str, model: str) -> str:
    """Return the command that renders an image again. A network without a name must be given in Python."""
    if not model:
        return f'fv.replay("{file}", network=...)'
    source, colon, factory = model.rpartition(":")
    path = os.path.relpath(source, store.path) if store.path and is_file(source) else source
    own = f" --model {shlex.quote(f'{path}:{factory}')}" if colon else ""
    return f"featviz replay {file}{own} -o again.png"
