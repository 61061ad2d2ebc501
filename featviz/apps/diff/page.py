"""Write the page of a comparison: counts, similarity of layers, and cards of units and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import featviz as fv
from featviz.apps.diff.matches import STATUSES
from featviz.apps.diff.plan import PlannedCard
from featviz.apps.diff.result import NetworkDiff, is_changed_class
from featviz.apps.gallery.page import Card, make_card
from featviz.apps.shared.arguments.classes import network_title
from featviz.apps.shared.pages.page import render_template
from featviz.apps.shared.rendering.album import RenderedImages
from featviz.network import DEFAULT_WEIGHTS, RANDOM_WEIGHTS

SHADES = 10
"""Number of shades of a heat map above the lightest."""
GROUPS = {"class": "Classes", "shared": "Shared units", "moved": "Moved units", "lost": "Lost units",
          "new": "New units", "checkpoint": "Units over training"}  # fmt: skip
"""Headings of the groups of cards."""


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map.

    Args:
        name: Its name.
        values: Its values, in [0, 1].
        note: Text behind the row; empty for none.
    """

    name: str
    values: tuple[float, ...]
    note: str = ""

    @property
    def cells(self) -> list[tuple[str, int]]:
        """Each value as text, and its shade, from 0 to `SHADES`."""
        return [(f"{value:.2f}".replace("0.", "."), round(SHADES * value)) for value in self.values]


@dataclass(frozen=True)
class PageFacts:
    """Content of the page besides its cards.

    Args:
        titles: Names of both networks.
        photographs: Number of photographs.
        counts: For each layer, the number of units of each status.
        columns: Names of the layers of the second network.
        similarity: Linear CKA of each layer of the first network with those of the second.
        checkpoints: Linear CKA of each checkpoint with the last network, layer by layer.
        checkpoint_columns: Names of these layers.
        notes: Sentences about what was left out.
    """

    titles: tuple[str, str]
    photographs: int
    counts: Sequence[tuple[str, Sequence[int]]]
    columns: Sequence[str]
    similarity: Sequence[HeatRow]
    checkpoints: Sequence[HeatRow]
    checkpoint_columns: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Shown:
    """A card as the template shows it."""

    group: str
    heading: str
    text: str
    change: float
    card: Card


def network_titles(networks: Sequence[fv.Network]) -> list[str]:
    """Name networks for a page, with the file of their weights where it is not their own.

    Args:
        networks: The networks.

    Returns:
        Their names, without folders. Equal names are numbered.
    """
    titles = [f"{network_title(network)}{_weights_title(network)}" for network in networks]
    return [
        f"{title} ({titles[: i + 1].count(title)})" if titles.count(title) > 1 else title
        for i, title in enumerate(titles)
    ]


def _weights_title(network: fv.Network) -> str:
    if network.weights in (None, DEFAULT_WEIGHTS):
        return ""
    return ", random weights" if network.weights == RANDOM_WEIGHTS else f" with {Path(network.weights).name}"


def write_page(rendered: RenderedImages, cards: Sequence[PlannedCard], facts: PageFacts) -> str:
    """Write the page.

    Args:
        rendered: The images that are in the store.
        cards: Its cards, in order.
        facts: Its other content.

    Returns:
        The file of the page.

    Raises:
        OutputError: An image is damaged, or the store cannot be written to.
    """
    groups = [card.group for card in cards]
    listed = [
        _Shown(
            card.group,
            GROUPS[card.group] if card.group not in groups[:i] else "",
            card.text,
            card.change,
            make_card(rendered, card.title, card.images),
        )
        for i, card in enumerate(cards)
    ]
    data = [[asdict(image) for image in each.card.images] for each in listed]
    page = render_template(
        "diff/page.html",
        data,
        title=f"{facts.titles[0]} and {facts.titles[1]}",
        facts=facts,
        search=None,
        shown=listed,
        groups={group: heading for group, heading in GROUPS.items() if group in groups},
    )
    rendered.store.write("index.html", page)
    return "index.html"


def page_facts(found: NetworkDiff, judge: fv.Network | None) -> PageFacts:
    """Return the content of the page besides its cards.

    Args:
        found: The comparison.
        judge: The judge; `None` for none.
    """
    columns = [[name or "logit" for name in names] for names in found.layers]
    similarity = [HeatRow(name, tuple(row)) for name, row in zip(columns[0], found.similarity.tolist(), strict=True)]
    checkpoints = [
        HeatRow(each.title, each.similarity, f"{each.matched} of {len(each.layers[1].units)} units matched")
        for each in found.checkpoints
    ]
    return PageFacts(
        found.titles, found.photographs, _counts(found), columns[1], similarity, checkpoints, columns[0],
        _notes(found, judge),
    )  # fmt: skip


def _counts(found: NetworkDiff) -> list[tuple[str, list[int]]]:
    """Return the number of units of each status by layer: of the second network for new ones, else of the first."""
    counts: dict[str, Counter[str]] = {name: Counter() for names in found.layers for name in names}
    for match in found.units:
        layer = match.second.layer if match.status == "new" else match.first.layer
        counts[layer][match.status] += 1
    return [(name or "logit", [count[status] for status in STATUSES]) for name, count in counts.items()]


def _notes(found: NetworkDiff, judge: fv.Network | None) -> list[str]:
    """Return sentences about what changed and what was left out."""
    unchanged = sum(not match.is_changed for match in found.units)
    notes = [f"{unchanged} of {len(found.units)} units are unchanged: same address, correlation 0.999 or more."]
    if unchanged == len(found.units):
        notes = ["No unit changed."]
    if not found.classes:
        notes.append("The networks have no class in common.")
    elif judge is None:
        notes.append(
            "Without a judge, changes of class images are not measured; give --judge with a network that was trained "
            "separately."
        )
    else:
        changed = sum(map(is_changed_class, found.classes))
        notes.append(f"{changed} of {len(found.classes)} classes changed; judge: {network_title(judge)}.")
    return notes
