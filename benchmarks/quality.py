"""What other networks see in the pictures: `make quality MODELS=FOLDER PHOTOGRAPHS=FOLDER`, two hours on two cores.

Classes: 50 of ImageNet's, drawn once from those that have a photograph, rendered on MobileNetV2 and shown to a
MobileNetV1 that was trained apart; featviz at three qualities, each peer at its defaults and at featviz's time. Beside
each stand the same figures for photographs of the same classes, how far the pictures are from photographs in the
judge's features, and how steeply their spectrum falls.

Motifs: the embedded networks judge each other.

Units: of 25 channels in each of four layers, is the picture nearer to the ten photographs that excite the channel most
than to the ten that excite it least? The eleventh to twentieth photographs in its place show what is possible.

Seconds a picture are measured apart, in turns, on one batch of 8 and a few steps. With `--keep`, pictures are kept in a
folder and found there again.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import torch
import torch.nn.functional as F
from peers import Contender, environment, open_contender
from torch import Tensor
from torchvision.utils import make_grid

import featviz as fv
from featviz import param
from featviz import transforms as T
from featviz.apps.judge.judge import seen as seen_by

SEED = 0
SEEDS = 0, 100, 200
"""With so many first seeds are motifs drawn: there are but 27, and a few are hard."""
BATCH = 8
SIZE = 224
MAKER, JUDGE = "mobilenet_v2", "models.py:mobilenet_v1_050"
LUCENT, PEERS = "lucent", {"lucent": 512, "torch_dreams": 120, "dreamlens": 120}
"""The steps that are each one's default."""
LAYERS = ("features.2", "features.6", "features.13", "features.17")
CHANNELS = 25
EXEMPLARS = 10
SHOWN, SHEET = 5, Path(__file__).parents[1] / "docs" / "quality.webp"
"""Every fifth class is laid out, featviz above Lucent."""
TIMED = 32
"""Steps of which the time is taken."""
SMALL = 128
"""Side in px of Lucent's pictures of channels: its default; a class is drawn as large as the network sees."""
FEATURES = tuple(f"features.{i}" for i in (2, 6, 10, 14, 18, 22, 24, 26))
"""Layers of the judge that tell what is alike: together they tell exemplars apart best, from early units to late."""
AXES = 24
"""Along so many main axes of the photographs' features is the Fréchet distance taken: fifty pictures fill no more."""


