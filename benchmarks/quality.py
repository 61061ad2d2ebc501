"""Measure what independent networks recognise: `make quality MODELS=FOLDER PHOTOGRAPHS=FOLDER`, two hours on two cores.

Classes: 50 random ImageNet classes that have a photograph, rendered on MobileNetV2 and judged by a MobileNetV1 that
was trained separately; featviz with three presets, each other library at its defaults and for featviz's time. Each
row has the ratios to photographs of the same classes, the Fréchet distance from photographs in the judge's features,
and the exponent of the amplitude spectrum.

Motifs: the bundled networks judge each other.

Units: for 25 channels in each of four layers, is the image closer to the ten photographs with the highest activation
than to the ten with the lowest? The photographs of ranks eleven to twenty in its place show what is possible.

Seconds per image are measured separately, in turns, on one batch of 8 and a few steps. `--keep` caches images in a
folder.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import torch
import torch.nn.functional as F
from dictionary_units import dictionary_units
from peers import Contender, environment, open_contender
from pictures import BATCH, MAKER, SEED, SIZE, Bench, Ours, Theirs, features, seen
from torch import Tensor
from torchvision.utils import make_grid
from tried import TABLES, print_table

import featviz as fv
from featviz.apps.judge.judge import class_rank

SEEDS = 0, 100, 200
"""First seeds of the motifs: with only 27 motifs, one seed is not enough."""
LUCENT, PEERS = "lucent", {"lucent": 512, "torch_dreams": 120, "dreamlens": 120}
"""Default number of steps of each library."""
LAYERS = ("features.2", "features.6", "features.13", "features.17")
CHANNELS = 25
EXEMPLARS = 10
SHOWN, SHEET = 5, Path(__file__).parents[1] / "docs" / "quality.webp"
"""Every fifth class is shown, featviz above Lucent."""
TIMED = 32
"""Number of timed steps."""
SMALL = 128
"""Side in px of Lucent's images of channels, its default; classes are rendered at the network's input size."""


def clock(draws: dict[str, Callable[[int], Ours | Theirs]]) -> dict[str, float]:
    """Return the seconds per step and image of each library, in a batch of 8, best of three turns."""
    best = dict.fromkeys(draws, math.inf)
    for steps in (2, TIMED, TIMED, TIMED):  # the first is a warm-up
        for name, draw in draws.items():
            start = time.perf_counter()
            draw(steps)(range(BATCH))
            if steps == TIMED:
                best[name] = min(best[name], (time.perf_counter() - start) / TIMED / BATCH)
    return best


def classes(bench: Bench, peers: dict[str, Contender], weights: Path) -> None:
    """Print the table of class images."""
    real = torch.stack([bench.photographs[label] for label in bench.classes])
    best = seen(bench, real, bench.classes)
    print("\nclasses            steps    s/image  top-1  top-5  mean p   of photographs'    Fréchet   slope")

    shown = {}

    def row(name: str, steps: int, each: float, images: Tensor) -> None:
        shown[name] = images
        found = seen(bench, images, bench.classes)
        ratios = " ".join(f"{mine / theirs:5.2f}" for mine, theirs in zip(found, best, strict=True))
        figures = "  ".join(f"{number:5.2f}" for number in found)
        print(
            f"{name:18} {steps:>5}  {steps * each:9.1f}  {figures}   {ratios}  {bench.nature(images)}",
            flush=True,
        )

    row("photographs", 0, 0, real)
    goals = [f"logit:{label}" for label in bench.classes]
    task = {"model": MAKER, "layer": "classifier.1", "weights": str(weights), "size": SIZE, "device": bench.device}

    def their(peer: Contender, steps: int) -> Theirs:
        return Theirs(peer, bench.classes, task, steps, bench.maker.fingerprint)

    def timed(quality: str, steps: int) -> Ours:
        return Ours(bench.maker, goals, {"quality": quality, "steps": max(64, steps), "until": steps})

    each = clock(
        {
            **{quality: partial(timed, quality) for quality in fv.PRESETS},
            **{name: partial(their, peer) for name, peer in peers.items()},
        }
    )
    for quality, preset in fv.PRESETS.items():
        images = bench.pictures(f"featviz-{quality}", 50, Ours(bench.maker, goals, {"quality": quality}))
        row(f"featviz {quality}", preset.steps, each[quality], images)
    for name, peer in peers.items():
        equal = round(fv.PRESETS["usual"].steps * each["usual"] / each[name])
        for run, steps in ((name, PEERS[name]), (f"{name} as long", equal)):
            row(run, steps, each[name], bench.pictures(run.replace(" ", "-"), 50, their(peer, steps)))
    if LUCENT not in peers:
        return
    both = torch.cat([shown[name][::SHOWN] for name in ("featviz usual", LUCENT)])
    side_by_side = make_grid(both, nrow=-(-50 // SHOWN))
    iio.imwrite(SHEET, (255 * side_by_side).round().byte().permute(1, 2, 0).numpy(), quality=88)
    lucents = PEERS[LUCENT] * each[LUCENT]
    for quality, preset in fv.PRESETS.items():
        print(f"{quality}: {preset.steps * each[quality] / lucents:.3f} of Lucent's time")


def motifs(bench: Bench) -> None:
    """Print how the bundled networks judge each other's images."""
    print("\nmotifs    judged by  seed  top-1  mean p")
    makers, judges = (
        {name: fv.load(name, device=device) for name in ("motifnet", "motifvit")} for device in (bench.device, "cpu")
    )
    for maker, judge in (("motifnet", "motifvit"), ("motifvit", "motifnet")):
        names = makers[maker].classes
        goals = [f"logit:{name}" for name in names]
        for first in SEEDS:
            draw = Ours(makers[maker], goals, {"seed": first})
            images = bench.pictures(f"motifs-{maker}-{first}", len(names), draw)
            found = [class_rank(image, i, judges[judge]) for i, image in enumerate(images)]
            missed = ", ".join(name for name, (rank, _) in zip(names, found, strict=True) if rank > 1)
            top = sum(rank == 1 for rank, _ in found) / len(found)
            mean = sum(share for _, share in found) / len(found)
            print(
                f"{maker:9} {judge:9} {first:>5}  {top:5.2f}  {mean:6.2f}  missed: {missed or 'none'}",
                flush=True,
            )


