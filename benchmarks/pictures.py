"""Images and measures for `make quality`: renders of several libraries, and their distance from photographs."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peers import Contender
from torch import Tensor

import featviz as fv
from featviz.apps.judge.judge import class_rank
from featviz.io import read_photographs, resize
from featviz.param.spectrum import slope

SEED = 0
BATCH = 8
SIZE = 224
MAKER, JUDGE = "mobilenet_v2", "models.py:mobilenet_v1_050"
FEATURES = tuple(f"features.{i}" for i in (2, 6, 10, 14, 18, 22, 24, 26))
"""Layers of the judge for feature similarity: combined, they separate exemplars best for early and late units."""
AXES = 24
"""Number of principal components for the Fréchet distance: fifty images do not span more."""


class Bench:
    """The networks, the photographs and cached images.

    Args:
        models: Folder of the networks.
        photographs: Folder of photographs, whose file names start with their class index.
        keep: Folder for cached images.
        device: Device for rendering; judging runs on the CPU.
    """

    def __init__(self, models: Path, photographs: Path, keep: Path, device: str) -> None:
        self.keep, self.device = keep, device
        self.weights = models / f"{MAKER}.safetensors"
        self.maker = fv.load(MAKER, weights=self.weights, device=device)
        self.judge = fv.load(f"{models}/{JUDGE}", device="cpu", input_size=160, mean=(0.5,) * 3, std=(0.5,) * 3)
        found = list(read_photographs(photographs, size=SIZE))
        self.photographs = {int(file.name[:3]): image for file, image in found}
        self.classes = sorted(random.Random(SEED).sample(sorted(self.photographs), 50))

    @cached_property
    def known(self) -> tuple[Tensor, Tensor]:
        """Features of the photographs divided by their standard deviations, and these."""
        whole = features(self.judge, torch.stack(list(self.photographs.values())))
        scale = whole.std(0).clamp(min=1e-6)
        return whole / scale, scale

    def nature(self, images: Tensor) -> str:
        """Format the Fréchet distance of images from photographs, and the exponent of their spectra."""
        whole, scale = self.known
        return f"{frechet(features(self.judge, images) / scale, whole):7.1f}  {slope(images).mean():6.3f}"

    @cached_property
    def others(self) -> list[int]:
        """48 classes that are not in the published table, for choosing settings."""
        rest = sorted(set(self.photographs) - set(self.classes))
        return random.Random(SEED + 1).sample(rest, 96)[:48]

    def pictures(self, name: str, count: int, draw: Ours | Theirs) -> Tensor:
        """Render images in batches, or read cached ones with the same settings."""
        file = self.keep / f"{name}-{draw.digest}.pt"
        if not file.exists():
            batches = [list(range(first, min(first + BATCH, count))) for first in range(0, count, BATCH)]
            drawn = torch.cat([draw(some).detach().float().clamp(0, 1) for some in batches])
            torch.save((255 * drawn).round().byte(), file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
        return torch.load(file, weights_only=True) / 255


@dataclass(frozen=True)
class Ours:
    """Renders objectives with featviz, each with its own seed.

    Args:
        network: The network.
        goals: The objectives.
        settings: Arguments of `fv.render`, with the first seed.
    """

    network: fv.Network
    goals: Sequence[str]
    settings: Mapping[str, Any]

    def __call__(self, some: Sequence[int]) -> Tensor:
        """Render some of them, by index."""
        return self._render(some).images

    @property
    def digest(self) -> str:
        """Hash of everything that determines the images: that of their recipe."""
        return self._render(range(len(self.goals)), until=0).recipe.hash

    def _render(self, some: Sequence[int], **more: Any) -> fv.Rendering:
        seeds = [self.settings.get("seed", 0) + i for i in some]
        settings = {**self.settings, "seed": seeds, "robustness_views": 0, **more}
        return fv.render(self.network, [self.goals[i] for i in some], **settings)


@dataclass(frozen=True)
class Theirs:
    """Renders channels of a layer with another library.

    Args:
        peer: The process of the library.
        channels: Their indices.
        task: The network, layer, size and device.
        steps: Number of steps per image.
        fingerprint: Hash of the network's weights.
    """

    peer: Contender
    channels: Sequence[int]
    task: Mapping[str, Any]
    steps: int
    fingerprint: str

    def __call__(self, some: Sequence[int]) -> Tensor:
        """Render some of them, by index."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "pictures.pt")
            channels = [self.channels[i] for i in some]
            if not self.peer.run(**self.task, steps=self.steps, channels=channels, output=str(output)):
                raise SystemExit(f"{self.peer.name} failed: {self.peer.failed}")
            return torch.load(output, weights_only=True)

    @property
    def digest(self) -> str:
        """Hash of everything that determines the images, except the path of the weights."""
        task = {key: value for key, value in self.task.items() if key not in ("weights", "device")}
        decides = self.peer.name, list(self.channels), task, self.steps, self.fingerprint
        return hashlib.sha256(repr(decides).encode()).hexdigest()[:16]


def features(judge: fv.Network, images: Tensor) -> Tensor:
    """Return means and standard deviations over the positions of the judge's layers."""
    found = []
    for some in images.split(25):
        seen = resize(some, judge.size)
        with torch.no_grad():
            acts = judge.capture(seen, FEATURES)
        parts = [acts.channels_first(layer).flatten(2) for layer in FEATURES]
        found.append(torch.cat([part for units in parts for part in (units.mean(2), units.std(2))], 1))
    return torch.cat(found)


def frechet(images: Tensor, photographs: Tensor) -> float:
    """Return the Fréchet distance of two sets of features, in the principal components of the second."""
    center = photographs.mean(0)
    axes = torch.linalg.svd(photographs - center, full_matrices=False).Vh[:AXES].T.double()
    one, two = ((part - center).double() @ axes for part in (images, photographs))
    spread = torch.linalg.eigvals(torch.cov(one.T) @ torch.cov(two.T)).real.clamp(min=0).sqrt().sum()
    apart = (one.mean(0) - two.mean(0)).square().sum()
    return (apart + torch.cov(one.T).trace() + torch.cov(two.T).trace() - 2 * spread).item()


def seen(bench: Bench, images: Tensor, labels: list[int]) -> tuple[float, float, float]:
    """Return the judge's top-1 and top-5 accuracy, and its mean probability of the class."""
    ranks, shares = [], []
    for image, label in zip(images, labels, strict=True):
        rank, share = class_rank(image, label, bench.judge)
        ranks.append(rank)
        shares.append(share)
    count = len(ranks)
    return sum(rank == 1 for rank in ranks) / count, sum(rank <= 5 for rank in ranks) / count, sum(shares) / count