class Bench:
    """The networks, the photographs, and what is kept of them.

    Args:
        models: the folder of the networks.
        photographs: the folder of photographs, whose names begin with their class.
        keep: where pictures are kept.
        device: where they are drawn; they are judged on the CPU.
    """

    def __init__(self, models: Path, photographs: Path, keep: Path, device: str) -> None:
        self.keep, self.device = keep, device
        self.weights = models / f"{MAKER}.safetensors"
        self.maker = fv.load(MAKER, weights=self.weights, device=device)
        self.judge = fv.load(f"{models}/{JUDGE}", device="cpu", size=160, mean=(0.5,) * 3, std=(0.5,) * 3)
        found = list(fv.photographs(photographs, size=SIZE))
        self.photographs = {int(file.name[:3]): image for file, image in found}
        self.classes = sorted(random.Random(SEED).sample(sorted(self.photographs), 50))

    @cached_property
    def known(self) -> tuple[Tensor, Tensor]:
        """The photographs' features, and the deviations that these were divided by."""
        whole = features(self.judge, torch.stack(list(self.photographs.values())))
        scale = whole.std(0).clamp(min=1e-6)
        return whole / scale, scale

    def nature(self, images: Tensor) -> str:
        """Write how far images are from photographs, and how steeply their spectra fall."""
        whole, scale = self.known
        return f"{frechet(features(self.judge, images) / scale, whole):7.1f}  {fv.slope(images).mean():6.3f}"

    @cached_property
    def others(self) -> list[int]:
        """48 classes that are not in the table, with which to find settings."""
        rest = sorted(set(self.photographs) - set(self.classes))
        return random.Random(SEED + 1).sample(rest, 96)[:48]

    def pictures(self, name: str, count: int, draw: Ours | Theirs) -> Tensor:
        """Draw pictures in batches, or find those that were drawn in the same way."""
        file = self.keep / f"{name}-{draw.digest}.pt"
        if not file.exists():
            batches = [list(range(first, min(first + BATCH, count))) for first in range(0, count, BATCH)]
            drawn = torch.cat([draw(some).detach().float().clamp(0, 1) for some in batches])
            torch.save((255 * drawn).round().byte(), file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
        return torch.load(file, weights_only=True) / 255


@dataclass(frozen=True)
class Ours:
    """Draws some of the objectives, each with a seed of its own.

    Args:
        network: what they are of.
        goals: the objectives.
        settings: of `fv.render`, and the first seed.
    """

    network: fv.Network
    goals: Sequence[str]
    settings: Mapping[str, Any]

    def __call__(self, some: Sequence[int]) -> Tensor:
        """Draw these."""
        return self._render(some).images

    @property
    def digest(self) -> str:
        """A name for what decides the pictures: their recipe's."""
        return self._render(range(len(self.goals)), until=0).recipe.hash

    def _render(self, some: Sequence[int], **more: Any) -> fv.Rendering:
        seeds = [self.settings.get("seed", 0) + i for i in some]
        settings = {**self.settings, "seed": seeds, "trials": 0, **more}
        return fv.render(self.network, [self.goals[i] for i in some], **settings)


@dataclass(frozen=True)
class Theirs:
    """Has a peer draw some of the channels of a layer.

    Args:
        peer: which.
        channels: their numbers.
        task: the network and how it is drawn.
        steps: of each.
        fingerprint: of the network's weights.
    """

    peer: Contender
    channels: Sequence[int]
    task: Mapping[str, Any]
    steps: int
    fingerprint: str

    def __call__(self, some: Sequence[int]) -> Tensor:
        """Draw these."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "pictures.pt")
            channels = [self.channels[i] for i in some]
            if not self.peer.run(**self.task, steps=self.steps, channels=channels, output=str(output)):
                raise SystemExit(f"{self.peer.name} failed: {self.peer.failed}")
            return torch.load(output, weights_only=True)

    @property
    def digest(self) -> str:
        """A name for what decides the pictures; where the weights lie does not."""
        task = {key: value for key, value in self.task.items() if key not in ("weights", "device")}
        decides = self.peer.name, list(self.channels), task, self.steps, self.fingerprint
        return hashlib.sha256(repr(decides).encode()).hexdigest()[:16]


def clock(draws: dict[str, Callable[[int], Ours | Theirs]]) -> dict[str, float]:
    """Say how many seconds a step of a picture takes each library, in a batch of 8, at best of three turns."""
    best = dict.fromkeys(draws, math.inf)
    for steps in (2, TIMED, TIMED, TIMED):  # the first warms up
        for name, draw in draws.items():
            start = time.perf_counter()
            draw(steps)(range(BATCH))
            if steps == TIMED:
                best[name] = min(best[name], (time.perf_counter() - start) / TIMED / BATCH)
    return best


def features(judge: fv.Network, images: Tensor) -> Tensor:
    """Return means and deviations over places of the judge's layers."""
    found = []
    for some in images.split(25):
        seen = F.interpolate(some, judge.size, mode="bilinear", antialias=True)
        with torch.no_grad():
            acts = judge.capture(seen, FEATURES)
        parts = [acts.units(layer).flatten(2) for layer in FEATURES]
        found.append(torch.cat([part for units in parts for part in (units.mean(2), units.std(2))], 1))
    return torch.cat(found)


def frechet(images: Tensor, photographs: Tensor) -> float:
    """Return the distance between Gaussians through two sets of features, along the main axes of the second."""
    centre = photographs.mean(0)
    axes = torch.linalg.svd(photographs - centre, full_matrices=False).Vh[:AXES].T.double()
    one, two = ((part - centre).double() @ axes for part in (images, photographs))
    spread = torch.linalg.eigvals(torch.cov(one.T) @ torch.cov(two.T)).real.clamp(min=0).sqrt().sum()
    apart = (one.mean(0) - two.mean(0)).square().sum()
    return (apart + torch.cov(one.T).trace() + torch.cov(two.T).trace() - 2 * spread).item()


def seen(bench: Bench, images: Tensor, labels: list[int]) -> tuple[float, float, float]:
    """Return in which share the judge has the class first, or among five, and its mean probability."""
    ranks, shares = [], []
    for image, label in zip(images, labels, strict=True):
        rank, share = seen_by(image, label, bench.judge)
        ranks.append(rank)
        shares.append(share)
    count = len(ranks)
    return sum(rank == 1 for rank in ranks) / count, sum(rank <= 5 for rank in ranks) / count, sum(shares) / count


def classes(bench: Bench, peers: dict[str, Contender], weights: Path) -> None:
    """Print the table of class pictures."""
    real = torch.stack([bench.photographs[label] for label in bench.classes])
    best = seen(bench, real, bench.classes)
    print("\nclasses            steps  s/picture  top-1  top-5  mean p   of photographs'    Fréchet   slope")

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

    each = clock(
        {
            "featviz": lambda steps: Ours(bench.maker, goals, {"steps": max(64, steps), "until": steps}),
            **{name: partial(their, peer) for name, peer in peers.items()},
        }
    )
    for quality, settings in fv.QUALITIES.items():
        draw = Ours(bench.maker, goals, settings)
        row(f"featviz {quality}", settings["steps"], each["featviz"], bench.pictures(f"featviz-{quality}", 50, draw))
    for name, peer in peers.items():
        equal = round(fv.QUALITIES["usual"]["steps"] * each["featviz"] / each[name])
        for run, steps in ((name, PEERS[name]), (f"{name} as long", equal)):
            row(run, steps, each[name], bench.pictures(run.replace(" ", "-"), 50, their(peer, steps)))
    if LUCENT not in peers:
        return
    both = torch.cat([shown[name][::SHOWN] for name in ("featviz usual", LUCENT)])
    side_by_side = make_grid(both, nrow=-(-50 // SHOWN))
    iio.imwrite(SHEET, (255 * side_by_side).round().byte().permute(1, 2, 0).numpy(), quality=88)
    lucents = PEERS[LUCENT] * each[LUCENT]
    for quality, settings in fv.QUALITIES.items():
        print(f"{quality}: {settings['steps'] * each['featviz'] / lucents:.3f} of Lucent's time")


def views(
    shift: float = 0.3, turn: float = 20, zoom: tuple[float, float] = (0.6, 3.0), px: int = 128, tint: float = 0.4
) -> tuple[Any, ...]:
    """Return a stack as it was varied while the default was looked for."""
    return (T.Shift(shift), T.Rotate(turn), T.Scale(T.LogUniform(*zoom)), T.Resize((px, px)), T.Tint(tint))


LUCIDS = 2.5
"""Rates are told as for Lucid's scale of frequencies, of which featviz has two fifths."""
STEEPER, LOOSE = param.Fourier(decay=1.25), fv.Adam(0.05 * LUCIDS, pull=0.0)
NEARER: dict[str, Any] = {"shift": 0.2, "turn": 15, "zoom": (0.6, 2.0), "tint": 0.3}
TRIED: dict[str, dict[str, Any]] = {
    "views of 224 px": {"transforms": views(px=224)},
    "views of 160 px": {"transforms": views(px=160)},
    "views of 128 px": {"transforms": views()},
    "views of 112 px": {"transforms": views(px=112), "steps": 168},
    "views of 96 px": {"transforms": views(px=96), "steps": 256},
    "128 px, rate .1 falling to .01": {"transforms": views(), "optimizer": fv.Adam(0.1 * LUCIDS, 0.1, 0.0)},
    "128 px, zoom .5 to 2": {"transforms": views(zoom=(0.5, 2.0))},
    "128 px, zoom .8 to 4": {"transforms": views(zoom=(0.8, 4.0))},
    "128 px, tint .6": {"transforms": views(tint=0.6)},
    "128 px, tint .2": {"transforms": views(tint=0.2)},
    "128 px, flips": {"transforms": (T.Flip(), *views())},
    "128 px, a start ten times as loud": {"transforms": views(), "param": param.Fourier(decay=1.0, sd=0.25)},
    "128 px, less total variation (20)": {"transforms": views(), "less": " - 20*tv"},
    "128 px, decay 1.25": {"transforms": views(), "param": STEEPER},
    "128 px, decay 1.25, rate .03": {
        "transforms": views(),
        "param": STEEPER,
        "optimizer": fv.Adam(0.03 * LUCIDS, pull=0.0),
    },
    "128 px, shift .2, turn 15, zoom .6 to 2": {"transforms": views(0.2, 15, (0.6, 2.0))},
    "the same, decay 1.25, tint .3": {"transforms": views(**NEARER), "param": STEEPER},
    "the same, decay 1.25, tint .3, longer": {"transforms": views(**NEARER), "param": STEEPER, "steps": 256},
    "the same, decay 1.25, tint .2": {"transforms": views(**{**NEARER, "tint": 0.2}), "param": STEEPER},
    "the same, decay 1.5, tint .3, flips": {
        "transforms": (T.Flip(), *views(**NEARER)),
        "param": param.Fourier(decay=1.5),
    },
    "decay 1.25, tint .3, shift .1, turn 10, zoom .7 to 1.6": {
        "transforms": views(0.1, 10, (0.7, 1.6), tint=0.3),
        "param": STEEPER,
    },
}
"""Settings on the way to the default, 128 steps where nothing else is said; what is left out is as it was before."""


def tried(bench: Bench) -> None:
    """Print what each of the settings gave on other classes than those of the table."""
    print("\ntried                                                   steps  top-1  top-5  mean p")
    real = torch.stack([bench.photographs[label] for label in bench.others])
    for name, settings in {"photographs": {}, **TRIED}.items():
        given = {"seed": 1000, "steps": 128, "param": param.Fourier(decay=1.0), "optimizer": LOOSE, **settings}
        goals = [f"logit:{label}{given.get('less', '')}" for label in bench.others]
        given.pop("less", None)
        images = bench.pictures(f"tried-{name}", 48, Ours(bench.maker, goals, given)) if settings else real
        figures = "  ".join(f"{number:5.2f}" for number in seen(bench, images, bench.others))
        print(f"{name:55} {given['steps'] if settings else 0:5}  {figures}", flush=True)


SPECTRA: dict[str, dict[str, Any]] = {
    "decay 1.25, rate .05, pull .1": {
        "param": param.Fourier(decay=1.25),
        "optimizer": fv.Adam(0.05 * LUCIDS, pull=0.1 / LUCIDS),
    },
    "decay 1.4, rate .02, pull .25": {"param": param.Fourier(decay=1.4)},
    "decay 1.45, the same": {"param": param.Fourier(decay=1.45)},
    "decay 1.5, the same": {"param": param.Fourier(decay=1.5)},
}
"""Decays on the way to spectra that fall as those of photographs do, the first with the rate that there was before."""


def spectra(bench: Bench) -> None:
    """Print what decays and rates give on other classes than those of the table."""
    real = torch.stack([bench.photographs[label] for label in bench.others])
    goals = [f"logit:{label}" for label in bench.others]
    print("\nspectra                         top-1  top-5  mean p  Fréchet   slope")
    for name, settings in {"photographs": {}, **SPECTRA}.items():
        draw = Ours(bench.maker, goals, {"seed": 1000, **settings})
        images = real if name == "photographs" else bench.pictures(f"spectra-{name}", 48, draw)
        figures = "  ".join(f"{number:5.2f}" for number in seen(bench, images, bench.others))
        print(f"{name:30}  {figures}  {bench.nature(images)}", flush=True)


def motifs(bench: Bench) -> None:
    """Print what the embedded networks see in each other's pictures."""
    print("\nmotifs    judged by  seed  top-1  mean p")
    makers, judges = (
        {name: fv.load(name, device=device) for name in ("motifnet", "motifvit")} for device in (bench.device, "cpu")
    )
    for maker, judge in (("motifnet", "motifvit"), ("motifvit", "motifnet")):
        names = makers[maker].classes
        goals = [f"logit:{name}" for name in names]
        for first in SEEDS:
            draw = Ours(makers[maker], goals, {**fv.QUALITIES["usual"], "seed": first})
            images = bench.pictures(f"motifs-{maker}-{first}", len(names), draw)
            found = [seen_by(image, i, judges[judge]) for i, image in enumerate(images)]
            missed = ", ".join(name for name, (rank, _) in zip(names, found, strict=True) if rank > 1)
            top = sum(rank == 1 for rank, _ in found) / len(found)
            mean = sum(share for _, share in found) / len(found)
            print(
                f"{maker:9} {judge:9} {first:>5}  {top:5.2f}  {mean:6.2f}  missed: {missed or 'none'}",
                flush=True,
            )


def units(bench: Bench, peers: dict[str, Contender], weights: Path) -> None:
    """Print how often pictures of channels are nearer to what excites them most."""
    images = torch.stack(list(bench.photographs.values()))
    known, scale = bench.known
    centre = known.mean(0)

    def place(pictures: Tensor) -> Tensor:
        return F.normalize(features(bench.judge, pictures) / scale - centre, dim=1)

    known = F.normalize(known - centre, dim=1)
    with torch.no_grad():
        answers = [bench.maker.capture(some.to(bench.device), LAYERS) for some in images.split(25)]
    print(f"\nunits          exemplars   featviz     draft{'    lucent' * (LUCENT in peers)}")
    total: dict[str, list[float]] = {}
    for layer in LAYERS:
        excited = torch.cat([acts.units(layer).mean((2, 3)).cpu() for acts in answers])
        count = excited.shape[1]
        channels = sorted(random.Random(SEED).sample(range(count), min(CHANNELS, count)))
        order = excited[:, channels].argsort(0, descending=True)
        drawn = {}
        for name, quality in (("featviz", "usual"), ("draft", "draft")):
            drawn[name] = bench.pictures(
                f"units-{layer}-{name}",
                len(channels),
                Ours(bench.maker, [f"{layer}:{channel}" for channel in channels], fv.QUALITIES[quality]),
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
    parser.add_argument("--models", type=Path, required=True, help="holds mobilenet_v2.safetensors and models.py")
    parser.add_argument("--photographs", type=Path, required=True, help="500 of them, named NNN_class.jpg")
    parser.add_argument("--parts", default="classes,motifs,units", help="and tried, spectra: how defaults were found")
    parser.add_argument("--peers", default=",".join(PEERS), help="which to draw with, too")
    parser.add_argument("--keep", type=Path, help="keep pictures here, and draw only those that are not here yet")
    parser.add_argument("--device", default="cpu", help="where pictures are drawn: cpu or cuda")
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
        if "tried" in parts:
            tried(bench)
        if "spectra" in parts:
            spectra(bench)
        if "motifs" in parts:
            motifs(bench)
        if "units" in parts:
            units(bench, peers, weights)
        for peer in peers.values():
            peer.close()


if __name__ == "__main__":
    main()
