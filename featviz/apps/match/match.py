"""Add objectives to units that match the activation distribution and the amplitude spectrum of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.activations.image_batches import SkippedFiles, image_batches
from featviz.apps.shared.arguments.classes import as_class
from featviz.apps.shared.arguments.main_blocks import block_at
from featviz.apps.shared.arguments.probe import noise
from featviz.checks import check_number
from featviz.engine import check_path_or_none, entry_point
from featviz.errors import plain_spelling, warn
from featviz.io import is_folder
from featviz.network import batch_norm_layers
from featviz.objectives import Logit, MatchDistribution, MatchSpectrum, MatchStatistics, Objective, Probability
from featviz.objectives.photographs import MAX_PHOTOGRAPHS

MATCH_WEIGHT = 22.0
"""Weight of distributions and spectrum, relative to the gain of the unit's score from noise to the best photograph.

Source: measured; docs/quality.md compares the alternatives.
"""
BATCH_NORM = "batch-norm"
"""Value of `match`, on pages and the command line, for the network's own statistics."""
COUNT = 1
"""Number of photographs per class that are averaged.

Source: measured; docs/quality.md. Images that are matched to the average of many are more alike than photographs are.
Differs: VITAL 2025, section 4, averages fifty.
"""
UNIT_COUNT = 10
"""Largest number of photographs of any other unit that are averaged.

Source: measured; docs/quality.md. One photograph shows much besides what excites a channel; an average shows less.
"""
UNIT_SHARE = 0.1
"""Largest share of a folder that is averaged for such a unit, so that its photographs differ from the others."""
COMPARED = 50
"""Number of photographs per unit among which copies are looked for, those with the highest score."""
DEPTHS = (0.1, 0.2, 0.4, 0.6)
"""Relative depths of the compared layers. Source: measured; later layers lower the recognition."""
NOISE_IMAGES = 8
"""Images of noise in which a unit is scored, for the scale of its score."""
NOISE_STDS = 1.4
"""Gain that is assumed for a unit without photographs, in standard deviations of its score in noise.

Source: measured; with 30, images showed the statistics instead of the unit (docs/quality.md).
"""
BATCH = 16
"""Number of photographs per batch."""


@dataclass(frozen=True)
class Matched:
    """A unit with the photographs that it is matched to.

    Args:
        objective: What to render: the unit, plus the weighted objectives for the distributions and the spectrum.
        unit: The unit alone.
        photographs: Files to compare the images with, to find copies: those with the highest score; empty where
            batch-norm statistics are matched.
        chosen: Description of the matched photographs, such as `"the one of 500 photographs with the highest score in
            FOLDER"`.
    """

    objective: Objective
    unit: Objective
    photographs: tuple[Path, ...]
    chosen: str


@entry_point(name="--match", checks={"match": check_path_or_none})
def match_units(
    network: fv.Network,
    units: Sequence[Objective],
    match: str | Path | None,
    *,
    weight: float = MATCH_WEIGHT,
    count: int | None = None,
) -> list[Matched]:
    """Add to each unit the distribution of activations in photographs of it, and their amplitude spectrum.

    The photographs of a class are those of its subfolder, where the folder has subfolders named after classes or their
    indices. Those of any other unit, and of a class without a subfolder, are those of the folder with the highest score
    of the unit. Sorted activations are matched, so positions do not matter. One photograph of a class gives each
    image an appearance of its own, as photographs have; for inner units the distributions of ten are averaged, as each
    shows more than what excites the unit. The distributions are compared in four early and middle blocks of the
    network, and the amplitude spectra in the images themselves. The weight of both is relative to the gain of the
    unit's score from noise to its best photograph, so that one weight suits units of any scale.

    Warns where a unit has a single photograph, as copies are only detected with two or more.

    Args:
        network: The network.
        units: The units, such as `[fv.objectives.Logit("star")]`.
        match: A folder of photographs and its subfolders; `None` for the batch-norm statistics of the network.
        weight: Weight of distributions and spectrum, >= 0; larger values bring images closer to the photographs.
        count: Number of photographs of a unit that are averaged, >= 1; `None` for one of a class, and of any other
            unit for ten, but at most a tenth of the folder.

    Returns:
        One for each unit.

    Raises:
        OutputError: The folder is missing, has no images, or one cannot be read.
        SettingError: An argument is out of its range; or there are no photographs, and the network has no batch norm.
    """
    check_number("weight of match", weight, at_least=0, note=f"(default {MATCH_WEIGHT})")
    if count is not None:
        check_number("count of match", count, at_least=1, at_most=MAX_PHOTOGRAPHS, whole=True)
    if not units:
        return []
    if match is None:
        statistics = _statistics_of(network)
        in_noise = fv.score(network, list(units), noise(network, NOISE_IMAGES))
        return [_by_statistics(unit, statistics, weight * _gain(in_noise[:, i])) for i, unit in enumerate(units)]
    folder, layers = Path(match), compared_layers(network)
    folders = [class_folder(network, unit, folder) or folder for unit in units]
    candidates: dict[int, tuple[list[Path], Tensor]] = {}
    for source in dict.fromkeys(folders):  # each folder is read once, for its own units only
        indices = [i for i, own_folder in enumerate(folders) if own_folder == source]
        files, scores = _scores(network, [units[i] for i in indices], source)
        candidates |= {i: (files, own) for i, own in zip(indices, scores.T, strict=True)}
    in_noise = fv.score(network, list(units), noise(network, NOISE_IMAGES))
    result = []
    for i, (unit, source) in enumerate(zip(units, folders, strict=True)):
        files, scores = candidates[i]
        gain = _gain(in_noise[:, i], scores.max().item())
        result.append(_by_photographs(unit, files, scores, source, layers, weight * gain, count))
    alone = [str(each.unit) for each in result if len(each.photographs) == 1]
    if alone:
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        warn(f"images of {alone[0]}{more} are not checked for copies, which takes two or more photographs of a unit")
    return result


