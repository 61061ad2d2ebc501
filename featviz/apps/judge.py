"""Is it there? Class pictures before a network that had no part in making them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import featviz as fv
from featviz.apps.replay import VALUES, network_of

GROWTHS = (1.0, 1.1, 1.2)
"""How much larger than its input a judge sees a picture, and then of it the first, the middle and the last part."""
TRIALS = 8
"""In how many fresh views the maker looks again."""
NAMED = 0.005
"""Among which share of the classes one has to come first to be seen: the first five of a thousand."""
HOLDS = 0.5
"""How much of its score a unit's picture has to keep in fresh views."""
TOLD = {
    (True, True): "seen by both",
    (True, False): "only by the network that made it",
    (False, True): "only by the judge",
    (False, False): "noise",
}
"""The verdict, by whether the maker and the judge see the class."""
BATCH = 16
"""Photographs seen at once."""


@dataclass(frozen=True)
class Verdict:
    """What was found out about one picture.

    Args:
        picture: its name.
        unit: what it was made to show.
        rank: of its class among the judge's answers, 1 being the first; `None` where the unit is no class.
        probability: that the judge gives to its class.
        own: that its maker gives to its class, on the picture as it is.
        score: the unit's, on the picture as it is.
        kept: how much of what it scores above noise is there in fresh views, as a share.
        slope: by which power of 1/frequency its amplitudes fall; 1 to 1.6 in photographs.
        percentile: share of the photographs that excite the unit less; `None` where there were none.
        told: in words.
    """

    picture: str
    unit: str
    rank: int | None
    probability: float | None
    own: float | None
    score: float
    kept: float
    slope: float
    percentile: float | None
    told: str


@dataclass(frozen=True)
class Judgement:
    """Verdicts, and what they come to; `str` makes a table of them.

    Args:
        verdicts: one for each picture.
        judge: what the judge is called.
    """

    verdicts: tuple[Verdict, ...]
    judge: str

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        """Go through the verdicts."""
        return iter(self.verdicts)

    def __getitem__(self, picture: int) -> Verdict:
        """Return one of them."""
        return self.verdicts[picture]

    @property
    def classes(self) -> list[Verdict]:
        """Those of pictures of a class."""
        return [verdict for verdict in self.verdicts if verdict.rank is not None]

    def top(self, n: int) -> float:
        """Return in which share of the class pictures the judge has the class among its first n answers."""
        return _mean([float((verdict.rank or 0) <= n) for verdict in self.classes])

    @property
    def probability(self) -> float:
        """The judge's mean probability of the pictures' classes."""
        return _mean([verdict.probability or 0.0 for verdict in self.classes])

    def __str__(self) -> str:
        """Lay out a table, and under it what it comes to."""
        head = ("picture", "shows", "rank", f"p {self.judge}", "p own", "kept", "slope", "above", "verdict")
        rows = [
            (
                one.picture,
                one.unit,
                "" if one.rank is None else str(one.rank),
                "" if one.probability is None else f"{one.probability:.2f}",
                "" if one.own is None else f"{one.own:.2f}",
                f"{one.kept:.2f}",
                f"{one.slope:.2f}",
                "" if one.percentile is None else f"{one.percentile:.0%}",
                one.told,
            )
            for one in self.verdicts
        ]
        wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        wide = [width if any(row[i] for row in rows) else 0 for i, width in enumerate(wide)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True) if width)
            for row in (head, *rows)
        ]
        if self.classes:
            lines.append(f"top-1 {self.top(1):.2f}, top-5 {self.top(5):.2f}, mean probability {self.probability:.2f}")
        return "\n".join(line.rstrip() for line in lines)


