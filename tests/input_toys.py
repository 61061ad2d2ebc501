"""Small networks with several inputs, one for each way in which a `forward` may take them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import featviz as fv

SPEC = fv.InputSpec(32, (0.5,) * 3, (0.5,) * 3)
TABULAR = torch.tensor([[0.1, 2.0]])


class Both(nn.Module):
    """An image and a table row, which both decide the classes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.table, self.head = nn.Conv2d(3, 4, 5), nn.Linear(2, 4), nn.Linear(8, 3)

    def both(self, image: Tensor, tabular: Tensor) -> Tensor:
        return self.head(torch.cat([self.conv(image).relu().mean((2, 3)), self.table(tabular).tanh()], 1))


class Positional(Both):
    def forward(self, image: Tensor, tabular: Tensor) -> Tensor:
        return self.both(image, tabular)


class PositionalOnly(Both):
    def forward(self, tabular: Tensor, image: Tensor, /) -> Tensor:
        return self.both(image, tabular)


class KeywordOnly(Both):
    def forward(self, *, image: Tensor, tabular: Tensor) -> Tensor:
        return self.both(image, tabular)


class AnyKeywords(Both):
    def forward(self, **given: Tensor) -> Tensor:
        return self.both(given["image"], given["tabular"])


class OneDict(Both):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.both(batch["image"], batch["tabular"])


class OneTuple(Both):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return self.both(*pair)


NAMED = {"image": SPEC, "tabular": TABULAR}
WAYS = {
    "by name": (Positional, NAMED),
    "by position": (Positional, (SPEC, TABULAR)),
    "by position only": (PositionalOnly, (TABULAR, SPEC)),
    "position only by name": (PositionalOnly, NAMED),
    "keyword only": (KeywordOnly, NAMED),
    "any keywords": (AnyKeywords, NAMED),
    "one dict": (OneDict, NAMED),
    "one dict by its name": (OneDict, {"batch": NAMED}),
    "one tuple": (OneTuple, {"pair": (SPEC, TABULAR)}),
    "one tuple by position": (OneTuple, ((SPEC, TABULAR),)),
}
"""A module and its inputs for each way."""


class Switched(nn.Module):
    """Its first class is red where the table row is (1, 0), and green where it is (0, 1): planted."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Conv2d(3, 2, 1, bias=False)
        self.gate = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.color.weight.copy_(torch.tensor([[1, -1, 0], [-1, 1, 0]]).float()[..., None, None])
            self.gate.weight.copy_(torch.eye(2))

    def forward(self, image: Tensor, tabular: Tensor) -> Tensor:
        found = (self.color(image).mean((2, 3)) * self.gate(tabular)).sum(1, keepdim=True)
        return torch.cat([found, -found], 1)


RED, GREEN = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])


def switched(tabular: object = RED) -> fv.Network:
    spec = fv.InputSpec(16, (0.5,) * 3, (0.5,) * 3)
    return fv.Network(Switched(), inputs={"image": spec, "tabular": tabular}, classes=("seen", "other"))


# ---------------------------------------------------------------------------------------------- several optimised

CHIRP, SPOT = 33, 9
"""Length of the planted kernel of a signal in samples, and side of the kernel of an image in px."""


def chirp() -> Tensor:
    """A tone whose frequency rises."""
    time = torch.linspace(0, 1, CHIRP)
    return torch.sin(2 * math.pi * (2 * time + 3 * time**2)) * torch.hann_window(CHIRP)


def corner() -> Tensor:
    """A bright and a dark bar that meet: no symmetry hides a transposed or mirrored image."""
    kernel = torch.zeros(SPOT, SPOT)
    kernel[2, 1:8], kernel[2:8, 6] = 1.0, -1.0
    return kernel


class MatchedPair(nn.Module):
    """The response of a planted kernel to an image plus that of another to a signal, each relative to the contrast.

    `forward` of the subclasses takes the two inputs in several ways.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(1, 1, SPOT, bias=False)
        self.audio = nn.Conv1d(1, 1, CHIRP, bias=False)
        for part, kernel in ((self.image, corner()), (self.audio, chirp())):
            part.weight.data[0, 0] = (kernel - kernel.mean()) / (kernel - kernel.mean()).norm()

    def pair(self, image: Tensor, audio: Tensor) -> Tensor:
        seen, heard = self.image(image), self.audio(audio)
        energy = nn.functional.avg_pool2d(image.square(), SPOT, 1) * SPOT**2
        power = nn.functional.avg_pool1d(audio.square(), CHIRP, 1) * CHIRP
        seen, heard = seen / (energy + 0.1).sqrt(), heard / (power + 0.1).sqrt()
        return torch.stack([seen.amax((1, 2, 3)) + heard.amax((1, 2)), seen.mean((1, 2, 3)), heard.mean((1, 2))], 1)


class PairByName(MatchedPair):
    def forward(self, *, image: Tensor, audio: Tensor) -> Tensor:
        return self.pair(image, audio)


class PairByPosition(MatchedPair):
    def forward(self, image: Tensor, audio: Tensor, /) -> Tensor:
        return self.pair(image, audio)


class PairInDict(MatchedPair):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.pair(batch["image"], batch["audio"])


class PairInTuple(MatchedPair):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return self.pair(*pair)


IMAGE, AUDIO = fv.InputSpec(24, (0.5,), (0.25,)), fv.InputSpec((96,), (0.0,), (0.5,), value_range=(-1, 1))
BOTH = {"image": IMAGE, "audio": AUDIO}
SEVERAL = {
    "keyword only": (PairByName, BOTH, ("image", "audio")),
    "by position": (PairByPosition, (IMAGE, AUDIO), ("0", "1")),
    "one dict": (PairInDict, BOTH, ("image", "audio")),
    "one tuple": (PairInTuple, {"pair": (IMAGE, AUDIO)}, ("pair.0", "pair.1")),
}
"""A module, its inputs, and their names, for each way in which a `forward` may take two optimised inputs."""


def matched_pair(way: str = "keyword only", **changes: object) -> fv.Network:
    kind, inputs, _ = SEVERAL[way]
    given = {**inputs, **changes} if changes and isinstance(inputs, dict) else inputs
    return fv.Network(kind(), inputs=given, classes=("both", "seen", "heard"))
