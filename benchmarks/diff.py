"""Measure comparisons of networks whose difference is known: `make diff-bench`, about half an hour on two cores.

Each changed network is motifnet with one change: channels in another order, the weights of one class drawn again, or a
backdoor, where a small striped square makes the network see one class. motifvit is the judge.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from motifs.changes import add_backdoor, permute, redraw_class
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz.apps.diff.classes import ClassChange
from featviz.network.bundled import MOTIFS

MEASURES: dict[str, Callable[[ClassChange], float]] = {
    "judge": lambda each: each.change or 0.0,
    "logit": lambda each: 1 - each.correlation,
    "product": lambda each: (each.change or 0.0) * (1 - each.correlation),
    "transfer": lambda each: each.transfer_loss or 0.0,
}
"""Measures of the change of a class: by the judge, the logit, both multiplied, and the transfer loss of its images."""
REDRAWN, BACKDOORS = (5, 14, 23, 9), (22, 7, 15, 3, 11, 19, 13, 25, 0)
"""Classes whose weights are drawn again, and of backdoors. The last three had no part in the choice of a measure."""


def save_drawings(folder: Path, count: int) -> None:
    """Write drawings of all motifs in turn."""
    folder.mkdir()
    labels = torch.arange(count) % len(MOTIFS)
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(0))):
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / f"{i:03} {MOTIFS[i % len(MOTIFS)]}.png")


def report_classes(title: str, first: fv.Network, second: fv.Network, target: int, options: argparse.Namespace) -> None:
    """Print the rank of a class by each measure."""
    with tempfile.TemporaryDirectory() as folder:
        found = fv.diff(
            first, second, options.photographs, Path(folder) / "out", judge=fv.load("motifvit"), most=1,
            steps=options.steps, per_class=options.per_class, progress=None, scan_progress=None,
        )  # fmt: skip
    ranks = " ".join(f"{rank_of(target, found.classes, measure):>10}" for measure in MEASURES.values())
    losses = {each.indices[0]: each.transfer_loss or 0.0 for each in found.classes}
    others = max(value for index, value in losses.items() if index != target)
    print(f"{title:44} {ranks} {losses[target]:>8.2f} {others:>12.2f}", flush=True)


def rank_of(target: int, classes: Sequence[ClassChange], measure: Callable[[ClassChange], float]) -> int:
    """Return the rank of a class by a measure of its change, from 1."""
    order = sorted(classes, key=measure, reverse=True)
    return [each.indices[0] for each in order].index(target) + 1


def report_units(title: str, first: fv.Network, second: fv.Network, options: argparse.Namespace) -> None:
    """Print the number of units of each status."""
    start = time.perf_counter()
    found = fv.diff(first, second, options.photographs, scan_progress=None)
    seconds, counts = time.perf_counter() - start, Counter(match.status for match in found.units)
    numbers = " ".join(f"{counts[status]:>7}" for status in ("shared", "moved", "lost", "new"))
    best = ", ".join(f"{value:.2f}" for value in found.similarity.max(1).values.tolist())
    print(f"{title:44} {numbers} {len(found.changed):>8}  {best}  ({seconds:.1f} s)", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=216, help="number of drawings")
    parser.add_argument("--steps", type=int, default=96, help="steps of each image")
    parser.add_argument("--per-class", type=int, default=1, help="images of each class")
    parser.add_argument("--only-classes", action="store_true", help="leave out the tables of units")
    parser.add_argument("--targets", type=int, default=9, help="number of classes that are changed, in each way")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.photographs = Path(folder) / "drawings"
        save_drawings(options.photographs, options.count)
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Print the tables for a folder of drawings."""
    motifnet = fv.load("motifnet", device="cpu")
    if not options.only_classes:
        measure_units(motifnet, options)
    print(
        "rank of the class that was changed, by:     "
        + "".join(f"{name:>11}" for name in MEASURES)
        + "     loss    next loss"
    )
    for index in REDRAWN[: options.targets]:
        report_classes(f"{MOTIFS[index]}: weights drawn again", motifnet, redraw_class(motifnet, index), index, options)
    for index in BACKDOORS[: options.targets]:
        other, accuracy, success = add_backdoor(motifnet, index)
        title = f"{MOTIFS[index]}: backdoor, {success:.2f}; accuracy {accuracy:.2f}"
        report_classes(title, motifnet, other, index, options)


def measure_units(motifnet: fv.Network, options: argparse.Namespace) -> None:
    """Print the tables of units."""
    print("channels in another order: share that is matched to its own copy")
    for stage in ("stage1", "stage2", "stage3"):
        shares = []
        for seed in range(3):
            count = motifnet.table[stage].channels
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
            found = fv.diff(motifnet, permute(motifnet, stage, order), options.photographs, scan_progress=None)
            own = [match for match in found.units if match.first.layer == stage and match.status in ("shared", "moved")]
            shares.append(sum(match.first.channel == order[match.second.channel] for match in own) / count)
        print(f"{stage:10} {', '.join(f'{share:.3f}' for share in shares)}", flush=True)
    print("\nmotifnet and                                  shared   moved    lost     new  changed  best CKA of layers")
    for title, other in {
        "itself": motifnet,
        "motifvit": fv.load("motifvit", device="cpu"),
        "motifnet with random weights": fv.load("motifnet", weights="none", device="cpu"),
    }.items():
        report_units(title, motifnet, other, options)
    print()


if __name__ == "__main__":
    main()
