"""Every unit of layers, as pages: one's own microscope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import featviz as fv
from featviz.apps.galleries.examples import top_crops, webp
from featviz.apps.galleries.gallery import DIVERSITY, Made, card, made
from featviz.apps.galleries.page import Card, Page
from featviz.apps.galleries.work import Batch, Engine, Here, fulfil


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
    engine: Engine | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Draw every channel of layers, and lay them out as a page for each layer and one that leads to them.

    Whatever is there already is not drawn again, so a sweep that was stopped goes on where it was; and one that asks
    for more draws only that.

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
        progress: called after each picture with those done and those in all.

    Raises:
        AddressError: the network has no such layer, or none with such a channel.
        SettingError: an argument is out of its range.
        OutputError: the folder cannot be written to, or read.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, figure 2, the photographs.
    """
    if diverse == 1 or diverse < 0:
        raise fv.SettingError(f"{diverse} diverse pictures cannot differ; give 2 or more, or 0 for none")
    names = ["" if layer == "logit" else layer for layer in ([layers] if isinstance(layers, str) else layers)]
    units = {layer: _channels(network, layer, channels) for layer in names}
    store = fv.Store(output)
    single = {"steps": steps, "param": fv.param.image(size)}
    several = {"steps": steps, "param": fv.param.image(size, batch=max(diverse, 1))}
    batches: list[Batch] = []
    wanted: dict[str, dict[int, list[tuple[str, str]]]] = {}
    for layer in names:
        goals = [_unit(layer, channel, neurons) for channel in units[layer]]
        wanted[layer] = {channel: [] for channel in units[layer]}
        for sign, note in ((1, ""), (-1, "negative"))[: 1 + negative]:
            batch = Batch.of(network, goals if sign > 0 else [-goal for goal in goals], [seed] * len(goals), **single)
            batches.append(batch)
            for name, channel in zip(batch.names, units[layer], strict=True):
                wanted[layer][channel].append((name, note))
        for goal, channel in zip(goals, units[layer], strict=True) if diverse else ():
            apart = goal + DIVERSITY * fv.objectives.Diversity(layer)
            batches.append(Batch.of(network, [apart], range(seed, seed + diverse), **several))
            wanted[layer][channel] += [(name, f"{i + 1}") for i, name in enumerate(batches[-1].names)]

    problems: dict[str, str] = {}
    pages = ["index.html"]
    try:
        problems = fulfil(network, batches, store, engine or Here(), progress)
    finally:  # what there is can be looked at, also after Ctrl-C
        there = {file.removesuffix(".png") for file in store.names("pictures")}
        index = []
        for layer in names:
            crops = {} if photographs is None else _crops(store, network, layer, units[layer], photographs)
            cards = [
                card(store, _label(network, layer, channel), shots, there, problems, crops.get(channel, ()))
                for channel, shots in wanted[layer].items()
            ]
            pages.append(f"{_file(layer)}.html")
            title, drawn = layer or "logit", sum(bool(one.shots) for one in cards)
            about = f"{drawn} of {network.table[layer].channels} channels of {network.label}"
            store.write(pages[-1], Page(title, about, cards, back=("index.html", "all layers")).html())
            first = next((one.shots[:1] for one in cards if one.shots), ())
            index.append(Card(f"{title}, {drawn} units", first, link=pages[-1] if first else ""))
        about = f"{len(names)} layers of {network.label}"
        store.write("index.html", Page("Layers", about, index).html())
    flat = {_label(network, layer, channel): shots for layer in names for channel, shots in wanted[layer].items()}
    return made(store, pages, flat, problems)


def _channels(network: fv.Network, layer: str, channels: Sequence[int] | None) -> list[int]:
    """Choose channels of a layer.

    Raises:
        AddressError: there is no such layer, or no such channel.
    """
    acts = network.capture(torch.full((1, network.channels, *network.size), 0.5), [layer])
    count = acts.units(layer).shape[1]
    for channel in channels or ():
        if not 0 <= channel < count:
            acts.channel(layer, channel)
    return list(range(count) if channels is None else dict.fromkeys(channels))


def _unit(layer: str, channel: int, neurons: bool) -> fv.objectives.Objective:
    if not layer:
        return fv.objectives.Logit(channel)
    return fv.objectives.Neuron(layer, channel) if neurons else fv.objectives.Channel(layer, channel)


def _label(network: fv.Network, layer: str, channel: int) -> str:
    if not layer:
        return network.classes[channel] if network.classes else f"logit {channel}"
    return f"{layer}:{channel}"


def _crops(
    store: fv.Store, network: fv.Network, layer: str, channels: Sequence[int], folder: str | Path
) -> dict[int, list[str]]:
    """Write the crops of photographs that excite units most, and their mean, and return their files."""
    every = top_crops(network, layer, folder)
    files = {}
    for channel in channels:
        crops = every[channel]
        images = [*crops, torch.stack(crops).mean(0)] if len(crops) > 1 else crops
        files[channel] = [f"photographs/{_file(layer)}-{channel}-{i}.webp" for i in range(len(images))]
        for file, image in zip(files[channel], images, strict=True):
            store.write(file, webp(image))
    return files


def _file(layer: str) -> str:
    return "layer-" + "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in layer or "logit")
