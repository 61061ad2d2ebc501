"""The pictures that pages want, drawn and laid out: also when some fail, or when it is stopped halfway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import featviz as fv
from featviz.apps.shared.batches import Backend, Batch, LocalBackend, render_missing
from featviz.apps.shared.page import Card, shot
from featviz.io import Store

DIVERSITY = 10.0
"""How much it counts that pictures of a class or unit differ in a layer."""


@dataclass
class Album:
    """The pictures of one page.

    Args:
        batches: in which they are drawn.
        cards: by title, each picture's name and how it differs from the card's others.
    """

    batches: list[Batch] = field(default_factory=list)
    cards: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def want(self, batch: Batch, titles: Sequence[str], notes: Sequence[str]) -> None:
        """Put a batch's pictures on the cards of these titles."""
        self.batches.append(batch)
        for name, title, note in zip(batch.names, titles, notes, strict=True):
            self.cards.setdefault(title, []).append((name, note))


@dataclass(frozen=True)
class Drawn:
    """What there is of the pictures.

    Args:
        store: where.
        names: of those that are there.
        problems: why others are not, by name.
    """

    store: Store
    names: frozenset[str]
    problems: Mapping[str, str]

    def card(
        self,
        title: str,
        pictures: Sequence[tuple[str, str]],
        beside: Sequence[str] = (),
        facts: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Card:
        """Make the card of a class or unit.

        Args:
            title: its own.
            pictures: names and notes.
            beside: files of photographs.
            facts: what more there is to say of a picture, by its name.
        """
        read = [shot(self.store, name, note, (facts or {}).get(name)) for name, note in pictures if name in self.names]
        first = read[0][1] if read else Card("")
        problem = "; ".join(dict.fromkeys(self.problems[name] for name, _ in pictures if name in self.problems))
        return replace(first, title=title, shots=[one for one, _ in read], beside=beside, problem=problem)


@dataclass(frozen=True)
class Pages:
    """What `fv.gallery`, `fv.sweep` and `fv.atlas` give back.

    Args:
        store: where everything is.
        pages: its pages, the first of which leads to all.
        count: how many pictures there are.
        problems: why a picture is missing, by what it was to show.
        facts: numbers that were found on the way, by layer and name.
    """

    store: Store
    pages: tuple[str, ...]
    count: int
    problems: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say where it is."""
        missing = f", {len(self.problems)} missing" if self.problems else ""
        return f"<{self.count} pictures{missing}: {self.page}>"

    @property
    def page(self) -> str:
        """Where the first page is."""
        return f"{str(self.store.path or self.store.url).rstrip('/')}/{self.pages[0]}"


def produce(
    network: fv.Network,
    albums: Sequence[Album],
    store: Store,
    lay_out: Callable[[Drawn], Sequence[str]],
    backend: Backend | None,
    progress: Callable[[int, int], None] | None,
) -> Pages:
    """Draw what is not there yet, and lay out what there is then, also after Ctrl-C.

    Args:
        network: which draws.
        albums: one for each page.
        store: where to.
        lay_out: writes the pages, and returns their names.
        engine: where to draw; `None` means here.
        progress: called after each picture with those done and those in all.
    """
    problems: dict[str, str] = {}
    try:
        batches = [batch for album in albums for batch in album.batches]
        problems = render_missing(network, batches, store, backend or LocalBackend(), progress)
    finally:
        there = frozenset(file.removesuffix(".png") for file in store.names("pictures"))
        pages = lay_out(Drawn(store, there, problems))
    wanted = [(title, *one) for album in albums for title, pictures in album.cards.items() for one in pictures]
    missing = {
        ", ".join(filter(None, (title, note))): problems[name] for title, name, note in wanted if name in problems
    }
    return Pages(store, tuple(pages), len(wanted) - len(missing), missing)
