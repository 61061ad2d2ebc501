"""Is it there? Class pictures before a network that had no part in making them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.judge.classes import check_judge, labels
from featviz.apps.judge.subjects import Subject, pictures_of
from featviz.apps.judge.verdicts import Judgement, Verdict
from featviz.apps.judge.views import covering, resized, views
from featviz.apps.replay import check_weights, network_of
from featviz.apps.shared.predictions import predict
from featviz.engine import Robustness
from featviz.io import read_photographs
from featviz.param.spectrum import slope

TRIALS = 8
"""In how many fresh views the maker looks again."""
NOISES = 8
"""From how many beginnings a picture has to stand out."""
NAMED = 0.005
"""Among which share of the classes one has to come first to be seen: the first five of a thousand."""
ODDS = 2.0
"""How many times the odds have to be those that noise has: of two classes, either comes first in half of all noise."""
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


def judge(
    pictures: fv.Rendering | str | Path | Sequence[str | Path],
    *,
    by: fv.Network,
    network: fv.Network | str | None = None,
    weights: str | Path | None = None,
    own: Mapping[str, Any] | None = None,
    photographs: str | Path | None = None,
) -> Judgement:
    """Ask whether a network that had no part in making pictures sees in them what they were made to show.

    Whatever they were made in, their maker looks at them again in the default views; but for units that are about
    places, which are to be found where they were shown.

    Args:
        pictures: a rendering, or PNG files that featviz saved, one picture in each, or folders of them.
        by: the judge; it should know the same classes, and have been trained apart.
        network: the pictures' maker, or what `fv.load` calls it; `None` means the one that the recipe names.
        weights: the maker's, where the recipe's own lie elsewhere now.
        own: objectives and params of one's own that the recipes name, by name.
        photographs: a folder with whose images to compare how much the unit is excited.

    Raises:
        RecipeError: a file holds no recipe, or the maker cannot be loaded or has other weights.
        SettingError: the judge is the maker, or does not know a picture's class; or a file shows several pictures.
        OutputError: a file or the folder cannot be read.
    """
    cases = list(_cases(list(pictures_of(pictures, own)), by, network, weights))
    above = [None] * len(cases) if photographs is None else _above(cases, photographs)
    return Judgement(tuple(_verdict(case, by, share) for case, share in zip(cases, above, strict=True)), by.label)


def seen(image: Tensor, label: int, by: fv.Network) -> tuple[int, float]:
    """Return a class's rank among a network's answers, 1 being the first, and its probability, over a few views.

    Of classes that are as likely, it is the last: a network that always says the same sees nothing.

    Args:
        image: (channels, h, w) in [0, 1], of any size; one that is not of the network's shape is seen in parts.
        label: index of the class.
        by: what looks at it.
    """
    return _rank(predict(by, views(image, by.size)).mean(0), label)


@dataclass(frozen=True)
class _Case:
    """A picture, its maker, and the index of its class to the maker and to the judge, where it shows a class."""

    made: Subject
    maker: fv.Network
    labels: tuple[int, int] | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in px at which its maker looks again: where places matter, those at which it was made."""
        height, width = self.made.recipe.size if self.made.placed else self.made.image.shape[-2:]
        return height, width

    @cached_property
    def now(self) -> fv.Rendering:
        """The picture before its maker, in fresh views."""
        return _before(self, resized(self.made.image, self.size))

    @cached_property
    def score(self) -> float:
        """What its unit answers to it."""
        if self.made.placed:
            return _trust(self, self.now).clean.item()
        return fv.score(self.maker, self.made.unit, self.fitted(self.made.image)).item()

    def fitted(self, image: Tensor) -> Tensor:
        """Bring an image to (1, channels, h, w) at the maker's size, and in its shape too where that takes no other."""
        size = self.maker.size
        return resized(image, size) if self.maker.fixed_size else covering(image, size)


def _cases(
    pictures: Sequence[Subject], by: fv.Network, network: fv.Network | str | None, weights: str | Path | None
) -> Iterator[_Case]:
    """Find the maker of each picture and its class, before anything is looked at."""
    makers: dict[str, fv.Network] = {}
    for made in pictures:
        if isinstance(network, fv.Network):
            maker = network
        else:
            key = repr((made.recipe.model, made.recipe.weights, made.recipe.input))
            if key not in makers:
                makers[key] = network_of(made.recipe, weights, str(by.device), network)
            maker = makers[key]
        check_weights(maker, made.recipe)
        check_judge(maker, by)
        is_class = isinstance(made.unit, fv.objectives.Logit | fv.objectives.Probability)
        yield _Case(made, maker, labels(made.unit, maker, by) if is_class else None)


