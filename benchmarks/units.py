"""Measure names, scores and facets of units whose truth is known: part of `make features-bench`, three minutes.

Names: a unit is class-like if one motif's drawings are told from all others by its response almost perfectly, on
drawings that the name is not found from. The right name is that motif. Meanings: planted units sum the directions of
one or two motifs in a layer of motifnet, found from other drawings. Those of two should be flagged, and each image of
a facet recognised by motifvit as its motif; those of one should not be flagged.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from motifs.draw import draw
from torch.nn.functional import normalize

import featviz as fv
from featviz.apps.judge.judge import class_rank
from featviz.apps.shared.activations.ranks import ranks
from featviz.apps.units.images import facet_objectives
from featviz.apps.units.responses import Responses, read_responses
from featviz.apps.units.statistics import auroc, order_of
from featviz.apps.units.summary import STRONGEST, Summary, labels_of, summaries
from featviz.io import save_image, to_bytes
from featviz.network.bundled import MOTIFS

CLASS_LIKE = 0.98
"""AUROC of its best motif from which a unit is class-like."""
BATCH = 8
"""Number of images that are rendered together."""
OFFSET = 2.0
"""Subtracted from the response of a planted unit, which is off in most drawings then."""


def write_folders(folder: Path, per_motif: int, seed: int) -> Path:
    """Write drawings of each motif into a folder of its name."""
    generator = torch.Generator().manual_seed(seed)
    for label, name in enumerate(MOTIFS):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(draw(torch.full((per_motif,), label), (64, 64), generator)):
            save_image(to_bytes(image.numpy()), folder / name / f"{i:03}.png")
    return folder


def described(network: fv.Network, folder: Path, layer: str, judge: fv.Network) -> tuple[Responses, dict[int, Summary]]:
    """Return the responses of a layer, and what is known about its units."""
    found = read_responses(network, folder, layer, judge=judge)
    return found, summaries(found, labels_of(network, found, None), range(found.values.shape[1]))


def truth(network: fv.Network, folder: Path, layer: str) -> dict[int, str]:
    """Return the motif of each class-like unit, from other drawings."""
    found = read_responses(network, folder, layer)
    labels = labels_of(network, found, None)
    best = auroc(ranks(found.values), labels.members).max(0)
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return {unit: labels.names[label] for unit, (area, label) in enumerate(pairs) if area >= CLASS_LIKE}


def random_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Return pairs of different motifs, no pair twice."""
    every = torch.combinations(torch.arange(len(MOTIFS)))
    drawn = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:count]].tolist()
    return [(MOTIFS[one], MOTIFS[other]) for one, other in drawn]


def planted(network: fv.Network, found: Responses, units: Sequence[tuple[str, ...]]) -> fv.Network:
    """Return the network with a unit for each group of motifs, which responds to the mean drawing of each alike."""
    vectors = []
    for motifs in units:
        rows = [[i for i, name in enumerate(found.names) if name.startswith(f"{motif}/")] for motif in motifs]
        means = torch.stack([found.features[some].mean(0) for some in rows])
        vectors.append(normalize(torch.linalg.pinv(means).sum(1), dim=0))  # the products with all means are equal
    dictionary = fv.Dictionary(kind="relu", encoder=torch.stack(vectors), bias=[-OFFSET] * len(vectors))
    return network.with_dictionary(found.layer, dictionary)


def print_names(network: fv.Network, layers: list[str], folder: Path, other: Path, judge: fv.Network) -> Responses:
    """Print a row per layer."""
    print("layer     units  class-like  right name  interpretability  flagged  class-like flagged  polysemanticity")
    for layer in layers:
        found, known = described(network, folder, layer, judge)
        own = truth(network, other, layer)
        right = sum(known[unit].name == name for unit, name in own.items())
        flagged = [unit for unit, one in known.items() if one.is_polysemantic]
        score = sum(one.interpretability or 0 for one in known.values()) / len(known)
        largest = max(known[unit].polysemanticity or 0 for unit in own)
        print(
            f"{layer or 'logit':9} {len(known):5}  {len(own):10}  {right / len(own):10.3f}  {score:16.3f}  "
            f"{len(flagged) / len(known):7.3f}  {len(set(flagged) & own.keys()) / len(own):18.3f}  {largest:15.2f}",
            flush=True,
        )
    return found


