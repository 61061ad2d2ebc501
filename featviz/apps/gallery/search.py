"""Percentiles by which a page ranks its units: by their response to a photograph, or by likeness to a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from featviz.apps.shared.pages.page import compress
from featviz.apps.shared.pages.text import printable
from featviz.apps.units.responses import Responses
from featviz.apps.units.statistics import percentiles

MAX_PHOTOGRAPHS = 1000
"""Largest number of photographs by which the units of a page can be ranked."""
MAX_NUMBERS = 2_000_000
"""Largest number of percentiles in a page, of one byte each."""
MIN_PHOTOGRAPHS = 2
"""Smallest number of photographs for which units are ranked."""


@dataclass(frozen=True)
class Search:
    """Percentiles of photographs for the units of a page.

    Args:
        photographs: Name of each photograph.
        units: Number of units.
        percentiles: Percentile of each photograph for each unit, photograph by photograph, 0 to 255: bytes, compressed
            by zlib and encoded in base 64.
    """

    photographs: Sequence[str]
    units: int
    percentiles: str


def make_search(
    responses: Responses, units: Sequence[int], shown: Iterable[str]
) -> tuple[Search, dict[str, int]] | None:
    """Return the percentiles for the page of a layer: of all photographs or, if they are many, of some spread evenly.

    Args:
        responses: Responses of the layer to the photographs.
        units: The units, in the order of the columns.
        shown: Paths of photographs that are on the page, relative to their folder, which are kept.

    Returns:
        The search, and the row of each photograph in it, by its path; `None` for too few photographs.
    """
    if len(responses) < MIN_PHOTOGRAPHS:
        return None
    limit = max(MIN_PHOTOGRAPHS, min(MAX_PHOTOGRAPHS, MAX_NUMBERS // len(units)))
    rows = _choose(responses.names, set(shown), limit)
    shares = percentiles(responses.values[:, list(units)])[rows]
    packed = compress((255 * shares).round().byte().numpy().tobytes())
    names = [responses.names[row] for row in rows]
    return Search([printable(name) for name in names], len(units), packed), {name: i for i, name in enumerate(names)}


def _choose(names: Sequence[str], shown: set[str], limit: int) -> list[int]:
    """Return the indices of at most `limit` photographs: those that are shown, and others that are spread evenly."""
    if len(names) <= limit:
        return list(range(len(names)))
    first = [i for i, name in enumerate(names) if name in shown][:limit]
    others = [i for i, name in enumerate(names) if name not in shown]
    left = limit - len(first)
    return sorted(first + [others[i * len(others) // left] for i in range(left)])