def compared_layers(network: fv.Network) -> list[str]:
    """Return the layers in which distributions are compared: main blocks from the first to the last.

    Raises:
        SettingError: The network has no layer with positions.
    """
    return list(dict.fromkeys(block_at(network, depth, (0.0, 1.0)) for depth in DEPTHS))


def class_folder(network: fv.Network, unit: Objective, folder: Path) -> Path | None:
    """Return the subfolder of the class that a unit is about; `None` where there is none.

    Args:
        network: The network that knows the classes.
        unit: Any objective.
        folder: A folder, whose subfolders may be named after classes, in any spelling, or after indices of classes,
            unless a class has the number as its name.

    Raises:
        OutputError: The folder is missing.
    """
    if not is_folder(folder):
        raise fv.OutputError(f"there is no folder {folder}; give a folder of photographs")
    if not isinstance(unit, Logit | Probability):
        return None
    name = as_class(network, unit.name, unit.network) if isinstance(unit.name, str) else unit.name
    classes = network.heads.get(unit.network, ())
    index: int | None
    if isinstance(name, int):
        index, title = name, classes[name] if name < len(classes) else str(name)
    else:
        index, title = classes.index(name) if name in classes else None, name
    below = {plain_spelling(each.name): each for each in sorted(folder.iterdir(), reverse=True) if each.is_dir()}
    if (found := below.get(plain_spelling(title))) is not None:
        return found
    # A number may be the name of another class.
    is_a_name = str(index) in {plain_spelling(each) for each in classes}
    return None if is_a_name else below.get(str(index))


def default_count(unit: Objective, photographs: int) -> int:
    """Return the number of photographs that a unit is matched to by default.

    Args:
        unit: Any objective.
        photographs: Number of photographs in its folder.
    """
    if isinstance(unit, Logit | Probability):
        return COUNT
    return max(1, min(UNIT_COUNT, int(UNIT_SHARE * photographs)))


def _by_photographs(
    unit: Objective,
    files: Sequence[Path],
    scores: Float[Tensor, " n"],
    folder: Path,
    layers: Sequence[str],
    weight: float,
    count: int | None,
) -> Matched:
    """Add to a unit the distribution and the spectrum of the photographs with the highest score.

    Args:
        unit: The unit.
        files: The photographs of a folder.
        scores: The unit's score in each.
        folder: The folder.
        layers: The compared layers.
        weight: Weight beside the unit.
        count: Number of photographs; `None` for the default.
    """
    count = default_count(unit, len(files)) if count is None else count
    best = [files[i] for i in scores.topk(min(max(count, COMPARED), len(files))).indices.tolist()]
    picked = best[:count]
    names = [str(file) for file in picked]
    term = MatchDistribution(layers[0], names, tuple(layers[1:])) + MatchSpectrum(names)
    amount = float(f"{weight:.3g}")
    if len(files) == 1:
        chosen = f"the only photograph in {folder}"
    elif len(picked) == len(files):
        chosen = f"all {len(files)} photographs in {folder}"
    else:
        number = "one" if len(picked) == 1 else f"{len(picked)}"
        chosen = f"the {number} of {len(files)} photographs with the highest score in {folder}"
    return Matched(unit + amount * term, unit, tuple(best), chosen)


def _statistics_of(network: fv.Network) -> MatchStatistics:
    """Return the objective for the statistics of a network's batch-norm layers.

    Args:
        network: The network.

    Raises:
        SettingError: The network has no batch norm.
    """
    norms = [name for name in batch_norm_layers(network.module) if name in network.table]  # those that run
    if not norms:
        raise fv.SettingError(f"{network.label} has no batch-norm statistics to match; give a folder of photographs")
    return MatchStatistics(norms[0], tuple(norms[1:]))


def _by_statistics(unit: Objective, statistics: MatchStatistics, weight: float) -> Matched:
    """Add batch-norm statistics to a unit.

    Args:
        unit: The unit.
        statistics: The objective for the statistics.
        weight: Its weight beside the unit.
    """
    count = len(statistics.layers)
    return Matched(unit + float(f"{weight:.3g}") * statistics, unit, (), f"the statistics of {count} batch-norm layers")


def _scores(network: fv.Network, units: Sequence[Objective], folder: Path) -> tuple[list[Path], torch.Tensor]:
    """Return the photographs of a folder, and the score of each unit in each."""
    files: list[Path] = []
    scores = []
    skipped = SkippedFiles(folder)
    for batch in image_batches(folder, size=network.size, channels=network.channels, batch=BATCH, skipped=skipped):
        files += batch.files
        scores.append(fv.score(network, units, batch.images))
    if not files:
        raise skipped.error()
    skipped.warn()
    return files, torch.cat(scores)


def _gain(in_noise: Float[Tensor, " n"], score: float | None = None) -> float:
    """Return how much a unit's score in its best photograph exceeds that in noise.

    Args:
        in_noise: The unit's score in images of noise.
        score: Score in the best photograph; `None` for an estimate by how much the score varies in noise.
    """
    gain = NOISE_STDS * in_noise.std().item() if score is None else abs(score - in_noise.mean().item())
    return max(gain, 1e-6)
