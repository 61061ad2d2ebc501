"""The embedded CNN: small, residual, with batch normalisation and named stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SIZE = 64
"""Height and width in px of the drawings it is trained on; it takes any larger size."""
MEAN = STD = (0.5, 0.5, 0.5)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015, https://arxiv.org/abs/1512.03385, fig. 2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "n before h w"]) -> Float[Tensor, "n after h w"]:
        """Return the block's rectified sum."""
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


class MotifNet(nn.Module):
    """Classify motifs.

    It halves the map by averaging, never by striding or max-pooling: those leave a grid in the gradient, and so in
    the pictures (Odena et al. 2016, https://doi.org/10.23915/distill.00003).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stage1 = nn.Sequential(nn.AvgPool2d(2), Residual(16, 32))
        self.stage2 = nn.Sequential(nn.AvgPool2d(2), Residual(32, 64), Residual(64, 64))
        self.stage3 = nn.Sequential(nn.AvgPool2d(2), Residual(64, 128), Residual(128, 128))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(128, classes)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Return class logits for normalised images."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.head(self.pool(x).flatten(1))
