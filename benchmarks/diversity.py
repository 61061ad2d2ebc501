"""Compare ways to make the images of one channel differ: `python benchmarks/diversity.py [mobilenet_v2.safetensors]`.

Prints, for batches of four images, the activation of the channel relative to that in images without diversity (the
mean, and that of the worst image of each four), the share of images below a quarter of it, and the diversity.
"""

from __future__ import annotations

import sys

import torch

import featviz as fv

FORMS = (
    "{unit}",
    *(f"{{unit}} + {weight}*{{diversity}}" for weight in (1, 3, 10)),
    *(f"{{unit}} * ({base} + {{diversity}})" for base in (1, 1.5, 2)),
)
MOTIFNET = ("stage2:5", "stage2:9", "stage2:30", "stage3:5", "stage3:17", "stage3:40", "stage3:100")
MOBILENET = ("features.6:3", "features.10:7", "features.14:5", "features.16:40")


def compare(network: fv.Network, units: tuple[str, ...], size: int, steps: int) -> None:
    """Print a row for each form of the objective."""
    print(f"\n{network.label:34} mean  worst  below .25  diversity")
    plain: list[torch.Tensor] = []
    for form in FORMS:
        kept, differ = [], []
        for i, unit in enumerate(units):
            diversity = f"diversity({unit.partition(':')[0]})"
            goal = form.format(unit=unit, diversity=diversity)
            images = fv.render(network, goal, batch=4, size=size, steps=steps, progress=None, robustness_views=0).images
            scores = fv.score(network, unit, images).flatten()
            if form == FORMS[0]:
                plain.append(scores.mean())
            kept.append(scores / plain[i])
            differ.append(fv.score(network, diversity, images).mean())
        found = torch.stack(kept)
        shown = form.format(unit="unit", diversity="diversity")
        worst, below = found.amin(1).mean(), (found < 0.25).float().mean()
        print(f"{shown:34} {found.mean():.2f}   {worst:.2f}       {below:.2f}      {torch.stack(differ).mean():.2f}")


if __name__ == "__main__":
    compare(fv.load("motifnet", device="cpu"), MOTIFNET, 64, 256)
    if sys.argv[1:]:
        compare(fv.load("mobilenet_v2", weights=sys.argv[1], device="cpu"), MOBILENET, 112, 192)
