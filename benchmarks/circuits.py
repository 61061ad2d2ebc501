"""Measure whether the strongest inputs by expanded weights drive units: `make circuits-bench`, a minute for drawings.

The ten strongest excitatory inputs of a unit are set to 0, and ten random ones, eight times. Given is by how much the
response to the unit's exemplars falls, as a mean over units. With photographs and the weights of MobileNetV2, its units
are measured as well, which takes some more minutes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from jaxtyping import Float
from motifs.draw import draw
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.ablate import ablate
from featviz.apps.circuits.expand import expand, nearest_source
from featviz.io import images_in, read_photograph

LAYERS = {
    "motifnet": ("stage2.1", "stage2", "stage3.1", "stage3", ""),
    "mobilenet_v2": (
        "features.9",
        "features.10",
        "features.14",
        "features.13.conv.0",
        "features.17",
        "features.18",
        "",
    ),
}
ABLATED, EXEMPLARS, TARGET = 10, 5, 3.0
"""Number of inputs, of exemplars of a unit, and how many times more the strongest inputs should matter."""
BATCH = 32


def strengths(network: fv.Network, layer: str, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels"]:
    """Return the largest activation of each channel of a layer in each image."""
    found = []
    with network.session([layer]) as forward, torch.no_grad():
        for some in images.split(BATCH):
            found.append(forward(some).channels_first(layer).unsqueeze(-1).flatten(2).amax(2))
    return torch.cat(found)


def measure(network: fv.Network, images: Float[Tensor, "n c h w"], layer: str, units: int) -> None:
    """Print a row for a layer."""
    began, source = time.perf_counter(), nearest_source(network, layer)
    scores = strengths(network, layer, images)
    alive = (scores.amax(0) > 0).nonzero().flatten()
    chosen = alive[torch.randperm(len(alive), generator=torch.Generator().manual_seed(0))[:units]].tolist()
    strong, random, fulfilled = [], [], 0
    for weights in expand(network, layer, chosen, source, by_path=False):
        exemplars = images[scores[:, weights.channel].topk(EXEMPLARS).indices]
        found = ablate(network, layer, weights.channel, source, exemplars, weights.strongest(ABLATED))
        strong.append(found.excitatory / abs(found.response))
        random.append(found.random / abs(found.response))
        fulfilled += found.ratio >= TARGET
    mean, other = sum(strong) / len(strong), sum(random) / len(random)
    inputs = f"{network.layer(source).channels:4} in {source}"
    print(
        f"{layer or 'logit':20} {inputs:28} {100 * mean:9.0f} % {100 * other:8.0f} % {mean / other:8.1f} "
        f"{fulfilled:4} of {len(chosen)} {time.perf_counter() - began:6.0f} s",
        flush=True,
    )


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mobilenet", type=Path, help="weights of MobileNetV2")
    parser.add_argument("--photographs", type=Path, help="photographs for MobileNetV2")
    parser.add_argument("--count", type=int, default=125, help="number of photographs")
    parser.add_argument("--units", type=int, default=8, help="number of units of each layer")
    given = parser.parse_args()
    motifnet = fv.load("motifnet", device="cpu")
    classes = len(motifnet.classes)
    drawings = draw(torch.arange(12 * classes) % classes, motifnet.size, torch.Generator().manual_seed(0))
    sets = [(motifnet, drawings)]
    if given.mobilenet and given.photographs:
        mobilenet = fv.load("mobilenet_v2", weights=given.mobilenet, device="cpu")
        files = list(images_in(given.photographs))
        files = files[:: max(1, len(files) // given.count)]
        sets.append((mobilenet, torch.stack([read_photograph(file, size=mobilenet.size) for file in files])))
    for network, images in sets:
        print(f"\n{network.label}: fall of the response without ten inputs, {len(images)} images")
        print(f"{'layer':20} {'inputs':28} {'strongest':>11} {'random':>10} {'ratio':>8}   >= {TARGET:.0f} x")
        for layer in LAYERS[network.label]:
            measure(network, images, layer, given.units)


if __name__ == "__main__":
    main()