def _verdict(case: _Case, by: fv.Network, percentile: float | None) -> Verdict:
    made, maker = case.made, case.maker
    noise = _before(case, None, robustness_views=2)
    of_noise = _trust(case, noise).augmented
    robustness = replace(_trust(case, case.now), start=of_noise.mean()[None])
    slope = slope(made.image[None]).item()
    facts: dict[str, Any] = {
        "picture": made.name,
        "unit": str(made.unit),
        "score": case.score,
        "retained": robustness.retained.item(),
        "slope": slope if slope == slope else None,
        "percentile": percentile,
    }
    if case.labels is None:
        told = "holds in other views" if facts["retained"] >= HOLDS else "only in some views"
        told = "noise" if robustness.augmented.mean() <= of_noise.max() else told
        return Verdict(**facts, rank=None, probability=None, own=None, told=told)
    mine, theirs = case.labels
    head = made.unit.network
    own_rank, own = _rank(predict(maker, case.fitted(made.image), head)[0], mine)
    rank, probability = seen(made.image, theirs, by)
    _, usual = _rank(predict(maker, case.fitted(noise.images[0]), head)[0], mine)
    by_maker = own_rank <= _first(maker, head) and _odds(own) > ODDS * _odds(usual)
    by_judge = rank <= _first(by) and _odds(probability) > ODDS * _odds(seen(noise.images[0], theirs, by)[1])
    return Verdict(**facts, rank=rank, probability=probability, own=own, told=TOLD[by_maker, by_judge])


def _before(case: _Case, images: Tensor | None, robustness_views: int = TRIALS) -> fv.Rendering:
    """Put images of the case's size, or noise, before its maker: as they are, and in fresh views."""
    held = fv.param.Image(case.size, batch=NOISES)
    if images is not None:
        held = fv.param.Image(case.size, batch=len(images), spatial=fv.param.Pixel(), color=fv.param.Clamped())
    return fv.render(
        case.maker,
        case.made.unit,
        param=held,
        start=images,
        transforms=case.made.views,
        steps=0,
        robustness_views=robustness_views,
    )


def _trust(case: _Case, rendering: fv.Rendering) -> Robustness:
    if rendering.robustness is None:
        raise fv.ModelError(f"{case.maker.label} does not take {case.made.name} as it is; judge pictures of its size")
    return rendering.robustness


def _odds(probability: float) -> float:
    return probability / max(1 - probability, 1e-6)


def _rank(probabilities: Tensor, label: int) -> tuple[int, float]:
    others = torch.cat([probabilities[:label], probabilities[label + 1 :]])
    return int((others >= probabilities[label]).sum()) + 1, probabilities[label].item()


def _first(network: fv.Network, head: str = "") -> int:
    """Return up to which rank a class counts as seen."""
    return max(1, round(NAMED * network.table[head].channels))


def _above(cases: list[_Case], folder: str | Path) -> list[float]:
    """Say for each picture what share of a folder's photographs excites its unit less than the picture does."""
    above = [0.0] * len(cases)
    for i, case in enumerate(cases):
        if case.made.placed:
            photographs = read_photographs(folder, size=case.size, channels=case.maker.channels)
            clean = [
                _trust(case, _before(case, torch.stack(batch), robustness_views=1)).clean
                for batch in _batches(photographs)
            ]
            above[i] = (torch.cat(clean) < case.score).float().mean().item()
    for maker in {id(case.maker): case.maker for case in cases if not case.made.placed}.values():
        mine = [i for i, case in enumerate(cases) if case.maker is maker and not case.made.placed]
        units = [cases[i].made.unit for i in mine]
        scores = torch.cat(
            [
                fv.score(maker, units, torch.stack(batch))
                for batch in _batches(read_photographs(folder, size=maker.size, channels=maker.channels))
            ]
        )
        for k, i in enumerate(mine):
            above[i] = (scores[:, k] < cases[i].score).float().mean().item()
    return above


def _batches(images: Iterator[tuple[Path, Tensor]]) -> Iterator[list[Tensor]]:
    batch = []
    for _, image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
