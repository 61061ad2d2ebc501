"""Measure whether another network recognises textured meshes from new directions: `make texture-bench`, ten minutes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import featviz as fv
from featviz.io import resize

MESHES = (("torus", "scales"), ("sphere", "bricks"), ("capsule", "zigzag"), ("box", "rings"))
VIEWS = 24
"""Number of test directions, which differ from those of the render."""
ZOOMS = (1.5, 2.0, 2.5)
"""Enlargements of the middle of a picture. At 1 all of the mesh is seen."""


def main() -> None:
    """Print the share of views in which motifvit names the class and (in brackets) its mean probability, by zoom."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="folder for the pages")
    parser.add_argument("--only", help="name of a mesh")
    options = parser.parse_args()
    network, judge = fv.load("motifnet"), fv.load("motifvit")
    print(f"mesh      class     {'  '.join(f'x{zoom:<13}' for zoom in ZOOMS)}seconds")
    for mesh, name in MESHES:
        if options.only not in (None, mesh):
            continue
        started = time.perf_counter()
        found = fv.texture(network, mesh, f"logit:{name}", steps=options.steps, progress=None)
        seconds = time.perf_counter() - started
        angles = [(360 * (i + 0.5) / VIEWS, 20 * (-1) ** i) for i in range(VIEWS)]
        index, columns = judge.classes.index(name), []
        for zoom in ZOOMS:
            views = torch.stack([found.view(*each, 224, zoom=zoom) for each in angles])
            probabilities = judge.capture(resize(views, judge.size), [""]).logits().softmax(1)
            right = (probabilities.argmax(1) == index).float().mean()
            columns.append(f"{right:5.2f} ({probabilities[:, index].mean():.2f})  ")
        print(f"{mesh:10}{name:10}{'  '.join(columns)}{seconds:9.0f}", flush=True)
        if options.keep:
            found.save(options.keep / mesh)


if __name__ == "__main__":
    main()
