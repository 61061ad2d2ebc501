"""Measure whether another network recognises textured meshes from new directions: `make texture-bench`, ten minutes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import featviz as fv
from featviz.io import resize

MESHES = (("torus", "spiral"), ("sphere", "bricks"), ("capsule", "zigzag"), ("box", "rings"))
VIEWS = 24
"""Number of directions, at none of which the texture was rendered."""


def main() -> None:
    """Print the share of views in which motifvit names the class, and its mean probability."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="folder for the pages")
    parser.add_argument("--only", help="name of a mesh")
    options = parser.parse_args()
    network, judge = fv.load("motifnet"), fv.load("motifvit")
    print("mesh      class     recognised  probability  seconds")
    for mesh, name in MESHES:
        if options.only not in (None, mesh):
            continue
        started = time.perf_counter()
        found = fv.texture(network, mesh, f"logit:{name}", steps=options.steps, progress=None)
        seconds = time.perf_counter() - started
        angles = [(360 * (i + 0.5) / VIEWS, 20 * (-1) ** i) for i in range(VIEWS)]
        views = resize(torch.stack([found.view(*each, 224) for each in angles]), judge.size)
        probabilities = judge.capture(views, [""]).logits().softmax(1)
        index = judge.classes.index(name)
        right = (probabilities.argmax(1) == index).float().mean()
        print(f"{mesh:10}{name:10}{right:10.2f}{probabilities[:, index].mean():13.2f}{seconds:9.0f}", flush=True)
        if options.keep:
            found.save(options.keep / mesh)


if __name__ == "__main__":
    main()
