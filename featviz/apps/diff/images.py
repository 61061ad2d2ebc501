"""Render the images of a comparison, compare those of classes by a judge, and write the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.diff.classes import ClassChange, divergence, recognise, transfer_loss
from featviz.apps.diff.page import page_facts, write_page
from featviz.apps.diff.plan import (
    FIRST,
    SECOND,
    PlannedCard,
    checkpoint_cards,
    class_cards,
    combine,
    compared_card,
    shown_matches,
    unit_cards,
)
from featviz.apps.diff.result import NetworkDiff, is_changed_class
from featviz.apps.diff.training import follow_units, spread_units
from featviz.apps.shared.rendering.album import Album, RenderedImages, render_pages
from featviz.apps.shared.rendering.backends import Backend
from featviz.apps.shared.rendering.stored_images import image_file
from featviz.io import Store, read_image
from featviz.network import index_of_class


@dataclass(frozen=True, eq=False)
class ComparisonImages:
    """Renders the images of a comparison and writes its page.

    Args:
        networks: The networks, in order.
        store: Where everything is written.
        most: Largest number of units of each kind, and of classes, on the page.
        per_class: Number of images of each class and network.
        seed: Seed of the images.
        settings: Further arguments of `fv.render`.
    """

    networks: Sequence[fv.Network]
    store: Store
    most: int
    per_class: int
    seed: int
    settings: Mapping[str, Any]

    def render(
        self,
        found: NetworkDiff,
        judge: fv.Network | None,
        backend: Backend | None,
        progress: Callable[[int, int], None] | None,
    ) -> NetworkDiff:
        """Render the missing images and write the page.

        Args:
            found: The numbers.
            judge: The judge; `None` for none.
            backend: Where to render; `None` for this process.
            progress: As for `diff`.

        Returns:
            The comparison with the page and the changes of classes according to the judge.
        """
        names = [FIRST, *(f"checkpoint{k}" for k in range(1, len(self.networks) - 1)), SECOND]
        network = combine(dict(zip(names, self.networks, strict=True)))
        album = Album(network, self.store)
        # Without a judge only changed logits tell which classes to show.
        classes = found.classes if judge else [each for each in found.classes if is_changed_class(each)][: self.most]
        of_classes = class_cards(album, classes, self.per_class, self.seed, self.settings)
        cards = unit_cards(album, shown_matches(found.units, self.most), self.seed, self.settings)
        cards += self._checkpoint_cards(album, found, names)
        results: list[NetworkDiff] = []

        def write(rendered: RenderedImages) -> list[str]:
            compared = [
                _compare(rendered, card, each, self.networks, judge)
                for card, each in zip(of_classes, classes, strict=True)
            ]
            results.append(_with_classes(found, compared))
            pairs = sorted(zip(compared, of_classes, strict=True), key=lambda pair: _class_order(pair[0]))
            shown = [compared_card(card, each) for each, card in pairs if is_changed_class(each)][: self.most]
            return [write_page(rendered, [*shown, *cards], page_facts(results[-1], judge))]

        pages = render_pages(network, [album], self.store, write, backend, progress)
        return replace(results[-1], pages=pages)

    def _checkpoint_cards(self, album: Album, found: NetworkDiff, names: Sequence[str]) -> list[PlannedCard]:
        """Plan the cards of units over training; none for two networks."""
        if not found.checkpoints:
            return []
        units = spread_units(found.checkpoints[0].layers[1], self.most)
        rows = [list(zip(names, row, strict=False)) for row in follow_units(found.checkpoints, units)]
        return checkpoint_cards(album, rows, self.seed, self.settings)


def _with_classes(found: NetworkDiff, compared: Sequence[ClassChange]) -> NetworkDiff:
    """Return a comparison with the classes whose images were compared, and all others unchanged."""
    done = {each.indices for each in compared}
    classes = [*compared, *(each for each in found.classes if each.indices not in done)]
    return replace(found, classes=tuple(sorted(classes, key=_class_order)))


def _class_order(change: ClassChange) -> tuple[bool, float, float]:
    """Return the key by which classes are sorted: the largest transfer loss first, those without images last.

    An image may also change by chance, with the course of the optimisation. Then it excites the other network as well.
    """
    return change.transfer_loss is None, -(change.transfer_loss or 0.0), change.correlation


def _compare(
    rendered: RenderedImages,
    card: PlannedCard,
    change: ClassChange,
    networks: Sequence[fv.Network],
    judge: fv.Network | None,
) -> ClassChange:
    """Return the change of a class with that of its images; the same if an image is missing."""
    if any(name not in rendered.names for name, _ in card.images):
        return change
    folder = rendered.store.path
    assert folder is not None  # checked before
    channels = networks[0].channels
    images = [torch.from_numpy(read_image(folder / image_file(name), channels)) for name, _ in card.images]
    first, last = torch.stack(images[::2]), torch.stack(images[1::2])
    loss = transfer_loss((networks[0], networks[-1]), change, (first, last))
    change = replace(change, transfer_loss=loss)
    return change if judge is None else _judge(change, list(first), list(last), judge)


def _judge(change: ClassChange, first: Sequence[Tensor], last: Sequence[Tensor], judge: fv.Network) -> ClassChange:
    """Return the change of a class according to a judge."""
    before, after = recognise(first, judge), recognise(last, judge)
    index = index_of_class(change.title, judge.classes)
    known = None if index is None or index >= len(before) else (float(before[index]), float(after[index]))
    return replace(change, change=divergence(before, after), probabilities=known)
