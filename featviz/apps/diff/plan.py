"""Plan the images of a comparison: units, differences of units, classes, and units over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import featviz as fv
from featviz.apps.diff.classes import ClassChange
from featviz.apps.diff.matches import STATUSES, UNCHANGED, UnitMatch
from featviz.apps.shared.rendering.album import Album
from featviz.objectives import Channel, Logit, Objective

FIRST, SECOND = "first", "second"
"""Names of both networks in the combined one."""
CAPTIONS = {"shared": ("first", "second"), "moved": ("first", "second"), "lost": ("lost", "nearest in second"),
            "new": ("nearest in first", "new")}  # fmt: skip
"""Captions of the images of both units, by the status of the unit."""


@dataclass(frozen=True)
class PlannedCard:
    """A card of the page.

    Args:
        group: Heading under which it is listed: a status of units, `"class"` or `"checkpoint"`.
        title: Its heading.
        text: A line below the heading.
        images: Name and note of each image.
        change: How much the unit or class changed, in [0, 2]; cards can be sorted by it.
    """

    group: str
    title: str
    text: str
    images: tuple[tuple[str, str], ...]
    change: float


@dataclass(frozen=True)
class WantedImage:
    """An image to render.

    Args:
        objective: The objective that it maximises.
        note: How it differs from the others of its card.
        seed: Its seed.
    """

    objective: Objective
    note: str
    seed: int


def combine(networks: Mapping[str, fv.Network]) -> fv.Network:
    """Combine networks to render them and their differences. A module that occurs twice is copied.

    Args:
        networks: Two or more networks by name.
    """
    seen: set[int] = set()
    parts = {}
    for name, network in networks.items():
        parts[name] = network.copied() if id(network.module) in seen else network
        seen.add(id(network.module))
    return fv.combine(**parts)


def shown_matches(matches: Sequence[UnitMatch], most: int) -> list[UnitMatch]:
    """Choose the units that a page shows: the changed ones, sorted by correlation.

    Moved units with the highest correlation come first, all others with the lowest.

    Args:
        matches: All units.
        most: Largest number of units of each status.
    """
    found: list[UnitMatch] = []
    for status in STATUSES:
        some = [match for match in matches if match.status == status and match.is_changed]
        sign = -1 if status == "moved" else 1
        found += sorted(some, key=lambda match: sign * match.correlation)[:most]
    return found


def unit_cards(album: Album, matches: Sequence[UnitMatch], seed: int, settings: Mapping[str, Any]) -> list[PlannedCard]:
    """Plan a card per unit: its image in both networks, and the difference of both as one objective.

    Args:
        album: The images of the page.
        matches: The units to show.
        seed: Seed of every image.
        settings: Further arguments of `fv.render`.
    """
    wanted = []
    for match in matches:
        first, second = _unit(FIRST, match.first), _unit(SECOND, match.second)
        notes = CAPTIONS[match.status]
        images = [WantedImage(first, notes[0], seed), WantedImage(second, notes[1], seed)]
        if match.correlation < UNCHANGED:
            images += _differences(match, first, second, seed)
        wanted.append(images if match.status != "new" else [images[1], images[0], *images[2:]])
    titles = [_title(match) for match in matches]
    names = _add(album, wanted, titles, settings)
    return [
        PlannedCard(match.status, title, _text(match), images, 1 - match.correlation)
        for match, title, images in zip(matches, titles, names, strict=True)
    ]


def class_cards(
    album: Album, classes: Sequence[ClassChange], per_class: int, seed: int, settings: Mapping[str, Any]
) -> list[PlannedCard]:
    """Plan a card per class, with its images in the first and the second network, alternately.

    Args:
        album: The images of the page.
        classes: The classes.
        per_class: Number of images of each class and network.
        seed: Seed of the first image.
        settings: Further arguments of `fv.render`.
    """
    wanted = [
        [
            WantedImage(Logit(index, network), f"{network}{'' if k == 0 else f', {k + 1}'}", seed + k)
            for k in range(per_class)
            for network, index in zip((FIRST, SECOND), each.indices, strict=True)
        ]
        for each in classes
    ]
    names = _add(album, wanted, [each.title for each in classes], settings)
    return [
        PlannedCard("class", each.title, class_text(each), images, 1 - each.correlation)
        for each, images in zip(classes, names, strict=True)
    ]


def class_text(change: ClassChange) -> str:
    """Return the line of a class: how its logit and its images changed."""
    text = f"class; r = {change.correlation:.2f} of its logit"
    if change.transfer_loss is not None:
        text += f"; transfer loss {change.transfer_loss:.1f}"
    if change.change is None:
        return text
    text += f"; image changed by {change.change:.2f}"
    if change.probabilities is not None:
        text += " (judge: {:.2f}, then {:.2f})".format(*change.probabilities)
    return text


def compared_card(card: PlannedCard, change: ClassChange) -> PlannedCard:
    """Return the card of a class with the change of its images; the judge's, if there is one, to sort by."""
    size = card.change if change.change is None else change.change
    return replace(card, text=class_text(change), change=size)


