"""Measure dictionaries of features on drawings whose truth is known: `make features-bench`, about fifteen minutes.

The purity of a feature is the share of the most frequent motif among the ten drawings in which it is strongest, of
drawings that the dictionary was not fitted to. A good dictionary has purer features than the channels of its layer,
explains most of the variance of the activations, and has few features that are never active.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from jaxtyping import Float, Int
from motifs.draw import draw
from torch import Tensor

import featviz as fv
from featviz.io import save_image, to_bytes

LAYERS = {"motifnet": ("stage3.2", 64, 8), "motifvit": ("encoder.layers.encoder_layer_2", 256, 6)}
"""Layer, number of features and number of active ones of each network."""
TOP = 10
"""Number of strongest drawings of a feature."""
BATCH = 64


def write_drawings(folder: Path, per_motif: int, size: tuple[int, int], seed: int) -> None:
    """Write drawings of every motif into a folder, the motifs in turn."""
    generator = torch.Generator().manual_seed(seed)
    motifs = len(fv.load("motifnet").classes)
    for i in range(per_motif):
        for label, image in enumerate(draw(torch.arange(motifs), size, generator)):
            save_image(to_bytes(image.numpy()), folder / f"{i:04}-{label:02}.png")


def strengths(network: fv.Network, layer: str, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels"]:
    """Return the mean activation of each channel of a layer in each image."""
    found = []
    with network.session([layer]) as forward, torch.no_grad():
        for some in images.split(BATCH):
            found.append(forward(some.to(network.device)).channels_first(layer).unsqueeze(-1).flatten(2).mean(2).cpu())
    return torch.cat(found)


def purities(scores: Float[Tensor, "n channels"], labels: Int[Tensor, " n"]) -> Float[Tensor, " channels"]:
    """Return the purity of each channel."""
    strongest = labels[scores.topk(TOP, dim=0).indices]
    return torch.nn.functional.one_hot(strongest, int(labels.max()) + 1).sum(0).max(1).values / TOP


def main() -> None:
    """Print a row per network and kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--kinds", nargs="+", default=["topk", "archetypal", "nmf", "pca", "kmeans"])
    parser.add_argument("--drawings", type=int, default=100, help="drawings of each motif to fit to")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 2), help="of the drawings to fit to, and of others")
    parser.add_argument("--k", type=int, help="number of active features; default: 8 in motifnet, 6 in motifvit")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--one-seed", action="store_true", help="do not measure the stability")
    options = parser.parse_args()
    print("network   kind        features  expl. var.  L0     dead   stability  purity  channels'  gain    seconds")
    with tempfile.TemporaryDirectory() as name:
        write_drawings(Path(name), options.drawings, (64, 64), seed=options.seeds[0])
        labels = torch.arange(27).repeat(20)
        images = draw(labels, (64, 64), torch.Generator().manual_seed(options.seeds[1]))
        for model in options.models:
            network, (layer, features, k) = fv.load(model), LAYERS[model]
            channels = purities(strengths(network, layer, images), labels).mean().item()
            for kind in options.kinds:
                start, count = time.perf_counter(), min(features, 64) if kind in ("pca", "nmf", "kmeans") else features
                try:
                    found = fv.fit_dictionary(
                        network, name, layer, features=count, kind=kind, k=options.k or k, steps=options.steps,
                        compare_seeds=not options.one_seed, progress=None, scan_progress=None,
                    )  # fmt: skip
                except fv.SettingError as error:
                    print(f"{model:9} {kind:11} {error}")
                    continue
                seconds, facts = time.perf_counter() - start, found.facts
                scores = strengths(network.with_dictionary(layer, found), f"{layer}~", images)
                alive = (scores.abs() > 0).any(0)
                purity = purities(scores, labels)[alive].mean().item()
                stable = f"{facts['stability']:.3f}" if "stability" in facts else "-"
                print(
                    f"{model:9} {kind:11} {found.features:8}  {facts['explained_variance']:10.3f}  {facts['l0']:5.1f}  "
                    f"{facts['dead']:5.3f}  {stable:>9}  {purity:6.3f}  {channels:9.3f}  "
                    f"{purity - channels:+.3f}  {seconds:8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
