"""Judge rendered images with a network that had no part in making them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.judge.rescoring import NOISE_VIEWS, Case, percentiles
from featviz.apps.judge.subjects import Judgeable, Subject, load_subjects, subjects_of_targets
from featviz.apps.judge.trust import trusts
from featviz.apps.judge.verdicts import Judgement, Verdict
from featviz.apps.replay import check_weights, load_recipe_network, network_key, with_recipe_dictionaries
from featviz.apps.shared.arguments.targets import Target
from featviz.apps.shared.judging.judge_classes import check_judge, class_indices
from featviz.apps.shared.judging.judge_crops import crops
from featviz.apps.shared.judging.predictions import predict
from featviz.checks import check_flag
from featviz.engine import check_network_or_name, entry_point
from featviz.network import DEFAULT_WEIGHTS
from featviz.param.spectrum import slope

TOP_SHARE = 0.005
"""Share of the classes among which a recognised class must rank: the first five of a thousand, at least the first."""
MIN_ODDS_RATIO = 2.0
"""Factor by which the odds of a recognised class must exceed those in noise.

Rank alone is not enough: of two classes, either ranks first in half of all noise images.
"""
MIN_RETAINED = 0.5
"""Share of the score gain that the image of a robust unit must retain in new random views."""

CLASS_UNITS = (fv.objectives.Logit, fv.objectives.Probability)
"""Objectives about a class."""

MIN_SLOPE_SIDE = 128
"""Shorter side in px from which the spectrum has three octaves to fit a slope to; in two, a few lines decide."""
VERDICTS = {
    (True, True): "recognised by both networks",
    (True, False): "recognised by its own network only",
    (False, True): "recognised by the judge only",
    (False, False): "recognised by neither network",
}
"""The verdict on an image of a class, by whether its own network and the judge recognise the class."""
ROBUST = "robust: keeps its score in new views"
FRAGILE = "fragile: scores high in some views only"
NO_BETTER_THAN_NOISE = "scores no higher than noise"
"""The verdicts on an image of any other unit."""


@entry_point(checks={"network": check_network_or_name})
def judge(
    images: Judgeable | Sequence[Judgeable],
    target: Target | Sequence[Target] | None = None,
    *,
    judge: fv.Network,
    network: fv.Network | str | None = None,
    weights: str | Path | None = None,
    own: Mapping[str, Any] | None = None,
    photographs: str | Path | None = None,
    trust: bool = False,
    download: bool = False,
) -> Judgement:
    """Judge whether a second network recognises rendered images.

    A second network classifies each image. The network that rendered the image scores it
    again in new random views, which also tells how robust images of other units are. These views use the default
    transforms; objectives that depend on position keep those of the recipe.

    Args:
        images: Renderings, image files that featviz saved with one image each, Pillow images opened from such files, or
            folders of them, such as that of a gallery; one of these, or a sequence. With a target: any images, also
            arrays, tensors and batches.
        target: What the images show, where they carry no recipe: an address, an objective or the index of a class, or
            a list with one for each image. Needs `network`. `None` for what the recipes say.
        judge: The judging network. It must know the classes, and should have been trained separately.
        network: The network that rendered the images, or whose unit they show, or its name for `fv.load`; `None` for
            the one in each recipe.
        weights: File of that network's weights, if it has moved; `None` for the one in the recipe.
        own: The user's own objectives and params that the recipes name, by name.
        photographs: A folder of images with which the score of each unit is compared; `None` for no comparison.
        trust: Whether to test each image for signs that its network was manipulated to show something else, as
            `Verdict.trust`. Needs `photographs` and images that were rendered from noise; renders each unit again from
            four photographs.
        download: Whether the weights of a network that only a recipe names may be downloaded.

    Returns:
        One verdict per image; `str` makes a table of them.

    Raises:
        RecipeError: A file holds no recipe, or the network cannot be loaded, needs a download or has other weights.
        SettingError: The judge rendered the images itself or does not know a class, or a file is a contact sheet; or
            `trust` has no photographs or too few, or images that started from a given one.
        ModelError: The output of a network is not finite, or the network does not accept images of this size.
        OutputError: A file or the folder cannot be read.
    """
    check_flag("trust", trust)
    if trust and photographs is None:
        raise fv.SettingError("trust needs photographs to compare with; give a folder of them as --photographs")
    if weights is not None and isinstance(network, fv.Network):
        raise fv.SettingError("weights needs a network given by name; load the weights into your network instead")
    if target is None:
        subjects = load_subjects(images, own)
    else:
        if isinstance(network, str):
            network = fv.load(network, weights=weights or DEFAULT_WEIGHTS, device=str(judge.device))
        subjects = subjects_of_targets(images, target, judge.channels)
    cases = list(_cases(list(subjects), judge, network, weights, download=download, trust=trust))
    shares = [None] * len(cases) if photographs is None else percentiles(cases, photographs)
    trusted = [None] * len(cases) if photographs is None or not trust else trusts(cases, photographs)
    verdicts = tuple(
        replace(_verdict(case, judge, share), trust=one)
        for case, share, one in zip(cases, shares, trusted, strict=True)
    )
    return Judgement(verdicts, judge.label)


def class_rank(image: Float[Tensor, "c h w"], index: int, network: fv.Network) -> tuple[int, float]:
    """Return the rank and the probability of a class, with probabilities averaged over nine crops.

    Ties count against the class, so that a network with constant output recognises nothing.

    Args:
        image: In [0, 1], of any size and aspect ratio.
        index: Index of the class.
        network: A classifier.

    Returns:
        The rank, from 1, and the probability, in [0, 1].
    """
    return _rank(_crop_probabilities(image, network), index)


def _cases(
    subjects: Sequence[Subject],
    judge: fv.Network,
    network: fv.Network | str | None,
    weights: str | Path | None,
    *,
    download: bool,
    trust: bool,
) -> Iterator[Case]:
    """Find the network and the class of each image, so that errors come before anything is computed."""
    loaded: dict[str, fv.Network] = {}  # one for all images of a network: photographs are read once for each
    for subject in subjects:
        recipe, unit = subject.recipe, subject.unit
        if isinstance(network, fv.Network):
            found = network
        elif recipe is None:
            raise fv.SettingError("with a target, give the network whose unit the images show, as network=")
        else:
            key = network_key(recipe)
            if key not in loaded:
                loaded[key] = load_recipe_network(recipe, weights, str(judge.device), network, download=download)
            found = loaded[key]
        if recipe is not None:
            if trust and recipe.start is not None:
                raise fv.SettingError(
                    f"{subject.name} was started from an image; trust compares images that were rendered from noise"
                )
            check_weights(found, recipe)
            key = f"{id(found)} {recipe.dictionaries!r}"
            found = loaded[key] = loaded.get(key) or with_recipe_dictionaries(found, recipe)
        check_judge(found, judge)
        yield Case(subject, found, class_indices(unit, found, judge) if isinstance(unit, CLASS_UNITS) else None)


def _verdict(case: Case, judge: fv.Network, percentile: float | None) -> Verdict:
    image, unit = case.subject.image, case.subject.unit
    noise = case.rescore(None, NOISE_VIEWS)
    noise_scores = case.robustness_of(noise).augmented
    # Gains are measured from noise: a rescored image has no first step.
    robustness = replace(case.robustness, start=noise_scores.mean()[None])
    retained = robustness.retained.item()
    measured: dict[str, Any] = {
        "image": case.subject.name,
        "unit": str(unit),
        "score": case.score,
        "retained": retained,
        "slope": slope(image[None]).item() if min(image.shape[1:]) >= MIN_SLOPE_SIDE else None,
        "percentile": percentile,
    }
    if case.classes is None or not isinstance(unit, CLASS_UNITS):
        text = ROBUST if retained >= MIN_RETAINED else FRAGILE
        text = NO_BETTER_THAN_NOISE if robustness.augmented.mean() <= noise_scores.max() else text
        return Verdict(**measured, rank=None, probability=None, own_probability=None, verdict=text)

    def own_probabilities(image: Float[Tensor, "c h w"]) -> Float[Tensor, " classes"]:
        return predict(case.network, case.fit(image), head)[0]

    head, (own_index, judge_index) = unit.network, case.classes
    _, own_probability, by_own = _recognition(own_probabilities, image, noise.images[0], own_index)
    rank, probability, by_judge = _recognition(
        partial(_crop_probabilities, network=judge), image, noise.images[0], judge_index
    )
    return Verdict(
        **measured,
        rank=rank,
        probability=probability,
        own_probability=own_probability,
        verdict=VERDICTS[by_own, by_judge],
    )


def _recognition(
    probabilities: Callable[[Float[Tensor, "c h w"]], Float[Tensor, " classes"]],
    image: Float[Tensor, "c h w"],
    noise: Float[Tensor, "c h w"],
    index: int,
) -> tuple[int, float, bool]:
    """Return the rank and probability of a class in an image, and whether it is recognised there.

    Args:
        probabilities: Returns the class probabilities of an image.
        image: The image.
        noise: Noise with which it is compared.
        index: Index of the class.
    """
    found = probabilities(image)
    rank, probability = _rank(found, index)
    if rank > max(1, round(TOP_SHARE * len(found))):
        return rank, probability, False
    _, in_noise = _rank(probabilities(noise), index)
    return rank, probability, _odds(probability) > MIN_ODDS_RATIO * _odds(in_noise)


def _crop_probabilities(image: Float[Tensor, "c h w"], network: fv.Network) -> Float[Tensor, " classes"]:
    return predict(network, crops(image, network.size)).mean(0)


def _rank(probabilities: Float[Tensor, " classes"], index: int) -> tuple[int, float]:
    """Return the rank of a class, from 1 and after all ties, and its probability."""
    others = torch.cat([probabilities[:index], probabilities[index + 1 :]])
    return int((others >= probabilities[index]).sum()) + 1, probabilities[index].item()


def _odds(probability: float) -> float:
    return probability / max(1 - probability, 1e-6)
