"""The board: images that the user keeps, with notes, and its export as a static gallery."""

from __future__ import annotations

import json
from hashlib import sha256
from io import BytesIO
from threading import Lock
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import featviz as fv
from featviz.apps.explore.requests import IDS, RequestError, read_id, read_text
from featviz.apps.gallery.page import Card, Page, card_image
from featviz.apps.shared.arguments.classes import network_title
from featviz.apps.shared.rendering.stored_images import rendered_names
from featviz.errors import pluralize
from featviz.io import Store

FILE = "board.json"
MAX_NOTE = 500
"""Largest number of characters of a note."""


class Board:
    """The images that the user keeps.

    Args:
        network: The network.
        store: Where the images and the board are.
    """

    most = 500
    """Largest number of images on it."""

    def __init__(self, network: fv.Network, store: Store) -> None:
        self._network, self._store = network, store
        self._lock = Lock()

    def items(self) -> list[dict[str, str]]:
        """Return the id and the note of each image on the board."""
        found = self._store.read_json(FILE)
        listed = found.get("items") if isinstance(found, dict) else None
        items = [each for each in listed or () if _is_item(each)] if isinstance(listed, list) else []
        return [{"id": each["id"], "note": each["note"]} for each in items]

    def content(self) -> dict[str, Any]:
        """Return `items`, and their `revision`, which differs for another content."""
        items = self.items()
        return {"items": items, "revision": sha256(json.dumps(items).encode()).hexdigest()[:16]}

    def set(self, items: list[Any], revision: str) -> dict[str, Any]:
        """Replace the content of the board.

        Args:
            items: An id and a note for each image.
            revision: Revision of the content that is replaced.

        Returns:
            The new content, as `content` gives it.

        Raises:
            RequestError: An item is no object, its image is not in the store, or the board has another revision
                because another page changed it.
        """
        kept: dict[str, str] = {}
        for each in items:
            if not isinstance(each, dict):
                raise RequestError("items must list objects with id and note")
            kept[read_id(each, "id")] = read_text(each, "note", "", most=MAX_NOTE)
        with self._lock:
            if revision != self.content()["revision"]:
                raise RequestError("the board was changed by another page; read it again", 409)
            missing = kept.keys() - rendered_names(self._store, kept)
            if missing:
                raise RequestError(f"there is no image {min(missing)} to keep on the board", 404)
            listed = [{"id": name, "note": note} for name, note in kept.items()]
            self._store.write(FILE, json.dumps({"items": listed}))
            return self.content()

    def export(self) -> bytes:
        """Return the board as a ZIP file: a page, and the images that it shows.

        Raises:
            RequestError: The board is empty.
        """
        items = self.items()
        existing = rendered_names(self._store, [item["id"] for item in items])
        cards, files = [], []
        for item in items:
            if item["id"] in existing:
                image = card_image(self._store, item["id"])
                files += [image.file, image.thumbnail]
                cards.append(Card(item["note"] or image.shows, [image]))
        if not cards:
            raise RequestError("the board is empty; add an image first")
        about = f"{pluralize(len(cards), 'image')} of {network_title(self._network)}"
        data = BytesIO()
        with ZipFile(data, "w", ZIP_STORED) as archive:  # the images are compressed already
            archive.writestr("index.html", Page("Board", about, cards).html(), ZIP_DEFLATED)
            for file in dict.fromkeys(files):
                archive.writestr(file, self._store.read(file))
        return data.getvalue()


def _is_item(found: Any) -> bool:
    """Return whether an entry of the file is one of the board; the file may be damaged."""
    return (
        isinstance(found, dict)
        and isinstance(found.get("id"), str)
        and isinstance(found.get("note"), str)
        and IDS.fullmatch(found["id"]) is not None
    )
