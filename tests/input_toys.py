"""Small networks with several inputs, one for each way in which a `forward` may take them."""

from __future__ import annotations

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
