"""Cards that earlier runs put on a page, which stay there when a later run adds others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import featviz as fv
from featviz.apps.gallery.page import Card, Photograph, make_card
from featviz.apps.shared.rendering.album import RenderedImages

FOLDER = "cards"
"""Folder of the notes."""


def with_earlier_cards(
    rendered: RenderedImages,
    page: str,
    network: fv.Network,
    cards: Sequence[Card],
    images: Mapping[str, Sequence[tuple[str, str]]],
    order: Mapping[str, int],
) -> list[Card]:
    """Return the cards of a page in order, with those of earlier runs about other classes or units.

    Each run leaves a note of its own, so that jobs that share a folder do not overwrite each other's. Cards of earlier
    runs keep their images and photographs, without names and scores of the unit. A card about a class that has another
    name in this run is left out.

    Args:
        rendered: The images that are in the store.
        page: File of the page.
        network: The network.
        cards: The cards of this run.
        images: Name and note of the images of each card of this run, by title.
        order: Index of the class or unit of a title; titles without one come last.
    """
    store, stem = rendered.store, page.removesuffix(".html")
    places = {card.title: order.get(card.title, len(cards) + max(order.values(), default=0)) for card in cards}
    note = {
        "network": _identity(network),
        "cards": {
            card.title: {
                "place": places[card.title],
                "index": order.get(card.title),
                "images": images[card.title],
                "photographs": [asdict(photograph) for photograph in card.photographs],
            }
            for card in cards
        },
    }
    digest = hashlib.sha256(json.dumps(sorted(places)).encode()).hexdigest()[:16]
    own = f"{stem}-{digest}.json"
    store.write(f"{FOLDER}/{own}", json.dumps(note))
    found = {card.title: card for card in cards}
    own_indices = {order[card.title] for card in cards if card.title in order}
    for name in sorted(store.names(FOLDER)):
        if name.rpartition("-")[0] == stem and name != own:
            note = store.read_json(f"{FOLDER}/{name}")
            for title, (place, index, card) in _read_note(rendered, network, note).items():
                if title not in found and card.images and index not in own_indices:
                    found[title], places[title] = card, place
    return sorted(found.values(), key=lambda card: places[card.title])


def _identity(network: fv.Network) -> str:
    """Return a hash of the weights and the input specification of a network."""
    return hashlib.sha256(repr((network.fingerprint, network.input.content)).encode()).hexdigest()[:16]


def _read_note(rendered: RenderedImages, network: fv.Network, note: Any) -> dict[str, tuple[int, int | None, Card]]:
    """Return place, index and card by title, without those that are damaged or about another network or input."""
    if not isinstance(note, dict) or note.get("network") != _identity(network):
        return {}
    found, cards = {}, note.get("cards")
    for title, known in cards.items() if isinstance(cards, dict) else ():
        with suppress(fv.FeatvizError, AttributeError, KeyError, TypeError, ValueError):
            images = [(name, text) for name, text in known["images"]]
            photographs = [replace(Photograph(**each), row=None) for each in known["photographs"]]
            place, index = int(known["place"]), known["index"]
            found[title] = place, index, make_card(rendered, title, images, photographs)
    return found
