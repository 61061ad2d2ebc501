"""Measure images matched to photographs: `make match-bench MODELS=FOLDER PHOTOGRAPHS=FOLDER`.

Classes that are not in the published table are rendered with other references, layers and weights, and judged as in
`quality.py`. The folder has one photograph per class, so the references of a class are photographs of other classes,
too: every n-th of the folder, or those with the highest logit. Seconds are those of the process, with the references.

Copies: altered drawings of motifs (moved by 5 %, turned by 5 degrees, zoomed by 8 %, in other colours), and others of
the same motif beside four references.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from motifs.draw import draw as draw_motifs
from pictures import SIZE, Bench, Ours, seen
from torch import Tensor

import featviz as fv
from featviz import objectives as obj
from featviz import transforms as T
from featviz.apps.match import nearest_photographs
from featviz.io import images_in, save_image, to_bytes
from featviz.network import OUTPUT, batch_norm_layers
from featviz.random import Generators

EARLY = ("features.2", "features.4", "features.7", "features.11")
ALL = (*EARLY, "features.14", "features.17")
COUNT = 50
ROWS = {
    "default": None,
    "all photographs, weight 80": (EARLY, "all", 80),
    "all photographs, weight 160": (EARLY, "all", 160),
    "highest logit, weight 80": (EARLY, "highest", 80),
    "highest logit, six layers, weight 60": (ALL, "highest", 60),
    "batch-norm statistics, weight 20": ("statistics", "", 20),
}
"""Layers, references and weight of each row."""
CLASSES_OF_COPIES = 10
ALTERED = (T.Warp((T.Shift(0.05), T.Rotate(5), T.Scale(T.LogUniform(0.92, 1.08)))), T.ColorShift(0.2))


def references(files: list[Path], logits: Tensor, label: int, which: str) -> list[str]:
    """Return the references of a class."""
    chosen = range(0, len(files), len(files) // COUNT) if which == "all" else logits[:, label].topk(COUNT).indices
    return [str(files[int(i)]) for i in chosen]


def goals(bench: Bench, files: list[Path], logits: Tensor, labels: list[int], row: tuple | None) -> list[obj.Objective]:
    """Return the objective of each class for a row."""
    if row is None:
        return [obj.Logit(label) for label in labels]
    layers, which, weight = row
    if layers == "statistics":
        norms = batch_norm_layers(bench.maker.module)
        return [obj.Logit(label) + weight * obj.MatchStatistics(norms[0], norms[1:]) for label in labels]
    return [
        obj.Logit(label)
        + weight * obj.MatchDistribution(layers[0], references(files, logits, label, which), layers[1:])
        for label in labels
    ]


def classes(bench: Bench, photographs: Path, count: int, steps: int) -> None:
    """Print the table of classes."""
    files, labels = list(images_in(photographs)), bench.others[:count]
    images = torch.stack(list(bench.photographs.values()))
    with torch.no_grad():
        logits = torch.cat([bench.maker.capture(part, [OUTPUT]).logits() for part in images.split(25)])
    print(f"{count} classes, {steps} steps\n{'':38} s/image  top-1  top-5  mean p  Fréchet   slope")
    for name, row in {"photographs": None, **ROWS}.items():
        started = time.process_time()
        if name == "photographs":
            drawn = torch.stack([bench.photographs[label] for label in labels])
        else:
            made = Ours(
                bench.maker, goals(bench, files, logits, labels, row), {"steps": steps, "seed": 1000, "size": SIZE}
            )
            drawn = bench.pictures(f"match-{name}".replace(" ", "-"), count, made)
        each = (time.process_time() - started) / count
        figures = "  ".join(f"{number:5.2f}" for number in seen(bench, drawn, labels))
        print(f"{name:38} {each:7.1f}  {figures}  {bench.nature(drawn)}", flush=True)


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
    parser.add_argument("--count", type=int, default=48, help="number of classes")
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="folder to cache images in")
    parser.add_argument("--device", default="cpu", help="device for rendering: cpu or cuda")
    options = parser.parse_args()
    copies(fv.load("motifnet", device="cpu"))
    with tempfile.TemporaryDirectory() as folder:
        keep = options.keep or Path(folder)
        keep.mkdir(exist_ok=True)
        bench = Bench(options.models, options.photographs, keep, options.device)
        classes(bench, options.photographs, options.count, options.steps)


if __name__ == "__main__":
    main()
