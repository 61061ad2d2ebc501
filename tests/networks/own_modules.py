"""Networks that the project writes itself, with outputs, orders and operations of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """Make a convolution with a norm and a ReLU."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


def lenet() -> nn.Module:
    """Make LeNet-5 for grey images of 28 pixels."""
    convolutions = nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh()
    return nn.Sequential(*convolutions, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 84), nn.Tanh(), nn.Linear(84, 10))


def autoencoder() -> nn.Module:
    """Make an autoencoder with a code of 8 numbers."""
    encoder = nn.Sequential(_conv(3, 8, 2), _conv(8, 8, 2), nn.Flatten(), nn.Linear(512, 8))
    grow = nn.Unflatten(1, (8, 8, 8)), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1)
    return nn.Sequential(encoder, nn.Sequential(nn.Linear(8, 512), *grow, nn.Sigmoid()))


def discriminator() -> nn.Module:
    """Make a discriminator of patches whose weights are parametrized."""
    first, last = spectral_norm(nn.Conv2d(3, 8, 4, 2, 1)), weight_norm(nn.Conv2d(8, 1, 4, 2, 1))
    return nn.Sequential(first, nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.2), last)


def shared_convolution() -> nn.Module:
    """Make a network that calls one block three times."""
    block = _conv(8, 8)
    return nn.Sequential(_conv(3, 8, 2), block, block, block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


class Headed(nn.Module):
    """Convolutions with a head, and a result of some `form`."""

    def __init__(self, form: str, channels: int = 3) -> None:
        super().__init__()
        self.form = form
        self.trunk = nn.Sequential(_conv(channels, 8, 2), _conv(8, 16, 2))
        self.head = nn.Linear(16, 1 if form == "squeezed" else 10)

    def forward(self, x: Tensor) -> Any:
        maps = self.trunk(x)
        embedding = maps.mean((2, 3))
        logits = self.head(embedding)
        forms = {
            "tuple": (maps, logits),
            "dict": {"maps": maps, "logits": logits},
            "embedding": (embedding, logits),
            "squeezed": logits.squeeze(-1),
            "labels": logits.sigmoid(),
        }
        return forms.get(self.form, logits)


class ChannelsLast(nn.Module):
    """Convolutions whose maps have their channels last in between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 12, 4, 4), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm, self.expand, self.reduce = nn.LayerNorm(12), nn.Linear(12, 24), nn.Linear(24, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        mixed = self.mix(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.reduce(F.gelu(self.expand(self.norm(mixed))))
        return self.head(x.mean((1, 2)))


class Functional(nn.Module):
    """ReLUs and pooling that are functions, with one in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu_(self.conv1(x)), 2)
        x = F.adaptive_avg_pool2d(F.relu(self.conv2(x)), 1)
        return F.log_softmax(self.fc(x.flatten(1)), 1)


