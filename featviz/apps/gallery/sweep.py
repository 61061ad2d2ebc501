"""Every unit of layers, as pages: one's own microscope."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import featviz as fv
from featviz.apps.shared.album import DIVERSITY, Album, Drawn, Pages, produce
from featviz.apps.shared.batches import Backend, Batch
from featviz.apps.shared.page import Card, Page, class_title, counted, shot
from featviz.apps.shared.photographs import webp
from featviz.io import Store, check_outside


def sweep(
    network: fv.Network,
    output: str | Path,
    layers: str | Sequence[str],
    *,
    channels: Sequence[int] | None = None,
    neurons: bool = False,
    negative: bool = False,
    diverse: int = 0,
    photographs: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    steps: int = 512,
    seed: int = 0,
    backend: Backend | None = None,
    looking: Callable[[int, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pages:
    """Draw every channel of layers, and lay them out as a page for each layer, and one that leads to all those there.

    Whatever is there already is not drawn again, so a sweep that was stopped goes on where it was; and one that asks
    for more draws only that. A layer's page shows what was last asked of it. A folder is for one network: the index
    leads to layers of the last one alone.

    Args:
        network: whose layers they are.
        output: a folder, or a URL that fsspec knows.
        layers: one or several; `logit` for the classes.
        channels: which of each layer; `None` means all.
        neurons: draw the neuron in the middle instead of the whole channel.
        negative: draw what each unit answers to least, too.
        diverse: pictures of each that differ from one another, besides.
        photographs: a folder, of which those that excite a unit most stand beside it, cut to what the unit sees.
        size: height and width in px, or one side; `None` means the network's own.
        steps: of each picture.
        seed: of every unit's first picture.
        engine: where to draw; `None` means here.
        looking: called with the photographs looked at and those in all.
        progress: called after each picture with those done and those in all.

    Raises:
        AddressError: the network has no such layer, or none with such a channel.
        SettingError: an argument is out of its range.
        OutputError: the folder cannot be written to, or read.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, figure 2, the photographs.
    """
    if diverse == 1 or diverse < 0:
        raise fv.SettingError(f"{diverse} diverse pictures cannot differ; give 2 or more, or 0 for none")
    if channels is not None and not len(channels):
        raise fv.SettingError("no channels are given; give some, or None for all")
    names = ["" if layer == "logit" else layer for layer in ([layers] if isinstance(layers, str) else layers)]
    if neurons and "" in names:
        raise fv.SettingError("a logit has no neurons; leave neurons out, or the logits")
    flat = [layer for layer in names if layer in network.table and network.table[layer].layout.kind == "vector"]
    if neurons and flat:
        raise fv.SettingError(f"{flat[0]} has no places, so it has no neurons; leave neurons out, or the layer")
    units = {layer: _units(network, layer, channels) for layer in dict.fromkeys(names)}
    if photographs is not None:
        check_outside(output, photographs)
    store = Store(output)
    settings = {"steps": steps, "param": fv.param.Image(size)}
    several = {"steps": steps, "param": fv.param.Image(size, batch=max(diverse, 1))}
    excited = {}
    if photographs is not None:
        excited = {
            layer: fv.examples(network, photographs, layer, list(some.values()), progress=looking)
            for layer, some in units.items()
        }
    albums = {layer: Album() for layer in units}
    for layer, album in albums.items():
        titles, goals = list(units[layer]), [_goal(layer, channel, neurons) for channel in units[layer].values()]
        for sign, note in ((1, ""), (-1, "negative"))[: 1 + negative]:
            signed = goals if sign > 0 else [-goal for goal in goals]
            album.want(Batch.of(network, signed, [seed] * len(goals), **settings), titles, [note] * len(goals))
        for title, goal in zip(titles, goals, strict=True) if diverse else ():
            apart = goal + DIVERSITY * fv.objectives.Diversity(layer)
            batch = Batch.of(network, [apart], range(seed, seed + diverse), **several)
            album.want(batch, [title] * diverse, [f"{i + 1}" for i in range(diverse)])

    def lay_out(drawn: Drawn) -> list[str]:
        pages = ["index.html"]
        for layer, album in albums.items():
            crops = {} if layer not in excited else _crops(store, excited[layer])
            cards = [
                drawn.card(title, pictures, crops.get(units[layer][title], ()))
                for title, pictures in album.cards.items()
            ]
            pages.append(f"{_file(layer)}.html")
            title, count = layer or "logit", sum(bool(one.shots) for one in cards)
            about = f"{count} of {network.table[layer].channels} channels of {network.label}"
            store.write(pages[-1], Page(title, about, cards, back=("index.html", "all layers")).html())
            names = (name for pictures in album.cards.values() for name, _ in pictures if name in drawn.names)
            note = {"network": network.fingerprint, "layer": layer, "units": count, "picture": next(names, None)}
            store.write(f"layers/{_file(layer)}.json", json.dumps(note))
        fronts = _fronts(network, store)
        about = f"{counted(len(fronts), 'layer')} of {network.label}"
        store.write("index.html", Page("Layers", about, fronts).html())
        return pages

    return produce(network, list(albums.values()), store, lay_out, backend, progress)


def _units(network: fv.Network, layer: str, channels: Sequence[int] | None) -> dict[str, int]:
    """Choose channels of a layer, by what they are called.

    Raises:
        AddressError: there is no such layer, or no such channel.
    """
    acts = network.capture(torch.full((1, network.channels, *network.size), 0.5), [layer])
    count = acts.channels_first(layer).shape[1]
    for channel in channels or ():
        if not 0 <= channel < count:
            acts.channel(layer, channel)
    some = range(count) if channels is None else channels
    return {(f"{layer}:{channel}" if layer else class_title(network, channel)): channel for channel in some}


def _goal(layer: str, channel: int, neurons: bool) -> fv.objectives.Objective:
    if not layer:
        return fv.objectives.Logit(channel)
    return fv.objectives.Neuron(layer, channel) if neurons else fv.objectives.Channel(layer, channel)


def _crops(store: Store, found: Any) -> dict[int, list[str]]:
    """Write the crops of photographs that excite units most, and their mean, where they are not there yet.

    Returns:
        Their files, by channel.
    """
    there, files = store.names("photographs"), {}
    count = len(found.scan.found["top"][0])
    for channel in found.channels:
        names = [f"{found.key}-{channel}-{i}.webp" for i in range(count + (count > 1))]
        if not there.issuperset(names):
            crops = [example.crop for example in found.of(channel)]
            for name, image in zip(names, [*crops, torch.stack(crops).mean(0)], strict=False):
                store.write(f"photographs/{name}", webp(image))
        files[channel] = [f"photographs/{name}" for name in names]
    return files


def _fronts(network: fv.Network, store: Store) -> list[Card]:
    """Read the cards that lead to the network's layers, also those of earlier sweeps, in the network's order."""
    notes = [json.loads(store.read(f"layers/{name}")) for name in store.names("layers")]
    units = {note["layer"]: note for note in notes if note["network"] == network.fingerprint}
    return [_front(store, units[layer]) for layer in network.table if layer in units]


def _front(store: Store, note: Mapping[str, Any]) -> Card:
    title = f"{note['layer'] or 'logit'}, {counted(note['units'], 'unit')}"
    if note["picture"] is None:
        return Card(title)
    one, _ = shot(store, note["picture"])
    return Card(title, [one], link=f"{_file(note['layer'])}.html")


def _file(layer: str) -> str:
    return "layer-" + "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in layer or "logit")
