"""Networks of signals and volumes that the project writes itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SignalResNet(nn.Module):
    """A residual network for signals, as of electrocardiograms."""

    def __init__(self, channels: int = 2, norm: Callable[[int], nn.Module] = nn.BatchNorm1d) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(channels, 16, 15, 2, 7), norm(16), nn.ReLU(), nn.MaxPool1d(3, 2, 1))
        self.stages = nn.ModuleList(_SignalBlock(before, after, norm) for before, after in ((16, 24), (24, 32)))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean(2))


class _SignalBlock(nn.Module):
    """Two convolutions and a skip connection."""

    def __init__(self, before: int, after: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(before, after, 7, 2, 3), nn.Conv1d(after, after, 7, 1, 3)
        self.norms, self.skip = nn.ModuleList(norm(after) for _ in range(2)), nn.Conv1d(before, after, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(inner + self.skip(x))


class SignalTokens(nn.Module):
    """A convolution that cuts a signal into frames, and a transformer over them, as in models of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.norm = nn.Conv1d(1, 24, 16, 8, 4), nn.GroupNorm(1, 24)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(24, 2, 48, batch_first=True) for _ in range(2))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.frames(x))).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class SignalRecurrent(nn.Module):
    """A convolution and a recurrent network in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm = nn.Conv1d(1, 12, 9, 4, 4), nn.LSTM(12, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.lstm(F.relu(self.conv(x)).transpose(1, 2))
        return self.head(x.mean(1))


class SignalUNet(nn.Module):
    """An encoder and a decoder with a skip connection, which outputs a signal."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(1, 8, 9, 2, 4), nn.ConvTranspose1d(8, 8, 4, 2, 1)
        self.middle, self.out = nn.Conv1d(8, 8, 9, 1, 4), nn.Conv1d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.up(F.relu(self.middle(F.relu(self.down(x)))))
        return self.out(torch.cat([inner, x], 1))


class VolumeNet(nn.Sequential):
    """A small convolutional network for volumes."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after in ((1, 8), (8, 12), (12, 16)):
            layers += [nn.Conv3d(before, after, 3, padding=1), nn.InstanceNorm3d(after), nn.ReLU(), nn.MaxPool3d(2)]
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 10))