class Unusual(nn.Module):
    """Convolutions around some `step` that is not a convolution, on maps of 16 by 16 with 8 channels."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step
        self.before, self.after, self.head = _conv(3, 8, 2), _conv(8, 16, 2), nn.Linear(16, 10)
        inner: dict[str, nn.Module] = {
            "recurrent": nn.LSTM(8, 4, batch_first=True, bidirectional=True),
            "fourier": nn.ParameterList([torch.randn(8, 16, 9, dtype=torch.cfloat)]),
            "warped": nn.Linear(8, 6),
            "routed": nn.ModuleDict({"gate": nn.Linear(8, 2), "0": _conv(8, 8), "1": _conv(8, 8)}),
            "checkpointed": _conv(8, 8),
        }
        self.inner: Any = inner[step]

    def forward(self, x: Tensor) -> Tensor:
        x = getattr(self, f"_{self.step}")(self.before(x))
        return self.head(self.after(x).mean((2, 3)))

    def _recurrent(self, x: Tensor) -> Tensor:
        """Read each row of the maps as a sequence."""
        n, c, h, w = x.shape
        rows, _ = self.inner(x.permute(0, 2, 3, 1).reshape(n * h, w, c))
        return rows.reshape(n, h, w, c).permute(0, 3, 1, 2)

    def _fourier(self, x: Tensor) -> Tensor:
        """Multiply the spectrum of the maps."""
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.inner[0], s=x.shape[-2:])

    def _warped(self, x: Tensor) -> Tensor:
        """Move, turn and stretch the maps as they themselves ask for."""
        grid = F.affine_grid(self.inner(x.mean((2, 3))).view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def _routed(self, x: Tensor) -> Tensor:
        """Send each image to one expert."""
        weight, chosen = self.inner["gate"](x.mean((2, 3))).softmax(1).max(1)
        parts = [self.inner[str(i)](image[None]) for i, image in zip(chosen.tolist(), x, strict=True)]
        return torch.cat(parts) * weight[:, None, None, None]

    def _checkpointed(self, x: Tensor) -> Tensor:
        """Run a block again in the backward pass to save memory."""
        return checkpoint(self.inner, x, use_reentrant=False)


def _hilbert(row: int, column: int, side: int) -> int:
    """Return where a cell of a square grid lies on a Hilbert curve."""
    place, half = 0, side // 2
    while half:
        right, down = int(column & half > 0), int(row & half > 0)
        place += half * half * ((3 * right) ^ down)
        if not down:
            row, column = (side - 1 - column, side - 1 - row) if right else (column, row)
        half //= 2
    return place


def _sequence(order: str, rows: int, columns: int) -> list[int]:
    """Return the cells of a grid, counted along rows, in another order."""
    keys: dict[str, Callable[[int, int], Any]] = {
        "rows": lambda r, c: (r, c),
        "serpentine": lambda r, c: (r, -c if r % 2 else c),
        "blocks": lambda r, c: (r // 2, c // 2, r % 2, c % 2),
        "hilbert": lambda r, c: _hilbert(r, c, rows),
    }
    return sorted(range(rows * columns), key=lambda cell: keys[order](*divmod(cell, columns)))


class Tokens(nn.Module):
    """A transformer for images of 32 pixels, whose patches, order of tokens and pooling can be chosen."""

    def __init__(self, pool: str, order: str = "rows", patch: tuple[int, int] = (8, 8), linear: bool = False) -> None:
        super().__init__()
        self.pool, self.patch, self.linear = pool, patch, linear
        rows, columns = 32 // patch[0], 32 // patch[1]
        self.embed = nn.Linear(3 * patch[0] * patch[1], 24) if linear else nn.Conv2d(3, 24, patch, patch)
        self.place = nn.Parameter(torch.randn(1, rows * columns, 24) / 5)
        self.register_buffer("order", torch.tensor(_sequence(order, rows, columns)))
        self.order: Tensor
        self.token = nn.Parameter(torch.randn(1, 1, 24) / 5)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(24, 2, 48, batch_first=True) for _ in range(2))
        self.attend = nn.MultiheadAttention(24, 2, batch_first=True) if pool == "query" else None
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.linear:
            x = x.unflatten(2, (-1, self.patch[0])).unflatten(4, (-1, self.patch[1]))
            x = self.embed(x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))
        else:
            x = self.embed(x).flatten(2).transpose(1, 2)
        x = (x + self.place)[:, self.order]
        token = self.token.expand(len(x), -1, -1)
        if self.pool in ("first", "last"):
            x = torch.cat([token, x] if self.pool == "first" else [x, token], 1)
        for block in self.blocks:
            x = block(x)
        if self.attend is not None:
            x, _ = self.attend(token, x, x)
        x = self.norm(x)
        return self.head(x.mean(1) if self.pool == "mean" else x[:, -1 if self.pool == "last" else 0])


class Windows(nn.Module):
    """Attention in windows of 4 by 4 tokens, which are an axis of their own or folded into that of the images."""

    def __init__(self, *, folded: bool) -> None:
        super().__init__()
        self.folded = folded
        self.embed, self.qkv, self.project = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, 16, c)
        if self.folded:
            x = x.flatten(0, 1)
        q, k, v = self.qkv(x).chunk(3, -1)
        x = x + self.project(F.scaled_dot_product_attention(q, k, v))
        return self.head(x.reshape(n, -1, c).mean(1))
