"""Rebuild nested tuples and lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def rebuilt(value: Any, items: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list of the same class as another, with other items."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
