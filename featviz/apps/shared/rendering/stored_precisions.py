"""The precision of a store by network and layers: the first one that was chosen, which all its images have."""

from __future__ import annotations

import json
from typing import Any

from featviz.io import Store
from featviz.network import PRECISIONS

PRECISION_FILE = "precision.json"
"""File of the precisions in a store."""


def stored_precisions(store: Store) -> dict[str, Any]:
    """Return the precision by network and layers; empty where none is known, or the file is damaged."""
    found = store.read_json(PRECISION_FILE)
    return {key: each for key, each in found.items() if each in PRECISIONS} if isinstance(found, dict) else {}


def copy_precisions(other: Store, store: Store) -> None:
    """Render in the precision of another store what was rendered there, unless the store has a choice of its own.

    Args:
        other: The other store.
        store: The store.
    """
    store.write(PRECISION_FILE, json.dumps(stored_precisions(other) | stored_precisions(store)))


def store_precision(store: Store, key: str, precision: str | None) -> None:
    """Store the precision of images.

    Args:
        store: The store.
        key: Network and layers of the images.
        precision: One of `PRECISIONS`; `None` where none was chosen, which is not stored.

    Raises:
        OutputError: The store cannot be written to.
    """
    if precision:
        store.write(PRECISION_FILE, json.dumps(stored_precisions(store) | {key: precision}))