def checkpoint_cards(
    album: Album, rows: Sequence[Sequence[tuple[str, UnitMatch]]], seed: int, settings: Mapping[str, Any]
) -> list[PlannedCard]:
    """Plan a strip per unit of the last network: the unit that corresponds to it in each checkpoint.

    Args:
        album: The images of the page.
        rows: For each unit, the name of each checkpoint and the pair of units in it and in the last network. The last
            network itself is added.
        seed: Seed of every image.
        settings: Further arguments of `fv.render`.
    """
    wanted, titles = [], []
    for row in rows:
        last = row[0][1].second
        titles.append(f"{last} over training")
        pairs = [(name, match.first, f"r {match.correlation:.2f}") for name, match in row]
        wanted.append(
            [WantedImage(_unit(name, unit), f"{unit}, {note}", seed) for name, unit, note in pairs]
            + [WantedImage(_unit(SECOND, last), "last", seed)]
        )
    names = _add(album, wanted, titles, settings)
    return [
        PlannedCard("checkpoint", title, _strip_text([match for _, match in row]), images, 1 - row[0][1].correlation)
        for row, title, images in zip(rows, titles, names, strict=True)
    ]


def _strip_text(row: Sequence[UnitMatch]) -> str:
    return f"checkpoints; r with the last: {', '.join(f'{match.correlation:.2f}' for match in row)}"


def _add(
    album: Album, cards: Sequence[Sequence[WantedImage]], titles: Sequence[str], settings: Mapping[str, Any]
) -> list[tuple[tuple[str, str], ...]]:
    """Add the images of cards to an album, those of the same layers together. Returns name and note of each."""
    groups: dict[frozenset[str], list[tuple[int, int]]] = {}
    for i, images in enumerate(cards):
        for k, image in enumerate(images):
            groups.setdefault(image.objective.layers, []).append((i, k))
    names: dict[tuple[int, int], str] = {}
    for places in groups.values():
        some = [cards[i][k] for i, k in places]
        made = album.add(
            [image.objective for image in some],
            [image.seed for image in some],
            [titles[i] for i, _ in places],
            [image.note for image in some],
            **settings,
        )
        names |= dict(zip(places, made, strict=True))
    return [tuple((names[i, k], image.note) for k, image in enumerate(images)) for i, images in enumerate(cards)]


def _unit(network: str, unit: Channel) -> Objective:
    """Return a unit of one of the combined networks; a class logit, where its layer is the output."""
    return Channel(f"{network}.{unit.layer}", unit.channel) if unit.layer else Logit(unit.channel, network)


def _differences(match: UnitMatch, first: Objective, second: Objective, seed: int) -> list[WantedImage]:
    """Return images of the difference of two units, each in units of its standard deviation, in both directions."""
    # Rounded, so that the last digits of a measurement do not change the names of images.
    scales = [float(f"{1 / deviation:.3g}") if deviation else 1.0 for deviation in match.deviations]
    scaled = scales[0] * first, scales[1] * second
    return [
        WantedImage(scaled[0] - scaled[1], "first - second", seed),
        WantedImage(scaled[1] - scaled[0], "second - first", seed),
    ]


def _title(match: UnitMatch) -> str:
    names = [f"logit:{unit.channel}" if not unit.layer else str(unit) for unit in (match.first, match.second)]
    return {"lost": names[0], "new": names[1], "shared": names[0]}.get(match.status, f"{names[0]} → {names[1]}")


def _text(match: UnitMatch) -> str:
    near = {"lost": match.second, "new": match.first}.get(match.status)
    found = "" if near is None else f"; nearest {near}"
    return f"{match.status}{found}, r = {match.correlation:.2f}"
