"""Small networks, each with one property that visualization libraries often fail on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featviz as fv

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


class Plain(nn.Module):
    """Convolutions, an in-place ReLU after a batch norm, and a classifier; any number of input channels."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.conv2(x))
        return self.head(x.mean((2, 3)))


class Functional(nn.Module):
    """A functional, in-place ReLU that no hook can see, and an in-place sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        F.relu_(x)
        x += 1
        return self.head(x.mean((2, 3)))


class Dict(nn.Module):
    """Its output is a dict of a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, None]]:
        return {"out": (self.conv(x).mean((2, 3)), None)}


class Vit(nn.Module):
    """A transformer with a class token, for one input size or any; possibly with as many channels as tokens."""

    def __init__(self, *, fixed: bool = True, size: int = 32, width: int = 12) -> None:
        super().__init__()
        self.fixed, self.size = fixed, size
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.place = nn.Parameter(torch.randn(1, 1 + (size // 8) ** 2, width) if fixed else torch.zeros(1, 1, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 24, dropout=0.1, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed:
            assert x.shape[-2:] == (self.size, self.size), "wrong size"
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1) + self.place
        return self.head(self.block(tokens)[:, 0])


class ChannelsLast(nn.Module):
    """Feature maps with their channels last, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4)
        self.norm = nn.LayerNorm(4)
        self.act = nn.GELU()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x).permute(0, 2, 3, 1)))
        return self.head(x.mean((1, 2)))


class Twice(nn.Module):
    """One module that is called twice, and one that does not run in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.aux = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.conv(x))
        if self.training:
            x = x + self.aux(x)
        return self.head(x.mean((2, 3)))


class Flattening(nn.Module):
    """Flattens its maps with `view`, which channels-last memory does not allow; no padding, and one input size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, stride=2)
        self.pool = nn.MaxPool2d(3, 2)
        self.head = nn.Linear(4 * 6 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(x))
        return self.head(x.view(x.size(0), -1))


class Unpadded(nn.Module):
    """Convolutions without padding, so maps are smaller than size / stride; accepts multiples of 14 px only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 11, stride=4)
        self.pool = nn.MaxPool2d(3, 2)
        self.conv2 = nn.Conv2d(4, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-2] % 14 == x.shape[-1] % 14 == 0, "multiples of 14 only"
        return self.conv2(self.pool(self.conv(x)))


class Dead(nn.Module):
    """Ends in a ReLU, which a negative bias makes inactive for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x))


class Broken(nn.Module):
    """Raises an error in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the author's own mistake")


class Blocked(nn.Module):
    """Detaches its input, so that no gradient reaches the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.detach())


def network(module: nn.Module, size: int | tuple[int, int] = 32, **more: object) -> fv.Network:
    """Wrap a module, with weights drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
            else:
                weight.copy_(float(weight.mean() > 0.9) + 0.1 * torch.randn(weight.shape, generator=generator))
    return fv.Network(module, size=size, **{**HALF, **more})


def plain(**more: object) -> fv.Network:
    """Return a network with class names, for tests that work with any network."""
    return network(Plain(), **{"classes": ("ant", "bee", "cat", "dog", "jack-o'-lantern"), **more})
