"""Compare dictionary features with channels by a two-alternative choice: `benchmarks/quality.py --parts features`.

A dictionary is fitted to every other photograph, and judged by the rest, which show other classes: is the image of a
feature closer to the ten photographs with its highest mean code than to the ten with the lowest? The channels of the
layer are judged by the same photographs. Then the halves change places: kind, number and k were chosen by the first fit
alone.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pictures import SEED, Bench, Ours, features
from torch import Tensor

import featviz as fv
from featviz.io import images_in

LAYER, KIND, FEATURES, K = "features.13", "archetypal", 32, 8
"""What is fitted. 250 photographs are enough for few features only: with 64, photographs of ranks eleven to twenty are
told from the weakest less often (.90 of the cases) than with 32 (.93), whatever k is."""
STEPS, POSITIONS = 1000, 196
"""Steps of the fit, and positions of each photograph: all of them."""
CHANNELS, EXEMPLARS = 25, 10
SIDE, RENDER_STEPS = 128, 192
"""Side of the images in px and their steps: less than in the table of units, so that it takes a quarter of an hour."""


def choices(
    strengths: Float[Tensor, "n units"], places: Float[Tensor, "n d"], drawn: Float[Tensor, "units d"]
) -> tuple[float, float]:
    """Return how often photographs of ranks eleven to twenty, and images, are closer to the strongest than the weakest.

    Photographs of equal strength, such as those in which a feature is 0, are in random order.

    Args:
        strengths: Strength of each unit in each photograph.
        places: Each photograph in the judge's features, of unit length.
        drawn: The image of each unit there.
    """
    shuffled = torch.randperm(len(places), generator=torch.Generator().manual_seed(SEED))
    order = shuffled[strengths[shuffled].argsort(dim=0, descending=True, stable=True)]
    found = []
    for i in range(strengths.shape[1]):
        most, following, least = (
            places[order[part, i]]
            for part in (slice(EXEMPLARS), slice(EXEMPLARS, 2 * EXEMPLARS), slice(-EXEMPLARS, None))
        )
        found.append(
            [
                ((them @ most.T).mean(1) > (them @ least.T).mean(1)).float().mean()
                for them in (following, drawn[i, None])
            ]
        )
    exemplars, images = torch.tensor(found).mean(0).tolist()
    return exemplars, images


def fit_half(bench: Bench, photographs: Path, first: int) -> fv.Dictionary:
    """Fit the dictionary to every other photograph from the first or the second, in the order of their names."""
    half = bench.keep / f"half-{first}"
    half.mkdir(exist_ok=True)
    for file in sorted(images_in(photographs))[first::2]:
        shutil.copyfile(file, half / file.name)
    return fv.fit_dictionary(
        bench.maker, half, LAYER, features=FEATURES, kind=KIND, k=K, per_image=POSITIONS, steps=STEPS,
        compare_seeds=False, progress=None, scan_progress=None,
    )  # fmt: skip


def dictionary_units(bench: Bench, photographs: Path) -> None:
    """Print the table of channels and dictionary features, for each half of the photographs."""
    print("\nhalf    explained  L0     never active  seconds | units  exemplars  images | channels  exemplars  images")
    for first in (0, 1):
        start = time.perf_counter()
        found = fit_half(bench, photographs, first)
        facts, seconds = found.facts, time.perf_counter() - start
        network = bench.maker.with_dictionary(LAYER, found)
        count = network.layer(LAYER).channels
        channels = sorted(random.Random(SEED).sample(range(count), min(CHANNELS, count)))
        ours = shares(bench, network, f"{LAYER}~", list(range(FEATURES)), first)
        theirs = shares(bench, bench.maker, LAYER, channels, first)
        print(
            f"{('even', 'odd')[first]:6}  {facts['explained_variance']:9.2f}  {facts['l0']:5.1f}  "
            f"{facts['dead']:12.2f}  {seconds:7.0f} | {FEATURES:5}  {ours[0]:9.2f}  {ours[1]:6.2f} | "
            f"{len(channels):8}  {theirs[0]:9.2f}  {theirs[1]:6.2f}",
            flush=True,
        )


def shares(bench: Bench, network: fv.Network, layer: str, chosen: list[int], first: int) -> tuple[float, float]:
    """Return the shares of `choices` of units, judged by the photographs that the dictionary was not fitted to.

    Args:
        bench: The judge and the photographs.
        network: The network, with its dictionary where the layer is one.
        layer: A layer of channels or of codes.
        chosen: Indices of its units.
        first: 0 or 1, the half that the dictionary was fitted to.
    """
    held_out = slice(1 - first, None, 2)
    images = torch.stack([bench.photographs[label] for label in sorted(bench.photographs)[held_out]])
    known, scale = bench.known
    centre = known.mean(0)
    places = F.normalize(known[held_out] - centre, dim=1)
    with torch.no_grad():
        answers = [network.capture(some.to(bench.device), [layer]).channels_first(layer) for some in images.split(25)]
    strengths = torch.cat([codes.mean((2, 3)).cpu() for codes in answers])[:, chosen]
    settings = {"param": fv.param.Image(SIDE), "steps": RENDER_STEPS}
    goals = [f"{layer}{unit}" if layer.endswith("~") else f"{layer}:{unit}" for unit in chosen]
    drawn = bench.pictures(f"halves-{layer}", len(chosen), Ours(network, goals, settings))
    return choices(strengths, places, F.normalize(features(bench.judge, drawn) / scale - centre, dim=1))
