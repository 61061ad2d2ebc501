"""Measure whether the strongest inputs of units drive them: `make circuits-bench`, some minutes for drawings.

The ten inputs with the largest contribution to the response to a unit's exemplars are ablated, and ten random ones,
eight times: their activations are set to 0, and to their mean over all images, from which contributions are then
counted as well. Given is by how much the response falls, as a mean over units. For comparison, the ten inputs with the
largest expanded weights are set to 0. With photographs and weights of MobileNetV2, its units are measured, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from motifs.draw import draw
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.ablate import Ablation, ablate
from featviz.apps.circuits.contributions import contributions
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


def mean_activations(network: fv.Network, layer: str, images: Float[Tensor, "n c h w"]) -> Float[Tensor, " channels"]:
    """Return the mean activation of each channel of a layer over images and positions."""
    found = []
    with network.session([layer]) as forward, torch.no_grad():
        for some in images.split(BATCH):
            found.append(forward(some).channels_first(layer).unsqueeze(-1).flatten(2).mean(2))
    return torch.cat(found).mean(0)


def measure(network: fv.Network, images: Float[Tensor, "n c h w"], layer: str, units: int) -> None:
    """Print a row for a layer."""
    began, source = time.perf_counter(), nearest_source(network, layer)
    scores, mean = strengths(network, layer, images), mean_activations(network, source, images)
    alive = (scores.amax(0) > 0).nonzero().flatten()
    chosen = alive[torch.randperm(len(alive), generator=torch.Generator().manual_seed(0))[:units]].tolist()
    found: dict[str, list[Ablation]] = {"0": [], "mean": [], "weights": []}
    for weights in expand(network, layer, chosen, source, by_path=False):
        unit = (network, layer, weights.channel, source)
        exemplars = images[scores[:, weights.channel].topk(EXEMPLARS).indices]
        for name, baseline in (("0", None), ("mean", mean)):
            inputs = weights.strongest(ABLATED, contributions(*unit, exemplars, baseline))
            found[name].append(ablate(*unit, exemplars, inputs, baseline=baseline))
        found["weights"].append(ablate(*unit, exemplars, weights.strongest(ABLATED)))
    numbers = "  ".join(row(each) for each in found.values())
    inputs = f"{network.layer(source).channels} in {source}"
    print(f"{layer or 'logit':19} {inputs:27} {numbers}  {time.perf_counter() - began:5.0f} s", flush=True)


def row(found: Sequence[Ablation]) -> str:
    """Return the mean fall without the strongest and without random inputs, the ratio, and how many units reach it."""
    strongest, random = (
        sum(fall / abs(each.response) for each, fall in zip(found, falls, strict=True)) / len(found)
        for falls in ([each.excitatory for each in found], [each.random for each in found])
    )
    fulfilled = sum(each.ratio >= TARGET for each in found)
    return f"{100 * strongest:4.0f} % {100 * random:3.0f} % {strongest / random:6.1f} {fulfilled:2}"


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
        print(f"{'':47} contribution, to 0      contribution, to mean   weights, to 0")
        part = f"{'10':>4}   {'random':>6} {'ratio':>5} >={TARGET:.0f}"
        print(f"{'layer':19} {'inputs':27} {'  '.join([part] * 3)}")
        for layer in LAYERS[network.label]:
            measure(network, images, layer, given.units)


if __name__ == "__main__":
    main()
