"""What each class looks like to a network, as a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import featviz as fv
from featviz.apps.galleries.examples import of_classes, webp
from featviz.apps.galleries.page import Card, Page, numbers, shot
from featviz.apps.galleries.work import Batch, Engine, Here, fulfil, picture_file

BETWEEN = 5
"""Pictures from one class of a pair to the other, both included."""
DIVERSITY = 10.0
"""How much it counts that pictures of a class differ in a layer."""


@dataclass(frozen=True)
class Made:
    """What `fv.gallery` and `fv.sweep` give back.

    Args:
        store: where everything is.
        pages: its pages, the first of which leads to all.
        count: how many pictures there are.
        problems: why a picture is missing, by what it was to show.
    """

    store: fv.Store
    pages: tuple[str, ...]
    count: int
    problems: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say where it is."""
        missing = f", {len(self.problems)} missing" if self.problems else ""
        return f"<{self.count} pictures{missing}: {self.page}>"

    @property
    def page(self) -> str:
        """Where the first page is."""
        return f"{str(self.store.path or self.store.url).rstrip('/')}/{self.pages[0]}"


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
    engine: Engine | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Draw what classes look like to a network, and lay them out as a page that works from the disk.

    Whatever is there already is not drawn again, so a gallery that was stopped goes on where it was.

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
        raise fv.SettingError(f"{each} pictures of a class {'cannot differ' if each == 1 else 'are none'}; give more")
    named = _find(network, range(network.table[""].channels) if classes is None else classes)
    couples = [_find(network, pair) for pair in pairs]
    store = fv.Store(output)
    if judge is not None and store.path is None:
        raise fv.SettingError(f"pictures in {store.url} cannot be judged; give a folder of this machine")
    beside = {} if photographs is None else of_classes(list(named), photographs)
    names = [title if title in network.classes else index for title, index in named.items()]
    goals = [fv.objectives.Logit(name) for name in names]
    single = {"steps": steps, "param": fv.param.image(size)}
    several = {"steps": steps, "param": fv.param.image(size, batch=each)}
    between = {"steps": steps, "param": fv.param.image(size, batch=BETWEEN, spatial=fv.param.Shared())}
    batches: list[Batch] = []
    wanted: dict[str, list[tuple[str, str]]] = {title: [] for title in named}

    def want(batch: Batch, titles: Sequence[str], notes: Sequence[str]) -> None:
        batches.append(batch)
        for name, title, note in zip(batch.names, titles, notes, strict=True):
            wanted.setdefault(title, []).append((name, note))

    if diverse is None:
        for i in range(each):
            want(
                Batch.of(network, goals, [seed + i] * len(goals), **single),
                list(named),
                [f"{i + 1}" * (each > 1)] * len(goals),
            )
    else:
        for title, goal in zip(named, goals, strict=True):
            apart = goal + DIVERSITY * fv.objectives.Diversity(diverse)
            batch = Batch.of(network, [apart], range(seed, seed + each), **several)
            want(batch, [title] * each, [f"{i + 1}" for i in range(each)])
    if probability:
        likely = [fv.objectives.Probability(name) for name in names]
        want(Batch.of(network, likely, [seed] * len(likely), **single), list(named), ["probability"] * len(likely))
    for ends in couples:
        path = fv.objectives.Interpolate(*(fv.objectives.Logit(index) for index in ends.values()))
        notes = [f"{round(100 * i / (BETWEEN - 1))} %" for i in range(BETWEEN)]
        want(Batch.of(network, [path], range(seed, seed + BETWEEN), **between), [" → ".join(ends)] * BETWEEN, notes)

    problems: dict[str, str] = {}
    try:
        problems = fulfil(network, batches, store, engine or Here(), progress)
    finally:  # what there is can be looked at, also after Ctrl-C
        there = {file.removesuffix(".png") for file in store.names("pictures")}
        own = [name for title in named for name, _ in wanted[title] if name in there]
        verdicts = {} if judge is None else _verdicts(store, own, network, judge)
        cards = []
        for i, (title, shots) in enumerate(wanted.items()):
            photos = [f"photographs/{i}-{k}.webp" for k in range(len(beside.get(title, ())))]
            for file, image in zip(photos, beside.get(title, ()), strict=True):
                store.write(file, webp(image))
            cards.append(card(store, title, shots, there, problems, photos, verdicts))
        about = f"what {len(named)} classes look like to {network.label}"
        store.write("index.html", Page("Classes", about, cards).html())
    return made(store, ["index.html"], wanted, problems)


def made(
    store: fv.Store, pages: Sequence[str], wanted: Mapping[str, Sequence[tuple[str, str]]], problems: Mapping[str, str]
) -> Made:
    """Sum up what there is, and what is missing."""
    missing = {
        f"{title}, {note}" if note else title: problems[name]
        for title, names in wanted.items()
        for name, note in names
        if name in problems
    }
    return Made(store, tuple(pages), sum(map(len, wanted.values())) - len(missing), missing)


def card(
    store: fv.Store,
    title: str,
    names: Sequence[tuple[str, str]],
    there: set[str],
    problems: Mapping[str, str],
    beside: Sequence[str] = (),
    verdicts: Mapping[str, Mapping[str, str]] | None = None,
) -> Card:
    """Make the card of a class or unit from its pictures in the store."""
    read = [shot(store, name, note, (verdicts or {}).get(name)) for name, note in names if name in there]
    first = read[0][1] if read else Card("")
    problem = "; ".join(dict.fromkeys(problems[name] for name, _ in names if name in problems))
    return replace(first, title=title, shots=[one for one, _ in read], beside=beside, problem=problem)


def _find(network: fv.Network, names: Sequence[str | int]) -> dict[str, int]:
    """Find classes by name or index.

    Raises:
        AddressError: there is none such.
    """
    acts = network.capture(torch.full((1, network.channels, *network.size), 0.5), [""])
    found = {}
    for name in names:
        digits = isinstance(name, str) and name.isdigit() and name not in network.classes
        index = acts.class_index(int(name) if digits else name)
        title = network.classes[index] if network.classes else str(index)
        found[title if network.classes.count(title) < 2 else f"{title} ({index})"] = index  # ImageNet has two cranes
    return found


def _verdicts(
    store: fv.Store, names: Sequence[str], network: fv.Network, judge: fv.Network
) -> dict[str, dict[str, str]]:
    """Ask the judge about pictures, and keep what it says beside them, so that it is asked once."""
    assert store.path is not None
    known = store.names("verdicts")
    found = {}
    for name in names:
        file = f"{name}-{judge.fingerprint}.json"
        if file not in known:
            (verdict,) = fv.judge(store.path / picture_file(name), by=judge, network=network)
            told = numbers({f"p by {judge.label}": verdict.probability, "rank": verdict.rank, "verdict": verdict.told})
            store.write(f"verdicts/{file}", json.dumps(told))
        found[name] = json.loads(store.read(f"verdicts/{file}"))
    return found