def judge(
    pictures: fv.Rendering | str | Path | Sequence[str | Path],
    *,
    by: fv.Network,
    network: fv.Network | None = None,
    photographs: str | Path | None = None,
) -> Judgement:
    """Ask whether a network that had no part in making pictures sees in them what they were made to show.

    Args:
        pictures: a rendering, or PNG files that featviz saved, one picture in each.
        by: the judge; it should know the same classes, and have been trained apart.
        network: the pictures' maker; `None` means the one that the recipe names, which is loaded.
        photographs: a folder with whose images to compare how much the unit is excited.

    Raises:
        RecipeError: a file holds no recipe, or the recipe's network cannot be loaded by name.
        SettingError: the judge does not know a picture's class, or a file shows several pictures.
        OutputError: a file or the folder cannot be read.
    """
    made = list(_rendered(pictures) if isinstance(pictures, fv.Rendering) else _read(pictures))
    makers: dict[tuple[str, str | None], fv.Network] = {}
    entries = []
    for one in made:
        maker = network
        if maker is None:
            named = one.recipe.model, one.recipe.weights
            makers[named] = maker = makers.get(named) or network_of(one.recipe)
        entries.append((one, maker))
    above = _above(entries, photographs)
    verdicts = [_verdict(one, maker, by, None if above is None else above[i]) for i, (one, maker) in enumerate(entries)]
    return Judgement(tuple(verdicts), by.label)


def seen(image: Tensor, label: int, by: fv.Network) -> tuple[int, float]:
    """Return a class's rank among a network's answers, 1 being the first, and its probability, over a few views.

    Args:
        image: (channels, h, w) in [0, 1], of any size.
        label: index of the class.
        by: what looks at it.
    """
    return _rank(_answers(by, _views(image, by.size)), label)


@dataclass(frozen=True)
class _Picture:
    """A picture, and what it was made to show."""

    name: str
    image: Tensor
    unit: Any
    recipe: fv.Recipe


def _rendered(rendering: fv.Rendering) -> Iterator[_Picture]:
    images = rendering.images[:, :-1] if rendering.alpha else rendering.images
    for i, image in enumerate(images):
        which = rendering.recipe if rendering.recipe.picture is not None else rendering.recipe.only(i)
        yield _Picture(rendering.names[i], image, _unit(which), which)


def _read(files: str | Path | Sequence[str | Path]) -> Iterator[_Picture]:
    for file in [files] if isinstance(files, str | Path) else files:
        recipe = fv.Recipe.of(file)
        if recipe.picture is None and len(recipe.seeds) > 1:
            raise fv.SettingError(f"{file} is a sheet of {len(recipe.seeds)}; save a folder, and judge the files in it")
        which = recipe if recipe.picture is not None else recipe.only(0)
        image = torch.from_numpy(fv.read_image(file, len(recipe.expects["mean"])))
        yield _Picture(Path(file).stem, image, _unit(which), which)


