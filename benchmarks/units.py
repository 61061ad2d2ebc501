"""Measure names, scores and facets of units whose truth is known: part of `make features-bench`, a minute.

Names: a unit is class-like if one motif's drawings are told from all others by its response almost perfectly, on
drawings that the name is not found from. The right name is that motif. Meanings: planted units sum the directions of
two motifs in the last layer of motifnet; each image of a facet should be recognised by motifvit as its motif.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from motifs.draw import draw

import featviz as fv
from featviz.apps.judge.judge import class_rank
from featviz.apps.shared.ranks import ranks
from featviz.apps.units.responses import Responses, read_responses
from featviz.apps.units.statistics import auroc
from featviz.apps.units.summary import Summary, labels_of, summaries
from featviz.io import save_image, to_bytes
from featviz.network.bundled import MOTIFS

CLASS_LIKE = 0.98
"""AUROC of its best motif from which a unit is class-like."""
PAIRS = (("star", "heart"), ("spiral", "leaf"), ("fish", "bricks"), ("moon", "eye"))
"""Motifs of planted units."""
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


def planted(network: fv.Network, found: Responses, motifs: tuple[str, str]) -> fv.Network:
    """Return the network with a unit that sums the directions of two motifs."""
    rows = [[i for i, name in enumerate(found.names) if name.startswith(f"{motif}/")] for motif in motifs]
    vector = sum(found.features[some].mean(0) for some in rows)
    vector = vector / vector.norm()
    dictionary = fv.Dictionary(kind="relu", encoder=vector[None], bias=[-OFFSET])
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


def print_planted(network: fv.Network, folder: Path, judge: fv.Network, steps: int) -> None:
    """Print a row per planted unit."""
    print("planted unit      name                 polysemanticity  flagged  facets  recognised")
    plain = read_responses(network, folder, "stage3")
    for motifs in PAIRS:
        card = fv.unit(planted(network, plain, motifs), "stage3~0", folder, judge=judge, steps=steps)
        shown = [image for image in card.images if image.note.startswith("facet") and image.rendering]
        ranked = [
            class_rank(image.rendering.images[0], MOTIFS.index(image.note.rpartition(" ")[2]), judge)[0]
            for image in shown
            if image.rendering
        ]
        labels = " ".join(facet.label for facet in card.summary.facets)
        print(
            f"{' or '.join(motifs):16}  {card.summary.name:19}  {card.summary.polysemanticity:15.2f}  "
            f"{card.summary.is_polysemantic!s:7}  {labels}  {sum(rank == 1 for rank in ranked)} of {len(ranked)}",
            flush=True,
        )


def main() -> None:
    """Print names, scores and facets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawings", type=int, default=20, help="drawings of each motif")
    parser.add_argument("--steps", type=int, default=256)
    options = parser.parse_args()
    network, judge = fv.load("motifnet"), fv.load("motifvit")
    with tempfile.TemporaryDirectory() as name:
        folder = write_folders(Path(name) / "photographs", options.drawings, seed=3)
        other = write_folders(Path(name) / "others", options.drawings, seed=4)
        print_names(network, ["", "stage3", "stage3.1"], folder, other, judge)
        print_planted(network, folder, judge, options.steps)


if __name__ == "__main__":
    main()
