"""Measure contributions of a layer's positions to class logits: `make blocks-bench`, about ten minutes on two cores.

A good map of contributions adds up to a positive number for the class that the network recognises, and agrees with what
the logit loses when blocks of 3 x 3 positions are replaced by the layer's mean. `single_cells` replaces single
positions in the same way.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from motifs.draw import draw
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.lrp import LRP
from featviz.apps.explain.request import AttributionRequest
from featviz.apps.shared.operations.contributions import (
    ablation_effects,
    cell_contributions,
    integrated_gradients,
    position_contributions,
)
from featviz.io import images_in, read_photograph
from featviz.network import OUTPUT, Activations, Forward

LAYERS = {
    "mobilenet_v2": ("features.10", "features.14", "features.17", "features.18"),
    "motifnet": ("stage1", "stage2", "stage3"),
}
BLOCK, MAX_BLOCKS = 3, 40
"""Side of the replaced blocks in positions, and the number of them for each image."""


def recognised(network: fv.Network, photographs: Path, count: int) -> Iterator[tuple[Tensor, int]]:
    """Yield photographs whose file name names the class that the network predicts, and the class."""
    files = list(images_in(photographs))
    for file in files[:: max(1, len(files) // (3 * count))]:
        image = read_photograph(file, size=network.size, channels=3)[None]
        label = int(network.capture(image, [OUTPUT]).logits().argmax())
        if network.classes[label].lower().replace(" ", "_") in file.stem.lower():
            yield image, label


def drawn(network: fv.Network, count: int) -> Iterator[tuple[Tensor, int]]:
    """Yield drawings of motifs that the network recognises, and their class."""
    generator = torch.Generator().manual_seed(0)
    for i in range(2 * count):
        label = i % len(network.classes)
        image = draw(torch.tensor([label]), network.size, generator)
        if int(network.capture(image, [OUTPUT]).logits().argmax()) == label:
            yield image, label


def relevance(network: fv.Network, image: Tensor, layer: str, label: int) -> Tensor:
    """Return LRP's relevance of the positions of a layer."""
    request = AttributionRequest(network, fv.objectives.Logit(label), (image.shape[2], image.shape[3]))
    with request.open(layer) as scorer, torch.enable_grad():
        acts, _ = LRP("epsilon")._run(scorer, image.clone().requires_grad_())
        seed = torch.zeros_like(acts[OUTPUT])
        seed[0, label] = acts[OUTPUT][0, label].detach()
        (found,) = torch.autograd.grad(acts[OUTPUT], acts[layer], seed)
    return acts.replaced({layer: found}).as_map(layer)[0].sum(0)


def contenders(
    network: fv.Network, forward: Forward, image: Tensor, acts: Activations, layer: str, label: int
) -> dict[str, Callable[[], Tensor]]:
    """Return methods by name, each a function that returns the contribution of every position."""
    maps = acts.as_map(layer)
    mean, classes = maps.detach().mean((2, 3), keepdim=True).expand_as(maps), torch.tensor([[label]])
    cells = torch.eye(maps[0, 0].numel()).view(*maps.shape[2:], *maps.shape[2:])

    def gradient_times_activation() -> Tensor:
        (gradient,) = torch.autograd.grad(acts.logits()[0, label], acts[layer], retain_graph=True)
        return (acts.replaced({layer: gradient}).as_map(layer) * maps)[0].sum(0).detach()

    def integrated(baseline: Tensor, steps: int) -> Tensor:
        return integrated_gradients(forward, image, acts, layer, classes, baseline, steps)[0, 0].sum(0)

    def single_cells() -> Tensor:
        changes = cells.flatten(0, 1)[:, None] * (mean - maps)[0].detach()
        return ablation_effects(forward, image, acts, layer, changes, [label]).view(maps.shape[2:])

    return {
        "gradient x activation": gradient_times_activation,
        "integrated gradients from 0, 8 steps": lambda: integrated(torch.zeros_like(mean), 8),
        "integrated gradients from the mean, 8 steps": lambda: integrated(mean, 8),
        "the same, 4 steps, sum from 0 (atlas)": lambda: position_contributions(
            forward, image, acts, layer, classes, 4
        )[0, 0],
        "ablation of single positions": single_cells,
        "ablation of windows, sum from 0 (blocks)": lambda: cell_contributions(
            forward, image, acts, layer, cells, [label]
        )[0],
        "LRP epsilon": lambda: relevance(network, image, layer, label),
    }


def measure(network: fv.Network, layer: str, images: list[tuple[Tensor, int]]) -> None:
    """Print a row per method for a layer."""
    sums, agreement, seconds = defaultdict(list), defaultdict(list), defaultdict(list)
    with network.session([layer, OUTPUT]) as forward, torch.enable_grad():
        for image, label in images:
            acts = forward(image.clone().requires_grad_())
            maps = acts.as_map(layer)[0].detach()
            corners = [(y, x) for y in range(maps.shape[1] - BLOCK + 1) for x in range(maps.shape[2] - BLOCK + 1)]
            corners = corners[:: max(1, len(corners) // MAX_BLOCKS)]
            masks = torch.zeros(len(corners), *maps.shape[1:])
            for mask, (y, x) in zip(masks, corners, strict=True):
                mask[y : y + BLOCK, x : x + BLOCK] = 1
            changes = masks[:, None] * (maps.mean((1, 2), keepdim=True) - maps)
            truth = ablation_effects(forward, image, acts, layer, changes, [label])[0]
            for name, method in contenders(network, forward, image, acts, layer, label).items():
                start = time.perf_counter()
                try:
                    found = method()
                except fv.FeatvizError:
                    continue
                seconds[name].append(time.perf_counter() - start)
                sums[name].append(found.sum().item())
                agreement[name].append(np.corrcoef((masks * found).sum((1, 2)), truth)[0, 1])
    for name, found in sums.items():
        positive = f"{sum(total > 0 for total in found)} of {len(found)}"
        milliseconds = 1000 * np.median(seconds[name])
        print(
            f"{layer:12} {name:44} {positive:>9} {np.nanmean(agreement[name]):12.2f} {milliseconds:12.0f}", flush=True
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder with mobilenet_v2.safetensors; default: motifnet only")
    parser.add_argument("--photographs", type=Path, help="folder of photographs, named after their classes")
    parser.add_argument("--count", type=int, default=36, help="number of images")
    options = parser.parse_args()
    print("layer        method                                         positive  correlation  ms per image")
    motifnet = fv.load("motifnet")
    networks = {"motifnet": (motifnet, drawn(motifnet, options.count))}
    if options.models and options.photographs:
        mobilenet = fv.load("mobilenet_v2", weights=options.models / "mobilenet_v2.safetensors")
        networks["mobilenet_v2"] = mobilenet, recognised(mobilenet, options.photographs, options.count)
    for name, (network, images) in networks.items():
        some = [pair for pair, _ in zip(images, range(options.count), strict=False)]
        print(f"{name}, {len(some)} images")
        for layer in LAYERS[name]:
            measure(network, layer, some)


if __name__ == "__main__":
    main()