def _unit(recipe: fv.Recipe) -> Any:
    """Find what a picture shows: the first part of its objective that is a unit, or the whole of it."""
    each = len(recipe.seeds) // len(recipe.objectives)
    whole = fv.build(recipe.objectives[(recipe.picture or 0) // each], VALUES)
    kinds = (fv.objectives.Logit, fv.objectives.Probability, fv.objectives.Channel, fv.objectives.Neuron)
    ahead = [whole]
    while ahead:
        part = ahead.pop(0)
        if isinstance(part, kinds):
            return part
        ahead[:0] = getattr(part, "parts", ())
    return whole


def _verdict(one: _Picture, maker: fv.Network, by: fv.Network, percentile: float | None) -> Verdict:
    trust = replace(_look(one, maker, start=one.image), start=_look(one, maker, start=None).fresh.mean(0))
    facts: dict[str, Any] = {
        "picture": one.name,
        "unit": str(one.unit),
        "score": trust.clean.item(),
        "kept": trust.kept.item(),
        "slope": fv.slope(one.image[None]).item(),
        "percentile": percentile,
    }
    if not isinstance(one.unit, fv.objectives.Logit | fv.objectives.Probability):
        told = "holds in other views" if facts["kept"] >= HOLDS else "only in some views"
        return Verdict(**facts, rank=None, probability=None, own=None, told=told)
    mine, theirs = _classes(one.unit, maker, by)
    own_rank, own = _rank(_answers(maker, [_fit(one.image, maker.size)]), mine)
    rank, probability = seen(one.image, theirs, by)
    saw, sees = own_rank <= _first(maker), rank <= _first(by)
    told = (
        ("seen by both" if saw else "only by the judge")
        if sees
        else "only by the network that made it"
        if saw
        else "noise"
    )
    return Verdict(**facts, rank=rank, probability=probability, own=own, told=told)


def _look(one: _Picture, maker: fv.Network, start: Tensor | None) -> fv.Trust:
    """Score a picture, or noise in its place, as it is and in fresh views of the transforms that it was made in."""
    try:
        transforms = fv.build(one.recipe.transforms, VALUES)
    except fv.RecipeError:  # someone's own, or another library's
        transforms = fv.transforms.STANDARD
    size = (one.image.shape[-2], one.image.shape[-1])
    held = fv.param.image(size, spatial=fv.param.Pixel(), color=fv.param.Clamped())
    trust = fv.render(
        maker,
        one.unit,
        param=fv.param.image(size) if start is None else held,
        start=start,
        transforms=transforms,
        steps=0,
        trials=TRIALS,
    ).trust
    if trust is None:
        raise fv.ModelError(f"{maker.label} does not take {one.name} as it is; judge pictures of its own size")
    return trust


def _classes(unit: Any, maker: fv.Network, by: fv.Network) -> tuple[int, int]:
    """Find a picture's class among the maker's and the judge's."""
    names = maker.heads.get(unit.network, maker.classes)
    mine = unit.name if isinstance(unit.name, int) else names.index(unit.name)
    if not names or not by.classes or by.classes == names:
        return mine, mine
    if names[mine] not in by.classes:
        raise fv.SettingError(f"{by.label} knows no class {names[mine]!r}; judge by a network of the same classes")
    return mine, by.classes.index(names[mine])


def _answers(network: fv.Network, views: Sequence[Tensor]) -> Tensor:
    """Return the mean probabilities of a network's classes over views."""
    with torch.no_grad():
        return network.capture(torch.cat(list(views)), [""]).logits().softmax(1).mean(0).cpu()


def _rank(shares: Tensor, label: int) -> tuple[int, float]:
    return int((shares > shares[label]).sum()) + 1, shares[label].item()


def _first(network: fv.Network) -> int:
    """Return up to which rank a class counts as seen."""
    return max(1, round(NAMED * network.table[""].channels))


def _views(image: Tensor, size: tuple[int, int]) -> list[Tensor]:
    views = []
    for growth in GROWTHS:
        height, width = round(size[0] * growth), round(size[1] * growth)
        large = _fit(image, (height, width))
        for share in (0.0, 0.5, 1.0):
            top, left = round(share * (height - size[0])), round(share * (width - size[1]))
            views.append(large[..., top : top + size[0], left : left + size[1]])
    return views


def _fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)


def _above(entries: list[tuple[_Picture, fv.Network]], folder: str | Path | None) -> list[float] | None:
    """Say for each picture what share of a folder's photographs excites its unit less than the picture does."""
    if folder is None:
        return None
    below = [0.0] * len(entries)
    for maker in {id(maker): maker for _, maker in entries}.values():
        mine = [i for i, (_, other) in enumerate(entries) if other is maker]
        units = [entries[i][0].unit for i in mine]
        own = [fv.score(maker, units[k], _fit(entries[i][0].image, maker.size)).item() for k, i in enumerate(mine)]
        scores = torch.cat(
            [
                fv.score(maker, units, torch.stack(batch))
                for batch in _batches(fv.photographs(folder, size=maker.size, channels=maker.channels))
            ]
        )
        for k, i in enumerate(mine):
            below[i] = (scores[:, k] < own[k]).float().mean().item()
    return below


def _batches(images: Iterator[tuple[Path, Tensor]]) -> Iterator[list[Tensor]]:
    batch = []
    for _, image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
