"""Compare two networks, or the checkpoints of one, unit by unit, layer by layer and class by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import featviz as fv
from featviz.apps.diff.classes import MAX_CLASSES, ClassChange, common_classes
from featviz.apps.diff.images import ComparisonImages
from featviz.apps.diff.layers import Layers, check_comparable, choose_layers
from featviz.apps.diff.matches import match_units
from featviz.apps.diff.measure import measure
from featviz.apps.diff.moments import Moments
from featviz.apps.diff.page import network_titles
from featviz.apps.diff.result import NetworkDiff
from featviz.apps.diff.similarity import correlations, linear_cka, varying
from featviz.apps.diff.training import match_checkpoints
from featviz.apps.shared.arguments.output import local_store
from featviz.apps.shared.judging.judge_classes import check_judge
from featviz.apps.shared.rendering.album import MAX_IMAGES
from featviz.apps.shared.rendering.backends import Backend
from featviz.checks import check_number
from featviz.engine import entry_point
from featviz.errors import shown
from featviz.io import auto_bar

DEFAULT_THRESHOLD = 0.5
"""Smallest correlation of a match."""
MIN_DEVIATION = 1e-6
"""Standard deviation of a logit over the photographs below which it is constant."""


@entry_point
def diff(
    first: fv.Network,
    second: fv.Network,
    photographs: str | Path,
    output: str | Path | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    second_layers: str | Sequence[str] | None = None,
    checkpoints: Sequence[fv.Network] = (),
    classes: Sequence[str | int] | None = None,
    judge: fv.Network | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    most: int = 8,
    per_class: int = 2,
    size: int | tuple[int, int] | None = None,
    steps: int = 256,
    seed: int = 0,
    backend: Backend | None = None,
    scan_progress: Callable[[int, int], None] | None = auto_bar,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> NetworkDiff:
    """Compare two networks, or the checkpoints of one: units, layers and classes, on a page with images of both.

    Units are matched as mutual nearest neighbours by the correlation of their activations over a folder of photographs,
    so that a unit is found again where its channel or layer has another number. Layers are compared by linear CKA.
    Images that are in the folder are not rendered again, so an interrupted comparison continues where it stopped.

    Args:
        first: A network that reads images.
        second: Another network, of any architecture, or a later checkpoint of the first.
        photographs: Folder of 4 or more images like those that the networks were trained on; a hundred are better.
            Files that cannot be read are skipped.
        output: A folder on this machine for the page; `None` for numbers only.
        layers: Layers of the first network; `None` for those with positions that are good to render first.
        second_layers: Layers of the second network; `None` for the same names; for networks without a layer in common,
            those that are good to render first.
        checkpoints: Networks between both, in the order of training. The page then shows units over training.
        classes: Names or indices of the classes to compare; `None` for all that both have, at most 100.
        judge: Network that measures how much the image of a class changed; `None` to compare class logits only.
        threshold: Smallest correlation of matched units, in [0, 1].
        most: Largest number of units of each kind on the page, and of classes, from 1 to 1000.
        per_class: Number of images of each class and network, from 1 to 1000.
        size: Height and width of the images in px, or one side; `None` for the input size of the first network.
        steps: Steps of each image, >= 0.
        seed: Seed of the images, >= 0; further images of a class count up from it.
        backend: Where to render: `fv.RayBackend` for a Ray cluster; `None` for this process.
        scan_progress: Called with the number of photographs scanned and their total.
        progress: Called after each image with the number of images done and the number to render.

    Returns:
        The comparison; `str` makes a summary of it.

    Raises:
        AddressError: There is no such layer or class, or no layer with positions.
        SettingError: The networks take other images or have other classes, or an argument is out of its range.
        OutputError: The folder is missing, has too few images that can be read, or the output cannot be written to.
        ModelError: A layer outputs NaN or infinite numbers.

    Source: Dravid et al. 2023, https://arxiv.org/abs/2306.09346, matched units ("Rosetta neurons"); Kornblith et al.
        2019, https://arxiv.org/abs/1905.00414, linear CKA.
    """
    check_number("threshold", threshold, at_least=0, at_most=1, note=f"(default {DEFAULT_THRESHOLD})")
    for name, value in (("most", most), ("per_class", per_class)):
        check_number(name, value, at_least=1, at_most=MAX_IMAGES, whole=True)
    networks = [first, *_check_checkpoints(checkpoints), second]
    for network in networks[:-1]:
        check_comparable(network, second)
    named = [[each] if isinstance(each, str) else each for each in (layers, second_layers)]
    own, others = choose_layers(first, second, *named)
    compared = common_classes(first, second, classes)
    if judge is not None:
        _check_judge(networks, judge)
    store = None if output is None else local_store(output, photographs, "diff")
    columns = [own, *(Layers.of(network, own.names) for network in networks[1:-1]), others]
    measured = measure(networks, columns, Path(photographs), scan_progress, logits=bool(compared))
    titles = network_titles(networks)
    moments = measured.units[0]
    followed = match_checkpoints(titles, columns, measured.units, threshold) if checkpoints else []
    found = NetworkDiff(
        (titles[0], titles[-1]),
        (own.names, others.names),
        tuple(match_units(moments, (own, others), threshold)),
        linear_cka(moments),
        _classes_of(compared, measured.logits, limited=classes is None),
        measured.photographs,
        tuple(followed),
    )
    if store is None:
        return found
    settings = {"param": fv.param.Image(size or first.size), "steps": steps}
    return ComparisonImages(networks, store, most, per_class, seed, settings).render(found, judge, backend, progress)


def _check_checkpoints(checkpoints: Any) -> list[fv.Network]:
    """Return networks that are given as a sequence.

    Raises:
        SettingError: `checkpoints` is not a sequence of networks that read images.
    """
    if not isinstance(checkpoints, list | tuple) or not all(isinstance(each, fv.Network) for each in checkpoints):
        raise fv.SettingError(f"checkpoints must be a sequence of Networks, got {shown(checkpoints)}; use fv.load(...)")
    for each in checkpoints:
        if each.tokens is not None:
            raise fv.SettingError(f"{each.label} reads text, and diff works on images; leave it out")
    return list(checkpoints)


def _check_judge(networks: Sequence[fv.Network], judge: fv.Network) -> None:
    """Check that a network may judge the images of others.

    Raises:
        SettingError: The judge is one of the networks, takes other images, or outputs no probabilities.
    """
    for network in (networks[0], networks[-1]):
        check_judge(network, judge)
    if judge.channels != networks[0].channels or judge.channels not in (1, 3):
        raise fv.SettingError(
            f"the judge must take images of the same channels, 1 or 3, {judge.label} takes {judge.channels} and "
            f"{networks[0].label} {networks[0].channels}; give another judge, or none"
        )
    if judge.logits_layer is None or judge.outputs_of()[0] == "regression":
        raise fv.SettingError(f"the judge must output class probabilities, {judge.label} does not; give another judge")


def _classes_of(
    compared: Sequence[tuple[str, int, int]], moments: Moments | None, *, limited: bool
) -> tuple[ClassChange, ...]:
    """Return classes with the correlations and deviations of their logits, the lowest correlation first.

    Classes whose logit is constant over the photographs in one of the networks are left out: they have no correlation.

    Args:
        compared: Title, and index in both networks, of each class.
        moments: Covariances of the logits.
        limited: Whether to leave out all but `MAX_CLASSES`.
    """
    if moments is None:
        return ()
    correlation = correlations(moments)
    deviations = [moments.variance(table).sqrt() for table in (0, 1)]
    varies = [varying(moments, table) & (deviations[table] > MIN_DEVIATION) for table in (0, 1)]
    found = [
        ClassChange(
            title, (i, j), float(correlation[i, j]), deviations=(float(deviations[0][i]), float(deviations[1][j]))
        )
        for title, i, j in compared
        if varies[0][i] and varies[1][j]
    ]
    found.sort(key=lambda change: change.correlation)
    return tuple(found[:MAX_CLASSES] if limited else found)
