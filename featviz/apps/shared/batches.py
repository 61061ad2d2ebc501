"""Many pictures, each a file named by the hash of its recipe: what is there is never drawn again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import featviz as fv
from featviz.io import Store

AT_ONCE = 8
"""Pictures that are rendered combine: more take no less time each, and less would be lost than with more."""
THUMB = 256
"""Longer side in px of the small pictures that pages show first."""


def picture_file(name: str) -> str:
    """Return where a picture lies in the store."""
    return f"pictures/{name}.png"


def thumb_file(name: str) -> str:
    """Return where its small copy lies."""
    return f"thumbs/{name}.webp"


@dataclass(frozen=True)
class Batch:
    """Pictures that are rendered combine.

    Args:
        goals: what each shows; or one objective for all of them, which is then about the batch as a whole.
        seeds: one for each picture.
        names: the hashes of their recipes.
        settings: of `fv.render`, but for these.
    """

    goals: tuple[Any, ...]
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    settings: Mapping[str, Any] = field(hash=False)

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self.names)

    @property
    def whole(self) -> bool:
        """Whether the pictures cannot be told apart."""
        return len(self.goals) < len(self.names)

    @classmethod
    def of(cls, network: fv.Network, goals: Sequence[Any], seeds: Sequence[int], **settings: Any) -> Batch:
        """Name the pictures.

        Raises:
            FeatvizError: the first of them cannot be rendered.
        """
        shape = {**settings, "until": 0, "robustness_views": 0}
        several = len(goals) < len(seeds)
        first = fv.render(network, goals[0], seed=tuple(seeds) if several else seeds[0], **shape).recipe
        first = replace(first, until=None)
        if several:
            names = [first.only(i).hash for i in range(len(seeds))]
        else:
            pairs = zip(goals, seeds, strict=True)
            names = [first.about(goal, seed, network.heads).hash for goal, seed in pairs]
        return cls(tuple(goals), tuple(seeds), tuple(names), settings)

    def without(self, there: set[str]) -> list[Batch]:
        """Return what is still to be drawn, so many at a time."""
        left = [i for i, name in enumerate(self.names) if name not in there]
        if self.whole:
            return [self] if left else []
        return [self._only(left[first : first + AT_ONCE]) for first in range(0, len(left), AT_ONCE)]

    def each(self) -> list[Batch]:
        """Return batches of one picture."""
        return [self._only([i]) for i in range(len(self))]

    def _only(self, some: Sequence[int]) -> Batch:
        return replace(
            self,
            goals=tuple(self.goals[i] for i in some),
            seeds=tuple(self.seeds[i] for i in some),
            names=tuple(self.names[i] for i in some),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a picture.

    Args:
        name: the hash of its recipe.
        problem: why it is not there; empty where it is.
    """

    name: str
    problem: str = ""


class Backend(Protocol):
    """Where batches are drawn."""

    def run(self, network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
        """Draw them into the store, and say of each picture what became of it, as it is known."""


class LocalBackend:
    """Draws one batch after another, in this process."""

    def run(self, network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
        """Draw them into the store, and say of each picture what became of it, as it is known."""
        for batch in batches:
            yield from draw(network, batch, store)


def render_missing(
    network: fv.Network,
    batches: Iterable[Batch],
    store: Store,
    backend: Backend,
    progress: Callable[[int, int], None] | None,
) -> dict[str, str]:
    """Draw what is not in the store yet.

    Returns:
        The problem of each picture that is not there.
    """
    there = {file.removesuffix(".png") for file in store.names("pictures")}
    todo = [left for batch in batches for left in batch.without(there)]
    count, problems = sum(map(len, todo)), {}
    for done, outcome in enumerate(backend.run(network, todo, store), 1):
        if outcome.problem:
            problems[outcome.name] = outcome.problem
        if progress:
            progress(done, count)
    return problems


def draw(network: fv.Network, batch: Batch, store: Store) -> list[Outcome]:
    """Render a batch into the store; where it fails, its pictures are tried one by one.

    Raises:
        OutputError: the store cannot be written to.
        KeyboardInterrupt: it was stopped, and the batch is not there.
    """
    goals = batch.goals[0] if batch.whole else list(batch.goals)
    try:
        with warnings.catch_warnings(record=True):  # what is wrong with a picture is told with its name
            rendering = fv.render(network, goals, seed=batch.seeds, **batch.settings)
    except Exception as error:
        if len(batch) == 1 or batch.whole:
            return [Outcome(name, str(error) or type(error).__name__) for name in batch.names]
        return [outcome for one in batch.each() for outcome in draw(network, one, store)]
    if rendering.recipe.until is not None:
        raise KeyboardInterrupt
    for i, name in enumerate(batch.names):
        if i not in rendering.problems:
            store.write(thumb_file(name), rendering[i].encoded(".webp", side=THUMB))
            store.write(picture_file(name), rendering[i].encoded())  # last: it says that all is there
    return [Outcome(name, rendering.problems.get(i, "")) for i, name in enumerate(batch.names)]