def units(bench: Bench, peers: dict[str, Contender], weights: Path) -> None:
    """Print how often images of channels are closer to photographs with high activation."""
    images = torch.stack(list(bench.photographs.values()))
    known, scale = bench.known
    center = known.mean(0)

    def place(pictures: Tensor) -> Tensor:
        return F.normalize(features(bench.judge, pictures) / scale - center, dim=1)

    known = F.normalize(known - center, dim=1)
    with torch.no_grad():
        answers = [bench.maker.capture(some.to(bench.device), LAYERS) for some in images.split(25)]
    print(f"\nunits          exemplars   featviz     draft{'    lucent' * (LUCENT in peers)}")
    total: dict[str, list[float]] = {}
    for layer in LAYERS:
        excited = torch.cat([acts.channels_first(layer).mean((2, 3)).cpu() for acts in answers])
        count = excited.shape[1]
        channels = sorted(random.Random(SEED).sample(range(count), min(CHANNELS, count)))
        order = excited[:, channels].argsort(0, descending=True)
        drawn = {}
        for name, quality in (("featviz", "usual"), ("draft", "draft")):
            drawn[name] = bench.pictures(
                f"units-{layer}-{name}",
                len(channels),
                Ours(bench.maker, [f"{layer}:{channel}" for channel in channels], {"quality": quality}),
            )
        task = {"model": MAKER, "layer": layer, "weights": str(weights), "size": SMALL, "device": bench.device}
        if LUCENT in peers:
            draw = Theirs(peers[LUCENT], channels, task, PEERS[LUCENT], bench.maker.fingerprint)
            drawn[LUCENT] = bench.pictures(f"units-{layer}-lucent", len(channels), draw)
        right: dict[str, list[float]] = {name: [] for name in ("exemplars", *drawn)}
        places = {name: place(pictures) for name, pictures in drawn.items()}
        for i in range(len(channels)):
            most, next_most, least = (
                known[order[part, i]]
                for part in (slice(EXEMPLARS), slice(EXEMPLARS, 2 * EXEMPLARS), slice(-EXEMPLARS, None))
            )
            for name, them in (("exemplars", next_most), *((name, places[name][i : i + 1]) for name in drawn)):
                right[name].append(((them @ most.T).mean(1) > (them @ least.T).mean(1)).float().mean().item())
        shares = {name: sum(found) / len(found) for name, found in right.items()}
        print(f"{layer:13}  " + "  ".join(f"{share:8.2f}" for share in shares.values()), flush=True)
        for name, found in right.items():
            total.setdefault(name, []).extend(found)
    print("all            " + "  ".join(f"{sum(found) / len(found):8.2f}" for found in total.values()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder with mobilenet_v2.safetensors and models.py")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 500 photographs named NNN_class.jpg")
    parser.add_argument("--parts", default="classes,motifs,units", help="also: features, tried, spectra, optimizers")
    parser.add_argument("--peers", default=",".join(PEERS), help="other libraries to compare with")
    parser.add_argument("--keep", type=Path, help="folder to cache images in")
    parser.add_argument("--device", default="cpu", help="device for rendering: cpu or cuda")
    parser.add_argument("--environment", type=Path, default=Path("benchmarks/.peers"))
    options = parser.parse_args()
    print(f"featviz {fv.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    with tempfile.TemporaryDirectory() as folder:
        keep = options.keep or Path(folder)
        keep.mkdir(exist_ok=True)
        bench = Bench(options.models, options.photographs, keep, options.device)
        weights = Path(folder, "maker.pt")
        torch.save({key: value.cpu() for key, value in bench.maker.module.state_dict().items()}, weights)
        chosen = [name for name in options.peers.split(",") if name]
        python = environment(options.environment.absolute()) if chosen else Path()
        peers = {name: open_contender(name, python, Path(folder), options.device) for name in chosen}
        parts = options.parts.split(",")
        if "classes" in parts:
            classes(bench, peers, weights)
        for part in TABLES:
            if part in parts:
                print_table(bench, part)
        if "motifs" in parts:
            motifs(bench)
        if "units" in parts:
            units(bench, peers, weights)
        if "features" in parts:
            dictionary_units(bench, options.photographs)
        for peer in peers.values():
            peer.close()


if __name__ == "__main__":
    main()
