"""Images of the units of layers, as one page per layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import featviz as fv
from featviz.apps.examples.examples import Examples
from featviz.apps.gallery.crops import write_crops
from featviz.apps.gallery.earlier import with_earlier_cards
from featviz.apps.gallery.matching import NEGATIVE, Matching, add_copies_to_pages, facts_of, mark_copies
from featviz.apps.gallery.page import Card, Page, Photograph, card_image, make_card
from featviz.apps.gallery.search import Search, make_search
from featviz.apps.match import BATCH_NORM, MATCH_WEIGHT, Nearest
from featviz.apps.shared.arguments.classes import class_title, network_title
from featviz.apps.shared.arguments.probe import check_channels, in_network_order
from featviz.apps.shared.arguments.unit_lookup import objective_of
from featviz.apps.shared.pages.page import MAX_SLUG
from featviz.apps.shared.rendering.album import MAX_IMAGES, Album, Pages, RenderedImages, render_pages
from featviz.apps.shared.rendering.backends import Backend
from featviz.apps.shared.rendering.diverse import diverse_objective
from featviz.apps.shared.rendering.stored_images import rendered_names
from featviz.apps.units.labels import read_rows
from featviz.apps.units.responses import Responses, read_responses
from featviz.apps.units.summary import Summary, labels_of, summaries
from featviz.engine import entry_point
from featviz.errors import pluralize
from featviz.io import Store, auto_bar, check_outside, new_store, unique_slug
from featviz.network import OUTPUT


@entry_point(any_axes=True)
def sweep(
    network: fv.Network,
    output: str | Path,
    layers: str | Sequence[str],
    *,
    channels: Sequence[int] | None = None,
    neurons: bool = False,
    negative: bool = False,
    diverse_images: int = 0,
    photographs: str | Path | None = None,
    labels: str | Path | None = None,
    match: str | Path | None = None,
    match_weight: float = MATCH_WEIGHT,
    size: int | tuple[int, ...] | None = None,
    quality: str = "usual",
    steps: int | None = None,
    seed: int = 0,
    backend: Backend | None = None,
    scan_progress: Callable[[int, int], None] | None = auto_bar,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Pages:
    """Render the channels of layers, as one page per layer and an index page.

    Images that are in the folder are not rendered again, so an interrupted sweep continues where it stopped, and one
    with more channels renders only those. The page of a layer also keeps the units of earlier calls, with their images
    and photographs; those of this call replace theirs. The index links to all layers of the network in the folder.

    Args:
        network: The network.
        output: A folder, or a URL that fsspec supports. Use one folder per network.
        layers: Name of one or several layers; `"logit"` for the class logits.
        channels: Channels of each layer; `None` for all.
        neurons: Render the neuron at the central position instead of the whole channel.
        negative: Also render what each unit responds to least.
        diverse_images: Number of additional images per unit that differ from each other in the layer: 0, or from 2 to
            1000.
        photographs: Folder of images. Those with the highest activation are shown next to each unit, cropped to its
            receptive field, with a name and scores of the unit as in `fv.unit`; `None` for none.
        labels: A .csv file of photographs and their labels, beside the folders in which they lie; `None` for none.
        match: Folder of photographs whose distribution of activations and amplitude spectrum the images get, as in
            `apps.match.match_units`; `"batch-norm"` for the network's own statistics; `None` for neither. Images of
            what a unit responds to least are not matched. Copies of a photograph are marked on the page, and listed as
            problems.
        match_weight: Weight of `match`, >= 0.
        size: Height and width of the images in px, or one side; `None` for the network's input size, and less for
            drafts.
        quality: `"draft"`, `"usual"` or `"best"`, as for `fv.render`.
        steps: Steps of each image, >= 0; `None` for those of `quality`.
        seed: Seed of the first image of each unit, >= 0.
        backend: Where to render: `fv.RayBackend` for a Ray cluster; `None` for this process.
        scan_progress: Called with the number of photographs scanned and their total, for each layer from the start.
        progress: Called after each image with the number of images done and the number to render.

    Returns:
        The pages, with the images that are missing or are copies, if there are any.

    Raises:
        AddressError: The network has no such layer or channel.
        SettingError: An argument is out of its range.
        OutputError: A folder is missing or cannot be written to.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, figure 2, the photographs.
    """
    if diverse_images != 0 and not 2 <= diverse_images <= MAX_IMAGES:
        raise fv.SettingError(f"diverse_images must be 0 or in [2, {MAX_IMAGES}], got {diverse_images} (default 0)")
    if labels is not None:
        read_rows(labels)  # errors come before anything is computed
    names = ["" if layer == "logit" else layer for layer in ([layers] if isinstance(layers, str) else layers)]
    if neurons:
        _check_neurons(network, names)
    units = {layer: _titled(network, layer, channels) for layer in dict.fromkeys(names)}
    check_outside(output, photographs, None if match == BATCH_NORM else match)
    with new_store(output) as store:
        found = {}
        if photographs is not None:
            found = {
                layer: _photographed(network, photographs, layer, list(titles.values()), labels, scan_progress)
                for layer, titles in units.items()
            }
        elif labels is not None:
            raise fv.SettingError("labels are of photographs; give the folder as photographs, too")
        albums, matched, settings = {}, {}, {"quality": quality, "steps": steps}
        for layer, titles in units.items():
            goals = {title: _objective(layer, channel, neurons) for title, channel in titles.items()}
            matched[layer] = Matching.of(network, goals, match, match_weight)
            album = albums[layer] = Album(network, store)
            _plan(album, layer, goals, matched[layer], negative, diverse_images, size, seed, settings)
        nearest: dict[str, Nearest] = {}

        def write_pages(rendered: RenderedImages) -> list[str]:
            for layer, album in albums.items():
                nearest.update(matched[layer].nearest(album, rendered))
            marked = mark_copies(rendered, nearest)
            pages = [
                _write_layer(network, layer, units[layer], album, found.get(layer), marked, nearest)
                for layer, album in albums.items()
            ]
            cards = _layer_cards(network, store)
            about = f"{pluralize(len(cards), 'layer')} of {network_title(network)}"
            store.write("index.html", Page("Layers", about, cards, wide=len(network.size) != 2).html())
            return ["index.html", *pages]

        made = render_pages(network, list(albums.values()), store, write_pages, backend, progress)
        return add_copies_to_pages(made, list(albums.values()), nearest)


@dataclass(frozen=True, eq=False)
class _Photographed:
    """Responses of the units of a layer to photographs, with the names and scores that follow.

    Args:
        responses: Responses of the layer to the photographs.
        examples: The photographs with the highest activation of the chosen channels.
        known: Name and scores of each channel.
    """

    responses: Responses
    examples: Examples
    known: Mapping[int, Summary]


def _photographed(
    network: fv.Network,
    photographs: str | Path,
    layer: str,
    channels: Sequence[int],
    labels: str | Path | None,
    progress: Callable[[int, int], None] | None,
) -> _Photographed:
    """Read the photographs once, for all channels of a layer."""
    responses = read_responses(network, photographs, layer, progress=progress)
    known = summaries(responses, labels_of(network, responses, labels), channels)
    return _Photographed(responses, replace(responses.examples, channels=tuple(channels)), known)


def _check_neurons(network: fv.Network, layers: Sequence[str]) -> None:
    """Check that layers have positions, and so neurons.

    Raises:
        SettingError: A layer has none.
    """
    for layer in layers:
        if network.layer(layer).layout.kind == "vector":
            name = layer or "logit"
            raise fv.SettingError(f"layer {name!r} has no positions and so no neurons; leave out neurons or the layer")


def _titled(network: fv.Network, layer: str, channels: Sequence[int] | None) -> dict[str, int]:
    """Return channels of a layer by their title on the page.

    Raises:
        AddressError: There is no such layer or channel.
        SettingError: `channels` is empty.
    """
    chosen = check_channels(network, layer, channels)
    separator = ":" if network.layer(layer).base is None else ""  # the features of a dictionary are layer~5
    return {(f"{layer}{separator}{channel}" if layer else class_title(network, channel)): channel for channel in chosen}


def _plan(
    album: Album,
    layer: str,
    units: Mapping[str, fv.objectives.Objective],
    matching: Matching,
    negative: bool,
    diverse_images: int,
    size: Any,
    seed: int,
    settings: Mapping[str, Any],
) -> None:
    """Plan the images of a layer.

    Args:
        album: The images of its page.
        layer: Name of the layer.
        units: Channels or neurons by title.
        matching: What is rendered for each of them.
        negative: Whether to also render what each unit responds to least.
        diverse_images: Number of additional, differing images per unit.
        size: Of the images; `None` for that of the quality preset.
        seed: Seed of the first image of each unit.
        settings: Further arguments of `fv.render`.
    """
    signed = {"": matching.objectives}
    if negative:
        signed[NEGATIVE] = [-unit for unit in units.values()]
    for note, goals in signed.items():
        param = album.param(size)
        album.add(goals, [seed] * len(goals), list(units), [note] * len(goals), param=param, **settings)
    if diverse_images:
        param = album.param(size, diverse_images)
        for title, objective in zip(units, matching.objectives, strict=True):
            diverse = diverse_objective(objective, layer)
            notes, seeds = [f"{i + 1}" for i in range(diverse_images)], range(seed, seed + diverse_images)
            album.add([diverse], seeds, [title] * diverse_images, notes, param=param, **settings)


def _objective(layer: str, channel: int, neurons: bool) -> fv.objectives.Objective:
    return fv.objectives.Neuron(layer, channel) if neurons and layer != OUTPUT else objective_of(layer, channel)


def _write_layer(
    network: fv.Network,
    layer: str,
    titles: Mapping[str, int],
    album: Album,
    found: _Photographed | None,
    rendered: RenderedImages,
    nearest: Mapping[str, Nearest],
) -> str:
    """Write the page of a layer, and the note from which index pages are made. Returns the file of the page."""
    store, page = rendered.store, _page_file(layer)
    crops, search = ({}, None) if found is None else _searchable(store, network, found)
    known, facts = {} if found is None else found.known, facts_of(nearest)
    columns = {} if search is None or found is None else {k: i for i, k in enumerate(found.examples.channels)}
    cards = [
        replace(
            make_card(rendered, title, images, crops.get(titles[title], ()), facts, known.get(titles[title])),
            column=columns.get(titles[title]),
        )
        for title, images in album.cards.items()
    ]
    cards = with_earlier_cards(rendered, page, network, cards, album.cards, titles)
    count = sum(bool(card.images) for card in cards)
    row = network.layer(layer)
    units = "channels" if row.base is None else "features"
    about = f"{count} of {row.channels} {units} of {network_title(network)}"
    wide = len(network.size) != 2
    store.write(page, Page(layer or "logit", about, cards, ("index.html", "all layers"), search, wide).html())
    names = (name for images in album.cards.values() for name, _ in images if name in rendered.names)
    note = {"network": network.fingerprint, "layer": layer, "units": count, "image": next(names, None)}
    store.write(f"layers/{page.removesuffix('.html')}.json", json.dumps(note))
    return page


def _searchable(
    store: Store, network: fv.Network, found: _Photographed
) -> tuple[dict[int, list[Photograph]], Search | None]:
    """Write the crops of photographs, and return them with their rows in the search of the page."""
    crops, folder = write_crops(store, network, found.examples), found.responses.folder
    files = {
        channel: [place.file.relative_to(folder).as_posix() for place in found.examples.places(channel)]
        for channel in crops
    }
    made = make_search(found.responses, found.examples.channels, {file for some in files.values() for file in some})
    if made is None:
        return crops, None
    search, rows = made
    for channel, some in files.items():
        crops[channel][: len(some)] = [
            replace(crop, row=rows.get(file)) for crop, file in zip(crops[channel], some, strict=False)
        ]
    return crops, search


def _layer_cards(network: fv.Network, store: Store) -> list[Card]:
    """Return cards that link to the pages of the network's layers, also of earlier sweeps, in the network's order."""
    notes = [store.read_json(f"layers/{name}") for name in store.names("layers") if name.endswith(".json")]
    by_layer = {note["layer"]: note for note in notes if _is_note(note) and note["network"] == network.fingerprint}
    return [_layer_card(store, by_layer[layer]) for layer in in_network_order(network, by_layer)]


def _is_note(note: Any) -> bool:
    """Return whether a file among the notes is one: it may be damaged, or of something else."""
    kinds = {"network": str, "layer": str, "units": int, "image": str | None}
    return isinstance(note, dict) and all(isinstance(note.get(key), kind) for key, kind in kinds.items())


def _layer_card(store: Store, note: Mapping[str, Any]) -> Card:
    title = f"{note['layer'] or 'logit'}, {pluralize(note['units'], 'unit')}"
    if note["image"] is None or not rendered_names(store, [note["image"]]):
        return Card(title, link=_page_file(note["layer"]))
    return Card(title, [card_image(store, note["image"])], link=_page_file(note["layer"]))


def _page_file(layer: str) -> str:
    return f"layer-{unique_slug(layer or 'logit', MAX_SLUG)}.html"
