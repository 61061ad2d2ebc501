"""Tell whether the visualization of a unit can be trusted: an alarm for networks that were manipulated to deceive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

import featviz as fv
from featviz.apps.judge.paths import PathScale, path_layers, paths
from featviz.apps.judge.rescoring import PHOTOGRAPHS_AT_ONCE, Case
from featviz.apps.shared.activations.image_batches import image_batches
from featviz.apps.shared.arguments.class_files import class_of_file, known_names
from featviz.io import read_photograph
from featviz.network import OUTPUT

MIN_PATH = 0.72
"""Path similarity below which the alarm is raised.

Source: measured; docs/quality.md. Networks that were manipulated by fine-tuning have at most .59 in their images of
decoys but for one (.76), and the classes of the bundled networks .75 or more.
"""
MIN_AGREEMENT = 0.4
"""Agreement of images started from noise and from photographs below which the alarm is raised.

Source: measured; docs/quality.md. Fooling circuits have up to .47, and the classes of the bundled networks .64 or more.
"""
MIN_LATE_CONTRAST = 0.4
"""Smallest difference between the correlations of photographs with and without the unit for a verdict.

Source: measured; docs/quality.md. Classes of the bundled networks have .48 or more. The strongest photographs of a
channel may have nothing in common, so that an image cannot be compared with them.
"""
STRONGEST = 10
"""Number of photographs that stand for a unit: those with its highest scores."""
MIN_LABELLED = 4
"""Number of photographs named after a class from which these stand for it instead."""
MIN_PHOTOGRAPHS = 3 * STRONGEST
"""Smallest folder of photographs: those without the unit must outnumber those with it."""
EXEMPLARS, EXEMPLAR_STEPS = 4, 64
"""Number of photographs from which the unit is rendered again, and of steps."""


@dataclass(frozen=True)
class Trust:
    """Whether the visualization of a unit can be trusted.

    Args:
        layers: Layers at which paths are compared.
        similarities: Rank correlation of the activations of the image with those of photographs of the unit at each of
            these layers, scaled so that 1 is the mean correlation of these photographs with each other, and 0 that with
            other photographs; NaN at a layer where these hardly differ.
        path: Mean over the later half of the layers, weighted by how well each separates the two.
        agreement: Mean over these layers of the similarity between the paths of the image and of images of the unit
            that were started from photographs of it.
        labelled: Whether the photographs of the unit are named after its class; otherwise they are those with its
            highest scores.
        alarm: Whether `path` is below `MIN_PATH` or `agreement` below `MIN_AGREEMENT`; `None` if undecided, as the
            photographs of the unit are hardly more alike than others are.
    """

    layers: tuple[str, ...]
    similarities: tuple[float, ...]
    path: float
    agreement: float
    labelled: bool
    alarm: bool | None


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs of a folder, with their activations and scores.

    Args:
        files: Their files.
        activations: Mean activation of each channel by layer, (photographs, channels).
        scores: Score of each unit, (photographs, units).
    """

    files: list[Path]
    activations: dict[str, Tensor]
    scores: Float[Tensor, "photographs units"]

    def scale(self, layers: Sequence[str], own: Int[Tensor, " k"]) -> PathScale:
        """Return the scale of path similarity for a unit.

        Args:
            layers: Layers at which paths are compared.
            own: Indices of the photographs of the unit.
        """
        others = torch.ones(len(self.files), dtype=torch.bool)
        others[own] = False
        activations = [self.activations[layer] for layer in layers]
        return PathScale([acts[own] for acts in activations], [acts[others] for acts in activations])


def trusts(cases: Sequence[Case], folder: str | Path) -> list[Trust | None]:
    """Tell for each case whether its image can be trusted; `None` for a unit of no layer.

    The folder is read once for all units of a network.

    Args:
        cases: The cases. Their images must have been started from noise.
        folder: A folder of photographs.

    Raises:
        OutputError: The folder or a photograph cannot be read.
        SettingError: There are too few photographs, or a network is several combined.
    """
    found: list[Trust | None] = [None] * len(cases)
    for network in {id(case.network): case.network for case in cases}.values():
        if OUTPUT not in network.heads:
            names = ", ".join(network.heads)
            raise fv.SettingError(f"trust needs a single network, got {names} combined; judge images of one")
        layers = {i: path_layers(network, case.subject.unit) for i, case in enumerate(cases) if case.network is network}
        mine = [i for i, names in layers.items() if names]
        if mine:
            every = sorted({name for i in mine for name in layers[i]})
            photographs = _photographs(network, folder, [cases[i] for i in mine], every)
            for column, i in enumerate(mine):
                found[i] = _trust(cases[i], layers[i], photographs, column)
    return found


def _trust(case: Case, layers: tuple[str, ...], photographs: Photographs, column: int) -> Trust:
    scores = photographs.scores[:, column]
    own, labelled = _photographs_of_unit(case, photographs.files, scores)
    scale = photographs.scale(layers, own)
    image = paths(case.network, case.fit(case.subject.image), layers)
    best = own[scores[own].argsort(descending=True)][:EXEMPLARS]
    started = paths(case.network, _from_photographs(case, [photographs.files[i] for i in best.tolist()]), layers)
    path, agreement = scale.late_similarity(image), scale.late_similarity(image, started)
    decided = scale.late_contrast() >= MIN_LATE_CONTRAST
    alarm = not (path >= MIN_PATH and agreement >= MIN_AGREEMENT) if decided else None
    return Trust(layers, tuple(scale.similarities(image)), path, agreement, labelled, alarm)


def _from_photographs(case: Case, files: Sequence[Path]) -> Float[Tensor, "n c h w"]:
    """Render the unit from photographs, as it was rendered from noise."""
    size, channels = case.network.size, case.network.channels
    start = torch.stack([read_photograph(file, size=size, channels=channels) for file in files])
    return fv.render(
        case.network,
        case.subject.unit,
        batch=len(start),
        start=start,
        transforms=case.subject.transforms,
        steps=EXEMPLAR_STEPS,
        robustness_views=0,
        progress=None,
    ).images


def _photographs_of_unit(case: Case, files: Sequence[Path], scores: Float[Tensor, " n"]) -> tuple[Tensor, bool]:
    """Return the indices of the photographs that stand for a unit, and whether they are named after its class."""
    if case.classes is not None:
        names = case.network.classes
        known = known_names(names)
        named = [i for i, file in enumerate(files) if names and class_of_file(known, file) == names[case.classes[0]]]
        if len(named) >= MIN_LABELLED:
            return torch.tensor(named), True
    return scores.topk(STRONGEST).indices, False


def _photographs(network: fv.Network, folder: str | Path, cases: Sequence[Case], layers: Sequence[str]) -> Photographs:
    """Run a network on all photographs of a folder."""
    files: list[Path] = []
    rows: list[list[Tensor]] = []
    scores: list[Tensor] = []
    units = [case.subject.unit for case in cases]
    for batch in image_batches(folder, size=network.size, channels=network.channels, batch=PHOTOGRAPHS_AT_ONCE):
        files += batch.files
        rows.append(paths(network, batch.images, layers))
        scores.append(fv.score(network, units, batch.images))
    if len(files) < MIN_PHOTOGRAPHS:
        raise fv.SettingError(
            f"trust needs at least {MIN_PHOTOGRAPHS} photographs, {folder} has {len(files)}; add some"
        )
    columns = (torch.cat(column) for column in zip(*rows, strict=True))
    return Photographs(files, dict(zip(layers, columns, strict=True)), torch.cat(scores))