def print_planted(network: fv.Network, folder: Path, other: Path, judge: fv.Network, count: int, steps: int) -> None:
    """Print a row per set of planted units: those of one motif, and two sets of pairs.

    Thresholds were set with the units of one motif and the pairs of seed 0; those of seed 1 were not looked at.
    """
    print("planted units  units  flagged | of both  flagged  facets named  recognised  name has both")
    plain = read_responses(network, folder, "stage3")
    sets = {"one motif": [(name,) for name in MOTIFS]}
    sets |= {f"pairs, {seed}": random_pairs(count, seed) for seed in (0, 1)}
    for name, units in sets.items():
        with_units = planted(network, plain, units)
        found, known = described(with_units, other, "stage3~", judge)
        flagged = [unit for unit, one in known.items() if one.is_polysemantic]
        row = f"{name:13}  {len(units):5}  {len(flagged):7} |"
        if len(units[0]) > 1:
            both = [unit for unit, motifs in enumerate(units) if is_of_all(found, unit, motifs)]
            seen = [unit for unit in both if unit in flagged]
            named = sum({facet.label for facet in known[unit].facets} == set(units[unit]) for unit in seen)
            right = sum(recognised(with_units, found, known, seen, units, judge, steps))
            texts = sum(set(known[unit].name.split(" OR ")) == set(units[unit]) for unit in both)
            row += f" {len(both):7}  {len(seen):7}  {named:12}  {right:3} of {2 * len(seen):3}  {texts:13}"
        print(row, flush=True)


def is_of_all(found: Responses, unit: int, motifs: tuple[str, ...]) -> bool:
    """Return whether each motif has a quarter or more of the drawings in which a unit is strongest."""
    strongest = [found.names[i].partition("/")[0] for i in order_of(found.values[:, unit])[:STRONGEST].tolist()]
    return all(strongest.count(motif) >= STRONGEST / 4 for motif in motifs)


def recognised(
    network: fv.Network,
    found: Responses,
    known: Mapping[int, Summary],
    flagged: Sequence[int],
    units: Sequence[tuple[str, ...]],
    judge: fv.Network,
    steps: int,
) -> list[bool]:
    """Return for both images of each flagged unit whether the judge sees the motif of the facet, one of the unit's."""
    goals, labels = [], []
    for unit in flagged:
        objective = fv.objectives.Channel("stage3~", unit)
        goals += facet_objectives(network, objective, unit, known[unit].facets, found)
        labels += [facet.label if facet.label in units[unit] else "" for facet in known[unit].facets]
    images = [
        image
        for first in range(0, len(goals), BATCH)
        for image in fv.render(
            network, goals[first : first + BATCH], steps=steps, robustness_views=0, progress=None
        ).images
    ]
    return [
        bool(label) and class_rank(image, MOTIFS.index(label), judge)[0] == 1
        for image, label in zip(images, labels, strict=True)
    ]


def main() -> None:
    """Print names, scores and facets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawings", type=int, default=20, help="drawings of each motif")
    parser.add_argument("--pairs", type=int, default=20, help="planted pairs in each of two sets")
    parser.add_argument("--steps", type=int, default=128)
    options = parser.parse_args()
    network, judge = fv.load("motifnet"), fv.load("motifvit")
    with tempfile.TemporaryDirectory() as name:
        folder = write_folders(Path(name) / "photographs", options.drawings, seed=3)
        other = write_folders(Path(name) / "others", options.drawings, seed=4)
        print_names(network, ["", "stage3", "stage3.1"], folder, other, judge)
        print_planted(network, folder, other, judge, options.pairs, options.steps)


if __name__ == "__main__":
    main()
