"""Measure images of channels matched to photographs, by the choice of `quality.py` between photographs.

Each channel is matched to the photograph of rank eleven, which is not among the ten with the highest activation that
its image is compared with: `PYTHONPATH=tools python benchmarks/match_units.py --models FOLDER --photographs FOLDER`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from pictures import SEED, Bench, Ours, features
from quality import CHANNELS, EXEMPLARS, LAYERS
from torch import Tensor

from featviz.apps.match import matched
from featviz.io import images_in
from featviz.objectives import Channel, Objective


def goals(bench: Bench, layer: str, photographs: dict[int, Path], folder: Path) -> list[Objective]:
    """Return channels matched to one photograph each."""
    found = []
    for channel, photograph in photographs.items():
        own = folder / layer / str(channel)
        own.mkdir(parents=True, exist_ok=True)
        (own / photograph.name).symlink_to(photograph.absolute())
        found += [each.objective for each in matched(bench.maker, [Channel(layer, channel)], own)]
    return found


def share_right(pictures: Tensor, known: Tensor, order: Tensor) -> float:
    """Return how often a picture is closer to the photographs with the highest activation than to the lowest."""
    right = [
        (one @ known[ranked[:EXEMPLARS]].T).mean() > (one @ known[ranked[-EXEMPLARS:]].T).mean()
        for one, ranked in zip(pictures, order.T, strict=True)
    ]
    return torch.stack(right).float().mean().item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder with mobilenet_v2.safetensors and models.py")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 500 photographs named NNN_class.jpg")
    parser.add_argument("--keep", type=Path, help="folder to cache images in")
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--device", default="cpu", help="device for rendering: cpu or cuda")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.models, options.photographs, options.keep or Path(folder), options.device)
        files, images = list(images_in(options.photographs)), torch.stack(list(bench.photographs.values()))
        whole, scale = bench.known
        center = whole.mean(0)
        known = F.normalize(whole - center, dim=1)
        print(f"{options.steps} steps\nunits          channels   photograph   image", flush=True)
        for layer in options.layers.split(","):
            with torch.no_grad():
                acts = [bench.maker.capture(some.to(bench.device), [layer]) for some in images.split(25)]
            excited = torch.cat([each.channels_first(layer).mean((2, 3)).cpu() for each in acts])
            channels = sorted(random.Random(SEED).sample(range(excited.shape[1]), min(CHANNELS, excited.shape[1])))
            order = excited[:, channels].argsort(0, descending=True)
            own = order[EXEMPLARS].tolist()
            chosen = {channel: files[i] for channel, i in zip(channels, own, strict=True)}
            aims = goals(bench, layer, chosen, Path(folder))
            settings = {"steps": options.steps}
            drawn = bench.pictures(f"match-units-{layer}", len(channels), Ours(bench.maker, aims, settings))
            places = F.normalize(features(bench.judge, drawn) / scale - center, dim=1)
            shares = share_right(known[own], known, order), share_right(places, known, order)
            print(f"{layer:13}  {len(channels):8}  {shares[0]:11.2f}  {shares[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
