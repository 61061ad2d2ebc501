"""Signals of eight families that are drawn, and two small networks of different architectures that classify them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featviz as fv

FAMILIES = (
    "chirp up", "chirp down", "square burst", "heartbeat", "sine burst", "decay", "growth", "sawtooth burst",
)  # fmt: skip
LENGTH, EVENT, MOST_EVENTS = 256, 96, 3
"""Length of a signal and usual length of an event in samples, and the largest number of events of one signal."""
WAVES = ((0.12, -0.5, 0.1), (-0.25, -0.14, 0.05), (1.0, 0.0, 0.06), (-0.35, 0.14, 0.06), (0.3, 0.55, 0.15))
"""Height, centre and width of the bumps of a heartbeat: P, Q, R, S and T."""


def _uniform(rng: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(count, 1, generator=rng)


def event(family: str, time: Tensor, rng: torch.Generator) -> Tensor:
    """Return events of a family with random frequencies and phases.

    Args:
        family: One of `FAMILIES`.
        time: Time of each sample (n, length): from 0 to 1 within the event.
        rng: Source of the random numbers.
    """
    count, inside = len(time), ((time >= 0) & (time <= 1)).float()
    frequency, phase = _uniform(rng, count, 5, 8), _uniform(rng, count, 0, 1)
    faded = inside * torch.sin(math.pi * time.clamp(0, 1)) ** 2
    tone = torch.sin(2 * math.pi * (frequency * time + phase))
    if family in ("chirp up", "chirp down"):
        forth = time if family == "chirp up" else 1 - time
        return torch.sin(2 * math.pi * (2 * forth + frequency * forth**2)) * faded.sqrt()
    if family == "heartbeat":
        x = 2.4 * (time - 0.5) * frequency / 6
        return sum(height * torch.exp(-(((x - centre) / width) ** 2)) for height, centre, width in WAVES)
    if family in ("decay", "growth"):
        since = time if family == "decay" else 1 - time
        return torch.sin(2 * math.pi * frequency * time) * torch.exp(-3.5 * since.clamp(0, 1)) * inside
    shapes = {
        "square burst": tone.sign() * inside,
        "sine burst": tone * faded,
        "sawtooth burst": (2 * ((frequency * time + phase) % 1) - 1) * inside,
    }
    return shapes[family]


def signals(labels: Tensor, rng: torch.Generator) -> Tensor:
    """Return a z-scored signal for each family: one to three events with noise and a drifting baseline.

    Args:
        labels: Index of the family of each signal.
        rng: Source of the random numbers.

    Returns:
        The signals, (n, 1, length).
    """
    total = torch.zeros(len(labels), LENGTH)
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero().flatten()
        n, events = len(rows), torch.randint(1, MOST_EVENTS + 1, (len(rows), 1), generator=rng)
        for number in range(MOST_EVENTS):
            start = _uniform(rng, n, -0.1, 1 - 0.9 * EVENT / LENGTH) * LENGTH
            time = (torch.arange(LENGTH) - start) / (EVENT * _uniform(rng, n, 0.8, 1.2))
            total[rows] += event(FAMILIES[label], time, rng) * (number < events)
    n = len(labels)
    total += _uniform(rng, n, 0.02, 0.3) * torch.randn(total.shape, generator=rng)
    angle = _uniform(rng, n, 0.2, 1) * torch.linspace(0, 1, LENGTH) + _uniform(rng, n, 0, 1)
    total += _uniform(rng, n, 0, 0.3) * torch.sin(2 * math.pi * angle)
    return ((total - total.mean(1, keepdim=True)) / total.std(1, keepdim=True))[:, None]


class Convolutional(nn.Sequential):
    """Four convolutions with batch normalisation and rectifiers, and a global average."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, channels, stride in ((1, 16, 2), (16, 32, 2), (32, 48, 2), (48, 64, 1)):
            layers += [nn.Conv1d(before, channels, 9, stride, 4), nn.BatchNorm1d(channels), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, len(FAMILIES)))


class Residual(nn.Module):
    """Residual blocks of dilated convolutions with group normalisation and GELU, their mean and their maximum."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv1d(1, width, 8, 4, 2), nn.Linear(2 * width, len(FAMILIES))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation),
                nn.GroupNorm(4, width),
                nn.GELU(),
                nn.Conv1d(width, width, 1),
            )
            for dilation in (1, 2, 4, 8)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(torch.cat([x.mean(2), x.amax(2)], 1))


def train(module: nn.Module, seed: int, steps: int) -> float:
    """Train a network on signals, and return its accuracy on 1000 others.

    Args:
        module: The network, whose weights were drawn already.
        seed: Seed of the signals.
        steps: Number of batches of 64 signals.
    """
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(module.parameters(), 4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    module.train()
    for _ in range(steps):
        labels = torch.randint(len(FAMILIES), (64,), generator=rng)
        loss = F.cross_entropy(module(signals(labels, rng)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    module.eval()
    labels = torch.randint(len(FAMILIES), (1000,), generator=rng)
    with torch.no_grad():
        return (module(signals(labels, rng)).argmax(1) == labels).float().mean().item()


def trained_pair() -> tuple[fv.Network, nn.Module, tuple[float, float]]:
    """Train both networks on different signals.

    Returns:
        The first as a `fv.Network`, the second as a module, and their accuracies.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with others, sums are rounded in another order, and the weights differ
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            first, second = Convolutional(), Residual()
            accuracies = train(first, 1, 150), train(second, 2, 240)
    finally:
        torch.set_num_threads(threads)
    return fv.Network(first, size=(LENGTH,), mean=(0.0,), std=(1.0,), classes=FAMILIES), second, accuracies
