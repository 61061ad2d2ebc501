"""What each class looks like to a network, as a page."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import featviz as fv
from featviz.apps.judge.classes import check_judge, labels
from featviz.apps.judge.judge import TOLD
from featviz.apps.shared.album import DIVERSITY, Album, Drawn, Pages, produce
from featviz.apps.shared.batches import Backend, Batch, picture_file
from featviz.apps.shared.page import Page, class_number, class_title, counted, numbers
from featviz.apps.shared.photographs import of_classes, webp
from featviz.io import Store

BETWEEN = 5
"""Pictures from one class of a pair to the other, both included."""


def gallery(
    network: fv.Network,
    output: str | Path,
    *,
    classes: Sequence[str | int] | None = None,
    each: int = 1,
    diverse: str | None = None,
    pairs: Sequence[tuple[str | int, str | int]] = (),
    probability: bool = False,
    photographs: str | Path | None = None,
    judge: fv.Network | None = None,
    size: int | tuple[int, int] | None = None,
    steps: int = 512,
    seed: int = 0,
    backend: Backend | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pages:
    """Draw what classes look like to a network, and lay them out as a page that works from the disk.

    Whatever is there already is not drawn again, so a gallery that was stopped goes on where it was. The page shows
    what was last asked for; pictures of other settings stay in the folder, and are taken again when they are asked for.

    Args:
        network: whose classes they are.
        output: a folder, or a URL that fsspec knows.
        classes: names or indices; `None` means all.
        each: pictures of a class.
        diverse: a layer in which they are to differ; `None` means that each just begins elsewhere.
        pairs: classes to go between, in a few pictures.
        probability: draw the class's probability, too, beside its logit.
        photographs: a folder; those that are called like a class stand beside it.
        judge: a network that knows the same classes, and is asked whether it sees them.
        size: height and width in px, or one side; `None` means the network's own.
        steps: of each picture.
        seed: of the first picture of a class; the next has the next.
        engine: where to draw; `None` means here.
        progress: called after each picture with those done and those in all.

    Raises:
        AddressError: the network has no such class.
        SettingError: an argument is out of its range.
        OutputError: the folder cannot be written to, or read.

    Source: Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, figure 1.
    """
    if each < 1 or (diverse is not None and each < 2):
        pictures = counted(each, "picture")
        raise fv.SettingError(f"{pictures} of a class {'cannot differ' if each == 1 else 'are none'}; give more")
    if classes is not None and not len(classes):
        raise fv.SettingError("no classes are given; give some, or None for all")
    if "" not in network.table:
        raise fv.SettingError(f"{network.label} are several networks; give one of them")
    named = _find(network, range(network.table[""].channels) if classes is None else classes)
    couples = [_find(network, pair) for pair in pairs]
    if any(len(ends) != 2 for ends in couples):
        raise fv.SettingError("a pair is of two classes; give another than the same again")
    store = Store(output)
    if judge is not None and store.path is None:
        raise fv.SettingError(f"pictures in {store.url} cannot be judged; give a folder of this machine")
    if judge is not None:
        check_judge(network, judge)
        for index in named.values():
            labels(fv.objectives.Logit(index), network, judge)
    beside = {} if photographs is None else of_classes(list(named), photographs, network.channels)
    if photographs is not None and not beside:
        first = next(iter(named))
        told = f"no photograph in {photographs} is called like a class, as '{first} 1.jpg' or '{first}/1.jpg'"
        warnings.warn(f"{told}; none are shown", fv.FeatvizWarning, stacklevel=2)
    settings = {"steps": steps, "param": fv.param.Image(size)}
    several = {"steps": steps, "param": fv.param.Image(size, batch=each)}
    between = {"steps": steps, "param": fv.param.Image(size, batch=BETWEEN, spatial=fv.param.Shared())}
    names = [title if title in network.classes else index for title, index in named.items()]
    goals = [fv.objectives.Logit(name) for name in names]
    titles, album = list(named), Album()
    if diverse is None:
        for i in range(each):
            notes = [f"{i + 1}" * (each > 1)] * len(goals)
            album.want(Batch.of(network, goals, [seed + i] * len(goals), **settings), titles, notes)
    else:
        for title, goal in zip(titles, goals, strict=True):
            apart = goal + DIVERSITY * fv.objectives.Diversity(diverse)
            batch = Batch.of(network, [apart], range(seed, seed + each), **several)
            album.want(batch, [title] * each, [f"{i + 1}" for i in range(each)])
    if probability:
        likely = [fv.objectives.Probability(name) for name in names]
        batch = Batch.of(network, likely, [seed] * len(likely), **settings)
        album.want(batch, titles, ["probability"] * len(likely))
    for ends in couples:
        path = fv.objectives.Interpolate(*(fv.objectives.Logit(index) for index in ends.values()))
        notes = [f"{round(100 * i / (BETWEEN - 1))} %" for i in range(BETWEEN)]
        batch = Batch.of(network, [path], range(seed, seed + BETWEEN), **between)
        album.want(batch, [" → ".join(ends)] * BETWEEN, notes)

    def lay_out(drawn: Drawn) -> list[str]:
        own = [name for title in named for name, _ in album.cards[title] if name in drawn.names]
        verdicts = {} if judge is None else _verdicts(store, own, network, judge)
        cards = []
        for i, (title, pictures) in enumerate(album.cards.items()):
            photos = [f"photographs/{i}-{k}.webp" for k in range(len(beside.get(title, ())))]
            for file, image in zip(photos, beside.get(title, ()), strict=True):
                store.write(file, webp(image))
            cards.append(drawn.card(title, pictures, photos, verdicts))
        like = "1 class looks" if len(named) == 1 else f"{len(named)} classes look"
        about = f"what {like} like to {network.label}"
        if judge is not None:
            there = [one for one in verdicts.values() if one["verdict"] in (TOLD[True, True], TOLD[False, True])]
            about += f"; {judge.label} sees {len(there)} of {counted(len(verdicts), 'picture')}"
        store.write("index.html", Page("Classes", about, cards).html())
        return ["index.html"]

    return produce(network, [album], store, lay_out, backend, progress)


def _find(network: fv.Network, names: Sequence[str | int]) -> dict[str, int]:
    """Find classes by name or index.

    Raises:
        AddressError: there is none such.
    """
    found = {}
    for name in names:
        index = class_number(network, name)
        found[class_title(network, index)] = index
    return found


def _verdicts(store: Store, names: Sequence[str], network: fv.Network, judge: fv.Network) -> dict[str, dict[str, str]]:
    """Ask the judge about pictures, and keep what it says beside them, so that it is asked once."""
    assert store.path is not None
    known = store.names("verdicts")
    told = judge.fingerprint, judge.input
    who = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    found = {}
    for name in names:
        file = f"{name}-{who}.json"
        if file not in known:
            (verdict,) = fv.judge(store.path / picture_file(name), by=judge, network=network)
            shown = {f"p by {judge.label}": verdict.probability, "rank": verdict.rank, "verdict": verdict.told}
            store.write(f"verdicts/{file}", json.dumps(numbers(shown)))
        found[name] = json.loads(store.read(f"verdicts/{file}"))
    return found
