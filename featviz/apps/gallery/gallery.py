"""Images of the classes of a network, as a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import featviz as fv
from featviz.apps.gallery.earlier import with_earlier_cards
from featviz.apps.gallery.matching import PROBABILITY, Matching, add_copies_to_pages, facts_of, mark_copies
from featviz.apps.gallery.page import Page, Photograph, make_card
from featviz.apps.judge.judge import VERDICTS
from featviz.apps.match import BATCH_NORM, MATCH_WEIGHT, Nearest
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.arguments.classes import class_title, find_classes, network_title, unique_name
from featviz.apps.shared.judging.judge_classes import check_judge, class_indices
from featviz.apps.shared.pages.input_pictures import encode_input
from featviz.apps.shared.pages.photographs import photographs_of_classes
from featviz.apps.shared.rendering.album import MAX_IMAGES, Album, Pages, RenderedImages, render_pages
from featviz.apps.shared.rendering.backends import Backend
from featviz.apps.shared.rendering.diverse import diverse_objective
from featviz.apps.shared.rendering.stored_images import image_file
from featviz.engine import entry_point
from featviz.engine.shorthand import as_param
from featviz.errors import pluralize, warn
from featviz.io import Store, auto_bar, check_outside, new_store, unique_slug
from featviz.network import OUTPUT

PAIR_IMAGES = 5
"""Images from one class of a pair to the other, both ends included."""


@entry_point(any_axes=True)
def gallery(
    network: fv.Network,
    output: str | Path,
    *,
    classes: Sequence[str | int] | None = None,
    per_class: int = 1,
    diversity: str | None = None,
    pairs: Sequence[tuple[str | int, str | int]] = (),
    probability: bool = False,
    photographs: str | Path | None = None,
    judge: fv.Network | None = None,
    match: str | Path | None = None,
    match_weight: float = MATCH_WEIGHT,
    size: int | tuple[int, ...] | None = None,
    quality: str = "usual",
    steps: int | None = None,
    seed: int = 0,
    backend: Backend | None = None,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Pages:
    """Render the classes of a network, as a page that opens from the disk.

    Images that are in the folder are not rendered again, so an interrupted gallery continues where it stopped. The
    page also keeps the classes of earlier calls, with their images and photographs; those of this call replace theirs.

    Args:
        network: A classifier.
        output: A folder, or a URL that fsspec supports.
        classes: Class names or indices; `None` for all classes.
        per_class: Number of images per class, from 1 to 1000.
        diversity: Layer in which the images of a class are made to differ; `None` for different seeds only.
        pairs: Pairs of classes to interpolate between, in five images each.
        probability: Also render the probability of each class, beside its logit.
        photographs: Folder of images. Those whose file or folder is named after a class are shown next to it; `None`
            for none.
        judge: Network with the same classes that judges whether it recognises them in the images; `None` for none.
        match: Folder of photographs whose distribution of activations and amplitude spectrum the images of classes
            get, as in `apps.match.match_units`; `"batch-norm"` for the network's own statistics; `None` for neither.
            Images that are copies of a photograph are marked on the page, and listed as problems.
        match_weight: Weight of `match`, >= 0.
        size: Height and width of the images in px, or one side; `None` for the network's input size, and less for
            drafts.
        quality: `"draft"`, `"usual"` or `"best"`, as for `fv.render`.
        steps: Steps of each image, >= 0; `None` for those of `quality`.
        seed: Seed of the first image of each class, >= 0; the next image has the next seed.
        backend: Where to render: `fv.RayBackend` for a Ray cluster; `None` for this process.
        progress: Called after each image with the number of images done and the number to render.

    Returns:
        The page, with the images that are missing or are copies, if there are any.

    Raises:
        AddressError: The network has no such class or layer.
        SettingError: An argument is out of its range, or the judge cannot judge these classes.
        OutputError: A folder is missing or cannot be written to.

    Source: Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, figure 1.
    """
    if not 1 <= per_class <= MAX_IMAGES:
        raise fv.SettingError(f"per_class must be in [1, {MAX_IMAGES}], got {per_class} (default 1)")
    if diversity is not None and per_class < 2:
        raise fv.SettingError(f"diversity needs per_class >= 2, got {per_class}")
    if classes is not None and not len(classes):
        raise fv.SettingError("classes must not be empty; give some, or None for all")
    check_outside(output, photographs, None if match == BATCH_NORM else match)
    if OUTPUT not in network.table:
        raise fv.SettingError(f"a gallery needs a single network, got {network.label} combined; give one of them")
    titles = _titled(network, range(network.table[OUTPUT].channels) if classes is None else classes)
    ends = [_titled(network, pair) for pair in pairs]
    for pair, found in zip(pairs, ends, strict=True):
        if len(found) != 2:
            raise fv.SettingError(f"a pair must have two different classes, got {pair[0]!r} and {pair[-1]!r}")
    with new_store(output) as store:
        if judge is not None:
            _check_judge(network, judge, titles, store)
        photos = {} if photographs is None else photographs_of_classes(list(titles), photographs, network.input)
        if photographs is not None and not photos:
            example, ending = next(iter(titles)), ".jpg" if network.input.axes == "yx" else ".npy"
            names = f"'{example} 1{ending}' or '{example}/1{ending}'"
            named = f"no photograph in {photographs} is named after a class, such as {names}"
            warn(f"{named}; none is shown")
        objectives = [fv.objectives.Logit(unique_name(network, index)) for index in titles.values()]
        matching = Matching.of(network, dict(zip(titles, objectives, strict=True)), match, match_weight)
        album, settings = Album(network, store), {"quality": quality, "steps": steps}
        _add_classes(album, list(titles), matching.objectives, per_class, diversity, size, seed, settings)
        if probability:
            chances = [fv.objectives.Probability(one.name) for one in objectives]
            seeds, notes = [seed] * len(chances), [PROBABILITY] * len(chances)
            album.add(chances, seeds, list(titles), notes, param=album.param(size), **settings)
        _add_pairs(album, ends, size, seed, settings)

        nearest: dict[str, Nearest] = {}

        def write_pages(rendered: RenderedImages) -> list[str]:
            nearest.update(matching.nearest(album, rendered))
            return [_write_page(network, titles, album, photos, judge, mark_copies(rendered, nearest), nearest)]

        made = render_pages(network, [album], store, write_pages, backend, progress)
        return add_copies_to_pages(made, [album], nearest)


def _titled(network: fv.Network, names: Sequence[str | int]) -> dict[str, int]:
    """Return the indices of classes by their title on the page.

    Raises:
        AddressError: There is no such class.
    """
    return {class_title(network, index): index for index in find_classes(network, names)}


def _check_judge(network: fv.Network, judge: fv.Network, titles: Mapping[str, int], store: Store) -> None:
    """Check before anything is rendered that the judge can judge all classes.

    Raises:
        SettingError: It cannot.
    """
    if len(network.size) != 2:
        raise fv.SettingError(
            f"judges see images, and {network.label} reads inputs of size {network.size}; leave out --judge "
            "(judge= in Python)"
        )
    if store.path is None:
        raise fv.SettingError(f"a judge needs images in a local folder, got {store.url}; give a folder of this machine")
    check_judge(network, judge)
    for index in titles.values():
        class_indices(fv.objectives.Logit(index), network, judge)


def _add_classes(
    album: Album,
    titles: Sequence[str],
    objectives: Sequence[fv.objectives.Objective],
    per_class: int,
    diversity: str | None,
    size: Any,
    seed: int,
    settings: Mapping[str, Any],
) -> None:
    """Plan the images of each class: of different seeds, or one joint batch per class that maximises diversity."""
    if diversity is None:
        param = album.param(size)
        for i in range(per_class):
            notes = [f"{i + 1}" if per_class > 1 else ""] * len(objectives)
            album.add(objectives, [seed + i] * len(objectives), titles, notes, param=param, **settings)
        return
    param = album.param(size, per_class)
    for title, objective in zip(titles, objectives, strict=True):
        diverse = diverse_objective(objective, diversity)
        notes = [f"{i + 1}" for i in range(per_class)]
        album.add([diverse], range(seed, seed + per_class), [title] * per_class, notes, param=param, **settings)


def _add_pairs(
    album: Album, pairs: Sequence[Mapping[str, int]], size: Any, seed: int, settings: Mapping[str, Any]
) -> None:
    """Plan the images between the classes of each pair. They share tensors, so that neighbours look alike."""
    param = as_param(fv.param.Shared(), size, PAIR_IMAGES, spec=album.network.input)
    for ends in pairs:
        path = fv.objectives.Interpolate(*(fv.objectives.Logit(index) for index in ends.values()))
        notes = [f"{round(100 * i / (PAIR_IMAGES - 1))} %" for i in range(PAIR_IMAGES)]
        titles, seeds = [" → ".join(ends)] * PAIR_IMAGES, range(seed, seed + PAIR_IMAGES)
        album.add([path], seeds, titles, notes, param=param, **settings)


def _write_page(
    network: fv.Network,
    titles: Mapping[str, int],
    album: Album,
    photos: Mapping[str, Sequence[Tensor]],
    judge: fv.Network | None,
    rendered: RenderedImages,
    nearest: Mapping[str, Nearest],
) -> str:
    """Write the page with its photographs and verdicts, and return its file."""
    store = rendered.store
    of_classes = [name for title in titles for name, _ in album.cards[title] if name in rendered.names]
    verdicts = {} if judge is None else _verdicts(store, of_classes, network, judge)
    facts = facts_of(nearest)
    facts.update({name: {**lines, **facts.get(name, {})} for name, lines in verdicts.items()})
    cards = []
    for title, images in album.cards.items():
        shown = []
        for k, photo in enumerate(photos.get(title, ())):
            shown.append(Photograph(f"photographs/{unique_slug(title)}-{k}.webp", f"photograph {k + 1}"))
            store.write(shown[k].file, encode_input(photo, network.input.axes))
        cards.append(make_card(rendered, title, images, shown, facts))
    cards = with_earlier_cards(rendered, "index.html", network, cards, album.cards, titles)
    count = sum(bool(card.images) and " → " not in card.title for card in cards)
    about = f"{count} {'class' if count == 1 else 'classes'} of {network_title(network)}"
    if judge is not None:
        by_judge = (VERDICTS[True, True], VERDICTS[False, True])
        recognised = sum(lines["verdict"] in by_judge for lines in verdicts.values())
        about += f"; {network_title(judge)} recognises {recognised} of {pluralize(len(verdicts), 'image')}"
    store.write("index.html", Page("Classes", about, cards, wide=len(network.size) != 2).html())
    return "index.html"


def _verdicts(store: Store, names: Sequence[str], network: fv.Network, judge: fv.Network) -> dict[str, dict[str, str]]:
    """Judge images, and store the verdicts so that each image is judged once.

    Returns:
        Lines of the dialog, by the name of the image.
    """
    assert store.path is not None
    heads = [(net.head, *net.classes) for net in (judge, network)]
    key, found = cache_key(judge, heads, sorted(VERDICTS.values())), {}
    for name in names:
        file = f"verdicts/{name}-{key}.json"
        found[name] = store.read_json(file)
        if not isinstance(found[name], dict):
            (verdict,) = fv.judge(store.path / image_file(name), judge=judge, network=network)
            chance = "" if verdict.probability is None else f"{verdict.probability:.2f}"
            found[name] = {
                f"probability ({network_title(judge)})": chance,
                f"rank ({network_title(judge)})": str(verdict.rank),
                "verdict": verdict.verdict,
            }
            store.write(file, json.dumps(found[name]))
    return found
