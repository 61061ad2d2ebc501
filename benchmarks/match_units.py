"""Measure images of channels matched to photographs, by the choice of `quality.py` between photographs.

Channels are matched to one half of the photographs and judged by the other, which shows other classes; then the halves
change places. With `--whole`, the choice is that of `quality.py`, among all photographs, and each channel is matched to
those of ranks eleven to twenty, which are not among the ten that its image is compared with. `--others` takes channels
that are not in the published table, on which settings were chosen:
`PYTHONPATH=tools python benchmarks/match_units.py --models FOLDER --photographs FOLDER`.

*Activation* is the channel's mean activation in its image divided by the largest in a photograph: a median. Seconds are
those of the process.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from dictionary_units import choices
from jaxtyping import Float
from pictures import SEED, Bench, Ours, features
from quality import CHANNELS, EXEMPLARS, LAYERS
from torch import Tensor

from featviz.apps.match import match_units
from featviz.io import images_in, resize
from featviz.objectives import Channel, Objective

SIDE, STEPS = 128, 192
"""Side of the images in px and their steps, as in the table of dictionary features."""
HALVES = {"even": slice(0, None, 2), "odd": slice(1, None, 2)}
TUNED = 77
"""Seed of the channels that settings were chosen on."""


def channels_of(count: int, others: bool) -> list[int]:
    """Return the channels of the published table, or as many others."""
    published = sorted(random.Random(SEED).sample(range(count), min(CHANNELS, count)))
    if not others:
        return published
    rest = sorted(set(range(count)) - set(published))
    return sorted(random.Random(TUNED).sample(rest, min(CHANNELS, len(rest))))


def linked(files: Sequence[Path], folder: Path) -> Path:
    """Make a folder with links to photographs, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / file.name
        if not link.exists():
            link.symlink_to(file.absolute())
    return folder


def goals(bench: Bench, layer: str, folders: dict[int, Path], weight: dict[str, float]) -> list[Objective]:
    """Return channels matched to the photographs of a folder each."""
    found: dict[int, Objective] = {}
    for folder in dict.fromkeys(folders.values()):
        mine = [channel for channel, each in folders.items() if each == folder]
        units = [Channel(layer, channel) for channel in mine]
        found |= {
            c: one.objective for c, one in zip(mine, match_units(bench.maker, units, folder, **weight), strict=True)
        }
    return [found[channel] for channel in folders]


class Judge:
    """The choice between photographs.

    Args:
        bench: The networks and photographs.
        layer: A layer of the first network.
        channels: Its channels.
    """

    def __init__(self, bench: Bench, layer: str, channels: list[int]) -> None:
        self.bench, self.layer, self.channels = bench, layer, channels
        images = torch.stack([bench.photographs[label] for label in sorted(bench.photographs)])
        with torch.no_grad():
            acts = [bench.maker.capture(some.to(bench.device), [layer]) for some in images.split(25)]
        excited = torch.cat([each.channels_first(layer).mean((2, 3)).cpu() for each in acts])
        self.strengths = excited[:, channels]
        whole, self.scale = bench.known
        self.center = whole.mean(0)
        self.known = F.normalize(whole - self.center, dim=1)

    def shares(self, drawn: Float[Tensor, "n c h w"], judged: slice) -> tuple[float, float]:
        """Return the shares of exemplars and of images that are right, among some photographs."""
        places = F.normalize(features(self.bench.judge, drawn) / self.scale - self.center, dim=1)
        return choices(self.strengths[judged], self.known[judged], places)

    def activation(self, drawn: Float[Tensor, "n c h w"]) -> float:
        """Return the median over channels of the activation in the image over the largest in a photograph."""
        with torch.no_grad():
            seen = self.bench.maker.capture(resize(drawn, self.bench.maker.size), [self.layer])
        own = seen.channels_first(self.layer).mean((2, 3)).cpu()[range(len(drawn)), self.channels]
        return (own / self.strengths.amax(0)).median().item()


def rows(bench: Bench, judge: Judge, files: list[Path], folder: Path, options: argparse.Namespace) -> list[list[float]]:
    """Print the rows of a layer, and return their shares."""
    settings = {"size": options.size, "steps": options.steps}
    layer, channels = judge.layer, judge.channels
    given = {} if options.weight is None else {"weight": options.weight}

    def draw(name: str, aims: Sequence[Objective]) -> tuple[Tensor, float]:
        started = time.process_time()
        drawn = bench.pictures(f"match-units-{layer}-{name}", len(channels), Ours(bench.maker, aims, settings))
        return drawn, (time.process_time() - started) / len(channels)

    plain, seconds = draw("default", [Channel(layer, channel) for channel in channels])
    found = []
    halves = {name: HALVES[name] for name in options.halves.split(",")}
    for name, half in ({"ranks 11-20": slice(None)} if options.whole else halves).items():
        if options.whole:
            order = judge.strengths.argsort(0, descending=True)[EXEMPLARS : 2 * EXEMPLARS]
            own = {c: [files[k] for k in order[:, i]] for i, c in enumerate(channels)}
            folders = {c: linked(some, folder / "ranks" / layer / str(c)) for c, some in own.items()}
            judged, given = half, {**given, "count": EXEMPLARS}
        else:
            folders = dict.fromkeys(channels, linked(files[half], folder / f"half-{name}"))
            judged = next(other for key, other in HALVES.items() if key != name)
        drawn, each = draw(name.replace(" ", "-"), goals(bench, layer, folders, given))
        (exemplars, right), (_, before) = judge.shares(drawn, judged), judge.shares(plain, judged)
        print(
            f"{layer:12} {name:12} {len(channels):8}  {exemplars:9.2f}  {before:7.2f}  {right:7.2f}  "
            f"{judge.activation(plain):7.2f}  {judge.activation(drawn):7.2f}  {seconds:7.1f}  {each:7.1f}",
            flush=True,
        )
        found.append([len(channels), exemplars, before, right])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder with mobilenet_v2.safetensors and models.py")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 500 photographs named NNN_class.jpg")
    parser.add_argument("--keep", type=Path, help="folder to cache images in")
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--halves", default=",".join(HALVES), help="halves that channels are matched to")
    parser.add_argument("--size", type=int, default=SIDE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--weight", type=float, help="weight of distributions and spectrum (default: that of --match)")
    parser.add_argument("--whole", action="store_true", help="judge by all photographs")
    parser.add_argument("--others", action="store_true", help="channels that are not in the published table")
    parser.add_argument("--device", default="cpu", help="device for rendering: cpu or cuda")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        keep = options.keep or Path(temporary)
        keep.mkdir(exist_ok=True)
        bench = Bench(options.models, options.photographs, keep, options.device)
        files = sorted(images_in(options.photographs))
        print(f"{options.size} px, {options.steps} steps; activations and seconds: default, matched")
        print("units        matched to   channels  exemplars  default  matched  activations       seconds", flush=True)
        found = []
        for layer in options.layers.split(","):
            channels = channels_of(bench.maker.layer(layer).channels, options.others)
            if channels:
                found += rows(bench, Judge(bench, layer, channels), files, keep, options)
        table = torch.tensor(found)
        means = (table[:, :1] * table[:, 1:]).sum(0) / table[:, 0].sum()
        print(f"{'all':25} {table[:, 0].sum():8.0f}  {means[0]:9.2f}  {means[1]:7.2f}  {means[2]:7.2f}")


if __name__ == "__main__":
    main()
