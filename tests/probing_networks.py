"""Networks for the tests of probing, and the messages of their layers."""

import pytest
import torch
import toys
from torch import Tensor, nn

import featviz as fv

SIDE, PATCH, WIDTH = 32, (8, 8), 12


def refusal(net, layer):
    with pytest.raises(fv.AddressError) as caught:
        net.layer(layer)
    return str(caught.value)


def message_of(function, *arguments, error=fv.AddressError):
    with pytest.raises(error) as caught:
        function(*arguments)
    return str(caught.value)


class Fixed(nn.Module):
    """Accepts one size only, and has a linear head."""

    def __init__(self, body: nn.Module, size: tuple[int, int] = (SIDE, SIDE)) -> None:
        super().__init__()
        self.body, self.size = body, size
        self.head = nn.LazyLinear(3)
        self.head(body(torch.zeros(1, 3, *size)).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2:] == self.size, "wrong size"
        return self.head(self.body(x).flatten(1))


class Tokens(nn.Module):
    """Patch tokens in any order between tokens of its own, two layers that mix them a little, and a head."""

    def __init__(
        self,
        before: dict[str, int] | None = None,
        after: dict[str, int] | None = None,
        *,
        read: int | str = "patches",
        patch: tuple[int, int] = PATCH,
        order: Tensor | None = None,
        size: int = SIDE,
    ) -> None:
        super().__init__()
        self.before, self.after = before or {}, after or {}
        for name, count in (self.before | self.after).items():
            setattr(self, name, nn.Parameter(torch.randn(1, count, WIDTH)))
        self.read, self.order = read, order
        self.patches = nn.Conv2d(3, WIDTH, patch, stride=patch)
        self.place = nn.Parameter(torch.randn((size // patch[0]) * (size // patch[1]), WIDTH))
        self.first = nn.TransformerEncoderLayer(WIDTH, 2, 24, dropout=0.0, batch_first=True)
        self.second = nn.TransformerEncoderLayer(WIDTH, 2, 24, dropout=0.0, batch_first=True)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT + self.place
        tokens = tokens if self.order is None else tokens[:, self.order]
        count = tokens.shape[1]
        own = {name: getattr(self, name).expand(len(x), -1, -1) for name in self.before | self.after}
        tokens = torch.cat([*(own[name] for name in self.before), tokens, *(own[name] for name in self.after)], 1)
        tokens = self.norm(self.second(self.first(tokens)))
        if self.read == "patches":
            start = sum(self.before.values())
            return self.head(tokens[:, start : start + count].mean(1))
        return self.head(tokens[:, self.read])


def net_of(**options):
    module = Tokens(**options)
    net = toys.network(module)
    module.eval()
    return net
