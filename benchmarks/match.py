"""Measure images matched to photographs: `make match-bench MODELS=FOLDER PHOTOGRAPHS=FOLDER`.

Classes that are not in the published table, or with `--held-out` the fifty that are, are rendered with other
references, weights and transforms, and judged as in `quality.py`. The folder has one photograph per class. References
are those with the highest logit among every other photograph, without that of the class itself. The last column is the
Fréchet distance from the other half of the photographs, of which none was a reference. Seconds are those of the
process.

Copies: altered drawings of motifs (moved by 5 %, turned by 5 degrees, zoomed by 8 %, in other colours), and others of
the same motif beside four references.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from motifs.draw import draw as draw_motifs
from pictures import SIZE, Bench, Ours, features, frechet, seen
from torch import Tensor

import featviz as fv
from featviz import objectives as obj
from featviz import transforms as T
from featviz.apps.match import nearest_photographs
from featviz.apps.match.match import compared_layers
from featviz.interfaces import Transforms
from featviz.io import images_in, save_image, to_bytes
from featviz.network import OUTPUT, batch_norm_layers
from featviz.param import Fourier, Image
from featviz.param.spectrum import slope
from featviz.random import Generators

STEADY = tuple(each for each in T.STANDARD if not isinstance(each, T.ColorShift))
"""The default transforms without colour shifts."""


class Row(NamedTuple):
    """Settings of a row.

    Args:
        count: Number of references; 0 for batch-norm statistics.
        weight: Weight of the match; 0 for none.
        transforms: The transforms; `None` for the default.
        decay: Exponent of the amplitude spectrum of the param.
        spectrum: Match the amplitude spectrum, too, with the same weight.
    """

    count: int
    weight: float
    transforms: Transforms | None = None
    decay: float = Fourier.decay
    spectrum: bool = False


ROWS = {
    "default": Row(0, 0),
    "fifty, weight 200": Row(50, 200),
    "three, weight 200": Row(3, 200),
    "one, no colour shifts, weight 200": Row(1, 200, STEADY),
    "one, weight 100": Row(1, 100),
    "one, weight 200, spectrum": Row(1, 200, spectrum=True),
    "one, weight 200": Row(1, 200),
    "one, weight 200, decay 1.45": Row(1, 200, decay=1.45),
    "one, weight 200, decay 1.5": Row(1, 200, decay=1.5),
    "one, weight 200, decay 1.55": Row(1, 200, decay=1.55),
    "one, colour shifts of .15, weight 200": Row(1, 200, (*STEADY, T.ColorShift(0.15))),
    "one, weight 300": Row(1, 300),
    "batch-norm statistics, weight 20": Row(0, 20),
}
CLASSES_OF_COPIES = 10
ALTERED = (T.Warp((T.Shift(0.05), T.Rotate(5), T.Scale(T.LogUniform(0.92, 1.08)))), T.ColorShift(0.2))


def references(bench: Bench, files: list[Path], logits: Tensor, label: int, count: int) -> list[str]:
    """Return the references of a class, among every other photograph, without its own."""
    ranked = logits[:, label].argsort(descending=True).tolist()
    own = list(bench.photographs).index(label)
    return [str(files[i]) for i in ranked if i % 2 == 0 and i != own][:count]


def goals(bench: Bench, files: list[Path], logits: Tensor, labels: list[int], row: Row) -> list[obj.Objective]:
    """Return the objective of each class for a row."""
    count, weight = row.count, row.weight
    if not weight:
        return [obj.Logit(label) for label in labels]
    if not count:
        norms = batch_norm_layers(bench.maker.module)
        return [obj.Logit(label) + weight * obj.MatchStatistics(norms[0], norms[1:]) for label in labels]
    first, *others = compared_layers(bench.maker)
    made: list[obj.Objective] = []
    for label in labels:
        matched = references(bench, files, logits, label, count)
        term: obj.Objective = obj.MatchDistribution(first, matched, tuple(others))
        if row.spectrum:
            term = term + obj.MatchSpectrum(matched)
        made.append(obj.Logit(label) + weight * term)
    return made


def classes(bench: Bench, photographs: Path, labels: list[int], steps: int, rows: list[str]) -> None:
    """Print the table of classes."""
    files = list(images_in(photographs))
    images = torch.stack(list(bench.photographs.values()))
    with torch.no_grad():
        logits = torch.cat([bench.maker.capture(part, [OUTPUT]).logits() for part in images.split(25)])
    known, scale = bench.known
    best = [files.index(Path(references(bench, files, logits, label, 1)[0])) for label in labels]
    print(f"slope of the references, one for each class: {slope(images[best]).mean():.3f}")
    print(f"{len(labels)} classes, {steps} steps\n{'':38} s/image  top-1  top-5  mean p  Fréchet   slope  other half")
    for name, row in {"photographs": Row(0, 0), **ROWS}.items():
        if rows and name not in rows:
            continue
        started = time.process_time()
        if name == "photographs":
            drawn = torch.stack([bench.photographs[label] for label in labels])
        else:
            aims, param = goals(bench, files, logits, labels, row), Image(SIZE, spatial=Fourier(decay=row.decay))
            settings = {"steps": steps, "seed": 1000, "param": param, "transforms": row.transforms}
            key = f"match-{len(labels)}-{name}".replace(" ", "-")
            drawn = bench.pictures(key, len(labels), Ours(bench.maker, aims, settings))
        each = (time.process_time() - started) / len(labels)
        figures = "  ".join(f"{number:5.2f}" for number in seen(bench, drawn, labels))
        other = frechet(features(bench.judge, drawn) / scale, known[1::2])
        print(f"{name:38} {each:7.1f}  {figures}  {bench.nature(drawn)}  {other:10.1f}", flush=True)


def copies(network: fv.Network) -> None:
    """Print how many altered copies of drawings are found, and how many other drawings of a motif are taken for one."""
    found, wrong, total = 0, 0, 0
    for label in range(CLASSES_OF_COPIES):
        drawings = draw_motifs(torch.full((8,), 2 * label), network.size, torch.Generator().manual_seed(label))
        altered = drawings[:4]
        for transform in ALTERED:
            rng = Generators(range(4))
            altered = transform.apply(altered, transform.draw(rng, tuple(altered.shape[1:]))).clamp(0, 1)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{i}.png") for i in range(8)]
            for file, drawing in zip(files, drawings, strict=True):
                save_image(to_bytes(drawing.numpy()), file)
            found += sum(one.is_copy for one in nearest_photographs(network, altered, files))
            wrong += sum(one.is_copy for one in nearest_photographs(network, drawings[4:], files[:4]))
        total += 4
    print(f"copies: {found} of {total} found; {wrong} of {total} other drawings of the motif taken for one")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder with mobilenet_v2.safetensors and models.py")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 500 photographs named NNN_class.jpg")
    parser.add_argument("--count", type=int, default=50, help="largest number of classes")
    parser.add_argument("--held-out", action="store_true", help="render the 50 classes of the published table")
    parser.add_argument("--rows", help="names of rows, separated by semicolons (default: all)")
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="folder to cache images in")
    parser.add_argument("--device", default="cpu", help="device for rendering: cpu or cuda")
    options = parser.parse_args()
    rows = [name.strip() for name in options.rows.split(";")] if options.rows else []
    if not rows:
        copies(fv.load("motifnet", device="cpu"))
    with tempfile.TemporaryDirectory() as folder:
        keep = options.keep or Path(folder)
        keep.mkdir(exist_ok=True)
        bench = Bench(options.models, options.photographs, keep, options.device)
        labels = bench.classes if options.held_out else bench.others
        classes(bench, options.photographs, labels[: options.count], options.steps, rows)


if __name__ == "__main__":
    main()
